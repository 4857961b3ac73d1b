"""A training run that kills itself: `python killed_run.py RECIPE MANIFEST OUT POINT STEP [CLASSIFIER]`.

SIGKILL comes in step STEP at one of POINTS, and nowhere else: a run that never meets it ends well.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from jcs_ct.data.manifest import read_manifest
from jcs_ct.training import training_run
from jcs_ct.training.recipe import load_recipe
from jcs_ct.training.training_run import train
from jcs_ct.training.training_state import TrainingState
from jcs_ct.training.training_tasks import make_task


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_step(step: int) -> None:
    """The optimiser has changed the weights, and nothing counts the step."""
    killing_before(TrainingState, "advance", lambda state: state.step + 1 == step)


def in_a_validation(step: int) -> None:
    """The weights are judged, and the best of them written; the log does not say so."""
    killing_before(training_run, "append_record", lambda folder, record: record["step"] == step)


def between_log_and_state(step: int) -> None:
    """The log says a step that no state has."""
    killing_before(TrainingState, "save", lambda state, *_: state.step == step)


def before_the_rename(step: int) -> None:
    """The state is written whole, under its temporary name."""
    save = torch.save

    def save_and_die(content: dict[str, Any], path: Path) -> None:
        save(content, path)
        if content["step"] == step:
            kill()

    torch.save = save_and_die


POINTS = {found.__name__: found for found in (in_a_step, in_a_validation, between_log_and_state, before_the_rename)}


def killing_before(owner: Any, name: str, is_point: Callable[..., bool]) -> None:
    real = getattr(owner, name)

    def die_or_go_on(*given: Any) -> Any:
        if is_point(*given):
            kill()
        return real(*given)

    setattr(owner, name, die_or_go_on)


def main(recipe_file: str, manifest: str, out: str, point: str, step: str, *classifier: str) -> None:
    torch.set_num_threads(1)
    POINTS[point](int(step))
    recipe = load_recipe(Path(recipe_file))
    task = make_task(recipe, Path(classifier[0]) if classifier else None)
    train(task, recipe, read_manifest(Path(manifest)), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
