"""Metrics of verdicts: discrimination, and sensitivity and specificity with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from jcs_ct.metrics.bootstrap import Statistic


def roc_auc(truth: NDArray[np.bool_], score: NDArray[np.floating[Any]]) -> float:
    """Area under the ROC curve: the chance that an infected case scores above an uninfected one, ties counting half.

    Args:
        truth: (n,) True where infected.
        score: (n,) greater means more infected.

    Returns:
        In [0, 1]; 0.5 when only one class is present, as no pair says anything.

    Raises:
        ValueError: shapes that differ, or scores that are not finite.
    """
    truth, score = _cases(truth, score)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return 0.5
    ranks = average_ranks(score)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks from 1 on, equal values sharing the mean of theirs, as ``scipy.stats.rankdata`` has it.

    That module takes a second to import, for which `jcs train` would have to wait.

    Args:
        values: (n,) finite.

    Returns:
        (n,) float64.
    """
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return (last - (sizes - 1) / 2)[group]


def drawn_auc(truth: NDArray[np.bool_], score: NDArray[np.floating[Any]]) -> Statistic:
    """AUC as a statistic of drawn rows; not defined for rows of one class.

    Args:
        truth: (n,) whether positive.
        score: (n,) larger for positive.
    """

    def auc(rows: NDArray[np.int64]) -> float | None:
        part = truth[rows]
        return roc_auc(part, score[rows]) if part.any() and not part.all() else None

    return auc


@dataclass(frozen=True, eq=False)
class RocCurve:
    """ROC curve: a case is positive when its score is at least the threshold.

    Args:
        thresholds: (k,) descending; the first is infinite (nothing is positive).
        sensitivity: (k,) ascending from 0 to 1; 0 throughout where no case is infected.
        false_positive_rate: (k,) 1 - specificity; 0 throughout where every case is infected.
    """

    thresholds: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    false_positive_rate: NDArray[np.float64]


def roc_curve(truth: NDArray[np.bool_], score: NDArray[np.floating[Any]]) -> RocCurve:
    """One point for every distinct score, and the origin.

    Raises:
        ValueError: shapes that differ, or scores that are not finite.
    """
    truth, score = _cases(truth, score)
    levels, tp, fp = _cumulated(truth, score)
    positives, negatives = max(1, int(truth.sum())), max(1, int((~truth).sum()))
    return RocCurve(
        np.concatenate([[np.inf], levels]),
        np.concatenate([[0.0], tp / positives]),
        np.concatenate([[0.0], fp / negatives]),
    )


def average_precision(truth: NDArray[np.bool_], score: NDArray[np.floating[Any]]) -> float:
    """Sum over distinct scores of precision x gain in recall; 0 when no case is infected.

    Raises:
        ValueError: shapes that differ, or scores that are not finite.
    """
    truth, score = _cases(truth, score)
    positives = int(truth.sum())
    if positives == 0:
        return 0.0
    _, tp, fp = _cumulated(truth, score)
    gain = np.diff(tp, prepend=0) / positives
    return float((gain * tp / (tp + fp)).sum())


def _cases(
    truth: NDArray[np.bool_], score: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]:
    truth, score = np.asarray(truth), np.asarray(score)
    if truth.dtype != np.bool_:
        raise ValueError(f"truth must be bool, got {truth.dtype}")
    if truth.ndim != 1 or truth.shape != score.shape:
        raise ValueError(f"truth {truth.shape} and score {score.shape} must be (n,) both")
    if not np.isfinite(score).all():
        raise ValueError("scores must be finite")
    return truth, score


