"""A training run from top to bottom: set up, loop, validate, save; the same for every task and every device."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from jcs_ct.checkpoints import as_stored
from jcs_ct.data.covid_cs.feature_lists import FeatureLists
from jcs_ct.data.manifest import Manifest
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.files import only_one, prepare_output_folder
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.optimisation import learning_rate
from jcs_ct.training.recipe import Recipe, make_preprocessor
from jcs_ct.training.run_log import DEFAULT_EXTRAS, LOG, Board, RunExtras, append_record, trim_log
from jcs_ct.training.sample_pictures import choose_samples, write_samples
from jcs_ct.training.step_batches import StepBatches, slices_placed_on, step_batches
from jcs_ct.training.training_data import Inputs, open_inputs
from jcs_ct.training.training_state import MANIFEST, Origins, TrainingState, starting_state
from jcs_ct.training.training_tasks import Task

logger = logging.getLogger(__name__)

#: Held in a run's folder while it trains: two at once would mix their logs and weights.
LOCK = ".train.lock"

#: Steps between two looks at the losses where a look makes the device wait.
SHOWN_EVERY = 25


class StepProgress(Protocol):
    """Called after a step with its number, how many there are, and losses by name (empty between two looks).

    A run that continues calls it once before, with the steps that are done and no losses.
    """

    def __call__(self, step: int, steps: int, losses: Mapping[str, float], /) -> None:
        """Show it."""


#: Entered for as long as steps are taken; gives what is asked after each of them: whether to stop there.
Stopping = Callable[[], AbstractContextManager[Callable[[], bool]]]


def never_stopping() -> AbstractContextManager[Callable[[], bool]]:
    """Every step is taken."""
    return nullcontext(lambda: False)


@dataclass(frozen=True)
class Run:
    """What a run works with; what changes from step to step is its ``TrainingState``."""

    task: Task
    recipe: Recipe
    inputs: Inputs
    origins: Origins
    preprocessor: SlicePreprocessor
    folder: Path
    fabric: Fabric
    samples: int
    board: Board | None
    progress: StepProgress | None
    asks_to_stop: Callable[[], bool]


# Set up


def train(
    task: Task,
    recipe: Recipe,
    data: Manifest | FeatureLists,
    folder: Path,
    *,
    devices: int = 1,
    device: str = "auto",
    workers: int = 0,
    shown: RunExtras = DEFAULT_EXTRAS,
    progress: StepProgress | None = None,
    stopping: Stopping = never_stopping,
) -> TrainingState:
    """Train ``task.network`` from the train split, choosing the best weights on the val split.

    Writes ``state-*.pt`` (resume), ``best.safetensors``, ``last.safetensors``, ``log.jsonl`` and sample pictures into
    ``folder``. With ``choose_weights: last`` nothing is validated: ``best.safetensors``, the log and the pictures are
    not written. When ``folder`` holds a run with the same recipe, data and weights to start from, it continues.

    Args:
        task: Its network is trained.
        recipe: Everything the run depends on; ``batch_size`` is that of all devices together.
        data: Slices of a manifest, or lists of first-stage features (then the first stage stays as it is).
        folder: Of the run.
        devices: Processes, one a GPU (or on the CPU, by gloo). Each takes its share of every batch: batch
            normalisation, image mixing and the pooled Dice term then see that share only.
        device: ``auto`` takes a GPU where there is one; ``cpu``, ``cuda``, or one of several GPUs as ``cuda:N``.
        workers: Processes that make batches ahead, on every device; changes nothing in what is learnt.
        shown: What is written for people beside the log; changes nothing in what is learnt.
        progress: Called after every step of the first process.
        stopping: Whether to stop before the last step.

    Returns:
        The state after the last step, or after the one where ``stopping`` asked to stop: it is saved then, and
        ``last.safetensors`` is not written.

    Raises:
        ConfigError: an empty split, a batch that cannot be shared out evenly, a device that is not there, a folder
            that holds another run, also one that started from other weights, or losses that are no longer finite.
        OutputError: the folder cannot be written, or another run trains in it.
    """
    prepare_output_folder(folder)
    _check_devices(recipe, data, devices)
    fabric = launched(recipe, devices=devices, device=device)
    with only_one(folder / LOCK, "training", where_locks_are_known=True) if fabric.is_global_zero else nullcontext():
        preprocessor = make_preprocessor(recipe.preprocessing)
        inputs = open_inputs(data, recipe, preprocessor, task.network, workers=workers)
        state = starting_state(task.network, recipe, fabric.device)
        origins = {MANIFEST: inputs.sha256, **task.origins}
        if state.resume(folder, recipe, origins):
            logger.info("continuing at step %d of %d", state.step, recipe.steps)
            if fabric.is_global_zero:
                trim_log(folder / LOG, state.step)
                if progress is not None:
                    progress(state.step, recipe.steps, {})
        board = Board(folder, state.step) if shown.tensorboard and fabric.is_global_zero else None
        # Every step seeds torch (dropout); the caller's own random numbers go on where they were.
        seeded = [fabric.device] if fabric.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=seeded),
            nullcontext() if board is None else closing(board),
            stopping() as asked,
        ):
            run = Run(
                task, recipe, inputs, origins, preprocessor, folder, fabric, shown.samples, board, progress, asked
            )
            fit(run, state, workers=workers)
        if fabric.is_global_zero and state.step == recipe.steps:
            with lent(task.network, state.evaluated_weights()):
                write_weights(run, state, "last")
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


def launched(recipe: Recipe, *, devices: int, device: str) -> Fabric:
    """The devices that a recipe trains on, in its precision; bf16 only where they multiply it natively.

    Raises:
        ConfigError: the device is not there, or it is one of several where more are asked for.
    """
    execution = Execution(device=device, precision=recipe.precision)
    found = execution.torch_device
    if found.index is not None and devices > 1:
        raise ConfigError(f"--device {device} is one GPU and --devices asks for {devices}; use --device {found.type}")
    fabric = Fabric(
        accelerator=found.type,
        devices=devices if found.index is None else [found.index],
        strategy="ddp" if devices > 1 else "auto",
        precision="bf16-mixed" if execution.uses_bf16 else "32-true",
    )
    fabric.launch()
    return fabric


# Loop


def fit(run: Run, state: TrainingState, *, workers: int) -> None:
    """Steps ``state.step`` to the recipe's last, or to the one after which the run is asked to stop."""
    task, recipe, fabric = run.task, run.recipe, run.fabric
    network, optimiser = fabric.setup(state.network, state.optimiser)
    for name in task.forward_methods:
        network.mark_forward_method(name)
    share = (fabric.global_rank, fabric.world_size)
    batches = StepBatches(recipe, run.inputs, share, slices_placed_on(fabric.device, run.inputs.training))
    for step in step_batches(batches, state.step, workers=workers):
        torch.manual_seed(step.seed)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe.optimiser, state.step, recipe.steps)
        task.train_mode(network)
        optimiser.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        for (part, generator), weight in zip(step.parts, step.shares, strict=True):
            weighted = {
                name: weight * value
                for name, value in task.loss(network, batches.on_device(part, fabric.device), generator).items()
            }
            fabric.backward(weighted["loss"])
            for name, value in weighted.items():
                losses[name] = losses[name] + value.detach() if name in losses else value.detach()
        if recipe.optimiser.gradient_clip:
            norm = fabric.clip_gradients(
                network, optimiser, max_norm=recipe.optimiser.gradient_clip, error_if_nonfinite=False
            )
            if norm is not None and not bool(torch.isfinite(norm)):
                raise _diverged(run, state.step + 1, "the gradient")
        optimiser.step()
        state.advance()
        if finish_step(run, state, losses):
            break


