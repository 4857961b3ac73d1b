"""Overlap of a binary prediction with a binary mask: counted once, reduced apart.

Every metric here is a function of the four counts of a confusion matrix. Empty cases are defined, never NaN:
docs/reference/metrics.md lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

#: Probability from which a pixel is a lesion.
LESION_PROBABILITY = 0.5

Reduction = Literal["image", "pooled"]


@dataclass(frozen=True, eq=False)
class Counts:
    """Pixels of each kind, one number an image (or 0-d for a single one).

    Args:
        tp: In prediction and mask.
        fp: In the prediction only.
        fn: In the mask only.
        tn: In neither.

    Raises:
        ValueError: shapes that differ, or negative counts.
    """

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    tn: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("tp", "fp", "fn", "tn"):
            values = np.array(getattr(self, name), dtype=np.int64)
            if (values < 0).any():
                raise ValueError(f"counts cannot be negative, got {name} = {values.min()}")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        shapes = {self.tp.shape, self.fp.shape, self.fn.shape, self.tn.shape}
        if len(shapes) > 1:
            raise ValueError(f"counts must have one shape, got {sorted(shapes)}")

    @classmethod
    def of(cls, prediction: NDArray[np.bool_], mask: NDArray[np.bool_]) -> Counts:
        """Count one image (or volume).

        Args:
            prediction: Any shape, bool; of probabilities, ``probability >= LESION_PROBABILITY``.
            mask: Same shape, bool.

        Raises:
            ValueError: shapes that differ, or arrays that are not bool.
        """
        check_pair(prediction, mask)
        predicted, truth = int(np.count_nonzero(prediction)), int(np.count_nonzero(mask))
        both = int(np.count_nonzero(prediction & mask))
        return cls(
            tp=np.asarray(both),
            fp=np.asarray(predicted - both),
            fn=np.asarray(truth - both),
            tn=np.asarray(mask.size - predicted - truth + both),
        )

    @classmethod
    def stack(cls, images: Iterable[Counts]) -> Counts:
        """One (n,) record of the counts of n single images."""
        listed = list(images)
        return cls(
            *(np.array([getattr(c, name) for c in listed], dtype=np.int64) for name in ("tp", "fp", "fn", "tn"))
        )

    def pooled(self) -> Counts:
        """Sum over the images: one confusion matrix."""
        return Counts(*(np.asarray(part.sum()) for part in (self.tp, self.fp, self.fn, self.tn)))

    def inverted(self) -> Counts:
        """The counts of the background: prediction and mask both negated."""
        return Counts(tp=self.tn, fp=self.fn, fn=self.fp, tn=self.tp)

    def __len__(self) -> int:
        return len(self.tp)

    def __getitem__(self, index: Any) -> Counts:
        return Counts(self.tp[index], self.fp[index], self.fn[index], self.tn[index])


@dataclass(frozen=True)
class Reduced:
    """A metric over a set of images.

    Args:
        value: None when no image defines the metric.
        n: Images that count.
        n_excluded: Images for which the metric is not defined.
    """

    value: float | None
    n: int
    n_excluded: int


@dataclass(frozen=True, eq=False)
class PerImage:
    """A metric's values, one an image (or 0-d for a single one).

    Args:
        values: 0 where the metric is not defined.
        defined: False where the metric is not defined for the image, which then counts in no mean.
    """

    values: NDArray[np.float64]
    defined: NDArray[np.bool_]

    def item(self) -> float | None:
        """The value of a single image; None where it is not defined."""
        return float(self.values) if bool(self.defined) else None

    def mean(self) -> Reduced:
        """Mean over the images that define the metric."""
        present = self.values[self.defined]
        n = int(present.size)
        return Reduced(float(present.mean()) if n else None, n, int(self.values.size) - n)


Metric = Callable[[Counts], PerImage]


def check_pair(prediction: NDArray[Any], mask: NDArray[Any]) -> None:
    """Both must be bool and of one shape.

    Raises:
        ValueError: they are not.
    """
    for name, array in (("prediction", prediction), ("mask", mask)):
        if array.dtype != np.bool_:
            raise ValueError(f"{name} must be bool, got {array.dtype}; a probability is cut first (>= 0.5)")
    if prediction.shape != mask.shape:
        raise ValueError(f"prediction {prediction.shape} and mask {mask.shape} must be on one grid: the mask's own")
    if mask.size == 0:
        raise ValueError("prediction and mask have no pixels")


def dice_score(counts: Counts) -> PerImage:
    """2TP / (2TP + FP + FN); 1 when mask and prediction are empty, 0 when only one is."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn, when_empty=1.0)


def iou_score(counts: Counts) -> PerImage:
    """TP / (TP + FP + FN); empty cases as Dice."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn, when_empty=1.0)


def sensitivity(counts: Counts) -> PerImage:
    """TP / (TP + FN); masked (left out of means) where the mask is empty."""
    return _ratio(counts.tp, counts.tp + counts.fn, when_empty=None)


def specificity(counts: Counts) -> PerImage:
    """TN / (TN + FP); masked where the mask is full."""
    return _ratio(counts.tn, counts.tn + counts.fp, when_empty=None)


def precision(counts: Counts) -> PerImage:
    """TP / (TP + FP); an empty prediction scores 1 on an empty mask and 0 on another, as Dice does."""
    ratio = _ratio(counts.tp, counts.tp + counts.fp, when_empty=1.0)
    missed_all = (counts.tp + counts.fp == 0) & (counts.fn > 0)
    return PerImage(np.where(missed_all, 0.0, ratio.values), ratio.defined)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64], *, when_empty: float | None) -> PerImage:
    empty = np.asarray(whole == 0)
    ratio = part / np.where(empty, 1, whole)
    if when_empty is None:
        return PerImage(np.where(empty, 0.0, ratio), ~empty)
    return PerImage(np.where(empty, when_empty, ratio), np.ones_like(empty))


def reduce_metric(metric: Metric, counts: Counts, *, reduction: Reduction = "image") -> Reduced:
    """Mean of the images' values (``image``, the headline), or the value of the summed counts (``pooled``).

    Args:
        metric: One of this module's.
        counts: (n,) images.
        reduction: ``image`` or ``pooled``.

    Raises:
        ValueError: an unknown reduction.
    """
    each = metric(counts).mean()
    if reduction == "image":
        return each
    if reduction == "pooled":
        pooled = metric(counts.pooled()).item() if len(counts) else None
        return Reduced(pooled, len(counts), 0) if pooled is not None else Reduced(None, 0, len(counts))
    raise ValueError(f"reduction must be image or pooled, got {reduction!r}")
