"""The training loop: draw a batch, take a step, validate, save; the same for every task.

Every random draw of step ``s`` comes from a generator seeded with (recipe seed, ``s``), so a run that was killed
continues exactly as if it had not been.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from jcs_ct.data.augment import Augmentation
from jcs_ct.data.copy_paste import LesionPasting
from jcs_ct.data.datasets import SliceBatch, SliceDataset, sampling_weights
from jcs_ct.data.manifest import Manifest
from jcs_ct.engine import Execution, placed
from jcs_ct.errors import ConfigError
from jcs_ct.files import prepare_output_folder, write_text
from jcs_ct.preprocessing import SlicePreprocessor, Window
from jcs_ct.training.config import PreprocessingConfig, Recipe
from jcs_ct.training.schedule import learning_rate
from jcs_ct.training.state import MovingAverage, TrainingState

logger = logging.getLogger(__name__)

#: One line a validation.
LOG = "log.jsonl"

Progress = Callable[[int, int, Mapping[str, float]], None]


class Task(Protocol):
    """What differs between training a classifier and a segmenter."""

    forward_methods: tuple[str, ...]
    """Methods of the network, other than ``forward``, that ``loss`` calls."""

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        ...

    def loss(self, network: nn.Module, batch: SliceBatch, generator: np.random.Generator) -> dict[str, Tensor]:
        """Losses by name; ``loss`` is the one that is minimised."""
        ...

    def validate(self, network: nn.Module, dataset: SliceDataset, device: torch.device) -> dict[str, float]:
        """Figures by name; ``score`` chooses the best weights (greater is better)."""
        ...

    def write(self, path: Path, preprocessor: SlicePreprocessor, provenance: Mapping[str, Any]) -> None:
        """Write the network, with the weights it holds, as a checkpoint."""
        ...


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


def make_pasting(training: Manifest, recipe: Recipe) -> LesionPasting | None:
    """The recipe's pasting of lesions between training slices; None where it is off.

    Raises:
        ConfigError: no training slice has a lesion mask.
    """
    if not recipe.copy_paste:
        return None
    try:
        return LesionPasting.among(training, recipe.copy_paste)
    except ValueError as error:
        raise ConfigError(f"copy_paste: {error}") from error


def train(
    task: Task,
    recipe: Recipe,
    manifest: Manifest,
    folder: Path,
    *,
    devices: int = 1,
    progress: Progress | None = None,
) -> TrainingState:
    """Train ``task.network`` from a manifest's train split, choosing the best weights on its val split.

    Writes ``state-*.pt`` (resume), ``best.safetensors``, ``last.safetensors``, ``log.jsonl`` into ``folder``. With
    ``choose_weights: last`` nothing is validated: ``best.safetensors`` and the log are not written.
    When ``folder`` holds a run with the same recipe and manifest, it continues.

    Args:
        task: Its network is trained.
        recipe: Everything the run depends on; ``batch_size`` is that of all devices together.
        manifest: Slices.
        folder: Of the run.
        devices: Processes, one a GPU (or on the CPU, by gloo). Each takes its share of every batch: batch
            normalisation, image mixing and the pooled Dice term then see that share only.
        progress: Called after every step of the first process.

    Raises:
        ConfigError: an empty split, a batch that cannot be shared out evenly, or a folder that holds another run.
        OutputError: the folder cannot be written.
    """
    prepare_output_folder(folder)
    bf16 = Execution(precision=recipe.precision).uses_bf16
    if devices > 1 and recipe.batch_size % (recipe.accumulate * devices):
        raise ConfigError(
            f"a batch of {recipe.batch_size} in {recipe.accumulate} part(s) cannot be shared out evenly to {devices} "
            "devices; change batch_size or accumulate"
        )
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision="bf16-mixed" if bf16 else "32-true",
    )
    fabric.launch()
    preprocessor = make_preprocessor(recipe.preprocessing)
    if recipe.task == "segmenter":
        manifest = manifest.with_masks()
    training = SliceDataset(_split(manifest, "train"), preprocessor, cache=recipe.cache_slices)
    validation = None
    if recipe.choose_weights == "best":
        validation = SliceDataset(_split(manifest, "val"), preprocessor, cache=recipe.cache_slices)
    state = TrainingState(task.network, make_optimiser(recipe, task.network))
    if recipe.ema_decay:
        state.average = MovingAverage(task.network, recipe.ema_decay)
    if state.resume(folder, recipe, manifest.sha256):
        logger.info("continuing at step %d of %d", state.step, recipe.steps)
        if fabric.is_global_zero:
            _trim_log(folder / LOG, state.step)
    fit(fabric, task, state, recipe, training, validation, folder, manifest.sha256, progress)
    if not fabric.is_global_zero:
        return state
    with _weights(task.network, state.evaluated_weights()):
        task.write(folder / "last.safetensors", preprocessor, _provenance(recipe, manifest.sha256, state))
    return state


def fit(
    fabric: Fabric,
    task: Task,
    state: TrainingState,
    recipe: Recipe,
    training: SliceDataset,
    validation: SliceDataset | None,
    folder: Path,
    manifest_sha256: str,
    progress: Progress | None,
) -> None:
    """Steps ``state.step`` to ``recipe.steps``."""
    network, optimiser = fabric.setup(placed(state.network, fabric.device), state.optimiser)
    for name in task.forward_methods:
        network.mark_forward_method(name)
    weights = sampling_weights(training.manifest, recipe.balance, infected_share=recipe.infected_share)
    augmentation = Augmentation(**recipe.augmentation.model_dump())
    pasting = make_pasting(training.manifest, recipe)
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
                part.tolist(), augmentation=augmentation, pasting=pasting, generator=generator, share=share
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
        validates = validation is not None and (state.step % recipe.validate_every == 0 or state.step == recipe.steps)
        saves = state.step % recipe.checkpoint_every == 0 or state.step == recipe.steps
        shown = _shown(fabric, losses) if validates or progress is not None else {}
        if fabric.is_global_zero:
            if progress is not None:
                progress(state.step, recipe.steps, shown)
            if validation is not None and validates:
                _validate(fabric, task, state, recipe, validation, folder, manifest_sha256, shown)
            if saves:
                state.save(folder, recipe, manifest_sha256)
        if validates or saves:
            fabric.barrier()


def _shown(fabric: Fabric, losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The step's losses, averaged over the devices."""
    means = {name: fabric.all_reduce(value.detach(), reduce_op="mean") for name, value in losses.items()}
    return {name: float(cast(Tensor, value)) for name, value in means.items()}


