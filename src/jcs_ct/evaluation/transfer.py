"""Does a classifier find disease, or the place its pictures come from? Trained without a source, judged on it.

Three kinds of training sets, each judged on every source: all sources, all but one, and one alone. A slice is judged
when its patient took no part in the training, so sources that share patients (as painted slices and those they were
painted on) do not help each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jcs_ct.data.manifest import Manifest
from jcs_ct.data.manifest.patient_folds import patient_folds
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.classifier_runs import ClassifierMethod, ClassifierRun, Progress, finish_run, is_finished
from jcs_ct.evaluation.predictions import method_folder
from jcs_ct.evaluation.slice_scores import ScoredSlices

#: Of this many folds of the training sources' patients one is held out and one chooses.
FOLDS = 5


@dataclass(frozen=True)
class TrainingSet:
    """A row of the matrix.

    Args:
        name: As ``without ucsd``.
        run: What is trained; None where it cannot be.
        reason: Why it cannot be.
    """

    name: str
    run: ClassifierRun | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Cell:
    """One training set judged on one group of sources.

    Args:
        row: The training set's name.
        group: What it is judged on.
        is_seen: Whether other patients of this group trained.
        scores: May be empty.
    """

    row: str
    group: str
    is_seen: bool
    scores: ScoredSlices


def read_groups(given: Sequence[str], manifest: Manifest) -> dict[str, str]:
    """``NAME=SOURCE+SOURCE`` -> group by source; every other source is a group of its own.

    Raises:
        ConfigError: not of this form, a source that is not there or is in two groups, or fewer than two groups.
    """
    sources = sorted({row.source for row in manifest})
    group_of: dict[str, str] = {}
    for text in given:
        name, separator, members = text.partition("=")
        if not separator or not name:
            raise ConfigError(f"a group is NAME=SOURCE+SOURCE, got {text!r}")
        for source in members.split("+"):
            if source not in sources or source in group_of:
                why = "is in two groups" if source in group_of else f"is not among {', '.join(sources)}"
                raise ConfigError(f"group {name!r}: the source {source!r} {why}")
            group_of[source] = name
    found = {source: group_of.get(source, source) for source in sources}
    if len(set(found.values())) < 2:
        raise ConfigError(f"a transfer needs two sources or more, the manifest's slices come from {', '.join(found)}")
    return found


def training_sets(judged: Manifest, group_of: Mapping[str, str], *, seed: int = 0) -> tuple[TrainingSet, ...]:
    """All sources, all but each, each alone; sets that lack a label stay as rows that say so."""
    groups = tuple(sorted(set(group_of.values())))
    kinds = [("all", groups)]
    kinds += [(f"without {name}", tuple(other for other in groups if other != name)) for name in groups]
    kinds += [(f"only {name}", (name,)) for name in groups if len(groups) > 2]
    return tuple(_training_set(name, members, judged, group_of, seed) for name, members in kinds)


def _training_set(
    name: str, groups: tuple[str, ...], judged: Manifest, group_of: Mapping[str, str], seed: int
) -> TrainingSet:
    unseen = {row.patient for row in judged if group_of[row.source] not in groups}
    training = [row for row in judged if row.patient not in unseen]
    try:
        fold_of = patient_folds(training, FOLDS, seed=seed)
        splits = {0: "test", 1: "val"}
        # Who has a slice in a source that is not trained on is judged, and trains nowhere.
        placed = {patient: splits.get(fold, "train") for patient, fold in fold_of.items()}
        rows = tuple(replace(row, split=placed.get(row.unit, "test")) for row in judged)
        return TrainingSet(name, ClassifierRun(method_folder(name), Manifest(rows)))
    except ConfigError as error:
        return TrainingSet(name, None, str(error).splitlines()[-1].strip())


def run_transfer(
    method: ClassifierMethod,
    sets: Sequence[TrainingSet],
    group_of: Mapping[str, str],
    folder: Path,
    *,
    only: Sequence[str] | None = None,
    execution: Execution | None = None,
    progress: Progress | None = None,
) -> tuple[Cell, ...] | None:
    """Train on every set and judge on every group.

    Args:
        method: What is trained.
        sets: From :func:`training_sets`.
        group_of: Group by source.
        folder: Gets ``<set>/`` with weights and ``scores.csv``.
        only: Names of the sets to train now, as on several machines.
        execution: For scoring.
        progress: Called with what is being done.

    Returns:
        A cell for every trained set and group; None while sets are missing.

    Raises:
        ConfigError: unknown sets, sets that cannot be trained, or a folder with a run of other settings.
    """
    possible = {each.name: each.run for each in sets if each.run is not None}
    unknown = [name for name in only or () if name not in possible]
    if unknown or not possible:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in sets if each.run is None)
        raise ConfigError(
            f"cannot train {', '.join(unknown) or 'on any set'}; possible: {', '.join(possible) or 'none'}. {reasons}"
        )
    for name, run in possible.items():
        if only is None or name in only:
            finish_run(method, run, folder, execution=execution, progress=progress)
    if not all(is_finished(run.name, folder) for run in possible.values()):
        return None
    cells = []
    for each in sets:
        if each.run is None:
            continue
        scores = finish_run(method, each.run, folder, execution=execution)
        trained = {group_of[row.source] for row in each.run.manifest.split("train")}
        groups = np.array([group_of[source] for source in scores.sources], dtype=object)
        cells += [
            Cell(each.name, group, group in trained, scores.where(groups == group))
            for group in sorted(set(group_of.values()))
        ]
    return tuple(cells)
