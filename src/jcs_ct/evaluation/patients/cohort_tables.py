"""Tables and figures of verdicts on patients: Table IV, sweeps, ROC, calibration, subgroups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jcs_ct.evaluation.pages import paper_results
from jcs_ct.evaluation.pages.figures import reliability_figure, roc_figure, sweep_figure
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.paired_methods import LEAST_PATIENTS
from jcs_ct.evaluation.pages.tables import MEASURED, NO_INTERVAL, Cell, Column, Table, interval_cells
from jcs_ct.evaluation.patients.cohort import TOP_K, Cohort
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling
from jcs_ct.metrics.calibration import (
    brier_score,
    calibration_error_by_chance,
    calibration_line,
    expected_calibration_error,
    reliability,
)
from jcs_ct.metrics.classification import (
    Rate,
    VerdictRates,
    drawn_auc,
    roc_auc,
    roc_curve,
    threshold_sweep,
    verdict_rates,
)
from jcs_ct.operating_point import Verdict

#: The thresholds of Table IV.
PAPER_THRESHOLDS = (15, 20, 25, 30)
_RATES = (
    Column("sensitivity_percent", "sensitivity %", 1, True),
    Column("specificity_percent", "specificity %", 1, True),
    Column("n_infected", "infected"),
    Column("n_uninfected", "uninfected"),
    Column("n_withheld", "withheld"),
)
#: Flags that say of a verdict that it may be wrong.
DOUBTING = frozenset({"NETWORKS_DISAGREE", "NEAR_THRESHOLD"})
#: Truth and verdict by the key of their column.
_OUTCOMES = {
    "true_positive": (True, Verdict.POSITIVE),
    "false_negative": (True, Verdict.NEGATIVE),
    "false_positive": (False, Verdict.POSITIVE),
    "true_negative": (False, Verdict.NEGATIVE),
}
_WILSON = "[ , ] are Wilson 95 % intervals over patients; those whose verdict is withheld count in neither rate."


def _wilson_notes(cohort: Cohort) -> tuple[str, ...]:
    return (_WILSON, *([cohort.unit_note] if cohort.unit_note else []))


def _unscored_notes(cohort: Cohort) -> tuple[str, ...]:
    """What is said of those without a slice; nothing where there are none."""
    without = int((~cohort.has_slices).sum())
    return (f"{without} without a slice that shows lung have no score and are left out.",) if without else ()


def evaluate_cohort(
    cohort: Cohort, *, facts: Mapping[str, Any] | None = None, resampling: Resampling = DEFAULT_RESAMPLING
) -> Evaluation:
    """Everything the evaluation says of patients. Nothing is chosen by them: the operating point is the cohort's."""
    tables = [table_iv(cohort), *sweep_tables(cohort), auc_table(cohort, resampling)]
    tables += [calibration_table(cohort, resampling)]
    tables += [table for table in (flag_table(cohort), subgroup_rates(cohort)) if table is not None]
    known = {
        "cases": cohort.title,
        "slice_probability": cohort.operating_point.slice_probability,
        "positive_slice_threshold": cohort.operating_point.positive_slice_threshold,
        "bootstrap_draws": resampling.draws,
        "bootstrap_seed": resampling.seed,
    }
    return Evaluation(
        f"Verdicts on patients: {cohort.title}", tuple(tables), _figures(cohort), {**known, **(facts or {})}
    )


def rates_at(
    cohort: Cohort, positive_slice_threshold: int, members: Sequence[int] | None = None
) -> tuple[VerdictRates, int]:
    """Rates of the patient rule over the patients with a verdict, and how many have none.

    Args:
        cohort: Of patients.
        positive_slice_threshold: Scaled to each study's spacing; a small study is judged by its share.
        members: Numbers of some patients; None takes all.
    """
    chosen = range(len(cohort.patients)) if members is None else members
    verdicts = cohort.verdicts_at(positive_slice_threshold)
    judged = [number for number in chosen if verdicts[number] is not Verdict.WITHHELD]
    positive = np.array([verdicts[number] is Verdict.POSITIVE for number in judged], dtype=bool)
    rates = verdict_rates(
        cohort.truth[judged], positive, units=cohort.units[judged], threshold=float(positive_slice_threshold)
    )
    return rates, len(chosen) - len(judged)


