"""Right lung and left lung, told apart slice by slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.lungs.constants import Mask


def two_lungs(
    air: Mask, plane: NDArray[np.float32], middle: int, pixel_mm: float, low: int, high: int
) -> NDArray[np.uint8]:
    """Label one slice's air by side; a region that spans both sides is cut along the densest path between them."""
    labels, count = ndimage.label(air)
    sides = np.zeros(air.shape, dtype=np.uint8)
    if count == 0:
        return sides
    margin = round(15.0 / pixel_mm)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        region = labels == number
        first, last = box[1].start, box[1].stop
        spans = first < middle - margin and last > middle + margin
        share_high = float(np.mean(np.nonzero(region)[1] > middle))
        if spans and 0.15 < share_high < 0.85:
            path = _densest_path(plane, middle, round(35.0 / pixel_mm))
            beyond = np.arange(air.shape[1])[None, :] > path[:, None]
            sides[region & beyond] = high
            sides[region & ~beyond] = low
        else:
            sides[region] = high if share_high > 0.5 else low
    return sides


def _densest_path(plane: NDArray[np.float32], middle: int, reach: int) -> NDArray[np.int64]:
    """(rows,) column of the path from top to bottom with the largest sum of HU, near the middle."""
    first = max(0, middle - reach)
    strip = np.clip(plane[:, first : middle + reach + 1], -1000.0, 50.0)
    best = strip.copy()
    came = np.zeros(strip.shape, dtype=np.int8)
    # What may come before each column: its left neighbour in the row above, the column itself, its right neighbour.
    options = np.full((3, strip.shape[1]), -np.inf, dtype=strip.dtype)
    for row in range(1, strip.shape[0]):
        options[0, 1:] = best[row - 1, :-1]
        options[1] = best[row - 1]
        options[2, :-1] = best[row - 1, 1:]
        came[row] = options.argmax(axis=0) - 1
        best[row] += options.max(axis=0)
    path = np.zeros(strip.shape[0], dtype=np.int64)
    path[-1] = int(best[-1].argmax())
    for row in range(strip.shape[0] - 1, 0, -1):
        path[row - 1] = path[row] + came[row, path[row]]
    return path + first
