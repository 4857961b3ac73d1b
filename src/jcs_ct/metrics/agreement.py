"""Agreement of a measured quantity with its true value over studies: Bland and Altman's limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special


@dataclass(frozen=True)
class Agreement:
    """Differences, measured minus true, in the unit of what was measured.

    Args:
        n: Pairs.
        mean: Of the differences (bias).
        low, high: Limits of agreement: 95 % of the differences of a normal population lie between them.
        mean_interval, low_interval, high_interval: 95 % confidence intervals (t distribution) of the three.
    """

    n: int
    mean: float
    low: float
    high: float
    mean_interval: tuple[float, float]
    low_interval: tuple[float, float]
    high_interval: tuple[float, float]


def limits_of_agreement(measured: NDArray[Any], true: NDArray[Any]) -> Agreement:
    """Bias and limits of agreement (Bland and Altman, Lancet 1986; intervals: Stat Methods Med Res 1999, 8: 135).

    Args:
        measured, true: (n,) of the same studies, n >= 2.

    Raises:
        ValueError: shapes that differ, or fewer than two pairs.
    """
    difference = np.asarray(measured, dtype=np.float64) - np.asarray(true, dtype=np.float64)
    if np.shape(measured) != np.shape(true) or difference.ndim != 1 or len(difference) < 2:
        raise ValueError(f"needs two lists of at least 2 values, got {np.shape(measured)} and {np.shape(true)}")
    n = len(difference)
    mean, deviation = float(difference.mean()), float(difference.std(ddof=1))
    reach = float(special.ndtri(0.975)) * deviation
    t = float(special.stdtrit(n - 1, 0.975))
    of_mean = t * deviation / np.sqrt(n)
    of_limit = t * deviation * np.sqrt(1 / n + special.ndtri(0.975) ** 2 / (2 * (n - 1)))

    def around(value: float, half: float) -> tuple[float, float]:
        return float(value - half), float(value + half)

    return Agreement(
        n=n,
        mean=mean,
        low=mean - reach,
        high=mean + reach,
        mean_interval=around(mean, of_mean),
        low_interval=around(mean - reach, of_limit),
        high_interval=around(mean + reach, of_limit),
    )