def rate_cells(rates: VerdictRates, n_withheld: int = 0) -> dict[str, Cell]:
    """Both rates in percent with their intervals and n, and how many have no verdict."""
    found: dict[str, Cell] = {
        "n_withheld": n_withheld,
        "n_infected": rates.sensitivity.n,
        "n_uninfected": rates.specificity.n,
    }
    for key, rate in (("sensitivity_percent", rates.sensitivity), ("specificity_percent", rates.specificity)):
        found |= _rate(key, rate)
    return found


def _rate(key: str, rate: Rate) -> dict[str, Cell]:
    if rate.value is None:
        return {}
    return {key: 100 * rate.value, f"{key}_low": 100 * rate.low, f"{key}_high": 100 * rate.high}


def table_iv(cohort: Cohort) -> Table:
    """Sensitivity and specificity against the slice-count threshold, the paper's rows beside."""
    chosen = cohort.operating_point.positive_slice_threshold
    rows: list[Mapping[str, Cell]] = []
    for threshold in sorted({*PAPER_THRESHOLDS, chosen}):
        row: dict[str, Cell] = {"threshold": float(threshold), "origin": MEASURED, "in_use": threshold == chosen}
        rows.append(row | rate_cells(*rates_at(cohort, threshold)))
    columns = (
        Column("threshold", "more slices than", 0),
        Column("origin", "origin"),
        Column("in_use", "in use"),
        *_RATES,
    )
    notes = (
        f"A slice is infected at a probability of at least {cohort.operating_point.slice_probability:g}, chosen on "
        "validation patients and stored with the weights.",
        *_wilson_notes(cohort),
        *cohort.notes,
    )
    return Table(
        "table_iv", f"Table IV: the patient rule ({cohort.title})", columns, (*rows, *paper_results.TABLE_IV), notes
    )


def sweep_tables(cohort: Cohort) -> tuple[Table, ...]:
    """The whole sweep of the patient rule's count, and of the fraction of infected slices."""
    looking = "For looking, not for choosing: an operating point is chosen on validation patients."
    counts = [
        {"threshold": rates.threshold, **rate_cells(rates, n_withheld)}
        for rates, n_withheld in (rates_at(cohort, threshold) for threshold in _swept_counts(cohort))
    ]
    by_share = "Studies too small for a count are judged by the share of their slices, at every threshold alike."
    verdicts = cohort.verdicts_at(cohort.operating_point.positive_slice_threshold)
    judged = cohort.has_slices & np.array([verdict is not Verdict.WITHHELD for verdict in verdicts])
    fractions = [
        {"threshold": rates.threshold, **rate_cells(rates, int((~judged).sum()))}
        for rates in threshold_sweep(
            cohort.truth[judged], cohort.scores()["fraction"][judged], units=cohort.units[judged]
        )
    ]
    return (
        Table(
            "sweep_count",
            "Sweep of the slice count",
            (Column("threshold", _count_above(cohort), 0), *_RATES),
            tuple(counts),
            (
                *_wilson_notes(cohort),
                *([] if cohort.operating_point.small_study_share is None else [by_share]),
                looking,
            ),
        ),
        Table(
            "sweep_fraction",
            "Sweep of the slice fraction",
            (Column("threshold", "fraction above", 3), *_RATES),
            tuple(fractions),
            (*_wilson_notes(cohort), looking),
        ),
    )


def _swept_counts(cohort: Cohort) -> list[int]:
    """0, and for every patient the least whole count that is not exceeded: there a verdict may change."""
    return [int(count) for count in np.union1d([0], np.ceil(np.round(cohort.scores()["count"], 3)))]


def _count_above(cohort: Cohort) -> str:
    """The head of the count's thresholds: slices of studies whose spacing is known count by what they span."""
    reference = cohort.operating_point.reference_spacing_mm
    is_scaled = reference is not None and any(patient.slice_spacing_mm is not None for patient in cohort.patients)
    return f"infected slices, scaled to {reference:g} mm, above" if is_scaled else "infected slices above"