def finish_step(run: Run, state: TrainingState, losses: Mapping[str, Tensor]) -> bool:
    """After a step: say how it went, and validate and save where that is due; the first process does it for all.

    Returns:
        Whether the run stops here.
    """
    recipe, fabric = run.recipe, run.fabric
    is_last = state.step == recipe.steps
    validates = run.inputs.validation is not None and (is_last or state.step % recipe.validate_every == 0)
    # Fetching the losses waits for the device: on a GPU only now and then.
    looks = run.progress is not None and (is_last or fabric.device.type == "cpu" or state.step % SHOWN_EVERY == 0)
    shown = _averaged(fabric, losses) if validates or looks else {}
    if not all(math.isfinite(value) for value in shown.values()):
        raise _diverged(run, state.step, "the loss")
    if fabric.is_global_zero:
        if run.progress is not None:
            run.progress(state.step, recipe.steps, shown)
        if run.board is not None and shown:
            rate = learning_rate(recipe.optimiser, state.step - 1, recipe.steps)
            run.board.write("train", {**shown, "learning_rate": rate}, state.step)
        if validates:
            validate(run, state, shown)
    stops = not is_last and _stops(run, state.step)
    saves = is_last or stops or state.step % recipe.checkpoint_every == 0
    if saves and not all(bool(torch.isfinite(weights).all()) for weights in state.network.state_dict().values()):
        raise _diverged(run, state.step, "a weight")  # the states of before stay
    if saves and fabric.is_global_zero:
        state.save(run.folder, recipe, run.origins)
    if validates or saves:
        fabric.barrier()
    return stops


