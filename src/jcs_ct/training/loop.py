"""The training loop: take a batch, take a step, validate, save; the same for every task and every device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from jcs_ct.data.covid_cs.feature_lists import FeatureLists
from jcs_ct.data.datasets import DrawnSlices, SliceDataset
from jcs_ct.data.manifest import Manifest
from jcs_ct.engine import Execution, placed
from jcs_ct.errors import ConfigError
from jcs_ct.files import prepare_output_folder
from jcs_ct.models.segmenter import Segmenter
from jcs_ct.preprocessing import SlicePreprocessor, Window
from jcs_ct.training.batches import StepBatch, StepBatches, prepare_slices, step_batches
from jcs_ct.training.config import PreprocessingConfig, Recipe
from jcs_ct.training.inputs import Batch, TrainingData, open_inputs
from jcs_ct.training.judging import Validation, lent, provenance_of
from jcs_ct.training.records import DEFAULT_SHOWN, LOG, Board, Shown, trim_log
from jcs_ct.training.schedule import learning_rate
from jcs_ct.training.state import MovingAverage, TrainingState
from jcs_ct.training.task import Task

logger = logging.getLogger(__name__)

#: Steps between two looks at the losses where a look makes the device wait.
SHOWN_EVERY = 25

Progress = Callable[[int, int, Mapping[str, float]], None]


def make_preprocessor(config: PreprocessingConfig) -> SlicePreprocessor:
    """The preprocessor a recipe describes.

    Raises:
        ConfigError: values that do not fit together.
    """
    try:
        return SlicePreprocessor(
            size=config.size,
            window=Window(config.level_hu, config.width_hu),
            body_crop=config.body_crop,
            centre_share=config.centre_share,
            region=config.region,
            channels=config.channels,
            mean=config.mean,
            std=config.std,
        )
    except ValueError as error:
        raise ConfigError(f"preprocessing: {error}") from error


def make_optimiser(recipe: Recipe, network: nn.Module) -> Optimizer:
    """The recipe's optimiser; biases and normalisation weights get no weight decay."""
    settings = recipe.optimiser
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.name == "sgd":
        return SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    maker = Adam if settings.name == "adam" else AdamW
    return maker(groups, lr=settings.learning_rate, betas=settings.betas)


def train(
    task: Task,
    recipe: Recipe,
    data: Manifest | FeatureLists,
    folder: Path,
    *,
    devices: int = 1,
    accelerator: str = "auto",
    workers: int = 0,
    shown: Shown = DEFAULT_SHOWN,
    progress: Progress | None = None,
) -> TrainingState:
    """Train ``task.network`` from the train split, choosing the best weights on the val split.

    Writes ``state-*.pt`` (resume), ``best.safetensors``, ``last.safetensors``, ``log.jsonl`` and sample pictures into
    ``folder``. With ``choose_weights: last`` nothing is validated: ``best.safetensors``, the log and the pictures are
    not written. When ``folder`` holds a run with the same recipe and data, it continues.

    Args:
        task: Its network is trained.
        recipe: Everything the run depends on; ``batch_size`` is that of all devices together.
        data: Slices of a manifest, or lists of first-stage features (then the first stage stays as it is).
        folder: Of the run.
        devices: Processes, one a GPU (or on the CPU, by gloo). Each takes its share of every batch: batch
            normalisation, image mixing and the pooled Dice term then see that share only.
        accelerator: ``auto`` takes a GPU where there is one; ``cpu`` or ``cuda`` by name.
        workers: Processes that make batches ahead, on every device; changes nothing in what is learnt.
        shown: What is written for people beside the log; changes nothing in what is learnt.
        progress: Called after every step of the first process.

    Raises:
        ConfigError: an empty split, a batch that cannot be shared out evenly, an accelerator that is not there, or a
            folder that holds another run.
        OutputError: the folder cannot be written.
    """
    prepare_output_folder(folder)
    _check_devices(recipe, data, devices)
    fabric = launched(recipe, devices=devices, accelerator=accelerator)
    preprocessor = make_preprocessor(recipe.preprocessing)
    inputs = open_inputs(data, recipe, preprocessor, task.network)
    if workers:
        for dataset in (inputs.training, inputs.validation):
            if isinstance(dataset, SliceDataset):
                prepare_slices(dataset, workers=workers)
    state = starting_state(task.network, recipe, fabric.device)
    if state.resume(folder, recipe, inputs.sha256):
        logger.info("continuing at step %d of %d", state.step, recipe.steps)
        if fabric.is_global_zero:
            trim_log(folder / LOG, state.step)
    board = Board(folder, state.step) if shown.tensorboard and fabric.is_global_zero else None
    validation = Validation(task, recipe, inputs, preprocessor, folder, shown.samples, board)
    batches = StepBatches(
        recipe, inputs, (fabric.global_rank, fabric.world_size), _placed_on(fabric.device, inputs.training)
    )
    steps = step_batches(batches, state.step, workers=workers)
    save = partial(state.save, folder, recipe, inputs.sha256)
    fit(fabric, task, state, recipe, steps, batches.on_device, validation, save, progress)
    if board is not None:
        board.close()
    if not fabric.is_global_zero:
        return state
    with lent(task.network, state.evaluated_weights()):
        task.write(folder / "last.safetensors", preprocessor, provenance_of(recipe, inputs.sha256, state))
    return state


