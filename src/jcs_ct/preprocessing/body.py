"""The patient's cross-section on a windowed slice: what is not table, letters or background."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

#: Grey above which a pixel counts as tissue for :func:`body_mask` (-500 HU under the standard lung window).
BODY_GREY = 0.567
_COARSE = 128


def body_mask(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The patient's cross-section with the lungs filled in, without table and background.

    Found at a coarse grid of about 128 pixels: convex hull of the largest component of tissue after an opening.

    Args:
        grey: (rows, columns) in [0, 1] under a lung window.

    Returns:
        (rows, columns) bool. All True when no body can be told from the background (cropped figures, noise).
    """
    rows, columns = grey.shape
    step = max(1, min(rows, columns) // _COARSE)
    coarse = grey[::step, ::step] > BODY_GREY
    opened = ndimage.binary_opening(coarse, structure=np.ones((3, 3), dtype=bool))
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.ones(grey.shape, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    body = labels == int(sizes.argmax())
    if sum(bool(edge.any()) for edge in _edges(body)) >= 3:
        # A figure cut to the chest: corners of the wall may hang together only beyond the picture.
        body = np.isin(labels, np.concatenate([edge[edge > 0] for edge in _edges(labels)]))
    # Lungs that touch the picture's border (cropped figures) are part of the body: its hull keeps them, which a
    # filling of holes, or of rows and columns, loses in part.
    body = ndimage.binary_dilation(_convex_hull(body), iterations=1)
    if body.mean() < 0.1:
        return np.ones(grey.shape, dtype=bool)
    full = np.repeat(np.repeat(body, step, axis=0), step, axis=1)[:rows, :columns]
    if full.shape != grey.shape:
        pad = ((0, rows - full.shape[0]), (0, columns - full.shape[1]))
        full = np.pad(full, pad, mode="edge")
    return full


def _edges(plane: NDArray[Any]) -> list[NDArray[Any]]:
    return [plane[0], plane[-1], plane[:, 0], plane[:, -1]]


def _convex_hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The hull of a mask that is more than a line, through pixel centres."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    ends = np.concatenate([np.stack([rows, first], axis=1), np.stack([rows, last], axis=1)])
    corners = ends[ConvexHull(ends).vertices]
    picture = Image.new("1", (mask.shape[1], mask.shape[0]))
    ImageDraw.Draw(picture).polygon([(int(column), int(row)) for row, column in corners], fill=1, outline=1)
    return np.asarray(picture, dtype=bool) | mask
