"""The training loop: draw a batch, take a step, validate, save; the same for every task.

Every random draw of step ``s`` comes from a generator seeded with (recipe seed, ``s``), so a run that was killed
continues exactly as if it had not been.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from jcs_ct.data.augmentation.augment import Augmentation
from jcs_ct.data.covid_cs.feature_lists import FeatureLists
from jcs_ct.data.manifest import Manifest
from jcs_ct.engine import Execution, placed
from jcs_ct.errors import ConfigError
from jcs_ct.files import prepare_output_folder
from jcs_ct.preprocessing import SlicePreprocessor, Window
from jcs_ct.training.config import PreprocessingConfig, Recipe
from jcs_ct.training.inputs import Inputs, open_inputs
from jcs_ct.training.judging import Validation, lent, provenance_of
from jcs_ct.training.records import DEFAULT_SHOWN, LOG, Board, Shown, trim_log
from jcs_ct.training.schedule import learning_rate
from jcs_ct.training.state import MovingAverage, TrainingState
from jcs_ct.training.task import Task

logger = logging.getLogger(__name__)

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
        shown: What is written for people beside the log; changes nothing in what is learnt.
        progress: Called after every step of the first process.

    Raises:
        ConfigError: an empty split, a batch that cannot be shared out evenly, or a folder that holds another run.
        OutputError: the folder cannot be written.
    """
    prepare_output_folder(folder)
    _check_devices(recipe, data, devices)
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision="bf16-mixed" if Execution(precision=recipe.precision).uses_bf16 else "32-true",
    )
    fabric.launch()
    preprocessor = make_preprocessor(recipe.preprocessing)
    inputs = open_inputs(data, recipe, preprocessor, task.network)
    state = TrainingState(task.network, make_optimiser(recipe, task.network))
    if recipe.ema_decay:
        state.average = MovingAverage(task.network, recipe.ema_decay)
    if state.resume(folder, recipe, inputs.sha256):
        logger.info("continuing at step %d of %d", state.step, recipe.steps)
        if fabric.is_global_zero:
            trim_log(folder / LOG, state.step)
    board = Board(folder, state.step) if shown.tensorboard and fabric.is_global_zero else None
    validation = Validation(task, recipe, inputs, preprocessor, folder, shown.samples, board)
    fit(fabric, task, state, recipe, inputs, validation, folder, progress)
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


def fit(
    fabric: Fabric,
    task: Task,
    state: TrainingState,
    recipe: Recipe,
    inputs: Inputs,
    validation: Validation,
    folder: Path,
    progress: Progress | None,
) -> None:
    """Steps ``state.step`` to ``recipe.steps``."""
    network, optimiser = fabric.setup(placed(state.network, fabric.device), state.optimiser)
    for name in task.forward_methods:
        network.mark_forward_method(name)
    training = inputs.training
    weights = training.weights(recipe.balance, infected_share=recipe.infected_share)
    augmentation = Augmentation(**recipe.augmentation.model_dump())
    while state.step < recipe.steps:
        generator = np.random.default_rng([recipe.seed, state.step])
        torch.manual_seed(int(generator.integers(2**31)))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe.optimiser, state.step, recipe.steps)
        network.train()
        optimiser.zero_grad(set_to_none=True)
        drawn = generator.choice(len(training), size=recipe.batch_size, p=weights)
        for part in np.array_split(drawn, recipe.accumulate):
            share = (fabric.global_rank, fabric.world_size)
            batch = training.batch(
                part.tolist(), augmentation=augmentation, pasting=inputs.pasting, generator=generator, share=share
            )
            if recipe.coarse_size and state.step < recipe.coarse_share * recipe.steps:
                batch = batch.resized(recipe.coarse_size)
            losses = task.loss(network, batch.to(fabric.device), generator)
            fabric.backward(losses["loss"] * (len(part) / recipe.batch_size))
        if recipe.optimiser.gradient_clip:
            fabric.clip_gradients(network, optimiser, max_norm=recipe.optimiser.gradient_clip)
        optimiser.step()
        state.step += 1
        if state.average is not None:
            state.average.update(state.network)
        validates = validation.is_due(state.step)
        saves = state.step % recipe.checkpoint_every == 0 or state.step == recipe.steps
        shown = _shown(fabric, losses) if validates or progress is not None else {}
        if fabric.is_global_zero:
            if progress is not None:
                progress(state.step, recipe.steps, shown)
            validation.note(state.step, shown)
            if validates:
                validation(fabric, state, shown)
            if saves:
                state.save(folder, recipe, inputs.sha256)
        if validates or saves:
            fabric.barrier()


def _shown(fabric: Fabric, losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The step's losses, averaged over the devices."""
    means = {name: fabric.all_reduce(value.detach(), reduce_op="mean") for name, value in losses.items()}
    return {name: float(cast(Tensor, value)) for name, value in means.items()}