def _diverged(run: Run, step: int, what: str) -> ConfigError:
    return ConfigError(
        f"{what} is not finite after step {step} of {run.recipe.steps}: the training has diverged, and going on from "
        f"the states in {run.folder} would end alike. Start in another folder with a lower optimiser.learning_rate "
        "or a gradient_clip (optimiser.gradient_clip=1), or in precision fp32"
    )


def _stops(run: Run, step: int) -> bool:
    """Whether one of the processes is asked to stop; several agree only now and then, since that makes them wait."""
    if run.fabric.world_size == 1:
        return run.asks_to_stop()
    if step % SHOWN_EVERY:
        return False
    asked = torch.tensor(float(run.asks_to_stop()), device=run.fabric.device)
    return float(torch.as_tensor(run.fabric.all_reduce(asked, reduce_op="sum"))) > 0


def _averaged(fabric: Fabric, losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The step's losses, averaged over the devices."""
    means = {name: fabric.all_reduce(value.detach(), reduce_op="mean") for name, value in losses.items()}
    return {name: float(torch.as_tensor(value)) for name, value in means.items()}


# Validate


def validate(run: Run, state: TrainingState, losses: Mapping[str, float]) -> None:
    """Judge the weights that would be shipped, in the precision that a checkpoint keeps them in; keep the best.

    Raises:
        CheckpointError: they cannot be stored (see ``as_stored``).
    """
    data = run.inputs.validation
    if data is None:
        return
    started = time.perf_counter()
    with lent(state.network, as_stored(state.evaluated_weights())):
        state.network.eval()
        with torch.no_grad(), run.fabric.autocast():
            figures = run.task.validate(data, run.fabric.device)
            pictured = choose_samples(data.labels, run.samples)
            if pictured:
                write_samples(
                    run.folder, state.step, data, pictured, run.task.maps, run.preprocessor, run.fabric.device
                )
        state.history.append({"step": state.step, **figures})
        if figures["score"] > state.best_score:
            state.best_score = figures["score"]
            write_weights(run, state, "best")
    seconds = round(time.perf_counter() - started, 1)
    append_record(run.folder, {**state.history[-1], "train_loss": losses["loss"], "validation_s": seconds})
    if run.board is not None:
        run.board.write("validation", figures, state.step)
    logger.info("step %d: %s", state.step, ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


# Save


def write_weights(run: Run, state: TrainingState, name: str) -> None:
    """Write ``<name>.safetensors``: the weights that the network holds now, and the run that they come from."""
    provenance: dict[str, Any] = {
        "recipe": run.recipe.model_dump(mode="json"),
        "manifest_sha256": run.inputs.sha256,
        "step": state.step,
        "validation": state.history[-1] if state.history else {},
    }
    run.task.write(run.folder / f"{name}.safetensors", run.preprocessor, provenance)


@contextmanager
def lent(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Lend other weights to a network for a while."""
    own = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(weights)
    try:
        yield
    finally:
        network.load_state_dict(own)
