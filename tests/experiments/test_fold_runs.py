import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import Manifest, ManifestRow, fold_by_patient, patient_folds
from jcs_ct.errors import ConfigError
from jcs_ct.experiments.fold_runs import FoldRun, folds_of, labelled_slices
from jcs_ct.experiments.methods import Method
from jcs_ct.experiments.slice_scores import read_scores
from jcs_ct.experiments.source_sets import read_groups, training_sets
from jcs_ct.training.recipe import Recipe

TRUNK = {"stem_channels": [4, 4, 4], "planes": [4, 4, 8, 8], "blocks": [1, 1, 1, 1], "base_width": 32}
TINY = {
    "task": "classifier",
    "preset": "compact",
    "network": {"backbone": TRUNK},
    "preprocessing": {"size": 32, "channels": 1, "mean": [0.45], "std": [0.3]},
    "optimiser": {"name": "adamw", "learning_rate": 1e-3},
    "steps": 1,
    "batch_size": 2,
}

CLASSIFIER = Method("classifier", Recipe.model_validate(TINY))
SEGMENTER = Method("segmenter", Recipe.model_validate({**TINY, "task": "segmenter", "network": {}}))


def manifest_of(*kinds: tuple[str, int, int], path: Path = Path("x.png")) -> Manifest:
    """``(source, label, patients)`` with two slices a patient."""
    rows = [
        ManifestRow(
            path.with_name(f"{source}{label}-{number}-{part}.png"), f"{source}{label}-{number}", label, source=source
        )
        for source, label, patients in kinds
        for number in range(patients)
        for part in range(2)
    ]
    return Manifest(tuple(rows))


@pytest.fixture
def two_sources(tmp_path) -> Path:
    """A manifest file: ``web`` with both labels, ``clinic`` with uninfected slices only; one patient is in test."""
    rng = np.random.default_rng(0)
    manifest = manifest_of(("web", 1, 6), ("web", 0, 6), ("clinic", 0, 5), path=tmp_path / "x.png")
    for row in manifest:
        plane = rng.integers(60, 120, (40, 40)) + 60 * int(row.label or 0)
        Image.fromarray(plane.astype(np.uint8)).save(row.path)
    rows = [
        ManifestRow(r.path, r.patient, r.label, None, "test" if r.patient == "web1-5" else "train", r.source)
        for r in manifest
    ]
    Manifest(tuple(rows)).write(tmp_path / "slices.csv")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_folds_keep_patients_together_and_are_alike_in_sources_and_labels():
    manifest = manifest_of(("a", 1, 10), ("a", 0, 10), ("b", 0, 5))
    folds = patient_folds(manifest, 5, seed=0)
    assert len(folds) == 25
    for fold in range(5):
        members = [name for name, number in folds.items() if number == fold]
        assert [sum(name.startswith(kind) for name in members) for kind in ("a1", "a0", "b0")] == [2, 2, 1]
    assert folds == patient_folds(Manifest(manifest.rows[::-1]), 5, seed=0)
    assert folds != patient_folds(manifest, 5, seed=1)


def test_too_few_patients_or_folds_are_refused():
    with pytest.raises(ConfigError, match=r"at least three folds .* got 2 fold\(s\) and 4 patient\(s\)"):
        patient_folds(manifest_of(("a", 1, 4)), 2, seed=0)


def folded(*kinds: tuple[str, int, int], count: int = 3) -> Manifest:
    return fold_by_patient(manifest_of(*kinds), count, seed=0)


def test_no_fold_sees_a_patient_that_it_judges_and_none_chooses_by_them():
    runs = folds_of(folded(("a", 1, 6), ("a", 0, 6))).runs(CLASSIFIER)
    assert [each.name for each in runs] == ["fold0", "fold1", "fold2"]
    judged = [row.path for each in runs for row in each.manifest.split("test")]
    assert len(judged) == len(set(judged)) == 24
    for each, following in pairwise(runs):
        validating = {row.patient for row in each.manifest.split("val")}
        assert validating == {row.patient for row in following.manifest.split("test")}
        training = {row.patient for row in each.manifest.split("train")}
        assert not training & (validating | {row.patient for row in each.manifest.split("test")})


def test_folds_that_are_drawn_are_those_that_a_manifest_is_given():
    manifest = manifest_of(("a", 1, 6), ("a", 0, 6))
    drawn = folds_of(manifest, count=3, seed=0)
    assert drawn.judged == fold_by_patient(manifest, 3, seed=0)
    with pytest.raises(ConfigError, match=r"got 0: `jcs data split --folds 5` makes some"):
        folds_of(manifest)
    with pytest.raises(ConfigError, match=r"folds of its own .*: leave --folds out"):
        folds_of(drawn.judged, count=3)


