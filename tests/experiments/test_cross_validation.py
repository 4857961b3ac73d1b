import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.checkpoints import file_sha256, load_segmenter
from jcs_ct.cli import app
from jcs_ct.data.manifest import Manifest, ManifestRow, read_manifest
from jcs_ct.data.sources.public_sets import ct100
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.experiments.cross_validation import run_experiment
from jcs_ct.experiments.fold_runs import Folds, folds_of
from jcs_ct.experiments.judged_slices import ct100_cases, fold_name
from jcs_ct.experiments.lesion_predictions import predict_cases
from jcs_ct.experiments.methods import Method
from jcs_ct.experiments.variants import ablation_methods, network_methods
from jcs_ct.training.recipe import Recipe, make_preprocessor
from jcs_ct.training.training_state import STATE_PATTERN
from jcs_ct.training.training_tasks import make_task

TINY = {
    "task": "segmenter",
    "preset": "compact",
    "network": {"encoder": {"channels": [4, 4, 4, 4, 8], "convs": [1, 1, 1, 1, 1]}},
    "preprocessing": {"size": 32, "channels": 1, "mean": [0.45], "std": [0.3]},
    "optimiser": {"name": "adamw", "learning_rate": 1e-3},
    "steps": 1,
    "batch_size": 2,
}
TRUNK = {"stem_channels": [4, 4, 4], "planes": [4, 4, 8, 8], "blocks": [1, 1, 1, 1], "base_width": 32}
CLASSIFIER = {
    **TINY,
    "task": "classifier",
    "network": {"backbone": TRUNK},
    "activation_map_weight": 1.0,
}
RECIPE, CLASSIFIER_RECIPE = Recipe.model_validate(TINY), Recipe.model_validate(CLASSIFIER)


def recipe_file(folder: Path, name: str, content: dict) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folds(ct100_like) -> Folds:
    """Ten slices in five folds."""
    return folds_of(ct100(ct100_like, folds="patient-safe"))


@pytest.fixture
def table(ct100_like, tmp_path) -> Path:
    """The same as a file."""
    ct100(ct100_like, folds="patient-safe").write(tmp_path / "folds.csv")
    return tmp_path / "folds.csv"


def test_no_fold_sees_its_own_slices_and_none_chooses_by_them(folds):
    manifest = folds.runs(Method("x", RECIPE))[4].manifest
    assert sorted(int(row.path.stem) for row in manifest.split("test")) == [4, 9]
    assert sorted(int(row.path.stem) for row in manifest.split("val")) == [0, 5]
    assert len(manifest.split("train")) == 6
    assert folds.note(validating=True).startswith("5 folds of patients: one is held out, the next one chooses")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_crossval_continues_and_its_predictions_can_be_scored_again(table, perfect, tmp_path):
    recipe = recipe_file(tmp_path, "tiny", TINY)
    out = tmp_path / "cv"
    first = run("crossval", recipe, "-m", table, "-o", out, "--fold", 0)
    assert first.exit_code == 0, first.output
    assert "folds are missing" in first.output
    before = (out / "tiny/fold0/best.safetensors").stat().st_mtime_ns
    whole = run("crossval", recipe, "-m", table, "-o", out, "--against", f"truth={perfect}", "--draws", 100)
    assert whole.exit_code == 0, whole.output
    assert (out / "tiny/fold0/best.safetensors").stat().st_mtime_ns == before
    content = json.loads((out / "evaluation.json").read_text())
    assert content["warnings"][0].startswith("short budget: 1 steps of batch 2 a fold")
    assert not list(out.rglob("state-*.pt"))
    again = run("compare", out / "tiny/predictions", "-r", table, "-o", tmp_path / "c", "--draws", 100, "--json")
    assert json.loads(again.stdout)["tables"]["scores"][0]["dice_percent"] == pytest.approx(
        content["tables"]["scores"]["rows"][0]["dice_percent"]
    )
    other = run("crossval", recipe, "-m", table, "-o", out, "--set", "steps=2")
    assert isinstance(other.exception, ConfigError)
    assert "finished with other settings (recipe)" in str(other.exception)


def test_ablation_is_efm_by_aff_by_combination():
    methods = ablation_methods(RECIPE, CLASSIFIER_RECIPE)
    assert [method.name for method in methods] == [
        "no EFM, no AFF",
        "no EFM, no AFF, joint",
        "EFM",
        "EFM, joint",
        "AFF",
        "AFF, joint",
        "EFM + AFF",
        "EFM + AFF, joint",
    ]
    assert methods[0].recipe.network["enhanced_features"] is False
    assert methods[1].recipe.preset == "compact-joint"
    assert {method.recipe.steps for method in methods} == {1}
    with pytest.raises(ConfigError, match="works alone"):
        ablation_methods(RECIPE.model_copy(update={"preset": "compact-joint"}))
    with pytest.raises(ConfigError, match="every fold trains its own"):
        Method("x", RECIPE.model_copy(update={"preset": "compact-joint"}))


