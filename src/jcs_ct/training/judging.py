"""Judging a run while it trains: validation, the best weights, and what people look at."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from jcs_ct.checkpoints import as_stored
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.config import Recipe
from jcs_ct.training.inputs import Inputs, TrainingData
from jcs_ct.training.records import Board, append_record
from jcs_ct.training.samples import choose_samples, write_samples
from jcs_ct.training.schedule import learning_rate
from jcs_ct.training.state import TrainingState
from jcs_ct.training.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """Judges a run on its validation slices, keeps the best weights, and writes what people look at.

    Args:
        task, recipe, inputs, preprocessor, folder: Of the run.
        samples: Slices on every sample picture.
        board: TensorBoard log, or None.
    """

    task: Task
    recipe: Recipe
    inputs: Inputs
    preprocessor: SlicePreprocessor
    folder: Path
    samples: int
    board: Board | None

    def is_due(self, step: int) -> bool:
        """Whether step ``step`` ends with a validation."""
        chooses = self.inputs.validation is not None
        return chooses and (step % self.recipe.validate_every == 0 or step == self.recipe.steps)

    def note(self, step: int, losses: Mapping[str, float]) -> None:
        """Put a step's losses and its rate on the board, where there is one."""
        if self.board is not None and losses:
            rate = learning_rate(self.recipe.optimiser, step - 1, self.recipe.steps)
            self.board.write("train", {**losses, "learning_rate": rate}, step)

    def __call__(self, fabric: Fabric, state: TrainingState, losses: Mapping[str, float]) -> None:
        """Validate the weights that would be shipped, in the precision that a checkpoint keeps them in.

        Raises:
            CheckpointError: they cannot be stored (see ``as_stored``).
        """
        started = time.perf_counter()
        task, data = self.task, self.inputs.validation
        if data is None:
            return
        with lent(state.network, as_stored(state.evaluated_weights())):
            state.network.eval()
            with torch.no_grad(), fabric.autocast():
                figures = task.validate(state.network, data, fabric.device)
                self._draw(state, data, fabric.device)
            state.history.append({"step": float(state.step), **figures})
            if figures["score"] > state.best_score:
                state.best_score = figures["score"]
                provenance = provenance_of(self.recipe, self.inputs.sha256, state)
                task.write(self.folder / "best.safetensors", self.preprocessor, provenance)
        seconds = round(time.perf_counter() - started, 1)
        append_record(self.folder, {**state.history[-1], "train_loss": losses["loss"], "validation_s": seconds})
        if self.board is not None:
            self.board.write("validation", figures, state.step)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        logger.info("step %d: %s", state.step, shown)

    def _draw(self, state: TrainingState, data: TrainingData, device: torch.device) -> None:
        indices = choose_samples(data.labels, self.samples)
        if indices:
            maps_of = partial(self.task.maps, state.network)
            write_samples(self.folder, state.step, data, indices, maps_of, self.preprocessor, device)


@contextmanager
def lent(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Lend other weights to a network for a while."""
    own = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(weights)
    try:
        yield
    finally:
        network.load_state_dict(own)


def provenance_of(recipe: Recipe, manifest_sha256: str, state: TrainingState) -> dict[str, Any]:
    """What a checkpoint says of the run that it comes from."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "manifest_sha256": manifest_sha256,
        "step": state.step,
        "validation": state.history[-1] if state.history else {},
    }
