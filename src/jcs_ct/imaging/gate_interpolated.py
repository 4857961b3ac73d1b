"""Slices that were interpolated between others: what a program made of fewer slices is no scan of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A slice lies on the line between its neighbours where it differs from their mean by less than this, in HU, or by
#: less than this share of what it differs from them by: rounding, of HU or of grey levels. Noise alone makes it 0.6.
_ROUNDED_HU, _ROUNDED_SHARE = 1.0, 0.15
#: With at least this share of such slices a series was interpolated: linearly, to half the distance or less.
_LEAST_SHARE = 0.25


def interpolated_slices(thin: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(slices,) which of them lie on the line between their neighbours; none where too few do.

    Args:
        thin: (slices, rows, columns) in HU, thinned.
    """
    on_line = np.zeros(len(thin), dtype=np.bool_)
    for number in range(1, len(thin) - 1):
        before, plane, behind = thin[number - 1 : number + 2]
        apart = np.abs(plane - (before + behind) / 2).mean()
        steps = np.abs(behind - before).mean() / 2
        on_line[number] = steps > 0 and apart <= max(_ROUNDED_HU, _ROUNDED_SHARE * steps)
    return on_line if on_line.mean() >= _LEAST_SHARE else np.zeros_like(on_line)


def scanned_slices(thin: NDArray[np.float32]) -> NDArray[np.intp] | None:
    """Numbers of the slices that others were interpolated from, or None where these lie at no slices of their own."""
    on_line = interpolated_slices(thin)
    kept = np.flatnonzero(~on_line)
    steps: NDArray[Any] = np.diff(kept[1:-1])
    return kept if not on_line.any() or (steps.size and steps.min() == steps.max()) else None
