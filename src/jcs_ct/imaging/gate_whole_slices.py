"""Checks of the gate on voxels that every slice is there, whole, and of this series."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.gate_interpolated import is_interpolated
from jcs_ct.imaging.gate_noise import averaged

#: Slices that end in more rows of one value than their neighbours, by this share of all rows, lost their end.
LOST_ROWS_SHARE, LOST_ROWS_SHARE_AT_END = 0.1, 0.25
#: As many rows of one value within a body, where its neighbours show the body over this share of the columns, were
#: overwritten.
LEAST_OVERWRITTEN_ROWS, BODY_SHARE = 2, 0.05
#: Soft tissue and fat lie within this of water.
TISSUE_WITHIN_HU = 300.0
#: A slice that differs from both its neighbours by more than this times what these differ from each other by does not
#: belong between them: in ten patients' scans at steps of 2 to 10 mm it is 0.84 at most, of pure noise it is 1.
UNLIKE_BOTH = 1.3
#: The first and the last slice, by how much the next step differs; 1.45 at most there. Fewer slices than these lie so
#: far apart that lungs end between two of them: the measure was never seen there, and refused phantoms of 6 slices.
UNLIKE_AT_END, LEAST_SLICES_FOR_ENDS = 3.0, 20
#: A step to the next slice that is this many times those before and behind parts two bodies; 1.29 at most there,
#: 2.1 on phantoms.
BREAK = 3.0
#: A step that is this many times each of the two before and the two behind, between pictures of about this many rows
#: and columns (averaged, so that noise counts for little), is wider than the others: slices may be missing. 1.38 at
#: most in ten patients' scans at steps of 2 to 10 mm, 1.44 on phantoms; more than 1.5 where 8 mm are missing at
#: steps of 2 to 5 mm, 16 mm at 6, 24 at 8 or 40 at 10 (two series, three places each).
WIDER_STEP, _COARSE_SIDE = 1.5, 64
#: What differs by less than this, in HU on average, is the same.
SAME_HU = 1.0
#: Fewest slices in which one can stand out, and fewest voxels of a thinned one.
_LEAST_SLICES, _LEAST_PIXELS = 5, 1024


def check_blank(blank: NDArray[np.intp], count: int, *, blank_ends: bool) -> list[Finding]:
    """TRUNCATED: slices of one value between others; at the ends a note when resampling may have left them."""
    if blank.size in (0, count):
        return []
    shown = np.setdiff1d(np.arange(count), blank)
    within = blank[(blank > shown[0]) & (blank < shown[-1])]
    if blank_ends and within.size == 0:
        message = f"{blank.size} of {count} slices at the ends hold one value only: nothing was imaged there"
        return [Finding("BLANK_SLICES", message, Severity.NOTE)]
    first = int((blank if within.size == 0 else within)[0]) + 1
    message = (
        f"{blank.size} of {count} slices hold one value only, the first is slice {first}: their pixels were lost; "
        "copy or export the series again"
    )
    return [Finding(GateCode.TRUNCATED, message, Severity.REFUSED)]


def check_lost_rows(columns: NDArray[Any]) -> list[Finding]:
    """TRUNCATED: a slice that ends in rows of one value where its neighbours do not, as half-written files do.

    Args:
        columns: (slices, rows, some columns).
    """
    count, rows = columns.shape[:2]
    last = columns[:, -1:, -1:]
    differs = (columns != last).any(axis=2)
    empty = np.where(differs.any(axis=1), np.argmax(differs[:, ::-1], axis=1), rows)
    for number, lost in enumerate(empty.tolist()):
        neighbours = [int(empty[place]) for place in (number - 1, number + 1) if 0 <= place < count]
        share = LOST_ROWS_SHARE if len(neighbours) == 2 else LOST_ROWS_SHARE_AT_END
        if neighbours and lost - max(neighbours) > max(2.0, share * rows):
            message = (
                f"slice {number + 1} ends in {lost} rows of one value, its neighbours in {max(neighbours)}: the end "
                "of its pixels was lost; copy or export the series again"
            )
            return [Finding(GateCode.TRUNCATED, message, Severity.REFUSED)]
    return []


def check_overwritten_rows(columns: NDArray[Any]) -> list[Finding]:
    """TRUNCATED: rows of one value that run through a body, as a lost block of a file leaves them.

    Args:
        columns: (slices, rows, some columns) in HU, rows along the lines of the file.
    """
    flat = (columns == columns[:, :, :1]).all(axis=2)
    tissue = (columns >= -TISSUE_WITHIN_HU) & (columns <= TISSUE_WITHIN_HU)
    of_body = ~flat & (tissue.mean(axis=2) >= BODY_SHARE)
    beside = np.ones_like(of_body)
    beside[1:] &= of_body[:-1]
    beside[:-1] &= of_body[1:]
    for number in np.flatnonzero((flat & beside).any(axis=1)) if len(columns) > 1 else ():
        count = _rows_lost_within(flat[number], beside[number])
        if count:
            message = (
                f"slice {number + 1} has {count} rows of one value in the middle of the body, its neighbours have "
                "none there: a part of its pixels was overwritten; copy or export the series again"
            )
            return [Finding(GateCode.TRUNCATED, message, Severity.REFUSED)]
    return []


def _rows_lost_within(flat: NDArray[np.bool_], of_body: NDArray[np.bool_]) -> int:
    """The first run of flat rows between others that the neighbours show as body from its first row to its last."""
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=False))
    for first, end in edges.reshape(-1, 2).tolist():
        enough = end - first >= LEAST_OVERWRITTEN_ROWS
        if enough and first > 0 and end < len(flat) and of_body[first:end].all():
            return int(end - first)
    return 0


def check_identical(hu: NDArray[Any], thin: NDArray[np.float32], on_line: NDArray[np.bool_]) -> list[Finding]:
    """DUPLICATE_POSITION: slices with the same voxels, which no two places of a body have.

    A note where they lie at the ends of an interpolated series: beyond the last slice programs repeat it.

    Args:
        hu: (slices, rows, columns) in HU.
        thin: The same, thinned.
        on_line: As of ``slices_on_line``.
    """
    seen: dict[bytes, int] = {}
    same = []
    for number, plane in enumerate(thin):
        first = seen.setdefault(hashlib.sha256(plane.tobytes()).digest(), number)
        if first != number and np.array_equal(hu[first], hu[number]):
            same.append((first + 1, number + 1))
    if not same:
        return []
    if _lie_at_ends(same, len(thin)) and is_interpolated(on_line):
        message = f"{len(same)} slice(s) at the ends repeat the one beside them, as interpolation leaves them there"
        return [Finding(GateCode.DUPLICATE_POSITION, message, Severity.NOTE)]
    message = (
        f"{len(same)} slice(s) have the very voxels of another, the first are slices {same[0][0]} and {same[0][1]}: "
        "one picture stands at two places; remove the copies or export the series again"
    )
    return [Finding(GateCode.DUPLICATE_POSITION, message)]


def _lie_at_ends(same: Sequence[tuple[int, int]], count: int) -> bool:
    """Whether all copies, (first, copy) by number from 1, run from the first slice on or to the last one."""
    first_of_last = {copy: first for first, copy in same}.get(count, count)
    at_start = [copy for first, copy in same if first == 1]
    runs_on = at_start == list(range(2, 2 + len(at_start)))
    at_end = [copy for first, copy in same if first == first_of_last != 1]
    return (
        runs_on and at_end == list(range(count + 1 - len(at_end), count + 1)) and len(at_start + at_end) == len(same)
    )


def can_be_compared(thin: NDArray[np.float32]) -> bool:
    """Whether there are slices enough, and voxels enough on each, that one can be held against the next."""
    return len(thin) >= _LEAST_SLICES and thin[0].size >= _LEAST_PIXELS


def differences(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """(slices,) by how many HU slices differ on average, at least :data:`SAME_HU`."""
    apart: NDArray[np.float32] = np.maximum(np.abs(one - other).mean(axis=(1, 2)), SAME_HU)
    return apart


def check_unlike(thin: NDArray[np.float32]) -> list[Finding]:
    """UNREADABLE: a slice unlike those beside it, which are alike: damaged as it was decoded, or of another series.

    MIXED_SERIES: slices that do not go on from one to the next, while those before do and those behind.

    Args:
        thin: (slices, rows, columns) in HU, thinned.
    """
    if not can_be_compared(thin):
        return []
    one, two = (differences(thin[lag:], thin[:-lag]) for lag in (1, 2))
    within = np.minimum(one[:-1], one[1:]) / two / UNLIKE_BOTH
    ends = one[[0, -1]] / one[[1, -2]] / UNLIKE_AT_END
    if len(thin) < LEAST_SLICES_FOR_ENDS:
        ends[:] = 0.0
    times = np.concatenate([ends[:1], within, ends[1:]])
    number = int(times.argmax())
    if times[number] > 1:
        nearest = float(min(one[max(0, number - 1) : number + 1]))
        message = (
            f"slice {number + 1} differs from its neighbours by {nearest:.0f} HU on average, far more than those "
            "beside it from theirs: it is damaged or of another series; copy or export the series again"
        )
        return [Finding(GateCode.UNREADABLE, message)]
    steps = one[1:-1] / np.maximum(one[:-2], one[2:])
    place = int(steps.argmax())
    if steps[place] <= BREAK:
        return []
    message = (
        f"slices {place + 2} and {place + 3} differ by {one[place + 1]:.0f} HU on average, {steps[place]:.1f} times "
        "as much as those before and behind: one body does not go on in the other, or many slices are missing "
        "between them; export one acquisition with all its slices"
    )
    return [Finding(GateCode.MIXED_SERIES, message)]


def check_wider_step(hu: NDArray[Any], thin: NDArray[np.float32], scanned: NDArray[np.intp] | None) -> list[Finding]:
    """GAP_SUSPECTED, a note: two slices that differ far more than those before and behind.

    Args:
        hu: (slices, rows, columns) in HU.
        thin: The same, thinned.
        scanned: As of ``scanned_slices``.
    """
    numbers = np.arange(len(thin)) if scanned is None else scanned
    if not can_be_compared(thin) or len(numbers) < LEAST_SLICES_FOR_ENDS:
        return []
    every = max(1, hu.shape[1] // _COARSE_SIDE), max(1, hu.shape[2] // _COARSE_SIDE)
    coarse = np.stack([averaged(hu[number], every) for number in numbers])
    step = differences(coarse[1:], coarse[:-1])
    beside = np.max([step[:-4], step[1:-3], step[3:-1], step[4:]], axis=0)
    times = step[2:-2] / beside
    place = int(times.argmax())
    if times[place] <= WIDER_STEP:
        return []
    one, other = (int(number) + 1 for number in numbers[place + 2 : place + 4])
    message = (
        f"slices {one} and {other} differ {times[place]:.1f} times as much as those before and behind: slices may be "
        "missing between them, and then volumes, lengths and the number of slices are wrong; compare with the series "
        "at its source"
    )
    return [Finding("GAP_SUSPECTED", message, Severity.NOTE)]
