import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.checkpoints import file_sha256, load_checkpoint
from jcs_ct.cli import app
from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.cases import ct100_cases
from jcs_ct.evaluation.crossval import Method, cross_validate, fold_manifest, fold_note
from jcs_ct.evaluation.running import predict_cases
from jcs_ct.evaluation.variants import ablation_methods, network_methods
from jcs_ct.training.config import Recipe
from jcs_ct.training.loop import make_preprocessor
from jcs_ct.training.state import STATE_PATTERN
from jcs_ct.training.tasks import make_task

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


def test_no_fold_sees_its_own_slices_and_none_chooses_by_them(ct100_like):
    cases = ct100_cases(ct100_like)
    manifest = fold_manifest(cases, "val4")
    assert sorted(int(row.path.stem) for row in manifest.split("test")) == [4, 9]
    assert sorted(int(row.path.stem) for row in manifest.split("val")) == [0, 5]
    assert len(manifest.split("train")) == 6
    assert fold_note(cases).startswith("5 folds: one is held out, the next one chooses the weights, 3 train")


def test_a_patient_across_folds_is_refused_unless_the_protocol_parts_it(ct100_like):
    path = ct100_like / "splits.json"
    splits = json.loads(path.read_text())
    splits["same_acquisition_groups"] = [[0, 1]]
    path.write_text(json.dumps(splits))
    assert "These folds part slices of one acquisition" in fold_note(ct100_cases(ct100_like, "miniseg"))


