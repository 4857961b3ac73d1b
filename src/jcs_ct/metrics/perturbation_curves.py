"""What a network says while pixels are taken away or given back in the order in which its map ranks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: (n, rows, columns) images -> (n,) probabilities of the class that the map explains.
Scorer = Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]]


@dataclass(frozen=True, eq=False)
class PerturbationCurves:
    """Probabilities while pixels are blurred (deletion) or sharpened (insertion), most activated first.

    Args:
        fraction: (steps + 1,) share of pixels changed, 0 to 1.
        deletion, insertion: (steps + 1,) probabilities.
        deletion_auc: Low is good: the map names what the verdict rests on.
        insertion_auc: High is good.
    """

    fraction: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    deletion_auc: float
    insertion_auc: float


def perturbation_curves(
    image: NDArray[np.floating[Any]],
    activation: NDArray[np.floating[Any]],
    scorer: Scorer,
    *,
    steps: int = 32,
    blur_px: float = 10.0,
    batch_size: int = 16,
) -> PerturbationCurves:
    """Deletion and insertion (Petsiuk et al., BMVC 2018) against a blurred baseline.

    Args:
        image: (rows, columns), as the scorer takes it.
        activation: (rows, columns) on the image's grid; of equal pixels the upper left one goes first.
        scorer: Probability of the class that is explained.
        steps: Equal steps from none to all of the pixels.
        blur_px: Standard deviation of the baseline's Gaussian, in pixels.
        batch_size: Images a call of the scorer.

    Raises:
        ValueError: shapes that differ, or numbers below 1.
    """
    image = np.asarray(image, dtype=np.float32)
    if image.ndim != 2 or image.shape != activation.shape:
        raise ValueError(f"image {image.shape} and map {activation.shape} must be (rows, columns) both")
    if steps < 1 or batch_size < 1 or blur_px <= 0:
        raise ValueError(f"steps, batch_size and blur_px must be positive, got {steps}, {batch_size}, {blur_px}")
    baseline = ndimage.gaussian_filter(image, blur_px)
    rank = np.empty(image.size, dtype=np.int64)
    rank[np.argsort(-np.asarray(activation, dtype=np.float64).ravel(), kind="stable")] = np.arange(image.size)
    changed = np.rint(np.linspace(0, image.size, steps + 1)).astype(np.int64)

    def curve(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float64]:
        scores = []
        for first in range(0, len(changed), batch_size):
            counts = changed[first : first + batch_size, None]
            images = np.where(rank[None] < counts, after.ravel(), before.ravel())
            scores.append(np.asarray(scorer(images.reshape(-1, *image.shape)), dtype=np.float64))
        return np.concatenate(scores)

    deletion, insertion = curve(image, baseline), curve(baseline, image)
    fraction = changed / image.size
    return PerturbationCurves(
        fraction,
        deletion,
        insertion,
        float(np.trapezoid(deletion, fraction)),
        float(np.trapezoid(insertion, fraction)),
    )
