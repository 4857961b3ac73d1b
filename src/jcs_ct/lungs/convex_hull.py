"""Convex hulls of small masks, in whole numbers.

scikit-image's ``convex_hull_image`` gives the same mask (a test holds it to that) and is slower; with
it would come SciPy's spatial, sparse and linear algebra, a tenth of a second to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.constants import Mask

_Point = tuple[int, int]
_NOWHERE = np.iinfo(np.int64).min


def convex_hull(mask: Mask) -> Mask:
    """(rows, columns) -> the pixels whose centres lie in the hull of the mask's pixels, or on it.

    A pixel counts as the square on its tip that joins the middles of its sides.
    """
    hull = np.zeros_like(mask)
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return hull
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    low, high = -_reach(rows - rows[0], -2 * first), _reach(rows - rows[0], 2 * last)
    columns = 2 * np.arange(mask.shape[1])
    hull[rows[0] : rows[-1] + 1] = (columns >= low[:, None]) & (columns <= high[:, None])
    return hull


def _reach(rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.int64]:
    """How far the hull reaches on each row from the first to the last, in halves of pixels rounded down.

    Args:
        rows: Sorted, from 0.
        columns: The outermost pixel's centre on each, in halves of pixels.
    """
    outermost = np.full(2 * int(rows[-1]) + 3, _NOWHERE, dtype=np.int64)  # row r is at 2 r + 1
    outermost[2 * rows] = columns
    outermost[2 * rows + 2] = np.maximum(outermost[2 * rows + 2], columns)
    outermost[2 * rows + 1] = columns + 1
    places = np.flatnonzero(outermost > _NOWHERE)
    chain = convex_chain([(row, -column) for row, column in zip(places.tolist(), outermost[places].tolist())])
    corners = np.array(chain, dtype=np.int64)
    at = np.arange(1, len(outermost), 2)
    before = np.clip(np.searchsorted(corners[:, 0], at, side="right"), 1, len(corners) - 1) - 1
    (row, column), (next_row, next_column) = corners[before].T, corners[before + 1].T
    # In whole numbers: the last half pixel that is not beyond the chord.
    reach: NDArray[np.int64] = -column + np.floor_divide((column - next_column) * (at - row), next_row - row)
    return reach


def convex_chain(points: Sequence[_Point]) -> list[_Point]:
    """The points, sorted by their first coordinate, that a hull turns left at (half of Andrew's monotone chain)."""
    chain: list[_Point] = []
    for point in points:
        row, column = point
        while len(chain) > 1:
            (first_row, first_column), (last_row, last_column) = chain[-2], chain[-1]
            turn = (last_row - first_row) * (column - first_column) - (last_column - first_column) * (row - first_row)
            if turn > 0:
                break
            chain.pop()
        chain.append(point)
    return chain
