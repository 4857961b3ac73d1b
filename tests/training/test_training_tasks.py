"""From a recipe to a task, with the weights it starts from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jcs_ct.checkpoints import file_sha256, load_classifier, load_segmenter, read_info
from jcs_ct.data.datasets import SliceDataset
from jcs_ct.data.manifest import Manifest
from jcs_ct.errors import CheckpointError, ConfigError
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


def test_the_manifests_of_the_networks_behind_are_kept(tmp_path):
    alone = Recipe(task="segmenter", preset="compact", preprocessing=GREY)
    taught = CLASSIFIER.model_copy(update={"encoder_feature_weight": 1.0})
    teacher, first, classifier, joint, last = (tmp_path / f"{number}.safetensors" for number in range(5))
    make_task(alone).write(teacher, PREPROCESSOR, {"manifest_sha256": "of the teacher"})
    make_task(CLASSIFIER).write(first, PREPROCESSOR, {"manifest_sha256": "of the first"})
    task = make_task(taught, pretrained=first, teacher=teacher)
    task.write(classifier, PREPROCESSOR, {"manifest_sha256": "of the classifier"})
    make_task(JOINT, classifier).write(joint, PREPROCESSOR, {"manifest_sha256": "of the joint one"})
    make_task(JOINT, pretrained=joint).write(last, PREPROCESSOR, {})
    kept = [read_info(path).provenance["ancestor_manifests"] for path in (first, classifier, joint, last)]
    behind = {
        "classifier": "of the classifier",
        "teacher of the classifier": "of the teacher",
        "pretrained network of the classifier": "of the first",
    }
    assert kept[:3] == [{}, {"teacher": "of the teacher", "pretrained network": "of the first"}, behind]
    inherited = {f"{who} of the pretrained network": sha256 for who, sha256 in behind.items()}
    assert kept[3] == {"pretrained network": "of the joint one", **inherited}


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
    sides = task.network.supervised(batch.images).lesions
    assert [side.shape[1] for side in sides] == [1, 1, 1]
    assert torch.allclose(losses["lesion_pixels"], deep_supervision_loss(sides, batch.masks))
    losses["lesion_pixels"].backward()
    assert all(float(side.weight.grad.abs().sum()) > 0 for side in task.network.lesion_outputs)
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


@pytest.fixture
def segmenter(tmp_path):
    path = tmp_path / "segmenter.safetensors"
    task = make_task(Recipe(task="segmenter", preset="compact", preprocessing=GREY))
    task.write(path, PREPROCESSOR, {})
    return path


def test_an_encoder_teaches_the_trunk_what_it_sees(drawn_slices, segmenter, tmp_path):
    """Smooth L1 to its last two blocks, each channel in its own spread; the encoder stays, and is not shipped."""
    recipe = CLASSIFIER.model_copy(update={"encoder_feature_weight": 2.0})
    task = make_task(recipe, teacher=segmenter)
    encoder = load_segmenter(segmenter).network.eval().encoder
    batch = SliceDataset(drawn_slices, PREPROCESSOR).batch(
        [0, 1, 2, 3], augmentation=None, generator=np.random.default_rng(0)
    )
    task.train_mode(task.network)
    losses = task.loss(task.network, batch, np.random.default_rng(0))
    assert torch.equal(losses["loss"], losses["cross_entropy"] + 2.0 * losses["encoder_features"])
    with torch.no_grad():
        fourth, fifth = (
            block / (block.std(dim=(0, 2, 3), keepdim=True) + 1e-3) for block in encoder(batch.images)[-2:]
        )
        stages = task.network.classifier.eval().features(batch.images)[-3:]
        answers = [output(stage) for output, stage in zip(task.network.encoder_outputs, stages, strict=True)]
        assert [tuple(answer.shape[1:]) for answer in answers] == [(96, 8, 8), (128, 4, 4), (224, 4, 4)]
        both = torch.cat([F.avg_pool2d(fourth, 2), fifth], dim=1)
        expected = sum(F.smooth_l1_loss(a, t) for a, t in zip(answers, (fourth, fifth, both), strict=True))
        again = task.loss(task.network.eval(), batch, np.random.default_rng(0))["encoder_features"]
    assert float(again) == pytest.approx(float(expected), rel=1e-5)
    losses["encoder_features"].backward()
    assert float(task.classifier.backbone.layer2[0].conv3.weight.grad.abs().sum()) > 0
    names = [name for name, _ in task.network.named_parameters()]
    assert not any("teacher" in name for name in names)
    task.write(tmp_path / "taught.safetensors", PREPROCESSOR, {})
    info = read_info(tmp_path / "taught.safetensors")
    assert info.provenance["teacher_sha256"] == file_sha256(segmenter)
    assert load_classifier(tmp_path / "taught.safetensors").network.config == task.config


def test_slices_without_a_label_hear_the_teacher_alone(drawn_slices, segmenter):
    recipe = CLASSIFIER.model_copy(
        update={"encoder_feature_weight": 1.0, "unlabelled_share": 0.5, "label_smoothing": 0.1}
    )
    task = make_task(recipe, teacher=segmenter)
    rows = tuple(replace(row, label=None if number > 1 else row.label) for number, row in enumerate(drawn_slices))
    dataset = SliceDataset(Manifest(rows[:4]), PREPROCESSOR, unlabelled_share=0.5)
    mixed = dataset.batch([0, 1, 2, 3], augmentation=None, generator=np.random.default_rng(0))
    task.network.eval()  # so that no slice's answer hangs on the others'
    with torch.no_grad():
        losses = task.loss(task.network, mixed, np.random.default_rng(0))
    labelled = dataset.batch([0, 1], augmentation=None, generator=np.random.default_rng(0))
    with torch.no_grad():
        alone = task.loss(task.network, labelled, np.random.default_rng(0))
    assert float(losses["cross_entropy"]) == pytest.approx(float(alone["cross_entropy"]), rel=1e-5)
    assert float(losses["encoder_features"]) != pytest.approx(float(alone["encoder_features"]), rel=1e-3)
    unlabelled = dataset.batch([2, 3], augmentation=None, generator=np.random.default_rng(0))
    taught = task.loss(task.network, unlabelled, np.random.default_rng(0))
    assert torch.equal(taught["loss"], taught["encoder_features"])
    taught["loss"].backward()
    assert float(task.classifier.backbone.layer2[0].conv3.weight.grad.abs().sum()) > 0
    assert float(task.classifier.head.weight.grad.abs().sum()) == 0.0, "several devices wait for it"


@pytest.mark.parametrize(("weight", "given"), [(0.0, True), (1.0, False)])
def test_a_teacher_and_its_weight_go_together(segmenter, weight, given):
    recipe = CLASSIFIER.model_copy(update={"encoder_feature_weight": weight})
    with pytest.raises(ConfigError, match="encoder_feature_weight and --teacher go together"):
        make_task(recipe, teacher=segmenter if given else None)


def test_a_teacher_of_other_slices_or_for_a_segmenter_is_refused(segmenter, trained_classifier):
    colour = CLASSIFIER.model_copy(
        update={"encoder_feature_weight": 1.0, "network": {"backbone": {"in_channels": 3}}}
    )
    with pytest.raises(ConfigError, match=r"teacher takes slices of 1 channel\(s\), the classifier of 3"):
        make_task(colour, teacher=segmenter)
    darker = colour.model_copy(update={"preprocessing": CLASSIFIER.preprocessing.model_copy(update={"mean": (0.5,)})})
    with pytest.raises(ConfigError, match="grey values of another window, mean or standard deviation"):
        make_task(darker, teacher=segmenter)
    with pytest.raises(ConfigError, match="--teacher is for classifiers"):
        make_task(JOINT, trained_classifier, teacher=segmenter)


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
