"""Every figure of a segmentation: per image, pooled, by protocol, with intervals over patients; and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.evaluation.pages.paired_methods import Measure, mean_interval
from jcs_ct.experiments.judged_slices import CaseSet
from jcs_ct.experiments.lesion_predictions import Predictions
from jcs_ct.metrics.bootstrap import (
    DEFAULT_RESAMPLING,
    Interval,
    Resampling,
)
from jcs_ct.metrics.distance import hausdorff_distances
from jcs_ct.metrics.overlap import LESION_PROBABILITY, Counts, PerImage, Reduced, reduce_metric
from jcs_ct.metrics.protocols import OVERLAP_METRICS, MiniSegScores, miniseg_scores, official_iou
from jcs_ct.metrics.saliency import EMeasure, adaptive_threshold, e_measure, e_measure_set
from jcs_ct.progress import CountProgress, counted

#: In the order of the tables.
MEASURES = (
    Measure("dice_percent", "Dice %", 100.0, True),
    Measure("iou_percent", "IoU %", 100.0, True),
    Measure("e_measure_adaptive_percent", "E-measure (adaptive) %", 100.0, True),
    Measure("sensitivity_percent", "sensitivity %", 100.0, True),
    Measure("specificity_percent", "specificity %", 100.0, True),
    Measure("precision_percent", "precision %", 100.0, True),
    Measure("hausdorff_95_px", "HD95 px", 1.0, False),
    Measure("hausdorff_px", "HD px", 1.0, False),
)

#: Percentile of the distances between contours, by measure.
_HAUSDORFF = {"hausdorff_px": 100.0, "hausdorff_95_px": 95.0}


@dataclass(frozen=True, eq=False)
class MethodScores:
    """What one method scores.

    Args:
        name: Of the method.
        per_image: (n,) values by :data:`MEASURES` key, in their unit (percent or pixels).
        intervals: Mean over images with its interval over patients, by the same keys.
        pooled: Value of the summed counts in percent, by overlap metric (``dice`` ...).
        e_measure: Adaptive, mean and maximum.
        official: Protocol ``official``: IoU at p > 2 mean(p).
        miniseg: Protocol ``miniseg``, where the cases have its folds.
        threshold: Probability from which a pixel is a lesion.
        note: Of its predictions.
    """

    name: str
    per_image: Mapping[str, PerImage]
    intervals: Mapping[str, Interval]
    pooled: Mapping[str, Reduced]
    e_measure: EMeasure
    official: Reduced
    miniseg: MiniSegScores | None
    threshold: float
    note: str = ""

    def mean(self, key: str) -> Reduced:
        """Mean over the images that define the measure."""
        return self.per_image[key].mean()


def score_method(
    predictions: Predictions,
    masks: Sequence[NDArray[np.bool_]],
    cases: CaseSet,
    *,
    threshold: float = LESION_PROBABILITY,
    with_miniseg: bool = False,
    resampling: Resampling = DEFAULT_RESAMPLING,
    progress: CountProgress | None = None,
) -> MethodScores:
    """Score a method's predictions on the masks' own grids.

    Args:
        predictions: One a case.
        masks: (rows, columns) bool, one a case.
        cases: Whose patients are resampled and whose folds protocol ``miniseg`` averages.
        threshold: A pixel is a lesion when its probability is at least this.
        with_miniseg: Also score by protocol ``miniseg``.
        resampling: Of the intervals.
        progress: Called with (cases whose contours are compared, total), which takes longest.

    Raises:
        ValueError: numbers or shapes that differ, or no cases.
    """
    if not len(predictions) == len(masks) == len(cases) or not len(cases):
        raise ValueError(f"{len(cases)} cases, {len(masks)} masks and {len(predictions)} predictions must be as many")
    pairs = _Pairs(predictions, masks)
    cut = [probability >= threshold for probability, _ in pairs]
    counts = Counts.stack(Counts.of(found, mask) for found, mask in zip(cut, masks, strict=True))
    per_image = _per_image(pairs, masks, cut, counts, progress)
    return MethodScores(
        name=predictions.name,
        per_image=per_image,
        intervals={key: mean_interval(values, cases.units, resampling) for key, values in per_image.items()},
        pooled={name: reduce_metric(metric, counts, reduction="pooled") for name, metric in OVERLAP_METRICS.items()},
        e_measure=e_measure_set(pairs),
        official=official_iou(pairs),
        miniseg=_miniseg(cut, masks, cases) if with_miniseg else None,
        threshold=threshold,
        note=predictions.note,
    )


class _Pairs(Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]]):
    """(probability, mask) of every case, made when asked for: 8 bits a pixel is what is kept."""

    def __init__(self, predictions: Predictions, masks: Sequence[NDArray[np.bool_]]) -> None:
        self._predictions, self._masks = predictions, masks

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._predictions.probability(index), self._masks[index]


def _per_image(
    pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]],
    masks: Sequence[NDArray[np.bool_]],
    cut: Sequence[NDArray[np.bool_]],
    counts: Counts,
    progress: CountProgress | None,
) -> dict[str, PerImage]:
    found = {}
    for name, metric in OVERLAP_METRICS.items():
        each = metric(counts)
        found[f"{name}_percent"] = PerImage(100.0 * each.values, each.defined)
    adaptive = [float(e_measure(Counts.of(p >= adaptive_threshold(p), mask))) for p, mask in pairs]
    found["e_measure_adaptive_percent"] = _all_defined(100.0 * np.array(adaptive))
    distances = np.array(
        [
            hausdorff_distances(one, mask, percentiles=tuple(_HAUSDORFF.values()))
            for one, mask in counted([*zip(cut, masks, strict=True)], progress)
        ]
    )
    found |= {key: _all_defined(values) for key, values in zip(_HAUSDORFF, distances.T, strict=True)}
    return {measure.key: found[measure.key] for measure in MEASURES}


def _all_defined(values: NDArray[np.float64]) -> PerImage:
    return PerImage(values, np.ones(values.shape, dtype=bool))


def _miniseg(cut: Sequence[NDArray[np.bool_]], masks: Sequence[NDArray[np.bool_]], cases: CaseSet) -> MiniSegScores:
    return miniseg_scores([[(cut[index], masks[index]) for index in members] for members in cases.folds.values()])