def test_joint_methods_share_a_classifier_that_is_trained_in_the_fold(ct100_like, tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for number, split in enumerate(("train", "train", "val")):
        path = tmp_path / f"clean{number}.png"
        Image.fromarray(rng.integers(0, 255, (24, 20), dtype=np.uint8)).save(path)
        rows.append(ManifestRow(path, f"clean{number}", 0, split=split))
    first, second = ablation_methods(RECIPE, CLASSIFIER_RECIPE)[-3::2]
    folds = folds_of(ct100(ct100_like, folds="patient-safe"), extra=Manifest(tuple(rows)))
    out = tmp_path / "cv"
    assert not run_experiment([first], folds, out, only=[2])
    record = json.loads((out / "AFF__joint/fold2/run.json").read_text())
    assert record["judged"] == ["0002", "0007"]
    (place,) = (out / "classifiers").iterdir()
    assert place.name.startswith("fold2-")
    weights = place / "best.safetensors"
    assert sorted(path.name for path in place.glob("*.safetensors")) == ["best.safetensors", "last.safetensors"]
    assert not list(place.glob(STATE_PATTERN)), "what resumes a finished run is only large"
    written = weights.stat().st_mtime_ns
    assert not run_experiment([second], folds, out, only=[2])
    assert (out / "EFM___AFF__joint/fold2/best.safetensors").is_file()
    assert weights.stat().st_mtime_ns == written
    other = Method("other", second.recipe, CLASSIFIER_RECIPE.model_copy(update={"seed": 1}))
    assert not run_experiment([other], folds, out, only=[2])
    assert len(list((out / "classifiers").iterdir())) == 2, "another recipe, another classifier"


def test_with_the_last_weights_all_other_folds_train(folds, tmp_path):
    first = RECIPE.model_copy(update={"choose_weights": "last"})
    method = Method("first", first)
    assert {row.split for row in folds.runs(method)[0].manifest} == {"train", "test"}
    assert "one is held out, 4 train, the last step's weights are taken" in folds.note(validating=method.validates)
    assert not run_experiment([method], folds, tmp_path, only=[0])
    weights = tmp_path / "first/fold0/last.safetensors"
    assert not weights.with_name("best.safetensors").exists()
    going_on = Method("second", first, pretrained=weights)
    assert not run_experiment([going_on], folds, tmp_path, only=[0])
    assert file_sha256(weights) != file_sha256(tmp_path / "second/fold0/last.safetensors")
    with pytest.raises(ConfigError, match=r"finished with other settings \(pretrained_sha256\)"):
        run_experiment([Method("second", first)], folds, tmp_path, only=[0])


def test_folds_that_several_machines_trained_with_other_settings_are_not_mixed(folds, tmp_path):
    recipe = RECIPE.model_copy(update={"choose_weights": "last"})
    assert not run_experiment([Method("x", recipe)], folds, tmp_path, only=[0])
    other = Method("x", recipe.model_copy(update={"seed": 1}))
    with pytest.raises(ConfigError, match=r"fold0 was finished with other settings \(recipe\)"):
        run_experiment([other], folds, tmp_path, only=[1])
    assert not (tmp_path / "x/fold1").exists()


def test_a_second_stage_goes_on_from_the_network_of_the_same_fold(folds, tmp_path):
    recipe = RECIPE.model_copy(update={"choose_weights": "last"})
    assert not run_experiment([Method("first", recipe)], folds, tmp_path, only=[0])
    second = Method("second", recipe, pretrained=tmp_path / "first")
    assert not run_experiment([second], folds, tmp_path, only=[0])
    record = json.loads((tmp_path / "second/fold0/run.json").read_text())
    assert record["settings"]["pretrained_sha256"] == file_sha256(tmp_path / "first/fold0/last.safetensors")
    with pytest.raises(ConfigError, match="fold1 is not a finished run"):
        run_experiment([second], folds, tmp_path, only=[1])
    earlier = json.loads((tmp_path / "first/fold0/run.json").read_text())
    (tmp_path / "first/fold0/run.json").write_text(json.dumps({**earlier, "judged": ["0003"]}))
    with pytest.raises(ConfigError, match="kept from other slices than fold0 here"):
        run_experiment([Method("third", recipe, pretrained=tmp_path / "first")], folds, tmp_path, only=[0])


def test_a_run_that_is_stopped_between_training_and_judging_ends_as_if_it_had_not_been(folds, tmp_path):
    method = Method("tiny", RECIPE)
    assert not run_experiment([method], folds, tmp_path / "whole", only=[3])

    def stop(stage: str, done: int, total: int) -> None:
        if "predicts" in stage and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment([method], folds, tmp_path / "stopped", only=[3], progress=stop)
    assert not (tmp_path / "stopped/tiny/fold3/run.json").exists()
    assert not run_experiment([method], folds, tmp_path / "stopped", only=[3])
    found = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "tiny/predictions").iterdir()}
        for name in ("whole", "stopped")
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 2
    assert not list(tmp_path.rglob(STATE_PATTERN))


