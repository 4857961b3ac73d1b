"""Discrimination of slices by source: AUC, sensitivity and specificity with intervals over patients, and ROC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.pages.figures import roc_figure
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.tables import Cell, Column, Table, interval_cells
from jcs_ct.experiments.slice_scores import ScoredSlices
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, LEAST_GROUPS, Resampling, Statistic
from jcs_ct.metrics.classification import drawn_auc, roc_auc, roc_curve

ALL_SOURCES = "all sources"
#: What one row of a table says of a set of slices.
SCORE_COLUMNS = (
    Column("auc", "AUC", 3, True),
    Column("sensitivity_percent", "sensitivity %", 1, True),
    Column("specificity_percent", "specificity %", 1, True),
    Column("n_infected", "infected"),
    Column("n_uninfected", "uninfected"),
    Column("n_patients", "patients"),
    Column("one_class", "one class"),
)


def score_cells(scores: ScoredSlices, resampling: Resampling = DEFAULT_RESAMPLING) -> dict[str, Cell]:
    """The cells of :data:`SCORE_COLUMNS`; what one class alone does not define stays empty, and is said so."""
    truth, positive = scores.infected, scores.positive
    infected = int(truth.sum())
    cells: dict[str, Cell] = {
        "n_infected": infected,
        "n_uninfected": len(scores) - infected,
        "n_patients": len(set(scores.patients)),
    }
    if not len(scores):
        return cells | {"one_class": "no slices"}
    if not scores.has_both_classes:
        cells["one_class"] = one_class(scores)

    def sensitivity(rows: NDArray[np.int64]) -> float | None:
        return float(positive[rows][truth[rows]].mean()) if truth[rows].any() else None

    def specificity(rows: NDArray[np.int64]) -> float | None:
        return float((~positive[rows])[~truth[rows]].mean()) if not truth[rows].all() else None

    measures = (
        ("auc", drawn_auc(truth, scores.probability), 1.0, [truth, ~truth]),
        ("sensitivity_percent", sensitivity, 100.0, [truth]),
        ("specificity_percent", specificity, 100.0, [~truth]),
    )
    for key, statistic, scale, classes in measures:
        if statistic(np.arange(len(scores))) is None:
            continue
        interval = resampling.interval(statistic, scores.patients, parts=classes)
        cells |= interval_cells(key, interval, scale=scale)
    return cells


def one_class(scores: ScoredSlices) -> str:
    """What stands where an AUC cannot: which class alone is there; empty where both are."""
    if not len(scores):
        return "no slices"
    if scores.has_both_classes:
        return ""
    return "infected only" if scores.infected.any() else "uninfected only"


def score_notes(resampling: Resampling) -> tuple[str, ...]:
    """What the reader must know of the figures."""
    return (
        f"[ , ] are 95 % percentile intervals of {resampling.draws} bootstrap draws of patients, never of slices. "
        f"Fewer than {LEAST_GROUPS} patients of the class in question give no interval, nor do draws that all agree. "
        "A source with one class has no AUC: figures that separate two sources are not figures of a disease.",
        "Sensitivity and specificity at the probability that the classifier came with (0.5 where `jcs calibrate` has "
        "chosen none on validation patients), never one chosen on these.",
    )


def source_table(methods: Sequence[ScoredSlices], resampling: Resampling = DEFAULT_RESAMPLING) -> Table:
    """One row a method and source, and one for all sources together."""
    rows: list[Mapping[str, Cell]] = []
    for scores in methods:
        for source, part in by_source(scores):
            rows.append({"method": scores.name, "source": source} | score_cells(part, resampling))
    columns = (Column("method", "classifier"), Column("source", "source"), *SCORE_COLUMNS)
    return Table("sources", "Slices by source", columns, tuple(rows), score_notes(resampling))


def by_source(scores: ScoredSlices) -> Iterator[tuple[str, ScoredSlices]]:
    """(source, its slices) for every source, and all of them where there are several."""
    names = sorted(set(scores.sources))
    for name in names:
        yield name or "not named", scores.of_source(name)
    if len(names) > 1:
        yield ALL_SOURCES, scores


def run_table(scores: ScoredSlices, resampling: Resampling = DEFAULT_RESAMPLING) -> Table:
    """One row a run (a fold): its own AUC is not mixed with other networks' probabilities."""
    runs = np.array(scores.runs, dtype=object)
    rows: list[Mapping[str, Cell]] = []
    for run in sorted(set(scores.runs)):
        part = scores.where(runs == run)
        named: dict[str, Cell] = {"run": run, "cut": float(part.cuts[0])}
        rows.append(named | score_cells(part, resampling))
    areas = [value for row in rows if isinstance(value := row.get("auc"), float)]
    columns = (Column("run", "fold"), Column("cut", "infected from"), *SCORE_COLUMNS)
    notes = (
        f"Mean AUC of the {len(areas)} folds that define one: {np.mean(areas):.3f}. The tables above pool the folds, "
        "whose networks may be calibrated differently.",
    )
    return Table("folds", "Fold by fold", columns, tuple(rows), notes if areas else ())


