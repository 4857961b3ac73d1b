"""Across sources: every training set judged on every source, as a table and as a heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jcs_ct.data.manifest import Manifest
from jcs_ct.evaluation.classifier.slice_discrimination import SCORE_COLUMNS, one_class, score_cells, score_notes
from jcs_ct.evaluation.pages.figures import roc_figure
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.tables import Cell, Column, Table
from jcs_ct.evaluation.pages.training_budget import budget_warnings
from jcs_ct.experiments.cross_validation import cross_validate, run_scores
from jcs_ct.experiments.methods import Method, method_facts
from jcs_ct.experiments.slice_scores import ScoredSlices
from jcs_ct.experiments.source_sets import FOLDS, TrainingSet, possible_runs, training_sets
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling
from jcs_ct.metrics.classification import roc_auc, roc_curve
from jcs_ct.progress import Progress, silent
from jcs_ct.training.training_run import Stopping, never_stopping

SEEN, UNSEEN = "held-out patients", "unseen source"


@dataclass(frozen=True, eq=False)
class TransferCell:
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


def judge_transfer(
    method: Method,
    judged: Manifest,
    group_of: Mapping[str, str],
    folder: Path,
    *,
    title: str,
    seed: int = 0,
    train: Sequence[str] | None = None,
    device: str = "auto",
    facts: Mapping[str, object] | None = None,
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
    progress: Progress = silent,
    stopping: Stopping = never_stopping,
) -> Evaluation | None:
    """Train on all sources, all but each, and each alone; judge on every one. What is finished in ``folder`` is kept.

    Args:
        method: A classifier.
        judged: Labelled slices.
        group_of: The group that a source counts as.
        folder: Of the experiment.
        title: Of the page.
        seed: Of the folds that patients are dealt to.
        train: Names of the training sets to finish now; the others may be another machine's.
        device: On which networks train and judge.
        facts, warnings: For the page.
        resampling: Of the intervals.
        progress: Called with what is being done.
        stopping: As of :func:`cross_validate`.

    Returns:
        The page; None where training sets are still missing.

    Raises:
        ConfigError: training sets that are unknown or cannot be trained, or as :func:`cross_validate`.
    """
    sets = training_sets(method, judged, group_of, seed=seed)
    runs = possible_runs(sets, train)
    only = None if train is None else [runs[name].name for name in train]
    trained = tuple(runs.values())
    if not cross_validate(method, trained, folder, only=only, device=device, progress=progress, stopping=stopping):
        return None
    return evaluate_transfer(
        transfer_cells(method, sets, group_of, folder),
        sets,
        method,
        title=title,
        facts={"groups": group_of, "fold_seed": seed, **(facts or {})},
        warnings=warnings,
        resampling=resampling,
    )


def transfer_cells(
    method: Method, sets: Sequence[TrainingSet], group_of: Mapping[str, str], folder: Path
) -> tuple[TransferCell, ...]:
    """A cell for every trained set and group, once all runs of the experiment in ``folder`` are finished."""
    cells = []
    for each in sets:
        if each.run is None:
            continue
        scores = run_scores(method, each.run, folder)
        trained = {group_of[row.source] for row in each.run.manifest.split("train")}
        groups = np.array([group_of[source] for source in scores.sources], dtype=object)
        cells += [
            TransferCell(each.name, group, group in trained, scores.where(groups == group))
            for group in sorted(set(group_of.values()))
        ]
    return tuple(cells)


def evaluate_transfer(
    cells: Sequence[TransferCell],
    sets: Sequence[TrainingSet],
    method: Method,
    *,
    title: str,
    facts: Mapping[str, object],
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Evaluation:
    """The page of a transfer."""
    figures = {"matrix": (matrix_figure(cells), "AUC by training set and source judged; framed where no slice of the "
                          "source trained")}  # fmt: skip
    unseen = [cell for cell in cells if not cell.is_seen and cell.scores.has_both_classes]
    if unseen:
        curves = {
            f"{cell.row}, on {cell.group}": (
                roc_curve(cell.scores.infected, cell.scores.probability),
                roc_auc(cell.scores.infected, cell.scores.probability),
            )
            for cell in unseen
        }
        figures["roc-unseen"] = (roc_figure(curves), "ROC on sources that did not train")
    known = {
        "training": f"Patients of the training sources in {FOLDS} folds: one is held out, one chooses the weights "
        f"and the cut, {FOLDS - 2} train.",
        **method_facts([method]),
        "bootstrap_draws": resampling.draws,
        "bootstrap_seed": resampling.seed,
    }
    said = (*budget_warnings([method.recipe], each="a training set"), *warnings)
    return Evaluation(title, (matrix_table(cells, sets, resampling),), figures, {**known, **facts}, said)


def matrix_table(
    cells: Sequence[TransferCell], sets: Sequence[TrainingSet], resampling: Resampling = DEFAULT_RESAMPLING
) -> Table:
    """One row a training set and group of sources; sets that were not trained are named below."""
    rows: list[Mapping[str, Cell]] = [
        {"trained_on": cell.row, "judged_on": cell.group, "kind": SEEN if cell.is_seen else UNSEEN}
        | score_cells(cell.scores, resampling)
        for cell in cells
    ]
    left_out = tuple(f"Not trained: {each.name} ({each.reason})." for each in sets if each.run is None)
    columns = (
        Column("trained_on", "trained on"),
        Column("judged_on", "judged on"),
        Column("kind", "who is judged"),
        *SCORE_COLUMNS,
    )
    return Table("matrix", "Across sources", columns, tuple(rows), (*score_notes(resampling), *left_out))


def matrix_figure(cells: Sequence[TransferCell]) -> Figure:
    """AUC of every cell; one that has no AUC says which class it holds."""
    rows, groups = list(dict.fromkeys(c.row for c in cells)), list(dict.fromkeys(c.group for c in cells))
    values = np.full((len(rows), len(groups)), np.nan)
    figure = Figure(figsize=(1.5 * len(groups) + 2.6, 0.55 * len(rows) + 1.6), layout="constrained")
    axis = figure.subplots()
    for cell in cells:
        row, column = rows.index(cell.row), groups.index(cell.group)
        text = one_class(cell.scores)
        if not text:
            values[row, column] = roc_auc(cell.scores.infected, cell.scores.probability)
            text = f"{values[row, column]:.3f}\nn = {len(cell.scores)}"
        dark = not np.isnan(values[row, column]) and values[row, column] < 0.8
        axis.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
        if not cell.is_seen:
            edges = ((column - 0.47, row - 0.45), 0.94, 0.90)
            axis.add_patch(Rectangle(*edges, fill=False, edgecolor="#b00020", linewidth=1.5))
    shown = axis.imshow(values, cmap="viridis", vmin=0.5, vmax=1.0, aspect="auto")
    axis.set_facecolor("0.92")
    axis.set_xticks(range(len(groups)), groups, fontsize=8)
    axis.set_yticks(range(len(rows)), rows, fontsize=8)
    axis.set(xlabel="judged on", ylabel="trained on")
    figure.colorbar(shown, ax=axis, label="AUC over slices")
    return figure
