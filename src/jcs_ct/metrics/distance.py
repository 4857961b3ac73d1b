"""Hausdorff distances between a binary prediction and a binary mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.metrics.overlap import check_pair
from jcs_ct.volume import bounding_box

Points = Literal["boundary", "all"]


def hausdorff_distance(
    prediction: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    *,
    percentile: float = 100.0,
    spacing: Sequence[float] | None = None,
    points: Points = "boundary",
) -> float:
    """Symmetric Hausdorff distance: the larger of the two directed ones.

    Empty cases: both empty 0; one empty the image's diagonal, that is the distance between the centres of opposite
    corners.

    Args:
        prediction: (rows, columns) or (slices, rows, columns), bool.
        mask: Same shape.
        percentile: 100 is the plain maximum (HD); 95, of each directed distance, is HD95.
        spacing: Size of a pixel along each axis: the result is in its unit (mm). None: pixels.
        points: ``boundary`` measures between the outlines; ``all`` between all pixels of the two regions, so that
            a hole in one of them costs nothing that its filled twin does not have within reach.

    Raises:
        ValueError: arrays that do not fit together, or a percentile outside (0, 100].
    """
    return hausdorff_distances(prediction, mask, percentiles=(percentile,), spacing=spacing, points=points)[0]


def hausdorff_distances(
    prediction: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    *,
    percentiles: Sequence[float],
    spacing: Sequence[float] | None = None,
    points: Points = "boundary",
) -> tuple[float, ...]:
    """:func:`hausdorff_distance` at several percentiles, for the work of one; its arguments and errors."""
    check_pair(prediction, mask)
    for percentile in percentiles:
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile must be in (0, 100], got {percentile}")
    if points not in ("boundary", "all"):
        raise ValueError(f"points must be boundary or all, got {points!r}")
    steps = np.ones(mask.ndim) if spacing is None else np.asarray(spacing, dtype=np.float64)
    if steps.shape != (mask.ndim,) or not (steps > 0).all():
        raise ValueError(f"spacing must have {mask.ndim} values greater than 0, got {spacing}")
    if not (prediction.any() and mask.any()):
        are_alike = prediction.any() == mask.any()
        apart = 0.0 if are_alike else float(np.linalg.norm((np.array(mask.shape) - 1) * steps))
        return (apart,) * len(percentiles)
    box = bounding_box(prediction | mask)  # no distance between the two leaves it
    first, second = prediction[box], mask[box]
    if points == "boundary":
        first, second = _outline(first), _outline(second)
    directed = _distances(first, second, steps), _distances(second, first, steps)
    return tuple(max(_at(one, percentile) for one in directed) for percentile in percentiles)


def _outline(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the region with a neighbour (by a face) outside it; beyond the picture is outside."""
    outline: NDArray[np.bool_] = region & ~ndimage.binary_erosion(region)
    return outline


def _distances(
    start: NDArray[np.bool_], target: NDArray[np.bool_], steps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) from every pixel of ``start`` to the nearest of ``target``."""
    distances: NDArray[np.float64] = ndimage.distance_transform_edt(~target, sampling=steps)[start]
    return distances


def _at(distances: NDArray[np.float64], percentile: float) -> float:
    return float(distances.max() if percentile == 100 else np.percentile(distances, percentile))