def auc_table(cohort: Cohort, resampling: Resampling) -> Table:
    """AUC of the count, the fraction and the mean of the most probable slices."""
    scored = cohort.has_slices
    truth, groups = cohort.truth[scored], cohort.units[scored]
    rows: list[Mapping[str, Cell]] = []
    for name, score in cohort.scores().items():
        row: dict[str, Cell] = {"score": name, "n": len(truth), "n_patients": len(set(groups.tolist()))}
        if len(truth):
            interval = resampling.interval(drawn_auc(truth, score[scored]), groups, parts=[truth, ~truth])
            row |= {"n_undefined_draws": interval.n_undefined, **interval_cells("auc", interval)}
        rows.append(row)
    columns = (
        Column("score", "score of a patient"),
        Column("auc", "AUC", 3, True),
        Column("n", "verdicts"),
        Column("n_patients", "patients"),
        Column("n_undefined_draws", "draws with one class"),
    )
    note = f"95 % percentile intervals of {resampling.draws} bootstrap draws of patients; {NO_INTERVAL}."
    return Table("auc", "Discrimination of patients", columns, tuple(rows), (note, *_unscored_notes(cohort)))


def calibration_table(cohort: Cohort, resampling: Resampling) -> Table:
    """Brier score, calibration error, slope and intercept, of patients and, where their truth is known, of slices."""
    rows: list[Mapping[str, Cell]] = []
    for level, truth, probability, groups in _probabilities(cohort):
        row: dict[str, Cell] = {
            "level": level,
            "n": len(truth),
            "n_infected": int(truth.sum()),
            "expected_calibration_error": expected_calibration_error(truth, probability),
            "calibration_error_by_chance": calibration_error_by_chance(
                probability, generator=resampling.generator(), draws=resampling.draws
            ),
        }

        def brier(
            drawn: NDArray[np.int64],
            truth: NDArray[np.bool_] = truth,
            probability: NDArray[np.float64] = probability,
        ) -> float:
            return brier_score(truth[drawn], probability[drawn])

        row |= interval_cells("brier", resampling.interval(brier, groups))
        line = calibration_line(truth, probability)
        if line is not None:
            row |= {
                "slope": line.slope,
                "intercept": line.intercept,
                "intercept_in_the_large": line.intercept_in_the_large,
            }
        rows.append(row)
    columns = (
        Column("level", "of"),
        Column("brier", "Brier", 3, True),
        Column("expected_calibration_error", "calibration error", 3),
        Column("calibration_error_by_chance", "by chance alone", 3),
        Column("slope", "slope", 2),
        Column("intercept", "intercept", 2),
        Column("intercept_in_the_large", "intercept in the large", 2),
        Column("n", "n"),
        Column("n_infected", "infected"),
    )
    notes = (
        f"A patient's probability is the mean of the {TOP_K} most probable slices. 15 bins of equal mass. "
        "No slope where classes are separated or only one is there. Intervals resample patients; "
        f"{NO_INTERVAL}.",
        "The calibration error is never 0 of few cases: beside it is what chance alone gives independent cases whose "
        "probabilities are exactly right. It has no interval: the draws' errors are larger than the sample's own.",
        *_unscored_notes(cohort),
    )
    return Table("calibration", "Calibration", columns, tuple(rows), notes)


def _probabilities(
    cohort: Cohort,
) -> list[tuple[str, NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]]:
    """(level, truth, probability, unit that is resampled) of patients, and of slices whose truth is known."""
    scored = cohort.has_slices
    probability = cohort.scores()[f"top-{TOP_K} mean"][scored]
    found = [("patients", cohort.truth[scored], probability, cohort.units[scored])] if scored.any() else []
    known = [
        (patient.infected_slices, patient.probabilities, unit)
        for unit, patient in zip(cohort.units, cohort.patients, strict=True)
        if patient.infected_slices is not None and len(patient.probabilities)
    ]
    if known:
        found.append(
            (
                "slices",
                np.concatenate([truth for truth, _, _ in known]),
                np.concatenate([probability for _, probability, _ in known]),
                np.concatenate([np.full(len(truth), unit) for truth, _, unit in known]),
            )
        )
    return found


