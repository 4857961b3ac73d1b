"""Does a classifier's verdict come from the lungs? Slices are changed where disease is not, and where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest import Manifest, read_hu
from jcs_ct.engine import Execution, ReadyClassifier, classify_slices
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.classifier.perturbations import (
    PERTURBATIONS,
    SlicePlane,
    slice_plane,
)
from jcs_ct.preprocessing import LUNG_WINDOW
from jcs_ct.progress import CountProgress
from jcs_ct.volume import spread_over

#: Name of the slice as it is.
UNCHANGED = "unchanged"


@dataclass(frozen=True, eq=False)
class ShortcutResult:
    """What one classifier says of slices as they are and changed.

    Args:
        name: Of the classifier.
        cut: Probability from which a slice is infected.
        infected: (n,) the truth.
        patients: (n,) resampled as a whole.
        unchanged: (n,) probability of the slices as they are.
        changed: (n,) by the perturbation's key; NaN where it does not apply.
    """

    name: str
    cut: float
    infected: NDArray[np.bool_]
    patients: tuple[str, ...]
    unchanged: NDArray[np.float64]
    changed: Mapping[str, NDArray[np.float64]]


def spread_slices(manifest: Manifest, limit: int) -> Manifest:
    """At most ``limit`` labelled slices, in turn of every source and label, within one spread evenly.

    Raises:
        ConfigError: there are none.
    """
    members: dict[tuple[str, int | None], list[int]] = {}
    for index, row in enumerate(manifest):
        if row.label is not None:
            members.setdefault((row.source, row.label), []).append(index)
    if not members:
        raise ConfigError("there is no labelled slice to judge")
    share = dict.fromkeys(members, 0)
    while sum(share.values()) < min(limit, sum(len(rows) for rows in members.values())):
        # The kind that has the fewest so far, among those that have more to give.
        open_kinds = [key for key, rows in members.items() if share[key] < len(rows)]
        share[min(open_kinds, key=lambda key: (share[key], str(key)))] += 1
    chosen = [rows[place] for key, rows in members.items() for place in spread_over(len(rows), share[key])]
    return Manifest(tuple(manifest.rows[index] for index in sorted(chosen)))


def manifest_planes(manifest: Manifest, *, seed: int = 0) -> list[SlicePlane]:
    """Every slice in HU, with its lungs.

    Raises:
        ConfigError: a picture that cannot be read.
    """
    return [
        slice_plane(read_hu(row.path, row.window), seed=seed * 1_000_003 + number)
        for number, row in enumerate(manifest)
    ]


def measure_shortcuts(
    ready: ReadyClassifier,
    planes: Sequence[SlicePlane],
    manifest: Manifest,
    *,
    name: str,
    cut: float,
    execution: Execution | None = None,
    progress: CountProgress | None = None,
) -> ShortcutResult:
    """Score every slice as it is and under every change.

    Args:
        ready: A classifier.
        planes: From :func:`manifest_planes`.
        manifest: Their rows.
        name: Of the classifier.
        cut: Probability from which a slice is infected.
        execution: Device, precision, batch size.
        progress: Called with the changes done.

    Raises:
        ConfigError: a classifier that looks through another window than the lung window.
    """
    if ready.preprocessor.window != LUNG_WINDOW:
        raise ConfigError(
            f"{name} looks through a window of level {ready.preprocessor.window.level:g}, width "
            f"{ready.preprocessor.window.width:g} HU; the changes are made for the lung window "
            f"({LUNG_WINDOW.level:g}, {LUNG_WINDOW.width:g})"
        )
    execution = execution or Execution()
    unchanged = _probabilities(ready, [plane.hu for plane in planes], execution)
    changed: dict[str, NDArray[np.float64]] = {}
    for done, perturbation in enumerate(PERTURBATIONS, start=1):
        applies = [not perturbation.needs_lungs or plane.lungs is not None for plane in planes]
        values = np.full(len(planes), np.nan)
        values[applies] = _probabilities(
            ready, [perturbation.apply(plane) for plane, use in zip(planes, applies) if use], execution
        )
        changed[perturbation.key] = values
        if progress is not None:
            progress(done, len(PERTURBATIONS))
    return ShortcutResult(
        name,
        cut,
        np.array([row.label == 1 for row in manifest], dtype=bool),
        tuple(row.unit for row in manifest),
        unchanged,
        changed,
    )


def _probabilities(
    ready: ReadyClassifier, planes: Sequence[NDArray[np.float32]], execution: Execution
) -> NDArray[np.float64]:
    """(n,) of infection; slices may differ in size."""
    return np.array(
        [classify_slices(ready, hu[None], [0], execution=execution)[0].probability for hu in planes], dtype=np.float64
    )
