"""Slices that were interpolated between others: what a program made of fewer slices is no scan of its own.

A whole series that was resampled is read. A run of such slices in a series that was otherwise scanned stands where
slices were missing: dcm2niix, for one, fills them in so (its volumes named ``_Eq``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_finding import Finding

#: A slice lies on the line between its neighbours where it differs from their mean by less than this, in HU, or by
#: less than this share of what it differs from them by: rounding, of HU or of grey levels. Noise alone makes it 0.6.
_ROUNDED_HU, _ROUNDED_SHARE = 1.0, 0.15
#: With at least this share of such slices a series was interpolated: linearly, to half the distance or less.
_LEAST_SHARE = 0.25
#: A run of at least so many, this much longer than all others, fills a gap. It is no more than this share of a
#: series whose other runs differ by 1 at most, as those of a scan and of linear resampling to one spacing do; where
#: slices are smooth along the body (cubic resampling, thick slices close together) runs are of any length.
LEAST_FILLED, LONGER_THAN_OTHERS, MOST_FILLED = 3, 2, 1 / 3


def slices_on_line(thin: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(slices,) which of them lie on the line between their neighbours; what the other questions here start from.

    Args:
        thin: (slices, rows, columns) in HU, thinned.
    """
    on_line = np.zeros(len(thin), dtype=np.bool_)
    for number in range(1, len(thin) - 1):
        before, plane, behind = thin[number - 1 : number + 2]
        apart = np.abs(plane - (before + behind) / 2).mean()
        steps = np.abs(behind - before).mean() / 2
        on_line[number] = steps > 0 and apart <= max(_ROUNDED_HU, _ROUNDED_SHARE * steps)
    return on_line


def is_interpolated(on_line: NDArray[np.bool_]) -> bool:
    """Whether so many slices lie on the line between their neighbours that the series was interpolated.

    Args:
        on_line: As of :func:`slices_on_line`.
    """
    return bool(on_line.mean() >= _LEAST_SHARE)


def check_filled_gap(on_line: NDArray[np.bool_]) -> list[Finding]:
    """GAP: a run of slices on the straight line between those at its ends, where others were scanned.

    Args:
        on_line: As of :func:`slices_on_line`.
    """
    scanned = np.flatnonzero(~on_line)
    runs = np.diff(scanned) - 1
    if runs.size == 0:
        return []
    longest = int(runs.argmax())
    others = np.delete(runs, longest)
    is_regular = others.size > 0 and np.ptp(others) <= 1
    if not is_regular or runs[longest] < max(LEAST_FILLED, others.max() + LONGER_THAN_OTHERS):
        return []
    if runs[longest] > MOST_FILLED * len(on_line):
        return []
    before, behind = int(scanned[longest]) + 1, int(scanned[longest + 1]) + 1
    message = (
        f"slices {before + 1} to {behind - 1} lie on the straight line between slices {before} and {behind}, unlike "
        "the others: they were interpolated where slices are missing; export the series again with all its slices"
    )
    return [Finding(GateCode.GAP, message)]


def scanned_slices(on_line: NDArray[np.bool_]) -> NDArray[np.intp] | None:
    """Numbers of the slices that others were interpolated from, or None where these lie at no slices of their own.

    Args:
        on_line: As of :func:`slices_on_line`.
    """
    if not is_interpolated(on_line):
        return np.arange(len(on_line))
    kept = np.flatnonzero(~on_line)
    steps: NDArray[Any] = np.diff(kept[1:-1])
    return kept if steps.size and steps.min() == steps.max() else None
