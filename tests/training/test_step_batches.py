"""Batches made ahead are those made one by one; a run starts on its device; what is stored is what is judged."""

import pytest
import torch
from torch import nn

from jcs_ct.checkpoints import as_stored
from jcs_ct.engine import execution as engine_execution
from jcs_ct.errors import CheckpointError, ConfigError
from jcs_ct.models.presets import build_classifier, classifier_preset
from jcs_ct.training.paper_losses import deep_supervision_loss
from jcs_ct.training.recipe import Recipe, make_preprocessor
from jcs_ct.training.segmenter_task import SegmentationTask
from jcs_ct.training.step_batches import StepBatches, step_batches
from jcs_ct.training.training_data import open_inputs, prepare_slices
from jcs_ct.training.training_run import launched
from jcs_ct.training.training_state import starting_state

RECIPE = Recipe.model_validate(
    {
        "task": "classifier",
        "preset": "compact",
        "preprocessing": {"size": 32, "channels": 1, "mean": [0.45], "std": [0.3]},
        "augmentation": {"rotate_degrees": 10, "noise": 0.05, "jpeg": 0.5, "resolution": 0.5, "sharpen": 1.0},
        "steps": 5,
        "batch_size": 4,
        "accumulate": 2,
        "coarse_size": 32,
        "ema_decay": 0.9,
        "choose_weights": "last",
    }
)


def batches_of(manifest):
    preprocessor = make_preprocessor(RECIPE.preprocessing)
    inputs = open_inputs(manifest, RECIPE, preprocessor, build_classifier(classifier_preset("compact")))
    return StepBatches(RECIPE, inputs, (0, 1)), inputs


def test_batches_made_by_processes_are_those_made_here_and_start_at_any_step(drawn_slices):
    here, _ = batches_of(drawn_slices)
    ahead, inputs = batches_of(drawn_slices)
    prepare_slices(inputs.training, workers=2)
    one_by_one = list(step_batches(here, 0, workers=0))
    made_ahead = list(step_batches(ahead, 2, workers=2))
    assert len(one_by_one) == RECIPE.steps
    assert len(made_ahead) == RECIPE.steps - 2
    for first, second in zip(one_by_one[2:], made_ahead, strict=True):
        assert first.seed == second.seed
        assert sum(second.shares) == pytest.approx(1.0)
        for (batch, generator), (same, its) in zip(first.parts, second.parts, strict=True):
            assert torch.equal(batch.images, same.images)
            assert torch.equal(batch.masks, same.masks)
            assert torch.equal(batch.labels, same.labels)
            # What is drawn next (mixing) goes on alike.
            assert generator.random() == its.random()


def test_batches_made_where_the_slices_lie_are_those_made_with_the_draw(drawn_slices):
    here, inputs = batches_of(drawn_slices)
    inputs.training.place(torch.device("cpu"))
    there = StepBatches(RECIPE, inputs, (0, 1), torch.device("cpu"))
    for made, drawn in zip(step_batches(here, 0, workers=0), step_batches(there, 0, workers=0), strict=True):
        for (batch, _), (part, _) in zip(made.parts, drawn.parts, strict=True):
            assert not hasattr(part, "images")
            same = there.on_device(part, torch.device("cpu"))
            assert torch.equal(batch.images, same.images)
            assert torch.equal(batch.masks, same.masks)
            assert torch.equal(batch.labels, same.labels)
            assert torch.equal(batch.has_mask, same.has_mask)


def test_prepared_slices_are_kept_and_equal_those_read_later(drawn_slices):
    _, ahead = batches_of(drawn_slices)
    _, later = batches_of(drawn_slices)
    prepare_slices(ahead.training, workers=2)
    assert set(ahead.training._cache) == set(range(len(ahead.training)))
    for index in range(len(later.training)):
        assert torch.equal(ahead.training[index].grey, later.training[index].grey)


def test_a_run_starts_with_every_tensor_on_its_device():
    """What failed at a GPU's first step: the average had copied the network before it was placed."""
    state = starting_state(build_classifier(classifier_preset("compact")), RECIPE, torch.device("meta"))
    placed = [*state.network.parameters(), *state.average.tensors.values()]
    placed += [parameter for group in state.optimiser.param_groups for parameter in group["params"]]
    assert {tensor.device.type for tensor in placed} == {"meta"}


def test_an_average_goes_on_where_its_tensors_are():
    network = nn.Linear(3, 2)
    state = starting_state(network, RECIPE, torch.device("cpu"))
    own = dict(state.average.tensors)
    saved = {name: value + 1.0 for name, value in network.state_dict().items()}
    state.average.adopt(saved, 7)
    assert state.average.updates == 7
    for name, tensor in state.average.tensors.items():
        assert tensor is own[name]
        assert torch.equal(tensor, saved[name])


def test_bf16_is_taken_only_where_a_gpu_multiplies_it(monkeypatch):
    asked = {}

    def supported(*, including_emulation=True):
        asked["emulation"] = including_emulation
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert engine_execution.multiplies_bf16(torch.device("cuda")) is False
    assert asked == {"emulation": False}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="cuda was asked for and torch finds 0 GPU"):
        launched(RECIPE, devices=1, device="cuda")


def test_weights_are_judged_as_they_are_stored_and_never_overflow():
    weights = {"wide": torch.full((2, 2), 1.0001), "bias": torch.full((2,), 1.0001)}
    stored = as_stored(weights)
    assert stored["wide"].dtype == torch.float16
    assert stored["bias"].dtype == torch.float32
    with pytest.raises(CheckpointError, match=r"fp16: wide \(largest 7e\+04\)"):
        as_stored({"wide": torch.full((2, 2), 7e4)})
    with pytest.raises(CheckpointError, match="as they are: bias"):
        as_stored({"bias": torch.tensor([float("nan")])}, half=False)


def test_a_recipe_says_whether_a_borrowed_trunk_keeps_its_statistics():
    joint = {"task": "segmenter", "preset": "compact-joint", "network": {"combination": {"freeze_backbone": False}}}
    classifier = build_classifier(classifier_preset("compact"))
    for setting, training in (("none", True), ("trunk", False)):
        task = SegmentationTask(Recipe.model_validate({**joint, "frozen_statistics": setting}), classifier)
        task.train_mode(task.network)
        assert task.network.backbone.training is training
        assert task.network.decoder.training


def test_dice_epsilon_is_what_an_empty_batch_costs():
    empty = torch.zeros(1, 1, 8, 8)
    logits = [torch.full((1, 1, 8, 8), -4.0)]
    costs = [float(deep_supervision_loss(logits, empty, dice_eps=eps)) for eps in (0.0, 1.0, 100.0)]
    assert costs[0] > costs[1] > costs[2]
    assert costs[0] == pytest.approx(1.0 + float(torch.log1p(torch.exp(torch.tensor(-4.0)))), abs=1e-4)


def test_one_of_several_gpus_cannot_share_a_batch(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(ConfigError, match="--device cuda:1 is one GPU and --devices asks for 2; use --device cuda"):
        launched(RECIPE, devices=2, device="cuda:1")
