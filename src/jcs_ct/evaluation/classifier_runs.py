"""One training of a classifier and what it says of the slices it was kept from; a stopped one continues."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jcs_ct.checkpoints import file_sha256, load_checkpoint
from jcs_ct.data.manifest import Manifest, split_problems
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.slice_scores import ScoredSlices, read_scores, score_manifest, write_scores
from jcs_ct.files import prepare_output_folder, write_text
from jcs_ct.training.calibration import choose_slice_probability, score_slices
from jcs_ct.training.config import Recipe
from jcs_ct.training.loop import train
from jcs_ct.training.state import drop_states
from jcs_ct.training.tasks import make_task

#: Called with what is being done, the steps done, and how many there are.
Progress = Callable[[str, int, int], None]
_RECORD, _SCORES = "run.json", "scores.csv"


@dataclass(frozen=True)
class ClassifierMethod:
    """What is trained in every run.

    Args:
        name: For tables and folders.
        recipe: Of a classifier.
        pretrained: What every run starts from. It must never have seen a judged slice, which nothing here can check.
        least_specificity: Floor under the specificity where the cut is chosen, on validation slices.

    Raises:
        ConfigError: the recipe of a segmenter.
    """

    name: str
    recipe: Recipe
    pretrained: Path | None = None
    least_specificity: float = 0.95

    def __post_init__(self) -> None:
        if self.recipe.task != "classifier":
            raise ConfigError(
                f"the recipe of {self.name!r} trains a segmenter: `jcs crossval` cross-validates segmenters"
            )


@dataclass(frozen=True)
class ClassifierRun:
    """One training: ``train`` teaches, ``val`` chooses weights and cut, ``test`` is judged.

    Raises:
        ConfigError: a patient in two splits, nothing to judge, or one label only where both are needed.
    """

    name: str
    manifest: Manifest

    def __post_init__(self) -> None:
        problems = split_problems(self.manifest)
        for split in ("train", "val"):
            labels = {row.label for row in self.manifest.split(split)}
            if not {0, 1} <= labels:
                problems.append(f"the split {split!r} needs infected and uninfected slices, it has {_named(labels)}")
        if not any(row.label is not None for row in self.manifest.split("test")):
            problems.append("there is no labelled slice to judge")
        if problems:
            raise ConfigError("\n  ".join([f"the run {self.name!r} cannot be made:", *problems]))


def _named(labels: set[int | None]) -> str:
    return {frozenset({0}): "uninfected ones only", frozenset({1}): "infected ones only"}.get(
        frozenset(label for label in labels if label is not None), "none"
    )


def is_finished(run: str, folder: Path) -> bool:
    """Whether a run of this name has left its scores."""
    return (folder / run / _RECORD).is_file()


def finish_run(
    method: ClassifierMethod,
    run: ClassifierRun,
    folder: Path,
    *,
    execution: Execution | None = None,
    progress: Progress | None = None,
) -> ScoredSlices:
    """Train (or go on training), choose the cut on ``val``, and score ``test``; a finished run is read.

    Args:
        method: What is trained.
        run: On which slices.
        folder: Gets ``<run>/`` with the weights, ``scores.csv`` and ``run.json``.
        execution: For scoring.
        progress: Called with what is being done.

    Raises:
        ConfigError: the folder holds a run that was made with other settings.
    """
    place, execution = folder / run.name, execution or Execution()
    prepare_output_folder(place)
    settings = _settings(method, run)
    if is_finished(run.name, folder):
        if json.loads((place / _RECORD).read_text(encoding="utf-8"))["settings"] != settings:
            raise ConfigError(
                f"{place} was finished with other settings; choose another output folder, or give those"
            )
        return read_scores(place / _SCORES, name=method.name)

    def step(done: int, total: int, losses: Mapping[str, float]) -> None:
        if progress is not None:
            progress(f"{method.name} {run.name}", done, total)

    recipe = method.recipe
    train(make_task(recipe, pretrained=method.pretrained), recipe, run.manifest, place, progress=step)
    chosen = place / recipe.weights_file
    ready = load_checkpoint(chosen)
    choosing = score_slices(ready, run.manifest.split("val"), execution=execution)
    cut, figures = choose_slice_probability(
        choosing.probability, choosing.infected, choosing.sources, least_specificity=method.least_specificity
    )
    scores = score_manifest(
        ready,
        run.manifest.split("test"),
        cut=cut,
        name=method.name,
        run=run.name,
        among=run.manifest,
        execution=execution,
    )
    write_scores(place / _SCORES, scores)
    record = {"settings": settings, "checkpoint_sha256": file_sha256(chosen), "cut": cut, "on_validation": figures}
    write_text(place / _RECORD, json.dumps(record, indent=1) + "\n")
    drop_states(place)
    return scores


def _settings(method: ClassifierMethod, run: ClassifierRun) -> dict[str, Any]:
    return {
        "recipe": method.recipe.model_dump(mode="json"),
        "pretrained_sha256": file_sha256(method.pretrained) if method.pretrained else None,
        "least_specificity": method.least_specificity,
        "manifest_sha256": run.manifest.sha256,
    }