def test_a_patient_in_several_folds_is_refused_unless_they_were_published_so():
    rows = tuple(replace(row, fold=number % 3) for number, row in enumerate(manifest_of(("a", 1, 6), ("a", 0, 6))))
    with pytest.raises(ConfigError, match=r"12 patient\(s\) have slices in several folds.*--parted-patients"):
        folds_of(Manifest(rows))
    folds = folds_of(Manifest(rows), parted=True)
    assert "part slices of one acquisition" in folds.note(validating=True)
    patients = [row.patient for row in folds.runs(CLASSIFIER)[0].manifest]
    assert len(set(patients)) == 24, "there each slice is its own patient, as the note says"
    clean = Manifest(tuple(replace(row, label=0) for row in rows))
    groups = {case.subgroups["acquisition"] for case in folds_of(clean, parted=True).cases("x")}
    assert groups == {"in several folds"}


def test_slices_in_no_fold_train_in_every_run_and_are_never_of_a_judged_patient():
    judged = folded(("a", 1, 6), ("a", 0, 6))
    shared = (ManifestRow(Path("e.png"), "e", 0), ManifestRow(Path("t.png"), "t", 1, split="test"))
    for folds in (folds_of(judged, extra=Manifest(shared)), folds_of(Manifest((*judged, *shared)))):
        for each in folds.runs(CLASSIFIER):
            assert [row.patient for row in each.manifest.rows[24:]] == ["e"]
    leaky = Manifest((ManifestRow(Path("other.png"), "a1-0", 1), replace(judged.rows[0], patient="renamed")))
    with pytest.raises(ConfigError, match=r"2 further training slice\(s\) are among the judged ones or of a judged"):
        folds_of(judged, extra=leaky)


def test_a_fold_of_one_label_says_what_is_missing():
    with pytest.raises(ConfigError, match=r"(?s)'fold0' cannot be made.*'train' needs .*, it has infected ones only"):
        folds_of(folded(("a", 1, 6))).runs(CLASSIFIER)
    with pytest.raises(ConfigError, match="no labelled slice to judge"):
        FoldRun("x", manifest_of(("a", 1, 2), ("a", 0, 2)), {})
    with pytest.raises(
        ConfigError, match=r"(?s)'train' has no infected slice with a lesion mask.*lesion pixels are known"
    ):
        folds_of(folded(("a", 1, 6))).runs(SEGMENTER)


def test_the_test_split_takes_part_on_request_only():
    rows = (
        ManifestRow(Path("a"), "a", 1, source="s"),
        ManifestRow(Path("b"), "b", 1, split="test", source="s"),
        ManifestRow(Path("c"), "c", None, source="s"),
        ManifestRow(Path("d"), "d", 0, source="other"),
    )
    assert [row.patient for row in labelled_slices(Manifest(rows), ["s"], with_test=False)] == ["a"]
    assert [row.patient for row in labelled_slices(Manifest(rows), None, with_test=True)] == ["a", "b", "d"]
    with pytest.raises(ConfigError, match="no source nowhere; it has other, s"):
        labelled_slices(Manifest(rows), ["nowhere"], with_test=False)


def test_settings_that_do_not_fit_a_method_are_named_at_once():
    with pytest.raises(ConfigError, match=r"(?s)leave --classifier-recipe out.*--flip-average is for segmenters"):
        Method("x", CLASSIFIER.recipe, classifier=CLASSIFIER.recipe, flip_average=True)
    with pytest.raises(ConfigError, match="the classifier's recipe trains a segmenter"):
        Method("x", SEGMENTER.recipe, classifier=SEGMENTER.recipe)


def test_sources_that_share_patients_do_not_help_each_other():
    healthy = manifest_of(("lungs", 0, 10))
    painted = tuple(ManifestRow(row.path.with_suffix(".p.png"), row.patient, 1, source="painted") for row in healthy)
    judged = Manifest((*healthy, *painted, *manifest_of(("web", 1, 10), ("web", 0, 10))))
    sets = {each.name: each for each in training_sets(CLASSIFIER, judged, read_groups([], judged))}
    assert list(sets) == [
        "all", "without lungs", "without painted", "without web", "only lungs", "only painted", "only web"
    ]  # fmt: skip
    without = sets["without lungs"].run
    assert without is not None
    assert {row.source for row in without.manifest if row.split != "test"} == {"web"}
    assert {row.source for row in without.manifest.split("test")} == {"lungs", "painted", "web"}
    assert sets["only painted"].run is None
    grouped = read_groups(["both=lungs+painted"], judged)
    assert grouped == {"lungs": "both", "painted": "both", "web": "web"}
    sets = {each.name: each for each in training_sets(CLASSIFIER, judged, grouped)}
    assert list(sets) == ["all", "without both", "without web"]
    assert all(each.run is not None for each in sets.values())


