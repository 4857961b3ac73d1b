"""The patient's cross-section on a windowed slice: what is not table, letters or background."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from jcs_ct.lungs.convex_hull import convex_chain
from jcs_ct.lungs.morphology import dilated
from jcs_ct.preprocessing.window import Window

#: Grey above which a pixel counts as tissue for :func:`body_mask` (-500 HU under the standard lung window).
BODY_GREY = 0.567
_COARSE = 128


def body_mask(plane: NDArray[Any], window: Window | None = None) -> NDArray[np.bool_]:
    """The patient's cross-section with the lungs filled in, without table and background.

    Found at a coarse grid of about 128 pixels: convex hull of the largest component of tissue after an opening.

    Args:
        plane: (rows, columns) grey in [0, 1] under a lung window, or HU with ``window``.
        window: Makes grey of HU, where the coarse grid asks for it.

    Returns:
        (rows, columns) bool. All True when no body can be told from the background (cropped figures, noise).
    """
    rows, columns = plane.shape
    step = max(1, min(rows, columns) // _COARSE)
    coarse = plane[::step, ::step]
    opened = _opened((coarse if window is None else window(coarse)) > BODY_GREY)
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.ones(plane.shape, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    body = labels == int(sizes.argmax())
    if sum(bool(edge.any()) for edge in _edges(body)) >= 3:
        # A figure cut to the chest: corners of the wall may hang together only beyond the picture.
        body = np.isin(labels, np.concatenate([edge[edge > 0] for edge in _edges(labels)]))
    # Lungs that touch the picture's border (cropped figures) are part of the body: its hull keeps them, which a
    # filling of holes, or of rows and columns, loses in part.
    body = dilated(_convex_hull(body))
    if body.mean() < 0.1:
        return np.ones(plane.shape, dtype=bool)
    full = np.repeat(np.repeat(body, step, axis=0), step, axis=1)[:rows, :columns]
    if full.shape != plane.shape:
        pad = ((0, rows - full.shape[0]), (0, columns - full.shape[1]))
        full = np.pad(full, pad, mode="edge")
    return full


def _edges(plane: NDArray[Any]) -> list[NDArray[Any]]:
    return [plane[0], plane[-1], plane[:, 0], plane[:, -1]]


def _opened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Opening with a square of 3 x 3 pixels; outside the mask is nothing."""
    eroded = np.zeros_like(mask)
    across = mask[:, :-2] & mask[:, 1:-1] & mask[:, 2:]
    eroded[1:-1, 1:-1] = across[:-2] & across[1:-1] & across[2:]
    wide = eroded.copy()
    wide[:, 1:] |= eroded[:, :-1]
    wide[:, :-1] |= eroded[:, 1:]
    grown = wide.copy()
    grown[1:] |= wide[:-1]
    grown[:-1] |= wide[1:]
    return grown


def _convex_hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The hull of a mask, through pixel centres."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    low = convex_chain(list(zip(rows.tolist(), first.tolist(), strict=True)))
    high = convex_chain(list(zip(rows.tolist()[::-1], last.tolist()[::-1], strict=True)))
    picture = Image.new("1", (mask.shape[1], mask.shape[0]))
    ImageDraw.Draw(picture).polygon([(column, row) for row, column in [*low, *high]], fill=1, outline=1)
    return np.asarray(picture, dtype=bool) | mask