def _check_devices(recipe: Recipe, data: Manifest | FeatureLists, devices: int) -> None:
    if devices > 1 and recipe.batch_size % (recipe.accumulate * devices):
        raise ConfigError(
            f"a batch of {recipe.batch_size} in {recipe.accumulate} part(s) cannot be shared out evenly to {devices} "
            "devices; change batch_size or accumulate"
        )
    if devices > 1 and isinstance(data, FeatureLists):
        raise ConfigError(
            "features train on one device: the first stage gets no gradient, which several cannot share"
        )


def launched(recipe: Recipe, *, devices: int, accelerator: str) -> Fabric:
    """The devices that a recipe trains on, in its precision; bf16 only where they multiply it natively.

    Raises:
        ConfigError: the accelerator is not there.
    """
    device = "cuda" if accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available() else "cpu"
    if accelerator not in ("auto", "cpu") and device == "cpu":
        raise ConfigError(f"{accelerator} was asked for and torch finds none here; use --device cpu, or leave it out")
    precision = Execution(device=device, precision=recipe.precision)
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision="bf16-mixed" if precision.uses_bf16 else "32-true",
    )
    fabric.launch()
    return fabric


def starting_state(network: nn.Module, recipe: Recipe, device: torch.device) -> TrainingState:
    """A run before its first step, every tensor of it on ``device``.

    The network is placed first: optimiser and moving average hold on to the tensors they are given.
    """
    network = placed(network, device)
    state = TrainingState(network, make_optimiser(recipe, network))
    if recipe.ema_decay:
        state.average = MovingAverage(network, recipe.ema_decay)
    return state


def fit(
    fabric: Fabric,
    task: Task,
    state: TrainingState,
    recipe: Recipe,
    steps: Iterator[StepBatch],
    on_device: Callable[[Batch | DrawnSlices, torch.device], Batch],
    validation: Validation,
    save: Callable[[], Path],
    progress: Progress | None,
) -> None:
    """Steps ``state.step`` to ``recipe.steps``."""
    network, optimiser = fabric.setup(state.network, state.optimiser)
    for name in task.forward_methods:
        network.mark_forward_method(name)
    # Fetching the losses waits for the device: on a GPU only now and then.
    every = 1 if fabric.device.type == "cpu" else SHOWN_EVERY
    for step in steps:
        torch.manual_seed(step.seed)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe.optimiser, state.step, recipe.steps)
        train_mode(state.network, network, recipe)
        optimiser.zero_grad(set_to_none=True)
        for (part, generator), share in zip(step.parts, step.shares, strict=True):
            losses = task.loss(network, on_device(part, fabric.device), generator)
            fabric.backward(losses["loss"] * share)
        if recipe.optimiser.gradient_clip:
            fabric.clip_gradients(network, optimiser, max_norm=recipe.optimiser.gradient_clip)
        optimiser.step()
        state.step += 1
        if state.average is not None:
            state.average.update(state.network)
        validates = validation.is_due(state.step)
        saves = state.step % recipe.checkpoint_every == 0 or state.step == recipe.steps
        shows = progress is not None and (state.step % every == 0 or state.step == recipe.steps)
        shown = _shown(fabric, losses) if validates or shows else {}
        if fabric.is_global_zero:
            if progress is not None:
                progress(state.step, recipe.steps, shown)
            validation.note(state.step, shown)
            if validates:
                validation(fabric, state, shown)
            if saves:
                save()
        if validates or saves:
            fabric.barrier()


def _placed_on(device: torch.device, training: TrainingData) -> torch.device | None:
    """The GPU, with the training slices on it, where they are kept in memory; None elsewhere."""
    if device.type == "cpu" or not isinstance(training, SliceDataset) or not training.keeps_slices:
        return None
    training.place(device)
    return device


def train_mode(network: nn.Module, wrapped: nn.Module, recipe: Recipe) -> None:
    """Training mode; with ``frozen_statistics: trunk`` a borrowed trunk keeps the classifier's statistics."""
    wrapped.train()
    if recipe.frozen_statistics == "trunk" and isinstance(network, Segmenter) and network.backbone is not None:
        network.backbone.eval()


def _shown(fabric: Fabric, losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The step's losses, averaged over the devices."""
    means = {name: fabric.all_reduce(value.detach(), reduce_op="mean") for name, value in losses.items()}
    return {name: float(cast(Tensor, value)) for name, value in means.items()}