def flag_table(cohort: Cohort) -> Table | None:
    """Which flags right and wrong verdicts were reported with; None of slices, which are no studies.

    A wrong verdict with a flag that doubts it is a warning to its reader; one without is the worst outcome.
    """
    reported = [(patient.infected, patient.reported) for patient in cohort.patients if patient.reported is not None]
    if not reported:
        return None
    codes = sorted({code for _, report in reported for code in report.flags})
    groups = {
        "all studies": reported,
        "none that doubts the verdict": [
            (truth, report) for truth, report in reported if not report.flags & DOUBTING
        ],
        **{code: [(truth, report) for truth, report in reported if code in report.flags] for code in codes},
    }
    rows: list[Mapping[str, Cell]] = []
    for name, members in groups.items():
        counts = Counter((truth, report.verdict) for truth, report in members)
        cells = {key: counts[outcome] for key, outcome in _OUTCOMES.items()}
        withheld = counts[True, Verdict.WITHHELD] + counts[False, Verdict.WITHHELD]
        rows.append({"flag": name, **cells, "withheld": withheld})
    columns = (
        Column("flag", "reported with"),
        Column("true_positive", "infected, positive"),
        Column("false_negative", "infected, negative"),
        Column("false_positive", "uninfected, positive"),
        Column("true_negative", "uninfected, negative"),
        Column("withheld", "withheld"),
    )
    notes = (
        "Studies at the operating point in use; a study may have several flags.",
        f"Flags that doubt a verdict: {', '.join(sorted(DOUBTING))}. A wrong verdict without any of them reaches its "
        "reader without a warning.",
    )
    return Table("flags", "What verdicts were reported with", columns, tuple(rows), notes)


def subgroup_rates(cohort: Cohort, *, least: int = LEAST_PATIENTS) -> Table | None:
    """Rates by subgroup at the operating point; groups of fewer than ``least`` patients are suppressed."""
    members: dict[tuple[str, str], list[int]] = {}
    for index, patient in enumerate(cohort.patients):
        for grouping, value in patient.subgroups.items():
            members.setdefault((grouping, value), []).append(index)
    if not members:
        return None
    threshold = cohort.operating_point.positive_slice_threshold
    rows: list[Mapping[str, Cell]] = []
    for (grouping, value), indices in sorted(members.items()):
        row: dict[str, Cell] = {"grouping": grouping, "group": value}
        if len(set(cohort.units[indices].tolist())) < least:
            rows.append(row | {"suppressed": f"fewer than {least} patients"})
        else:
            rows.append(row | rate_cells(*rates_at(cohort, threshold, indices)))
    columns = (Column("grouping", "by"), Column("group", "group"), *_RATES, Column("suppressed", "suppressed"))
    return Table("subgroups", "Subgroups at the operating point", columns, tuple(rows), _wilson_notes(cohort))


def _figures(cohort: Cohort) -> dict[str, tuple[Figure, str]]:
    scored = cohort.has_slices
    truth, scores = cohort.truth[scored], {name: score[scored] for name, score in cohort.scores().items()}
    figures: dict[str, tuple[Figure, str]] = {}
    if truth.any() and not truth.all():
        curves = {name: (roc_curve(truth, score), roc_auc(truth, score)) for name, score in scores.items()}
        figures["roc"] = (roc_figure(curves), "ROC over patients")
    sweep = [rates_at(cohort, threshold)[0] for threshold in _swept_counts(cohort)]
    chosen = cohort.operating_point.positive_slice_threshold
    figures["sweep"] = (sweep_figure(sweep, chosen), "Rates over patients against the slice-count threshold")
    points = {level: reliability(labels, p) for level, labels, p, _ in _probabilities(cohort)}
    if points:
        figures["reliability"] = (
            reliability_figure(points),
            "Reliability: observed rate against predicted probability",
        )
    return figures
