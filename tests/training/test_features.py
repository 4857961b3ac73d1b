"""Networks trained from lists of first-stage features, as COVID-CS is handed out."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from jcs_ct.checkpoints import load_checkpoint, read_info
from jcs_ct.cli import app
from jcs_ct.data.augmentation.mixup import mixup
from jcs_ct.data.covid_cs.feature_lists import FeatureLists, read_list
from jcs_ct.data.covid_cs.feature_writing import write_feature_set
from jcs_ct.errors import ConfigError
from jcs_ct.models.first_stage import FirstStage, joined
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.recipe import Recipe
from jcs_ct.training.training_run import train
from jcs_ct.training.training_tasks import make_task

TRUNK = {"stem_channels": [4, 4, 4], "planes": [4, 4, 8, 8], "blocks": [1, 1, 1, 1], "base_width": 32}
SMALL = {
    "preprocessing": {"size": 32, "channels": 1, "mean": [0.45], "std": [0.3]},
    "augmentation": {"flip_up_down": 0.5},
    "optimiser": {"name": "adamw", "learning_rate": 2e-3, "gradient_clip": 1.0},
    "steps": 2,
    "batch_size": 4,
    "validate_every": 2,
    "checkpoint_every": 1,
    "balance": "source",
}
RECIPES = {
    "classifier": SMALL
    | {
        "task": "classifier",
        "preset": "compact",
        "network": {"backbone": TRUNK},
        "mixup_alpha": 0.5,
        "activation_map_weight": 1.0,
        "lesion_pixel_weight": 0.5,
    },
    "segmenter": SMALL
    | {"task": "segmenter", "preset": "compact", "network": {"encoder": {"channels": [4, 4, 4, 4, 8]}}},
    "joint": SMALL
    | {
        "task": "segmenter",
        "preset": "compact-joint",
        "network": {"encoder": {"channels": [4, 4, 4, 4, 8]}, "combination": {"backbone": TRUNK}},
    },
}
CLASSIFIER, SEGMENTER = (Recipe.model_validate(RECIPES[name]) for name in ("classifier", "segmenter"))
PREPROCESSOR = SlicePreprocessor(size=32, channels=1, mean=(0.45,), std=(0.3,))


@pytest.fixture(scope="module")
def released(drawn_slices, tmp_path_factory):
    """Folders of features of the drawn slices, by the kind of network that wrote them, and those networks' files."""
    root = tmp_path_factory.mktemp("released")
    classifier = root / "classifier.safetensors"
    make_task(Recipe.model_validate(RECIPES["classifier"] | {"seed": 5})).write(classifier, PREPROCESSOR, {})
    for name, settings in RECIPES.items():
        task = make_task(Recipe.model_validate(settings | {"seed": 5}), classifier if name == "joint" else None)
        task.write(root / f"{name}.safetensors", PREPROCESSOR, {})
        write_feature_set(drawn_slices, load_checkpoint(root / f"{name}.safetensors"), root / name)
    return root


def lists(folder) -> FeatureLists:
    return FeatureLists(read_list(folder / "train.txt"), read_list(folder / "val.txt"))


def recipe_file(folder, name, **more):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(RECIPES[name] | more))
    return path