def test_sources_whose_runs_would_lie_in_one_folder_are_refused():
    judged = manifest_of(("web 1", 1, 10), ("web_1", 0, 10))
    with pytest.raises(ConfigError, match=r"make one folder.*'without web 1' and 'without web_1'"):
        training_sets(CLASSIFIER, judged, read_groups([], judged))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["lungs267+painted"], "a group is NAME=SOURCE[+]SOURCE, got 'lungs267[+]painted'"),
        (["x=a+c"], "group 'x': the source 'c' is not among a, b"),
        (["x=a", "y=a"], "group 'y': the source 'a' is in two groups"),
        (["x=a+b"], "two sources or more"),
    ],
)
def test_groups_that_cannot_be_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        read_groups(given, manifest_of(("a", 1, 1), ("b", 0, 1)))


def test_slices_whose_source_is_not_named_are_said_so():
    """Alone they are no two sources, and beside a named one they are a group with a name."""
    with pytest.raises(ConfigError, match=r"come from one \(source not named\); name each data set's by --source"):
        read_groups([], manifest_of(("", 1, 3), ("", 0, 3)))
    assert read_groups([], manifest_of(("", 1, 3), ("b", 0, 3))) == {"": "source not named", "b": "b"}
    with pytest.raises(ConfigError, match="'c' is not among source not named, b"):
        read_groups(["x=c"], manifest_of(("", 1, 3), ("b", 0, 3)))


def test_a_classifiers_crossval_continues_and_its_scores_can_be_scored_again(two_sources):
    out = two_sources / "cv"
    given = ("crossval", two_sources / "tiny.yaml", "-m", two_sources / "slices.csv", "-o", out,
             "--source", "web", "--folds", 3, "--draws", 50, "--threads", 1)  # fmt: skip
    first = run(*given, "--fold", 1)
    assert first.exit_code == 0, first.output
    assert "folds are missing" in first.output
    before = (out / "tiny/fold1/best.safetensors").stat().st_mtime_ns
    whole = run(*given)
    assert whole.exit_code == 0, whole.output
    assert (out / "tiny/fold1/best.safetensors").stat().st_mtime_ns == before
    assert not list(out.rglob("state-*.pt"))
    content = json.loads((out / "evaluation.json").read_text())
    (row,) = content["tables"]["sources"]["rows"]
    assert (row["source"], row["n_infected"], row["n_uninfected"], row["n_patients"]) == ("web", 10, 12, 11)
    assert row["auc_low"] <= row["auc"] <= row["auc_high"]
    assert len(content["tables"]["folds"]["rows"]) == 3
    assert "roc" in content["figures"]
    scores = read_scores(out / "tiny/scores.csv")
    assert len(set(scores.slices)) == 22
    assert "web1-5" not in (out / "tiny/scores.csv").read_text()
    again = run("evaluate", "classifier", f"again={out / 'tiny/scores.csv'}", "-m", two_sources / "slices.csv", "-o",
                two_sources / "again", "--draws", 50)  # fmt: skip
    assert again.exit_code == 0, again.output
    rescored = json.loads((two_sources / "again/evaluation.json").read_text())["tables"]["sources"]["rows"][0]
    assert rescored["auc"] == row["auc"]
    other = run(*given, "--set", "steps=2")
    assert isinstance(other.exception, ConfigError)
    assert "finished with other settings" in str(other.exception)


def test_the_matrix_says_where_there_is_one_class_only(two_sources):
    out = two_sources / "transfer"
    done = run("transfer", two_sources / "tiny.yaml", "-m", two_sources / "slices.csv", "-o", out, "--draws", 50,
               "--with-test", "--threads", 1)  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads((out / "evaluation.json").read_text())
    rows = {(row["trained_on"], row["judged_on"]): row for row in content["tables"]["matrix"]["rows"]}
    assert set(rows) == {(name, on) for name in ("all", "without clinic") for on in ("clinic", "web")}
    unseen = rows["without clinic", "clinic"]
    assert (unseen["kind"], unseen["auc"], unseen["one_class"]) == ("unseen source", None, "uninfected only")
    assert unseen["n_uninfected"] == 10
    assert unseen["specificity_percent"] is not None
    seen = rows["without clinic", "web"]
    assert (seen["kind"], seen["one_class"]) == ("held-out patients", None)
    assert seen["auc"] is not None
    assert any("Not trained: without web" in note for note in content["tables"]["matrix"]["notes"])
    assert (out / "matrix.svg").is_file()


def test_a_set_that_cannot_be_trained_is_named(two_sources):
    done = run("transfer", two_sources / "tiny.yaml", "-m", two_sources / "slices.csv", "-o", two_sources / "t",
               "--train", "without web")  # fmt: skip
    assert isinstance(done.exception, ConfigError)
    assert "cannot train without web; possible: all, without clinic" in str(done.exception)
