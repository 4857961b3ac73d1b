"""Outlines of lesions as short SVG paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from jcs_ct.preprocessing import Region
from jcs_ct.reporting.slice_images import Display

#: Outlines are simplified by at most this many pixels.
OUTLINE_TOLERANCE_PIXEL = 0.35


def lesion_outlines(labels: NDArray[Any], display: Display) -> list[tuple[int, str]]:
    """(rows, columns) lesion ids -> (lesion_id, SVG path) of every lesion on the slice, in picture units."""
    find_contours: Any = measure.find_contours  # scikit-image has no annotations
    if not labels.any():
        return []
    around = Region.around(labels > 0)
    labels = around.of(labels)
    boxes: Any = ndimage.find_objects(labels)
    contours, corners, lesion_ids = [], [], []
    for index, box in enumerate(boxes):
        if box is None:
            continue
        mask = np.pad(labels[box] == index + 1, 1)
        for contour in find_contours(mask.astype(np.float32), 0.5):
            contours.append(contour)
            corners.append(np.array([around.top + box[0].start - 1, around.left + box[1].start - 1]))
            lesion_ids.append(index + 1)
    outlines: dict[int, str] = {}
    lines = simplified(contours, OUTLINE_TOLERANCE_PIXEL)
    for lesion_id, line, corner in zip(lesion_ids, lines, corners, strict=True):
        path = line + corner
        points = display.points(path[:, 0], path[:, 1])[:-1]
        ring = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points.tolist()) + "Z"
        outlines[lesion_id] = outlines.get(lesion_id, "") + ring
    return list(outlines.items())


def simplified(lines: Sequence[NDArray[np.float64]], tolerance: float) -> list[NDArray[np.float64]]:
    """(n, 2) points of each line -> those of them that keep it within ``tolerance`` (Douglas and Peucker, 1973).

    All pieces of all lines are split at once, level by level. ``skimage.measure.approximate_polygon`` does the same
    one piece at a time, and importing it loads scipy.signal, which alone takes a second.
    """
    path, ends = np.concatenate(lines), np.cumsum([len(line) for line in lines])
    starts = np.concatenate([[0], ends[:-1]])
    kept = np.unique([starts, ends - 1])
    while True:
        # From one line's end to the next one's start is a piece of its own, with no point that could be far from it.
        pieces = np.repeat(np.arange(len(kept) - 1), np.diff(kept))
        distance = _distance_to_chord(path[:-1], path[kept[:-1]][pieces], path[kept[1:]][pieces])
        farthest = np.maximum.reduceat(distance, kept[:-1])
        candidates = np.flatnonzero((distance == farthest[pieces]) & (farthest > tolerance)[pieces])
        if not len(candidates):
            return np.split(path[kept], np.searchsorted(kept, starts[1:]))
        _, first = np.unique(pieces[candidates], return_index=True)
        kept = np.sort(np.concatenate([kept, candidates[first]]))


def _distance_to_chord(
    points: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 2) each -> (n,) distance of each point from the chord between its start and its end."""
    chord, offset = end - start, points - start
    length = np.maximum((chord**2).sum(axis=1), np.finfo(np.float64).tiny)
    along = np.clip((offset * chord).sum(axis=1) / length, 0.0, 1.0)
    distance: NDArray[np.float64] = np.hypot(*(offset - along[:, None] * chord).T)
    return distance