def test_methods_that_cannot_stand_beside_each_other_are_refused_before_anything_is_trained(folds, tmp_path):
    for names in (("a", "a"), ("a b", "a_b")):
        with pytest.raises(ConfigError, match=f"make one folder.*'{names[0]}' and '{names[1]}'"):
            run_experiment([Method(name, RECIPE) for name in names], folds, tmp_path / "x")
    for methods in ([Method("a", RECIPE), Method("b", CLASSIFIER_RECIPE)], []):
        with pytest.raises(ConfigError, match="are of one task"):
            run_experiment(methods, folds, tmp_path / "x")
    with pytest.raises(ConfigError, match="there is no fold7; there are fold0, fold1"):
        run_experiment([Method("a", RECIPE)], folds, tmp_path / "x", only=[7])
    assert not (tmp_path / "x").exists()


def test_flip_average_is_the_mean_of_both_views(ct100_like, tmp_path):
    case = ct100_cases(ct100_like).cases[0]
    network = make_task(RECIPE)
    network.write(tmp_path / "s.safetensors", make_preprocessor(RECIPE.preprocessing), {})
    ready = load_segmenter(tmp_path / "s.safetensors")
    assert case.image is not None
    mirrored = tmp_path / "mirrored.png"
    Image.fromarray(np.asarray(Image.open(case.image))[:, ::-1]).save(mirrored)

    def levels(image, flip):
        (plane,) = predict_cases(ready, [replace(case, image=image)], execution=Execution(), flip_average=flip)
        return plane.astype(float)

    mean = (levels(case.image, False) + levels(mirrored, False)[:, ::-1]) / 2
    np.testing.assert_allclose(levels(case.image, True), mean, atol=1.0)
    np.testing.assert_array_equal(levels(mirrored, True)[:, ::-1], levels(case.image, True))


def test_networks_share_everything_but_the_network():
    methods = network_methods(RECIPE, ["compact", "unet", "dss-vgg16-scratch"], width=0.25)
    assert methods[0].recipe == RECIPE
    assert methods[1].recipe.network == {"in_channels": 1, "width": 0.25}
    assert methods[2].recipe.model_copy(update={"preset": "compact", "network": RECIPE.network}) == RECIPE
    with pytest.raises(ConfigError, match=r"cannot train 'compact-joint' here; choose of .*unet"):
        network_methods(RECIPE, ["compact-joint"])


def test_what_is_for_segmenters_is_refused_for_a_classifier_before_anything_is_trained(table, tmp_path):
    recipe = recipe_file(tmp_path, "classifier", CLASSIFIER)
    clean = ManifestRow(tmp_path / "clean.png", "clean", 0, fold=0)
    Manifest((*read_manifest(table), clean)).write(table)
    done = run("crossval", recipe, "-m", table, "-o", tmp_path / "n", "--cut-by-folds")
    assert "--cut-by-folds are for segmenters" in str(done.exception)
    assert not (tmp_path / "n").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ablate_and_networks_run_to_their_tables(folds, table, tmp_path):
    recipe = recipe_file(tmp_path, "tiny", TINY)
    done = run("ablate", recipe, "-m", table, "-o", tmp_path / "a", "--draws", 50)
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "a/evaluation.json").read_text())
    rows = content["tables"]["scores"]["rows"]
    assert [row["method"] for row in rows if row["origin"] == "measured here"] == [
        "no EFM, no AFF",
        "EFM",
        "AFF",
        "EFM + AFF",
    ]
    assert [row["dice_percent"] for row in rows if row["origin"] == "paper, private data"][:4] == [
        71.0,
        74.3,
        75.9,
        77.5,
    ]
    assert any("combination" in warning for warning in content["warnings"])
    options = ("-m", table, "-o", tmp_path / "n", "--width", 0.05, "--draws", 50)
    networks = ("--network", "compact", "--network", "unet", "--set", "preprocessing.size=64")
    done = run("crossval", recipe, *options, *networks, "--fold", 0)
    assert done.exit_code == 0, done.output
    assert "folds are missing" in done.output
    assert not (tmp_path / "n/evaluation.json").exists()
    done = run("crossval", recipe, *options, *networks, "--cut-by-folds")
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "n/evaluation.json").read_text())
    assert set(content["facts"]["cuts"]["unet"]) == {fold_name(number) for number in folds.numbers}
    assert {row["method"] for row in content["tables"]["differences"]["rows"]} == {
        "compact", "unet, own cut", "unet"
    }  # fmt: skip
    assert len(content["tables"]["differences"]["rows"]) == 24
    assert any(warning.startswith("short budget") for warning in content["warnings"])
