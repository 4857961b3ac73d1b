"""Everything that resumes a run, in one object and one file."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from jcs_ct.engine import placed
from jcs_ct.errors import CheckpointError, ConfigError
from jcs_ct.files import replacing
from jcs_ct.training.optimisation import make_optimiser
from jcs_ct.training.recipe import Recipe

logger = logging.getLogger(__name__)

#: What a run works from beside its recipe: the SHA-256 of each file by its option, None where none was given.
Origins = Mapping[str, str | None]
MANIFEST = "the manifest"

STATE_PATTERN = "state-*.pt"
KEPT_STATES = 2


def drop_states(folder: Path) -> None:
    """Delete what resumes the run in ``folder``: once it is finished, that is only large."""
    for state in folder.glob(STATE_PATTERN):
        state.unlink()


def _write(content: Mapping[str, Any], path: Path) -> None:
    """``torch.save``: of a full disk it says where in its archive it was, the system's own word lies behind that."""
    try:
        with path.open("wb") as stream:
            torch.save(content, stream)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


class MovingAverage:
    """Exponential moving average of a network's floating-point state, normalisation statistics included."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Start from the network's weights, on the device where they lie."""
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards the network; the decay warms up so that early averages are not the initial weights."""
        self.updates += 1
        decay = min(self.decay, (1.0 + self.updates) / (10.0 + self.updates))
        now = network.state_dict()
        floats = [name for name, average in self.tensors.items() if average.is_floating_point()]
        # All at once: one by one is what a step on a GPU would wait for.
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move([self.tensors[name] for name in floats], [now[name].detach() for name in floats], self.updates)
        for name in self.tensors.keys() - set(floats):
            self.tensors[name].copy_(now[name])

    def adopt(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Go on from a saved average; the tensors stay on the device where they are."""
        for name, average in self.tensors.items():
            average.copy_(tensors[name])
        self.updates = updates


@dataclass
class TrainingState:
    """A run between two steps.

    Batches, augmentation and mixing are drawn from generators seeded with (recipe seed, step), so the step itself
    is all the randomness there is to save.

    Args:
        network: The network as it trains.
        optimiser: Its optimiser.
        average: Moving average of the weights, or None.
        step: Optimiser steps taken.
        best_score: Best validation score so far (greater is better).
        history: One record a validation.
    """

    network: nn.Module
    optimiser: Optimizer
    average: MovingAverage | None = None
    step: int = 0
    best_score: float = float("-inf")
    history: list[dict[str, float]] = field(default_factory=list)

    def advance(self) -> None:
        """Count a step that the optimiser took, and move the average."""
        self.step += 1
        if self.average is not None:
            self.average.update(self.network)

    def evaluated_weights(self) -> dict[str, Tensor]:
        """The weights that are validated and shipped: the average where there is one."""
        return self.average.tensors if self.average is not None else self.network.state_dict()

    def save(self, folder: Path, recipe: Recipe, origins: Origins) -> Path:
        """Write ``state-<step>.pt`` aside, rename it, and keep the last two."""
        content: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": None
            if self.average is None
            else {"tensors": self.average.tensors, "updates": self.average.updates},
            "step": self.step,
            "best_score": self.best_score,
            "history": self.history,
            "recipe": recipe.model_dump(mode="json"),
            "origins": dict(origins),
        }
        path = folder / f"state-{self.step:07d}.pt"
        with replacing(path) as temporary:
            _write(content, temporary)
        for old in sorted(folder.glob(STATE_PATTERN))[:-KEPT_STATES]:
            old.unlink()
        return path

    def resume(self, folder: Path, recipe: Recipe, origins: Origins) -> bool:
        """Continue from the newest state in ``folder``; False when there is none.

        Raises:
            ConfigError: the run in the folder was started with another recipe, or from other files.
            CheckpointError: every state file is damaged.
        """
        candidates = sorted(folder.glob(STATE_PATTERN), reverse=True)
        for path in candidates:
            try:
                if not zipfile.is_zipfile(path):
                    # Left to itself torch would try older formats, which fail in any way there is.
                    raise EOFError("not a whole file")
                content = torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
                logger.warning("cannot read %s (%s); trying the one before", path.name, error)
                continue
            self._adopt(content, path, recipe, origins)
            return True
        if candidates:
            raise CheckpointError(f"no state in {folder} can be read; remove the folder to start again")
        return False

    def _adopt(self, content: dict[str, Any], path: Path, recipe: Recipe, origins: Origins) -> None:
        # Through the model, so that settings which this version added have their defaults.
        before, now = Recipe.model_validate(content["recipe"]).model_dump(mode="json"), recipe.model_dump(mode="json")
        changed = sorted(name for name in now if before.get(name) != now[name])
        # States of before this version say the manifest alone.
        started_from: Origins = content.get("origins") or {MANIFEST: content["manifest_sha256"]}
        changed += [name for name, sha256 in started_from.items() if origins.get(name) != sha256]
        if changed:
            raise ConfigError(
                f"{path.parent} holds a run with other settings ({', '.join(changed)} changed); "
                "choose another output folder, or give the settings it was started with"
            )
        self.network.load_state_dict(content["network"])
        self.optimiser.load_state_dict(content["optimiser"])
        if self.average is not None:
            self.average.adopt(content["average"]["tensors"], content["average"]["updates"])
        self.step = content["step"]
        self.best_score = content["best_score"]
        self.history = content["history"]


def starting_state(network: nn.Module, recipe: Recipe, device: torch.device) -> TrainingState:
    """A run before its first step, every tensor of it on ``device``.

    The network is placed first: optimiser and moving average hold on to the tensors they are given.
    """
    network = placed(network, device)
    state = TrainingState(network, make_optimiser(recipe, network))
    if recipe.ema_decay:
        state.average = MovingAverage(network, recipe.ema_decay)
    return state
