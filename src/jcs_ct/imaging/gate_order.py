"""Checks of the gate on voxels that the slices lie alike, and in the order of the body.

A header or a grid says where slices lie; neighbouring slices of a body resemble each other, which says whether they
do. A part that was mirrored would have its sides exchanged, and what was shuffled its lesions in the wrong place.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.gate_whole_slices import SAME_HU, can_be_compared, differences
from jcs_ct.volume import every_nth

#: A slice that resembles its neighbour this many times better mirrored or turned than as it is lies otherwise. In
#: ten patients' scans, thinned up to every sixth slice, it is 0.95 at most as they are (1.02 on phantoms), and 1.08
#: or more where a part of them was mirrored left to right, 2.3 where it was turned any other way.
TURNED = 1.05
#: A turn is looked for only where a slice differs from itself so turned this many times as much as from the next one:
#: slices that lie far apart, or of a body that looks the same both ways, cannot tell.
UNLIKE_ITSELF = 1.3
#: Slices lie in another order when turning a run of them around makes its ends this many times more like the slices
#: beside it: 0.87 at most in the same scans (1.01 on phantoms), 1.15 or more where a run was turned around.
DISORDERED = 1.08
#: The order is told where this share of slices has the one nearest in HU among so many on either side.
LEAST_IN_ORDER, _BESIDE = 0.6, 2
#: Least rows and columns that the order is told from; fewer for more slices than these, which lie closer together.
_SIDE, _LONG, _SIDE_OF_LONG = 48, 300, 32
#: Of more slices than these every n-th is held against all others, which takes the square of their number.
_MOST_COMPARED = 2000


def check_turned(thin: NDArray[np.float32]) -> list[Finding]:
    """MIXED_ORIENTATION: a slice from which on slices are mirrored or turned in their plane.

    Args:
        thin: (slices, rows, columns) in HU, thinned.
    """
    if not can_be_compared(thin):
        return []
    every = 1 if len(thin) <= _LONG else 2
    planes = thin[:, ::every, ::every]
    step = differences(planes[:-1], planes[1:])
    best, found = TURNED, None
    for how, turned in _turns(planes):
        if np.median(differences(planes, turned)) < UNLIKE_ITSELF * np.median(step):
            continue
        times = step / differences(planes[:-1], turned[1:])
        place = int(times.argmax())
        if times[place] > best:
            best, found = float(times[place]), (place, how)
    if found is None:
        return []
    place, how = found
    message = (
        f"from slice {place + 1} to slice {place + 2} the picture is {how}: a part of the slices lies otherwise than "
        "the rest, and its sides would be exchanged; export slices of one orientation"
    )
    return [Finding(GateCode.MIXED_ORIENTATION, message, Severity.REFUSED)]


def check_order(thin: NDArray[np.float32]) -> list[Finding]:
    """SLICE_ORDER: slices that lie in another order than the body's.

    Args:
        thin: (slices, rows, columns) in HU, thinned.
    """
    if not can_be_compared(thin):
        return []
    every = max(1, min(thin.shape[1:]) // (_SIDE if len(thin) <= _LONG else _SIDE_OF_LONG))
    planes = every_nth(thin, _MOST_COMPARED)[:, ::every, ::every]
    run = _turned_around(planes.reshape(len(planes), -1))
    if run is None:
        return []
    first, last = (place * -(-len(thin) // len(planes)) for place in run)
    what = (
        f"slices {first + 1} and {last + 1} are exchanged"
        if last == first + 1
        else f"slices {first + 1} to {last + 1} lie the other way around"
    )
    message = (
        f"{what}: turned around they go on from the slices beside them, as they lie they do not; give the slices in "
        "the order of the body"
    )
    return [Finding(GateCode.SLICE_ORDER, message)]


def _turns(planes: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every other way in which a picture can lie on its grid; the last four on a square one alone."""
    yield "mirrored along its rows", planes[:, :, ::-1]
    yield "mirrored along its columns", planes[:, ::-1]
    yield "turned by 180 degrees", planes[:, ::-1, ::-1]
    if planes.shape[1] == planes.shape[2]:
        across = planes.transpose(0, 2, 1)
        yield "mirrored across its diagonal", across
        yield "turned by 90 degrees", across[:, ::-1]
        yield "turned by 90 degrees", across[:, :, ::-1]
        yield "mirrored across its diagonal", across[:, ::-1, ::-1]


def _turned_around(pixels: NDArray[np.float32]) -> tuple[int, int] | None:
    """The run of slices (first, last) that fits its neighbours best the other way around; None where none does.

    As a 2-opt move shortens a tour: the steps into a run and out of it, with those that there would be.

    Args:
        pixels: (slices, pixels) in HU.
    """
    apart = np.maximum(cdist(pixels, pixels, "cityblock") / pixels.shape[1], SAME_HU)
    places = np.arange(len(pixels))
    nearest = np.where(np.eye(len(pixels), dtype=bool), np.inf, apart).argmin(axis=1)
    if np.mean(np.abs(nearest - places) <= _BESIDE) < LEAST_IN_ORDER:
        return None
    # Nothing lies before the first slice and behind the last one: no step there, as it is or otherwise.
    apart = np.pad(apart, 1)
    first, last = np.triu_indices(len(pixels), 1)
    first, last = first[last - first < len(pixels) - 1] + 1, last[last - first < len(pixels) - 1] + 1
    now = apart[first - 1, first] + apart[last, last + 1]
    around = apart[first - 1, last] + apart[first, last + 1]
    gain = now / around
    best = int(gain.argmax())
    return (int(first[best]) - 1, int(last[best]) - 1) if gain[best] > DISORDERED else None
