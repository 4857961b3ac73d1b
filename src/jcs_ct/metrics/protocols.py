"""Published evaluations of a segmentation: what is cut where, reduced how.

- :func:`official_iou`: the evaluator published with JCS.
- :func:`miniseg_scores`: the five-fold protocol published with MiniSeg on CT100.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.metrics.distance import hausdorff_distance
from jcs_ct.metrics.overlap import (
    Counts,
    Metric,
    Reduced,
    dice_score,
    iou_score,
    precision,
    sensitivity,
    specificity,
)

Pair = tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]

#: The overlap metrics by name.
OVERLAP_METRICS: Mapping[str, Metric] = {
    "dice": dice_score,
    "iou": iou_score,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "precision": precision,
}


def official_iou(pairs: Iterable[Pair]) -> Reduced:
    """Protocol ``official`` (the published JCS evaluator): mean IoU per image at ``p > 2 mean(p)``, not rescaled."""
    counts = Counts.stack(
        Counts.of(probability > 2.0 * float(probability.mean(dtype=np.float64)), mask) for probability, mask in pairs
    )
    return iou_score(counts).mean()


@dataclass(frozen=True)
class MiniSegScores:
    """Protocol ``miniseg``, in percent but for the distance.

    Args:
        miou: Mean IoU of background and lesion, from one confusion matrix a fold, mean of folds.
        sensitivity, specificity, dice: Per image, mean in the fold, mean of folds.
        hausdorff_px: Plain maximum, in pixels, reduced alike; an empty prediction scores 0.
        n: Images.
        folds: Number of folds.
    """

    miou: float
    sensitivity: float
    specificity: float
    dice: float
    hausdorff_px: float
    n: int
    folds: int


def miniseg_scores(folds: Sequence[Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]]) -> MiniSegScores:
    """Score (prediction, mask) images of every fold as MiniSeg's own tool does; masks are not empty there.

    Raises:
        ValueError: no folds, an empty fold, or an image with an empty mask.
    """
    if not folds or not all(folds):
        raise ValueError("every fold needs at least one image")
    rows = np.array([_miniseg_fold(fold) for fold in folds]).mean(axis=0)
    miou, sens, spec, dice, distance = (float(value) for value in rows)
    return MiniSegScores(
        100 * miou, 100 * sens, 100 * spec, 100 * dice, distance, sum(len(fold) for fold in folds), len(folds)
    )


def _miniseg_fold(
    fold: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
) -> tuple[float, float, float, float, float]:
    counts = Counts.stack(Counts.of(prediction, mask) for prediction, mask in fold)
    if not sensitivity(counts).defined.all():
        raise ValueError("protocol miniseg is defined on images with a lesion only: leave out the empty masks")
    pooled = counts.pooled()
    miou = float(iou_score(pooled).values + iou_score(pooled.inverted()).values) / 2
    distances = [
        hausdorff_distance(prediction, mask, points="all") if prediction.any() else 0.0 for prediction, mask in fold
    ]
    return (
        miou,
        float(sensitivity(counts).values.mean()),
        float(specificity(counts).values.mean()),
        float(dice_score(counts).values.mean()),
        float(np.mean(distances)),
    )
