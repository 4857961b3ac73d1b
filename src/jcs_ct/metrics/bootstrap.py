"""Intervals and paired tests by resampling patients, never slices.

Every function takes one group per row (the patient, or the image where each is its own): the rows of a group stay
together in every draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Takes the indices of the drawn rows (with repeats); None where the statistic is not defined for them.
Statistic = Callable[[NDArray[np.int64]], float | None]


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn; the seed makes a table repeatable."""

    draws: int = 2000
    seed: int = 0
    confidence: float = 0.95

    def generator(self) -> np.random.Generator:
        """A fresh source of draws, the same for every figure."""
        return np.random.default_rng(self.seed)

    def interval(
        self,
        statistic: Statistic,
        groups: Sequence[Any] | NDArray[Any],
        *,
        parts: Sequence[NDArray[np.bool_]] | None = None,
    ) -> Interval:
        """:func:`bootstrap` with these draws."""
        return bootstrap(
            statistic,
            groups,
            generator=self.generator(),
            draws=self.draws,
            confidence=self.confidence,
            parts=parts,
        )


DEFAULT_RESAMPLING = Resampling()

#: Groups (of each part, as of each class that a statistic compares) below which there is no interval: draws of so few
#: repeat each other, and of one alone the interval has no width.
LEAST_GROUPS = 5


@dataclass(frozen=True)
class Interval:
    """A statistic with its percentile bootstrap interval.

    Args:
        value: Of the sample itself; None where it is not defined.
        low, high: None where no draw defines the statistic, of fewer than ``LEAST_GROUPS`` groups, and where all
            draws give one value: percentiles then have no width, however few the groups are.
        confidence: Of the interval.
        draws: Draws that count.
        n_undefined: Draws for which the statistic is not defined (as AUC with one class).
    """

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    draws: int
    n_undefined: int


def bootstrap(
    statistic: Statistic,
    groups: Sequence[Any] | NDArray[Any],
    *,
    generator: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
    parts: Sequence[NDArray[np.bool_]] | None = None,
) -> Interval:
    """Percentile interval of a statistic over resampled groups.

    Args:
        statistic: Of the drawn rows.
        groups: (n,) group (patient) of every row.
        generator: Source of the draws.
        draws: How many.
        confidence: Of the interval.
        parts: (n,) bool each, the rows without which there is no statistic, as those of both classes that it
            compares or those that define it: every part needs ``LEAST_GROUPS`` groups. All rows without it.

    Raises:
        ValueError: no rows, or a number of draws or confidence that cannot be.
    """
    if draws < 1 or not 0 < confidence < 1:
        raise ValueError(f"needs draws >= 1 and confidence in (0, 1), got {draws} and {confidence}")
    members = _members(groups)
    value = statistic(np.arange(len(groups)))
    found = []
    for _ in range(draws):
        drawn = generator.integers(0, len(members), len(members))
        result = statistic(np.concatenate([members[number] for number in drawn]))
        if result is not None:
            found.append(result)
    too_few = _fewest_groups(groups, parts or [np.ones(len(groups), dtype=bool)]) < LEAST_GROUPS
    if not found or too_few or min(found) == max(found):
        return Interval(value, None, None, confidence, len(found), draws - len(found))
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(found, [tail, 100 - tail])
    return Interval(value, float(low), float(high), confidence, len(found), draws - len(found))


def _fewest_groups(groups: Sequence[Any] | NDArray[Any], parts: Sequence[NDArray[np.bool_]]) -> int:
    """Groups with a row in each of the parts, (n,) bool; those of the part that has fewest."""
    names = np.asarray(groups)
    return min(len(np.unique(names[part])) for part in parts)


def _members(groups: Sequence[Any] | NDArray[Any]) -> list[NDArray[np.int64]]:
    if len(groups) == 0:
        raise ValueError("nothing to resample: there are no rows")
    _, numbers = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference, second minus first, of two models on the same cases.

    Args:
        interval: The difference with its paired bootstrap interval.
        p_value: Two-sided, of the paired permutation test.
        n: Rows.
        n_groups: Patients (or images).
    """

    interval: Interval
    p_value: float
    n: int
    n_groups: int


def paired_difference(
    first: NDArray[np.floating[Any]],
    second: NDArray[np.floating[Any]],
    groups: Sequence[Any] | NDArray[Any],
    *,
    generator: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> PairedDifference:
    """Compare two models by one value a row (as Dice an image).

    Args:
        first, second: (n,) values of both models, row by row the same case.
        groups: (n,) patient of every row.
        generator: Source of draws and swaps.
        draws: Of bootstrap and permutations each.
        confidence: Of the interval.

    Raises:
        ValueError: shapes that differ, values that are not finite, or no rows.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.ndim != 1 or not first.shape == second.shape == (len(groups),):
        raise ValueError(f"first {first.shape}, second {second.shape} and {len(groups)} groups must have one length")
    difference = second - first
    if not np.isfinite(difference).all():
        raise ValueError("values to compare must be finite")
    interval = bootstrap(
        lambda rows: float(difference[rows].mean()),
        groups,
        generator=generator,
        draws=draws,
        confidence=confidence,
    )
    sums = np.array([difference[rows].sum() for rows in _members(groups)])
    return PairedDifference(
        interval, _sign_flip_p_value(sums, generator=generator, draws=draws), len(difference), len(sums)
    )


def _sign_flip_p_value(sums: NDArray[np.float64], *, generator: np.random.Generator, draws: int) -> float:
    """Two-sided p of the sum when models are swapped group by group; all swaps where these are few enough."""
    n = len(sums)
    if n < 40 and 2**n <= draws:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        extra = 0
    else:
        signs = generator.choice([-1.0, 1.0], size=(draws, n))
        extra = 1  # the arrangement that was seen counts as one of them
    reached = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12 * max(1.0, float(np.abs(sums).sum()))
    return float((reached.sum() + extra) / (len(signs) + extra))
