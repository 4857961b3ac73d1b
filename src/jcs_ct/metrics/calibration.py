"""Whether probabilities mean what they say: Brier score, calibration error, reliability, slope and intercept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Probabilities are kept this far from 0 and 1 before the logit.
_LOGIT_EPS = 1e-7
_ITERATIONS = 100


def brier_score(truth: NDArray[np.bool_], probability: NDArray[np.floating[Any]]) -> float:
    """Mean of (p - y)^2 over the cases.

    Raises:
        ValueError: no cases, shapes that differ, probabilities outside [0, 1].
    """
    outcome, p = _cases(truth, probability)
    return float(((p - outcome) ** 2).mean())


@dataclass(frozen=True)
class ReliabilityBin:
    """One point of the reliability plot: cases of like probability."""

    n: int
    mean_probability: float
    observed_rate: float
    lowest: float
    highest: float


def reliability(
    truth: NDArray[np.bool_], probability: NDArray[np.floating[Any]], *, bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """Bins of equal mass, in order of probability; equal probabilities share a bin, so there may be fewer.

    Raises:
        ValueError: no cases, shapes that differ, probabilities outside [0, 1], no bins.
    """
    if bins < 1:
        raise ValueError(f"needs at least one bin, got {bins}")
    outcome, p = _cases(truth, probability)
    ordered = np.sort(p)
    starts = np.unique(ordered[[part[0] for part in np.array_split(np.arange(len(p)), min(bins, len(p)))]])
    number = np.searchsorted(starts, p, side="right") - 1
    found = []
    for index in range(len(starts)):
        inside = number == index
        found.append(
            ReliabilityBin(
                int(inside.sum()),
                float(p[inside].mean()),
                float(outcome[inside].mean()),
                float(p[inside].min()),
                float(p[inside].max()),
            )
        )
    return tuple(found)


def expected_calibration_error(
    truth: NDArray[np.bool_], probability: NDArray[np.floating[Any]], *, bins: int = 15
) -> float:
    """Mean over cases of abs(observed rate - mean probability) of the bin they are in (equal mass).

    Raises:
        ValueError: as :func:`reliability`.
    """
    points = reliability(truth, probability, bins=bins)
    total = sum(point.n for point in points)
    return sum(point.n * abs(point.observed_rate - point.mean_probability) for point in points) / total


def calibration_error_by_chance(
    probability: NDArray[np.floating[Any]], *, generator: np.random.Generator, draws: int = 2000, bins: int = 15
) -> float:
    """The calibration error that these probabilities would have if each were exactly right, from chance alone.

    It is not 0: the fewer the cases, the further a bin's observed rate lies from its probability. For the same reason
    a bootstrap gives the error no interval: draws with repeats have larger errors than the sample itself.

    Args:
        probability: (n,) of independent cases; of cases that go together chance gives more.
        generator: Source of the outcomes.
        draws: How often outcomes are drawn.
        bins: As of :func:`expected_calibration_error`.

    Raises:
        ValueError: as :func:`reliability`.
    """
    p = np.asarray(probability, dtype=np.float64)
    errors = [expected_calibration_error(generator.random(p.shape) < p, p, bins=bins) for _ in range(draws)]
    return float(np.mean(errors))


@dataclass(frozen=True)
class CalibrationLine:
    """Logistic recalibration: logit P(y) = intercept + slope * logit(p); 0 and 1 when perfectly calibrated.

    Args:
        slope, intercept: Fitted together.
        intercept_in_the_large: Fitted with the slope held at 1: the probabilities' overall shift.
    """

    slope: float
    intercept: float
    intercept_in_the_large: float


def calibration_line(truth: NDArray[np.bool_], probability: NDArray[np.floating[Any]]) -> CalibrationLine | None:
    """Maximum-likelihood recalibration line.

    Returns:
        None where the fit has no finite solution: one class only, constant probabilities, or classes that the
        probability separates completely.

    Raises:
        ValueError: no cases, shapes that differ, probabilities outside [0, 1].
    """
    outcome, p = _cases(truth, probability)
    clipped = np.clip(p, _LOGIT_EPS, 1 - _LOGIT_EPS)
    logit = np.log(clipped) - np.log1p(-clipped)
    infected, clean = logit[outcome == 1], logit[outcome == 0]
    if not (len(infected) and len(clean)) or np.ptp(logit) == 0:
        return None
    if infected.min() >= clean.max() or clean.min() >= infected.max():
        return None
    both = _fit(np.stack([np.ones_like(logit), logit], axis=1), outcome, np.zeros_like(logit))
    shift = _fit(np.ones((len(logit), 1)), outcome, logit)
    if both is None or shift is None:
        return None
    return CalibrationLine(float(both[1]), float(both[0]), float(shift[0]))


def _fit(
    design: NDArray[np.float64], outcome: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Logistic regression by Newton's method with halved steps; None when it does not settle."""
    weights = np.zeros(design.shape[1])
    loss = _loss(design @ weights + offset, outcome)
    for _ in range(_ITERATIONS):
        predicted = 0.5 * (1 + np.tanh((design @ weights + offset) / 2))
        gradient = design.T @ (predicted - outcome)
        curvature = (design * (predicted * (1 - predicted))[:, None]).T @ design
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        size = 1.0
        while size > 1e-8 and _loss(design @ (weights - size * step) + offset, outcome) > loss + 1e-12 * abs(loss):
            size /= 2
        weights = weights - size * step
        loss = _loss(design @ weights + offset, outcome)
        if float(np.abs(size * step).max()) < 1e-10:
            return np.asarray(weights)
    return None


def _loss(linear: NDArray[np.float64], outcome: NDArray[np.float64]) -> float:
    return float((np.logaddexp(0.0, linear) - outcome * linear).sum())


def _cases(
    truth: NDArray[np.bool_], probability: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth, p = np.asarray(truth), np.asarray(probability, dtype=np.float64)
    if truth.dtype != np.bool_:
        raise ValueError(f"truth must be bool, got {truth.dtype}")
    if truth.ndim != 1 or truth.shape != p.shape or not len(truth):
        raise ValueError(f"truth {truth.shape} and probability {p.shape} must be (n,) both, with n at least 1")
    if not (np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1):
        raise ValueError(f"probabilities must lie in [0, 1], got {p.min()} to {p.max()}")
    return truth.astype(np.float64), p
