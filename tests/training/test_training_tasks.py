"""From a recipe to a task, with the weights it starts from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from jcs_ct.checkpoints import read_info
from jcs_ct.data.datasets import SliceDataset
from jcs_ct.errors import CheckpointError
from jcs_ct.training.paper_losses import deep_supervision_loss
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


def test_lesion_pixels_teach_the_trunk_beside_the_labels(drawn_slices):
    """The loss is the sum it says, and the last three stages, but not the head, learn from pixels."""
    recipe = CLASSIFIER.model_copy(
        update={"lesion_pixel_weight": 0.5, "activation_map_weight": 2.0, "mixup_alpha": 0.0}
    )
    task = make_task(recipe)
    dataset = SliceDataset(drawn_slices, PREPROCESSOR)
    batch = dataset.batch(list(range(8)), augmentation=None, generator=np.random.default_rng(0))
    assert bool(batch.has_mask.all())
    assert 0 < int(batch.labels[:, 1].sum()) < 8
    losses = task.loss(task.network.eval(), batch, np.random.default_rng(0))
    expected = losses["cross_entropy"] + 2.0 * losses["activation_map"] + 0.5 * losses["lesion_pixels"]
    assert torch.equal(losses["loss"], expected)
    _, sides = task.network.features_and_lesions(batch.images)
    assert [side.shape[1] for side in sides] == [1, 1, 1]
    assert torch.allclose(losses["lesion_pixels"], deep_supervision_loss(sides, batch.masks))
    losses["lesion_pixels"].backward()
    assert all(float(side.weight.grad.abs().sum()) > 0 for side in task.network.side_outputs)
    assert float(task.classifier.backbone.layer4[-1].conv3.weight.grad.abs().sum()) > 0
    assert task.classifier.head.weight.grad is None


def test_a_batch_without_a_mask_teaches_no_pixels(drawn_slices):
    task = make_task(CLASSIFIER.model_copy(update={"lesion_pixel_weight": 0.5}))
    batch = SliceDataset(drawn_slices, PREPROCESSOR).batch(
        [0, 1], augmentation=None, generator=np.random.default_rng(0)
    )
    unknown = replace(batch, has_mask=torch.zeros(2, dtype=torch.bool))
    losses = task.loss(task.network, unknown, np.random.default_rng(0))
    assert float(losses["lesion_pixels"].detach()) == 0.0
    assert torch.equal(losses["loss"], losses["cross_entropy"])
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in task.network.parameters()), "several devices wait for each"


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