def _validate(
    fabric: Fabric,
    task: Task,
    state: TrainingState,
    recipe: Recipe,
    validation: SliceDataset,
    folder: Path,
    manifest_sha256: str,
    losses: Mapping[str, float],
) -> None:
    started = time.perf_counter()
    with _weights(state.network, state.evaluated_weights()):
        state.network.eval()
        with torch.no_grad(), fabric.autocast():
            figures = task.validate(state.network, validation, fabric.device)
        state.history.append({"step": float(state.step), **figures})
        if figures["score"] > state.best_score:
            state.best_score = figures["score"]
            path = folder / "best.safetensors"
            task.write(path, validation.preprocessor, _provenance(recipe, manifest_sha256, state))
    seconds = round(time.perf_counter() - started, 1)
    record = {**state.history[-1], "train_loss": losses["loss"], "validation_s": seconds}
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")
    logger.info("step %d: %s", state.step, ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


def _trim_log(log: Path, step: int) -> None:
    """Forget what a run that was killed logged behind the step that it continues from: it will be logged again."""
    if log.is_file():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(log, "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step))


@contextmanager
def _weights(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Lend other weights to a network for a while."""
    own = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(weights)
    try:
        yield
    finally:
        network.load_state_dict(own)


def _split(manifest: Manifest, name: str) -> Manifest:
    part = Manifest(tuple(row for row in manifest.split(name) if row.label is not None))
    if not part.rows:
        raise ConfigError(f"the manifest has no labelled slice in the split {name!r}")
    return part


def _provenance(recipe: Recipe, manifest_sha256: str, state: TrainingState) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "manifest_sha256": manifest_sha256,
        "step": state.step,
        "validation": state.history[-1] if state.history else {},
    }
