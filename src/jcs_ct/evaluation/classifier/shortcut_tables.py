"""Tables and pictures of what changes of a slice do to a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jcs_ct.data.manifest import Manifest
from jcs_ct.evaluation.classifier.perturbations import PERTURBATIONS, Perturbation, SlicePlane
from jcs_ct.evaluation.classifier.shortcuts import UNCHANGED, ShortcutResult
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.tables import NO_INTERVAL, Cell, Column, Table, interval_cells
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling
from jcs_ct.metrics.classification import drawn_auc
from jcs_ct.preprocessing import LUNG_WINDOW

MOST_PICTURE_ROWS = 6
#: Columns of the picture beside the slice as it is.
PICTURED = ("outside_body", "text_added", "frame_added", "only_lungs", "no_lungs")
#: AUC of a classifier that sees nothing.
CHANCE = 0.5


def evaluate_shortcuts(
    results: Sequence[ShortcutResult],
    planes: Sequence[SlicePlane],
    manifest: Manifest,
    *,
    title: str,
    facts: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Evaluation:
    """The page of a shortcut evaluation."""
    figures = {
        f"shortcuts-{number + 1}" if len(results) > 1 else "shortcuts": (
            shortcut_figure(result, planes, manifest),
            f"{result.name}: the slices that change most where they should not, and the probability of each picture",
        )
        for number, result in enumerate(results)
    }
    known = {"slices": len(planes), "bootstrap_draws": resampling.draws, "bootstrap_seed": resampling.seed}
    tables = (shortcut_table(results, resampling),)
    return Evaluation(title, tables, figures, {**known, **(facts or {})}, tuple(warnings))


def shortcut_table(results: Sequence[ShortcutResult], resampling: Resampling = DEFAULT_RESAMPLING) -> Table:
    """One row a classifier and change."""
    rows: list[Mapping[str, Cell]] = []
    for result in results:
        rows.append({"method": result.name, "change": UNCHANGED} | _verdicts(result, result.unchanged, resampling))
        rows += [
            {"method": result.name, "change": one.title, "expected": "stay" if one.should_stay else "fall"}
            | _changes(result, one, resampling)
            for one in PERTURBATIONS
            if one.key in result.changed
        ]
    columns = (
        Column("method", "classifier"),
        Column("change", "change"),
        Column("expected", "the verdict should"),
        Column("mean_change", "mean change", 3),
        Column("mean_absolute_change", "mean |change|", 3, True),
        Column("max_absolute_change", "largest |change|", 3),
        Column("flips_percent", "verdicts flipped %", 1, True),
        Column("n_flips", "flipped"),
        Column("sensitivity_percent", "infected called infected %", 1),
        Column("specificity_percent", "uninfected called so %", 1),
        Column("auc", "AUC", 3, True),
        Column("n", "slices"),
        Column("n_patients", "patients"),
    )
    notes = (
        "Changes are of the probability of infection of a slice, changed minus unchanged. A verdict flips where the "
        "probability crosses the operating point's cut. [ , ] are 95 % bootstrap intervals over patients; "
        f"{NO_INTERVAL}.",
        "With the lungs blanked (set to the density of the slice's own air-filled lung) nothing of the disease is "
        f"left: infected slices still called infected, and an AUC away from {CHANCE:g}, are read from outside them. "
        "AUC over several sources also tells the sources apart.",
        "Changes of the lungs are made on slices where both lungs are found without learned weights. The outside of "
        "the body is what the preprocessing takes it to be: of figures cropped to the thorax it may hold lung.",
    )
    return Table("shortcuts", "Changes of slices, and what they do to the classifier", columns, tuple(rows), notes)


def _verdicts(result: ShortcutResult, probability: NDArray[np.float64], resampling: Resampling) -> dict[str, Cell]:
    """What is said of the slices a change applies to."""
    used = np.flatnonzero(~np.isnan(probability))
    truth, values = result.infected[used], probability[used]
    patients = [result.patients[index] for index in used]
    cells: dict[str, Cell] = {"n": len(used), "n_patients": len(set(patients))}
    if truth.any():
        cells["sensitivity_percent"] = float(100 * (values[truth] >= result.cut).mean())
    if not truth.all():
        cells["specificity_percent"] = float(100 * (values[~truth] < result.cut).mean())
    if truth.any() and not truth.all():
        interval = resampling.interval(drawn_auc(truth, values), patients, parts=[truth, ~truth])
        cells |= interval_cells("auc", interval)
    return cells


def _changes(result: ShortcutResult, perturbation: Perturbation, resampling: Resampling) -> dict[str, Cell]:
    probability = result.changed[perturbation.key]
    used = np.flatnonzero(~np.isnan(probability))
    cells = _verdicts(result, probability, resampling)
    if not len(used):
        return cells
    change = probability[used] - result.unchanged[used]
    flips = (probability[used] >= result.cut) != (result.unchanged[used] >= result.cut)
    patients = [result.patients[index] for index in used]
    cells |= {
        "mean_change": float(change.mean()),
        "max_absolute_change": float(np.abs(change).max()),
        "n_flips": int(flips.sum()),
    }
    measured = (("mean_absolute_change", np.abs(change), 1.0), ("flips_percent", flips.astype(np.float64), 100.0))
    for key, values, scale in measured:

        def mean(rows: NDArray[np.int64], values: NDArray[np.float64] = values) -> float:
            return float(values[rows].mean())

        interval = resampling.interval(mean, patients)
        cells |= interval_cells(key, interval, scale=scale)
    return cells


def shortcut_figure(result: ShortcutResult, planes: Sequence[SlicePlane], manifest: Manifest) -> Figure:
    """The slices on which what should stay changes most; below each picture its probability of infection."""
    staying = [one.key for one in PERTURBATIONS if one.should_stay and one.key in result.changed]
    moved = np.stack([np.abs(np.nan_to_num(result.changed[key] - result.unchanged)) for key in staying])
    order = np.argsort(-moved.max(axis=0), kind="stable")[:MOST_PICTURE_ROWS]
    shown = [one for one in PERTURBATIONS if one.key in PICTURED and one.key in result.changed]
    size = (1.75 * (len(shown) + 1), 1.95 * len(order) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(order), len(shown) + 1, squeeze=False)
    for line, index in zip(axes, order):
        plane = planes[index]
        _draw(line[0], plane.hu, float(result.unchanged[index]))
        label = "infected" if result.infected[index] else "uninfected"
        line[0].set_ylabel(f"{manifest.rows[index].source or 'slice'}, {label}", fontsize=7)
        for axis, perturbation in zip(line[1:], shown, strict=True):
            applies = not perturbation.needs_lungs or plane.lungs is not None
            changed = perturbation.apply(plane) if applies else None
            _draw(axis, changed, float(result.changed[perturbation.key][index]))
    for axis, title in zip(axes[0], ["as it is", *(one.title for one in shown)], strict=True):
        axis.set_title(title, fontsize=8)
    return figure


def _draw(axis: Any, hu: NDArray[np.float32] | None, probability: float) -> None:
    """One picture with its probability; a note where the change was not made."""
    axis.set_xticks([])
    axis.set_yticks([])
    if hu is None:
        axis.set_xlabel("no lungs found", fontsize=7)
        return
    axis.imshow(LUNG_WINDOW(hu), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xlabel(f"{probability:.2f}", fontsize=7)