def _cumulated(
    truth: NDArray[np.bool_], score: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct scores, descending, and how many infected and uninfected cases score at least each."""
    order = np.argsort(-score, kind="stable")
    ordered, infected = score[order], truth[order]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True)) if len(ordered) else np.zeros(0, dtype=int)
    tp = np.cumsum(infected)[last].astype(np.int64)
    return ordered[last].astype(np.float64), tp, (last + 1 - tp).astype(np.int64)


@dataclass(frozen=True)
class Rate:
    """A proportion with its confidence interval.

    Args:
        successes, n: The counts.
        value: ``successes / n``; None when n is 0.
        low, high: Interval; [0, 1] when n is 0.
        confidence: Of the interval.
    """

    successes: int
    n: int
    value: float | None
    low: float
    high: float
    confidence: float


def wilson_rate(successes: int, n: int, *, confidence: float = 0.95, independent: float | None = None) -> Rate:
    """A proportion with Wilson's score interval (Wilson 1927), which stays inside [0, 1].

    Args:
        successes, n: The counts.
        confidence: Of the interval.
        independent: As many independent cases the n are worth; None: each is one. See :func:`independent_cases`.

    Raises:
        ValueError: counts or a confidence that cannot be.
    """
    _check_counts(successes, n, confidence)
    if n == 0:
        return Rate(0, 0, None, 0.0, 1.0, confidence)
    z = float(special.ndtri(0.5 + confidence / 2))
    share, worth = successes / n, float(n if independent is None else independent)
    centre = (share + z * z / (2 * worth)) / (1 + z * z / worth)
    half = z * np.sqrt(share * (1 - share) / worth + z * z / (4 * worth * worth)) / (1 + z * z / worth)
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return Rate(successes, n, share, low, high, confidence)


def independent_cases(units: NDArray[Any]) -> float:
    """As many independent cases as these are worth if those of one unit always agree: n^2 / sum of sizes^2.

    Kish's effective sample size for an intraclass correlation of 1, the widest interval that repeats can ask for.

    Args:
        units: (n,) the unit (patient) of every case; 0 without cases.
    """
    sizes = np.unique(units, return_counts=True)[1].astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0


def _check_counts(successes: int, n: int, confidence: float) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"a rate needs 0 <= successes <= n, got {successes} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")


@dataclass(frozen=True)
class VerdictRates:
    """Sensitivity and specificity of verdicts at one threshold (Table IV)."""

    threshold: float
    sensitivity: Rate
    specificity: Rate


def verdict_rates(
    truth: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    *,
    units: NDArray[Any] | None = None,
    threshold: float = 0.5,
    confidence: float = 0.95,
) -> VerdictRates:
    """Rates of (n,) verdicts, with Wilson intervals.

    Args:
        truth: (n,) True where infected.
        positive: (n,) the verdicts.
        units: (n,) the patient of each, where one may have several verdicts: intervals are as wide as if those always
            agreed. None: each is a patient of its own.
        threshold: Of the verdicts.
        confidence: Of the intervals.

    Raises:
        ValueError: shapes that differ, or arrays that are not bool.
    """
    truth, positive = np.asarray(truth), np.asarray(positive)
    if truth.dtype != np.bool_ or positive.dtype != np.bool_ or truth.shape != positive.shape or truth.ndim != 1:
        raise ValueError(
            f"truth and verdicts must be (n,) bool, got {truth.dtype} {truth.shape} and {positive.dtype} "
            f"{positive.shape}"
        )
    rates = []
    for of_class, right in ((truth, positive), (~truth, ~positive)):
        worth = None if units is None else independent_cases(np.asarray(units)[of_class])
        successes, n = int((of_class & right).sum()), int(of_class.sum())
        rates.append(wilson_rate(successes, n, confidence=confidence, independent=worth))
    return VerdictRates(threshold, *rates)


def threshold_sweep(
    truth: NDArray[np.bool_],
    score: NDArray[Any],
    *,
    units: NDArray[Any] | None = None,
    thresholds: Sequence[float] | None = None,
) -> tuple[VerdictRates, ...]:
    """Rates of the patient rule ``score > threshold`` for every threshold.

    Args:
        truth: (n,) True where the patient is infected.
        score: (n,) count of infected slices, or their fraction of the slices that show lung.
        units: As of :func:`verdict_rates`.
        thresholds: None: 0, and every score, at which a verdict changes.

    Raises:
        ValueError: shapes that differ, or scores that are not finite.
    """
    truth, score = _cases(truth, score)
    if thresholds is None:
        thresholds = np.union1d([0.0], score).tolist()
    return tuple(
        verdict_rates(truth, score > threshold, units=units, threshold=float(threshold)) for threshold in thresholds
    )


def top_k_mean(probability: NDArray[np.floating[Any]], k: int) -> float:
    """Mean of the k largest slice probabilities of a patient; of all when there are fewer; 0 without slices.

    Raises:
        ValueError: k below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    values = np.sort(np.asarray(probability, dtype=np.float64).ravel())[::-1][:k]
    return float(values.mean()) if values.size else 0.0
