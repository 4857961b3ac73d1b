"""E-measure of a map against a binary mask.

The E-measure is *enhanced alignment* (Fan et al., IJCAI 2018). Only four pairs of prediction and mask can occur in a
pixel, so it is a closed form of the four counts. Defined here without rescaling the map first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.metrics.overlap import Counts

EPS = float(np.spacing(1))
#: Thresholds k / 255 of the E-measure's curve.
THRESHOLDS = 256


def e_measure(counts: Counts) -> NDArray[np.float64]:
    """Enhanced alignment of binary predictions, from their counts.

    Per pixel a = P - mean(P), g = G - mean(G), xi = 2ag / (a^2 + g^2 + eps), phi = (1 + xi)^2 / 4; the measure is the
    sum of phi over N - 1 + eps. Empty mask: sum(1 - P) / (N - 1 + eps); full mask: sum(P) / (N - 1 + eps).

    Args:
        counts: Any shape.

    Returns:
        Same shape; at most N / (N - 1).

    Raises:
        ValueError: an image of fewer than two pixels.
    """
    tp, fp, fn, tn = (part.astype(np.float64) for part in (counts.tp, counts.fp, counts.fn, counts.tn))
    pixels = tp + fp + fn + tn
    if (pixels < 2).any():
        raise ValueError("the E-measure needs at least two pixels an image")
    predicted, truth = (tp + fp) / pixels, (tp + fn) / pixels
    aligned = (
        tp * _alignment(1 - predicted, 1 - truth)
        + fp * _alignment(1 - predicted, -truth)
        + fn * _alignment(-predicted, 1 - truth)
        + tn * _alignment(-predicted, -truth)
    )
    total = np.where(tp + fn == 0, tn + fn, np.where(fp + tn == 0, tp + fp, aligned))
    return np.asarray(total / (pixels - 1 + EPS))


def _alignment(a: NDArray[np.float64], g: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((1 + 2 * a * g / (a * a + g * g + EPS)) ** 2 / 4)


def adaptive_threshold(probability: NDArray[np.floating[Any]]) -> float:
    """min(2 mean(p), 1): pixels at least as probable are the adaptive prediction."""
    return min(2.0 * float(probability.mean(dtype=np.float64)), 1.0)


def counts_per_threshold(probability: NDArray[np.floating[Any]], mask: NDArray[np.bool_]) -> Counts:
    """(256,) counts of the predictions ``floor(255 p) >= k`` for k = 0 ... 255.

    Raises:
        ValueError: shapes that differ, a mask that is not bool, probabilities outside [0, 1].
    """
    _check_map(probability, mask)
    level = (np.asarray(probability, dtype=np.float64) * 255).astype(np.uint8)
    inside = np.bincount(level[mask], minlength=THRESHOLDS)
    outside = np.bincount(level[~mask], minlength=THRESHOLDS)
    tp, fp = np.cumsum(inside[::-1])[::-1], np.cumsum(outside[::-1])[::-1]
    truth = int(np.count_nonzero(mask))
    return Counts(tp=tp, fp=fp, fn=truth - tp, tn=mask.size - truth - fp)


@dataclass(frozen=True)
class EMeasure:
    """The three variants over a set of images.

    Args:
        adaptive: Mean over images at each one's adaptive threshold; the headline.
        mean: Mean of the set's averaged curve over 256 thresholds.
        maximum: Maximum of that averaged curve.
        n: Images.
    """

    adaptive: float
    mean: float
    maximum: float
    n: int


def e_measure_set(pairs: Iterable[tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]]) -> EMeasure:
    """All three E-measures of a set of (probability, mask) images.

    Raises:
        ValueError: no images, or a pair that does not fit together.
    """
    adaptive: list[float] = []
    curve = np.zeros(THRESHOLDS)
    for probability, mask in pairs:
        curve += e_measure(counts_per_threshold(probability, mask))
        prediction = probability >= adaptive_threshold(probability)
        adaptive.append(float(e_measure(Counts.of(prediction, mask))))
    if not adaptive:
        raise ValueError("the E-measure of a set needs at least one image")
    curve /= len(adaptive)
    return EMeasure(float(np.mean(adaptive)), float(curve.mean()), float(curve.max()), len(adaptive))


def _check_map(probability: NDArray[Any], mask: NDArray[Any]) -> None:
    if mask.dtype != np.bool_:
        raise ValueError(f"mask must be bool, got {mask.dtype}")
    if probability.shape != mask.shape or mask.size == 0:
        raise ValueError(f"probability {probability.shape} and mask {mask.shape} must be on one grid, with pixels")
    if not (np.isfinite(probability).all() and probability.min() >= 0 and probability.max() <= 1):
        raise ValueError(f"probabilities must lie in [0, 1], got {probability.min()} to {probability.max()}")
