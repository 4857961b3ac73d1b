"""Bilinear resampling of one plane without torch, whose import would take longer than a study's classification.

A network's input and its answers on the slice's grid come from here, in training and in diagnosis. Indices, weights
and rounding follow torch's ``interpolate`` (``bilinear``, ``align_corners=False``; ``antialias=True`` for
:func:`shrunk`) on a processor with fused products: equal to the last bit for up to four pixels a sum, to the last but
one beyond (a test holds both).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_Plane = NDArray[np.float32]


def shrunk(plane: _Plane, shape: tuple[int, int]) -> _Plane:
    """(rows, columns) -> ``shape``, antialiased: every input pixel counts, along columns first, then along rows.

    Args:
        plane: float32.
        shape: (rows, columns) of the result; a longer side than the plane's is interpolated.
    """
    across = _weighted_rows(np.ascontiguousarray(plane.T), *_triangles(plane.shape[1], shape[1]))
    return _weighted_rows(np.ascontiguousarray(across.T), *_triangles(plane.shape[0], shape[0]))


def enlarged(
    plane: _Plane, shape: tuple[int, int], *, part: tuple[slice, slice] = (slice(None), slice(None))
) -> _Plane:
    """(h, w) -> ``shape`` by the two nearest pixels along either side.

    Args:
        plane: float32.
        shape: (rows, columns) of the whole result.
        part: Its rows and columns that are asked for; others are not computed.
    """
    rows, columns = part
    across = _between_rows(np.ascontiguousarray(plane.T), shape[1], columns)
    return _between_rows(np.ascontiguousarray(across.T), shape[0], rows)


def _weighted_rows(plane: _Plane, first: NDArray[np.intp], weights: NDArray[np.float64]) -> _Plane:
    """Each row of the result is a sum of rows from ``first`` on, rounded to fp32 after every fused product."""
    exact = plane.astype(np.float64)  # the product of two fp32 is exact in fp64: a fused product rounds once
    last = len(plane) - 1
    total: _Plane = (exact[first] * weights[0][:, None]).astype(np.float32)
    for tap, weight in enumerate(weights[1:], start=1):
        term = exact[np.minimum(first + tap, last)]
        term *= weight[:, None]
        term += total
        total = term.astype(np.float32)
    return total


def _between_rows(plane: _Plane, wanted: int, part: slice) -> _Plane:
    """Of ``wanted`` rows those that are asked for."""
    neighbours = _neighbours(len(plane), wanted)
    low, high, share = neighbours[0][part], neighbours[1][part], neighbours[2][part]
    upper = plane[high]
    upper *= share[:, None]
    found = plane[low].astype(np.float64)
    found *= (np.float32(1.0) - share).astype(np.float64)[:, None]
    found += upper
    return found.astype(np.float32)


@lru_cache(maxsize=256)
def _triangles(length: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """(wanted,) first pixel and (taps, wanted) weights of the triangular filter, as wide as a pixel of the result."""
    scale = np.float32(length) / np.float32(wanted)
    support = max(scale, np.float32(1.0))
    inverse = np.float64(np.float32(1.0 / np.float64(scale))) if scale >= 1 else 1.0
    centre = (np.float64(scale) * (np.arange(wanted) + 0.5)).astype(np.float32)
    first = np.maximum(((centre - support) + 0.5).astype(np.intp), 0)
    end = np.minimum(((centre + support) + 0.5).astype(np.intp), length)
    taps = np.arange(int((end - first).max()))[:, None]
    offset = (((taps + first).astype(np.float32) - centre).astype(np.float64) + 0.5) * inverse
    weights = np.maximum(np.float32(1.0) - np.abs(offset.astype(np.float32)), np.float32(0.0))
    weights[taps >= end - first] = 0.0
    total = np.zeros(wanted, dtype=np.float32)
    for weight in weights:  # in torch's order: a sum in another order ends on another last bit
        total += weight
    return first, (weights / total).astype(np.float64)


@lru_cache(maxsize=256)
def _neighbours(length: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """(wanted,) the pixel before, the pixel behind, and the latter's share."""
    scale = np.float64(np.float32(length) / np.float32(wanted))
    place = np.maximum((scale * (np.arange(wanted) + 0.5) - 0.5).astype(np.float32), np.float32(0.0))
    low = np.minimum(place.astype(np.intp), length - 1)
    share = np.clip(place - low.astype(np.float32), np.float32(0.0), np.float32(1.0))
    return low, np.minimum(low + 1, length - 1), share
