"""Checks of the gate that slices lying in one regular stack come from one acquisition and one reconstruction.

Two breath holds, phases or reconstructions under one series identity interleave to a stack that may look regular.
Their positions betray them when steps alternate, their headers when numbers or times do; voxels are the third
witness (``gate_interleaving``).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.headers import SliceHeader
from jcs_ct.imaging.stack import Stack

#: As many series may interleave to one: two phases, or up to four reconstructions of a gated scan.
INTERLEAVED_UP_TO = 4
#: Steps that alternate by less than this share of a step, or by less than this in mm, are regular ...
ALTERNATION_SHARE, ALTERNATION_MM = 0.005, 0.004
#: ... and so are those that positions rounded to tenths, hundredths or thousandths of a mm explain.
_ROUNDINGS_MM = (0.1, 0.01, 0.001)
#: Two groups of times are apart when the pause between them is this many times the usual one.
_PAUSE = 8.0
#: ... and so many times longer where times within a group follow no order: they pause by chance.
_DISORDERED = 4.0
_ADVICE = "export one acquisition and one reconstruction"
#: Facts of a slice that one acquisition states once; how often they may come back after another value.
_RETURNS = {
    "acquisition_number": (0, "acquisition numbers"),
    "temporal_position": (0, "temporal positions"),
    "contrast": (1, "contrast agents"),
    "image_type": (1, "image types"),
    "slice_thickness": (1, "slice thicknesses"),
    "kvp": (1, "tube voltages"),
}
#: Facts that grow along a scan.
_GROWING = {
    "acquisition_time": "acquisition times",
    "content_time": "content times",
    "trigger_time": "trigger times or phases",
    "instance_number": "instance numbers",
}


def check_alternating_steps(ordered: Sequence[SliceHeader], stack: Stack) -> list[Finding]:
    """MIXED_SERIES: steps between slices that alternate, however little: two stacks shifted against each other."""
    steps = stack.steps_mm
    if steps.size < 5 or stack.step_mm is None or stack.step_mm <= 0:
        return []
    rounding = _rounding_mm(ordered) * float(np.abs(stack.normal).sum())
    allowed = max(1.05 * rounding, ALTERNATION_SHARE * stack.step_mm, ALTERNATION_MM)
    for count in range(2, INTERLEAVED_UP_TO + 1):
        if steps.size < 3 * count - 1:
            break
        groups = [steps[first::count] for first in range(count)]
        means = [float(group.mean()) for group in groups]
        spread = max(float(group.std()) for group in groups)
        if max(means) - min(means) > max(allowed, 3 * spread):
            message = (
                f"steps between slices alternate between {min(means):.3f} and {max(means):.3f} mm: {count} series "
                f"interleave in one; {_ADVICE}"
            )
            return [Finding(GateCode.MIXED_SERIES, message)]
    return []


def _rounding_mm(ordered: Sequence[SliceHeader]) -> float:
    """To how many mm the positions along the stack are rounded, 0 when finer than a thousandth."""
    table = np.asarray([header.position for header in ordered if header.position is not None], dtype=np.float64)
    table = table[:, np.ptp(table, axis=0) > 0]
    for rounding in _ROUNDINGS_MM:
        if np.all(np.abs(table / rounding - np.rint(table / rounding)) < 1e-4):
            return rounding
    return 0.0


def check_acquisitions(ordered: Sequence[SliceHeader]) -> list[Finding]:
    """MIXED_SERIES: facts of the header that go to and fro along the stack, as those of interleaved series do."""
    witnesses = [*_returning(ordered), *_alternating(ordered)]
    if not witnesses:
        return []
    message = f"slices of several acquisitions or reconstructions interleave: {'; '.join(witnesses)}; {_ADVICE}"
    return [Finding(GateCode.MIXED_SERIES, message)]


def note_acquisitions(ordered: Sequence[SliceHeader]) -> list[Finding]:
    """A note on acquisitions that lie one behind the other: the patient may have breathed between them."""
    numbers = [header.acquisition_number for header in ordered if header.acquisition_number is not None]
    runs, distinct = _runs(numbers), len(set(numbers))
    if not 1 < distinct <= INTERLEAVED_UP_TO or runs != distinct:
        return []
    message = (
        f"{distinct} acquisitions lie one behind the other: lung may be missing or shown twice where they meet, if "
        "the patient breathed in between"
    )
    return [Finding("SEVERAL_ACQUISITIONS", message, Severity.NOTE)]


def _returning(ordered: Sequence[SliceHeader]) -> list[str]:
    """Facts whose values come back along the stack after another one, more often than a stray slice explains."""
    found = []
    for name, (allowed, plural) in _RETURNS.items():
        every = [getattr(header, name) for header in ordered]
        stated = every if name == "contrast" else [value for value in every if value not in (None, "", ())]
        returns = _runs(stated) - len(set(stated))
        if returns > allowed:
            found.append(f"{len(set(stated))} {plural}, {_runs(stated) - 1} changes along {len(ordered)} slices")
        elif 4 * (_runs([value in (None, "", ()) for value in every]) - 2) >= len(every):
            found.append(f"{plural} stated on every other slice only")
    return found


def _runs(values: Sequence[object]) -> int:
    return sum(1 for number, value in enumerate(values) if number == 0 or value != values[number - 1])


def _alternating(ordered: Sequence[SliceHeader]) -> list[str]:
    """Facts that grow along one scan, and jump to and fro along this stack."""
    found = []
    for name, plural in _GROWING.items():
        if name == "instance_number" and any(header.frame for header in ordered):
            continue
        stated = [getattr(header, name) for header in ordered]
        numbers = [float(value) for value in stated if value is not None]
        if len(numbers) < len(ordered) or len(numbers) < 6:
            continue
        values = np.asarray(numbers)
        if _jumps(values) or _classes_apart(values) or (name == "instance_number" and _given_twice(values)):
            found.append(f"{plural} jump to and fro along the stack")
    return found


def _jumps(values: NDArray[np.float64]) -> bool:
    """Whether one long pause parts the values into two groups that interleave along the stack."""
    distinct = np.unique(values)
    if distinct.size < 2:
        return False
    gaps = np.diff(distinct)
    widest = int(np.argmax(gaps))
    # Between distinct values: times in whole seconds stand on many slices, and one second is no pause then.
    others = np.delete(gaps, widest)
    later = values > distinct[widest]
    longest = (
        _PAUSE if _follows_an_order(values[later]) and _follows_an_order(values[~later]) else _DISORDERED * _PAUSE
    )
    if others.size and gaps[widest] <= longest * float(np.percentile(others, 75)):
        return False
    fewer = int(min(later.sum(), (~later).sum()))
    return 5 * fewer >= values.size and _runs(later.tolist()) >= 2 + fewer


def _follows_an_order(values: NDArray[np.float64]) -> bool:
    """Whether nine in ten of the steps that are steps go one way, as in one scan along the body."""
    steps = np.diff(values)
    return 10 * min(int((steps > 0).sum()), int((steps < 0).sum())) <= int((steps != 0).sum())


def _classes_apart(values: NDArray[np.float64]) -> bool:
    """Whether every second (third, fourth) slice forms a sequence of its own, apart from that of the others."""
    for count in range(2, INTERLEAVED_UP_TO + 1):
        classes = [values[first::count] for first in range(count)]
        if min(one.size for one in classes) < 3:
            return False
        ranges = sorted((float(one.min()), float(one.max())) for one in classes)
        apart = all(before[1] < after[0] for before, after in pairwise(ranges))
        if apart and all((np.diff(one) >= 0).all() or (np.diff(one) <= 0).all() for one in classes):
            return True
    return False


def _given_twice(values: NDArray[np.float64]) -> bool:
    """Whether every number stands two to four times: series were pooled that count from one each."""
    _, counts = np.unique(values, return_counts=True)
    return bool(counts.size >= 4 and counts.min() == counts.max() and 2 <= counts[0] <= INTERLEAVED_UP_TO)
