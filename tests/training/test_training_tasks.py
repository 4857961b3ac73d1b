"""From a recipe to a task, with the weights it starts from."""

import pytest
import torch

from jcs_ct.checkpoints import read_info
from jcs_ct.errors import CheckpointError
from jcs_ct.training.recipe import Recipe, make_preprocessor
from jcs_ct.training.training_tasks import make_task

GREY = {"size": 64, "channels": 1, "mean": (0.45,), "std": (0.3,)}
CLASSIFIER = Recipe(task="classifier", preset="compact", preprocessing=GREY)
JOINT = Recipe(task="segmenter", preset="compact-joint", preprocessing=GREY)
PREPROCESSOR = make_preprocessor(CLASSIFIER.preprocessing)


@pytest.fixture
def trained_classifier(tmp_path):
    """A classifier of another seed, as a run leaves it."""
    path = tmp_path / "classifier.safetensors"
    make_task(CLASSIFIER.model_copy(update={"seed": 7})).write(path, PREPROCESSOR, {})
    return path


def test_a_run_starts_from_a_checkpoint_of_its_preset_and_says_so(trained_classifier, tmp_path):
    fresh, started = make_task(CLASSIFIER), make_task(CLASSIFIER, pretrained=trained_classifier)
    assert not torch.equal(fresh.network.head.weight, started.network.head.weight)
    started.write(tmp_path / "again.safetensors", PREPROCESSOR, {"step": 0})
    provenance = read_info(tmp_path / "again.safetensors").provenance
    assert provenance["step"] == 0
    assert provenance["pretrained"]["part"] == "whole"
    assert provenance["pretrained"]["origin"] == "classifier.safetensors"
    fresh.write(tmp_path / "fresh.safetensors", PREPROCESSOR, {})
    assert read_info(tmp_path / "fresh.safetensors").provenance["pretrained"] is None


def test_a_joint_segmenter_borrows_its_classifier_after_it_was_started(trained_classifier, tmp_path):
    other = tmp_path / "other.safetensors"
    make_task(CLASSIFIER.model_copy(update={"seed": 9})).write(other, PREPROCESSOR, {})
    joint = tmp_path / "joint.safetensors"
    make_task(JOINT, other).write(joint, PREPROCESSOR, {})
    task = make_task(JOINT, trained_classifier, joint)
    trained = make_task(CLASSIFIER, pretrained=trained_classifier).network
    started = make_task(JOINT, other, joint).network
    assert torch.equal(task.network.backbone.conv1[0].weight, trained.backbone.conv1[0].weight)
    assert torch.equal(task.network.encoder.conv2_1.conv.weight, started.encoder.conv2_1.conv.weight)
    without = make_task(JOINT, pretrained=joint).network
    assert torch.equal(without.backbone.conv1[0].weight, started.backbone.conv1[0].weight), "it keeps the one it has"


def test_a_checkpoint_of_another_task_is_refused(trained_classifier):
    with pytest.raises(CheckpointError, match=r"holds a classifier, this network is a segmenter; .* by --classifier"):
        make_task(Recipe(task="segmenter", preset="compact", preprocessing=GREY), pretrained=trained_classifier)