@pytest.mark.parametrize("name", ["classifier", "segmenter", "joint"])
def test_the_command_trains_from_lists(name, released, tmp_path):
    command = [
        "train",
        recipe_file(tmp_path, name),
        "--features",
        released / name / "train.txt",
        "-o",
        tmp_path / "run",
    ]
    command += ["--validation", released / name / "val.txt", "--pretrained", released / f"{name}.safetensors"]
    command += ["--classifier", released / "classifier.safetensors"] if name == "joint" else []
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, done.output
    assert "note: features" not in done.output
    assert re.search(r"best weights: .*best\.safetensors \(step \d: score ", done.output)
    assert [json.loads(line)["step"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()] == [2]
    assert (tmp_path / "run/samples/step-000002.png").is_file()
    written = load_file(released / f"{name}.safetensors")
    trained = load_file(tmp_path / "run/last.safetensors")
    first = "backbone.conv1.0." if name == "classifier" else "encoder.conv1_1."
    for key in (key for key in trained if key.startswith(first)):
        assert torch.equal(trained[key], written[key]), "the first stage stays the one that wrote the features"
    assert any(not torch.equal(value, written[key]) for key, value in trained.items())
    assert read_info(tmp_path / "run/best.safetensors").provenance["manifest_sha256"] == lists(released / name).sha256


def test_training_from_features_continues_exactly(released, tmp_path):
    class Killed(BaseException):
        pass

    def kill(step, steps, losses):
        raise Killed

    train(make_task(CLASSIFIER), CLASSIFIER, lists(released / "classifier"), tmp_path / "whole")
    with pytest.raises(Killed):
        train(make_task(CLASSIFIER), CLASSIFIER, lists(released / "classifier"), tmp_path / "killed", progress=kill)
    train(make_task(CLASSIFIER), CLASSIFIER, lists(released / "classifier"), tmp_path / "killed")
    one, other = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_classifier_learns_maps_and_pixels_from_a_segmenters_features(released, tmp_path):
    # The joint network's lists hold masks and res2net_feats: L_seg and Eq. 6 apply, and labels come from the masks.
    seen = []
    train(
        make_task(CLASSIFIER), CLASSIFIER, lists(released / "joint"), tmp_path,
        progress=lambda step, steps, losses: seen.append(set(losses)),
    )  # fmt: skip
    assert {"loss", "cross_entropy", "activation_map", "lesion_pixels"} in seen


def test_an_untrained_first_stage_is_said(released, tmp_path):
    command = ["train", recipe_file(tmp_path, "segmenter", choose_weights="last"), "-o", tmp_path / "run"]
    command += ["--features", released / "segmenter" / "train.txt"]
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, done.output
    assert "the first stage, so it stays untrained" in done.output
    assert "last weights:" in done.output


def test_what_features_cannot_do_is_said_at_once(released, tmp_path):
    recipe = Recipe.model_validate(RECIPES["segmenter"] | {"coarse_size": 32, "copy_paste": 0.5})
    labels = replace(lists(released / "classifier"), val=())
    with pytest.raises(ConfigError) as caught:
        train(make_task(recipe), recipe, labels, tmp_path)
    message = str(caught.value)
    assert "4 problem(s)" in message
    assert "give --validation LIST, or set choose_weights: last" in message
    assert "--set coarse_size=0" in message
    assert "--set copy_paste=0" in message
    assert "a segmenter needs a mask for every slice" in message


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"preprocessing": {**SMALL["preprocessing"], "size": 64}}, "segmenter", "slices of 32 rows, the recipe's"),
        ({}, "classifier", "a segmenter needs a mask for every slice of its lists"),
        ({"network": {"encoder": {"channels": [8, 4, 4, 4, 8]}}}, "segmenter", r"mat: expected vgg_feats as \(N, 8"),
        ({"preset": "unet", "network": {"in_channels": 1, "width": 1 / 32}}, "segmenter", "'unet' does not start"),
    ],
    ids=["size", "labels for a segmenter", "channels", "comparison network"],
)  # fmt: skip
def test_features_that_do_not_fit_are_refused(change, kind, message, released, tmp_path):
    recipe = Recipe.model_validate(RECIPES["segmenter"] | change)
    with pytest.raises(ConfigError, match=message):
        train(make_task(recipe), recipe, lists(released / kind), tmp_path)


def test_a_teacher_has_nothing_to_look_at(released, tmp_path):
    recipe = Recipe.model_validate(RECIPES["classifier"] | {"encoder_feature_weight": 1.0})
    task = make_task(recipe, teacher=released / "segmenter.safetensors")
    with pytest.raises(ConfigError, match=r"a teacher looks at slices, .* leave --teacher out"):
        train(task, recipe, lists(released / "classifier"), tmp_path)


def test_several_devices_are_refused(released, tmp_path):
    with pytest.raises(ConfigError, match="features train on one device"):
        train(make_task(SEGMENTER), SEGMENTER, lists(released / "segmenter"), tmp_path, devices=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give slices by --manifest or features by --features"),
        (["-m", "a.csv", "--features", "b.txt"], "one of the two"),
        (["-m", "a.csv", "--validation", "b.txt"], "--validation and --root are for --features"),
    ],
)
def test_the_command_wants_one_kind_of_data(options, message, tmp_path):
    for name in ("a.csv", "b.txt"):
        (tmp_path / name).write_text("")
    given = [str(tmp_path / one) if "." in one else one for one in options]
    command = ["train", str(recipe_file(tmp_path, "segmenter")), "-o", str(tmp_path / "run"), *given]
    assert message in str(CliRunner().invoke(app, command).exception)


def test_lists_have_an_identity_that_moves_with_them_and_no_common_slice(released, tmp_path, monkeypatch):
    folder = released / "segmenter"
    known = lists(folder).sha256
    shutil.copytree(folder, tmp_path / "moved")
    assert lists(tmp_path / "moved").sha256 == known
    monkeypatch.chdir(folder)
    (train_list, val_list) = (read_list(folder.relative_to(folder) / name) for name in ("train.txt", "val.txt"))
    assert FeatureLists(train_list, val_list).sha256 == known
    assert FeatureLists(train_list[1:], val_list).sha256 != known
    assert FeatureLists(train_list, val_list[::-1]).sha256 != known
    with pytest.raises(
        ConfigError, match=r"1 slice\(s\) stand in the training list and in the validation list, as 0000"
    ):
        FeatureLists(train_list, (*val_list, train_list[0]))


def test_first_stages_are_mixed_and_joined_map_by_map():
    maps = FirstStage(torch.rand(2, 3, 8, 8), torch.rand(2, 4, 4, 4))
    mixed, labels, lam, partner = mixup(maps, torch.eye(2), alpha=0.5, generator=np.random.default_rng(1))
    for before, after in zip(maps, mixed, strict=True):
        assert torch.equal(after, lam * before + (1 - lam) * before[partner])
    assert torch.equal(labels, lam * torch.eye(2) + (1 - lam) * torch.eye(2)[partner])
    assert [len(one) for one in joined(maps, mixed)] == [4, 4]
    with pytest.raises(ValueError, match="same maps, can be joined"):
        joined(maps, FirstStage(None, maps.res2net_feats))