def test_extra_slices_never_hold_judged_ones(ct100_like):
    cases = ct100_cases(ct100_like)
    leaky = Manifest((ManifestRow(ct100_like / "images/0004.png", "p", 1, ct100_like / "masks/0004.png"),))
    with pytest.raises(ConfigError, match=r"1 extra slice\(s\) are among the judged ones, as 0004.png"):
        fold_manifest(cases, "val0", leaky)
    clean = Manifest((ManifestRow(Path("x.png"), "x", 0), ManifestRow(Path("y.png"), "y", 0, split="test")))
    assert [row.path.name for row in fold_manifest(cases, "val0", clean).rows[-1:]] == ["x.png"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_crossval_continues_and_its_predictions_can_be_scored_again(ct100_like, perfect, tmp_path):
    recipe = recipe_file(tmp_path, "tiny", TINY)
    out = tmp_path / "cv"
    first = run("crossval", recipe, "-d", ct100_like, "-o", out, "--fold", "val0")
    assert first.exit_code == 0, first.output
    assert "folds are missing" in first.output
    before = (out / "tiny/val0/best.safetensors").stat().st_mtime_ns
    whole = run("crossval", recipe, "-d", ct100_like, "-o", out, "--against", f"truth={perfect}", "--draws", 100)
    assert whole.exit_code == 0, whole.output
    assert (out / "tiny/val0/best.safetensors").stat().st_mtime_ns == before
    content = json.loads((out / "evaluation.json").read_text())
    assert content["warnings"][0].startswith("short budget: 1 steps of batch 2 a fold")
    assert not list(out.rglob("state-*.pt"))
    again = run("compare", out / "tiny/predictions", "-r", ct100_like, "-o", tmp_path / "c", "--draws", 100, "--json")
    assert json.loads(again.stdout)["scores"][0]["dice_percent"] == pytest.approx(
        content["tables"]["scores"]["rows"][0]["dice_percent"]
    )
    other = run("crossval", recipe, "-d", ct100_like, "-o", out, "--set", "steps=2")
    assert isinstance(other.exception, ConfigError)
    assert "finished with other settings" in str(other.exception)


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
    cases = ct100_cases(ct100_like)
    extra = Manifest(tuple(rows))
    assert cross_validate(first, cases, tmp_path / "cv/first", extra=extra, folds=["val2"]) is None
    record = json.loads((tmp_path / "cv/first/val2/fold.json").read_text())
    assert record["cases"] == ["0002", "0007"]
    (place,) = (tmp_path / "cv/classifiers").iterdir()
    assert place.name.startswith("val2-")
    weights = place / "best.safetensors"
    assert sorted(path.name for path in place.glob("*.safetensors")) == ["best.safetensors", "last.safetensors"]
    assert not list(place.glob(STATE_PATTERN)), "what resumes a finished run is only large"
    written = weights.stat().st_mtime_ns
    assert cross_validate(second, cases, tmp_path / "cv/second", extra=extra, folds=["val2"]) is None
    assert (tmp_path / "cv/second/val2/best.safetensors").is_file()
    assert weights.stat().st_mtime_ns == written
    other = Method("other", second.recipe, CLASSIFIER_RECIPE.model_copy(update={"seed": 1}))
    assert cross_validate(other, cases, tmp_path / "cv/other", extra=extra, folds=["val2"]) is None
    assert len(list((tmp_path / "cv/classifiers").iterdir())) == 2, "another recipe, another classifier"


def test_with_the_last_weights_all_other_folds_train(ct100_like, tmp_path):
    cases = ct100_cases(ct100_like)
    kept = fold_manifest(cases, "val0", validating=False)
    assert {row.split for row in kept} == {"train", "test"}
    assert "one is held out, 4 train, the last step's weights are taken" in fold_note(cases, validating=False)
    first = RECIPE.model_copy(update={"choose_weights": "last"})
    assert cross_validate(Method("first", first), cases, tmp_path / "a", folds=["val0"]) is None
    assert not (tmp_path / "a/val0/best.safetensors").exists()
    weights = tmp_path / "a/val0/last.safetensors"
    going_on = Method("second", first, pretrained=weights)
    assert cross_validate(going_on, cases, tmp_path / "b", folds=["val0"]) is None
    assert file_sha256(weights) != file_sha256(tmp_path / "b/val0/last.safetensors")
    with pytest.raises(ConfigError, match="finished with other settings"):
        cross_validate(Method("second", first), cases, tmp_path / "b", folds=["val0"])


def test_a_second_stage_goes_on_from_the_network_of_the_same_fold(ct100_like, tmp_path):
    cases = ct100_cases(ct100_like)
    recipe = RECIPE.model_copy(update={"choose_weights": "last"})
    assert cross_validate(Method("first", recipe), cases, tmp_path / "a", folds=["val0"]) is None
    second = Method("second", recipe, pretrained=tmp_path / "a")
    assert cross_validate(second, cases, tmp_path / "b", folds=["val0"]) is None
    record = json.loads((tmp_path / "b/val0/fold.json").read_text())
    assert record["settings"]["pretrained_sha256"] == file_sha256(tmp_path / "a/val0/last.safetensors")
    with pytest.raises(ConfigError, match="val1 is not a finished fold"):
        cross_validate(second, cases, tmp_path / "b", folds=["val1"])
    earlier = json.loads((tmp_path / "a/val0/fold.json").read_text())
    (tmp_path / "a/val0/fold.json").write_text(json.dumps({**earlier, "cases": ["0003"]}))
    with pytest.raises(ConfigError, match="kept from other slices than fold val0 here"):
        cross_validate(second, cases, tmp_path / "c", folds=["val0"])


def test_flip_average_is_the_mean_of_both_views(ct100_like, tmp_path):
    case = ct100_cases(ct100_like).cases[0]
    network = make_task(RECIPE)
    network.write(tmp_path / "s.safetensors", make_preprocessor(RECIPE.preprocessing), {})
    ready = load_checkpoint(tmp_path / "s.safetensors")
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


def test_a_cut_for_a_method_that_is_not_there_is_refused_before_anything_is_trained(ct100_like, tmp_path):
    recipe = recipe_file(tmp_path, "tiny", TINY)
    done = run("compare", "-r", ct100_like, "-o", tmp_path / "n", "--recipe", recipe, "--train", "compact",
               "--cut-by-folds", "unet")  # fmt: skip
    assert str(done.exception) == "no method is called unet; there are compact"
    assert not (tmp_path / "n").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ablate_and_compare_train_run_to_their_tables(ct100_like, tmp_path):
    recipe = recipe_file(tmp_path, "tiny", TINY)
    done = run("ablate", recipe, "-d", ct100_like, "-o", tmp_path / "a", "--draws", 50)
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
    options = ("-r", ct100_like, "-o", tmp_path / "n", "--recipe", recipe, "--width", 0.05, "--draws", 50)
    networks = ("--train", "compact", "--train", "unet", "--set", "preprocessing.size=64")
    first, *others = ct100_cases(ct100_like, "patient-safe").folds
    done = run("compare", *options, *networks, "--fold", first)
    assert done.exit_code == 0, done.output
    assert "folds are missing" in done.output
    assert not (tmp_path / "n/evaluation.json").exists()
    done = run("compare", *options, *networks, "--cut-by-folds", "unet")
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "n/evaluation.json").read_text())
    assert set(content["facts"]["cuts"]["unet"]) == {first, *others}
    assert {row["method"] for row in content["tables"]["differences"]["rows"]} == {"unet, own cut", "unet"}
    assert len(content["tables"]["differences"]["rows"]) == 16
    assert any(warning.startswith("short budget") for warning in content["warnings"])