def auc_differences(methods: Sequence[ScoredSlices], resampling: Resampling = DEFAULT_RESAMPLING) -> Table:
    """AUC of every further method minus the first one's, on the slices that both have, patients drawn together."""
    rows: list[Mapping[str, Cell]] = []
    for other in methods[1:]:
        first, second = matched(methods[0], other)
        row: dict[str, Cell] = {"method": other.name, "n": len(first), "n_patients": len(set(first.patients))}
        if first.has_both_classes:
            aucs = [drawn_auc(first.infected, one.probability) for one in (first, second)]

            def difference(drawn: NDArray[np.int64], aucs: Sequence[Statistic] = aucs) -> float | None:
                before, after = (auc(drawn) for auc in aucs)
                return None if before is None or after is None else after - before

            classes = [first.infected, ~first.infected]
            interval = resampling.interval(difference, first.patients, parts=classes)
            row |= interval_cells("auc_difference", interval)
        rows.append(row)
    columns = (
        Column("method", "classifier"),
        Column("auc_difference", f"AUC minus that of {methods[0].name}", 3, True),
        Column("n", "slices"),
        Column("n_patients", "patients"),
    )
    note = "On the slices that both classifiers have; the table by source judges each on all of its own."
    return Table("differences", "Differences between classifiers, all sources", columns, tuple(rows), (note,))


def matched(first: ScoredSlices, second: ScoredSlices) -> tuple[ScoredSlices, ScoredSlices]:
    """The rows of the slices that both have, in the first one's order.

    Raises:
        ConfigError: a slice that is infected in one and not in the other, or slices that have no more in common than
            their names.
    """
    place = {name: index for index, name in enumerate(second.slices)}
    kept = [index for index, name in enumerate(first.slices) if name in place]
    partners = [place[first.slices[index]] for index in kept]
    one, other = first.at(kept), second.at(partners)
    if (one.infected != other.infected).any():
        raise ConfigError(f"{first.name} and {second.name} have other labels for the same slices: nothing to compare")
    if _only_names_agree(one, other):
        raise ConfigError(
            f"{first.name} and {second.name} name {len(one)} slices alike, of other sources or patients: these are "
            "not the same slices, and their scores cannot be compared"
        )
    return one, other


def _only_names_agree(one: ScoredSlices, other: ScoredSlices) -> bool:
    """Whether slices of one name come from elsewhere; the same patients may be named or grouped in another way."""
    if any(mine and its and mine != its for mine, its in zip(one.sources, other.sources, strict=True)):
        return True
    pairs = set(zip(one.patients, other.patients, strict=True))
    renamed = len(pairs) == len({mine for mine, _ in pairs}) == len({its for _, its in pairs})
    return bool(pairs) and not renamed and not any(mine == its for mine, its in pairs)


def roc_figures(methods: Sequence[ScoredSlices]) -> dict[str, tuple[Figure, str]]:
    """ROC curves of every source with both classes, one figure a method."""
    figures: dict[str, tuple[Figure, str]] = {}
    for number, scores in enumerate(methods):
        curves = {
            f"{source} (n = {len(part)})": (
                roc_curve(part.infected, part.probability),
                roc_auc(part.infected, part.probability),
            )
            for source, part in by_source(scores)
            if part.has_both_classes
        }
        if curves:
            name = "roc" if len(methods) == 1 else f"roc-{number + 1}"
            figures[name] = (roc_figure(curves), f"ROC over slices by source: {scores.name}")
    return figures


def evaluate_scores(
    methods: Sequence[ScoredSlices],
    *,
    title: str,
    facts: Mapping[str, Any],
    warnings: Sequence[str] = (),
    more_tables: Sequence[Table] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Evaluation:
    """The page of classifiers' slice probabilities."""
    known = {"bootstrap_draws": resampling.draws, "bootstrap_seed": resampling.seed}
    compared = [auc_differences(methods, resampling)] if len(methods) > 1 else []
    tables = (source_table(methods, resampling), *compared, *more_tables)
    return Evaluation(title, tables, roc_figures(methods), {**known, **facts}, tuple(warnings))
