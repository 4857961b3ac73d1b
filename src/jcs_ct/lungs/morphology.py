"""Binary morphology of small masks by whole-array operations.

What SciPy's ``binary_dilation`` and its relatives give with their default structure (a pixel and its four
neighbours), which follow lists of coordinates: on the lungs' grid of 256 x 256 pixels these are several times as
fast, and the lungs are made of thousands of them. A test holds them to SciPy.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.lungs.constants import Mask


def dilated(mask: Mask, steps: int = 1) -> Mask:
    """(rows, columns) grown by ``steps`` pixels, in city blocks."""
    for _ in range(steps):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def eroded(mask: Mask, steps: int = 1) -> Mask:
    """(rows, columns) shrunk by ``steps`` pixels, in city blocks; beyond the picture there is nothing."""
    for _ in range(steps):
        shrunk = mask.copy()
        shrunk[1:] &= mask[:-1]
        shrunk[:-1] &= mask[1:]
        shrunk[:, 1:] &= mask[:, :-1]
        shrunk[:, :-1] &= mask[:, 1:]
        shrunk[[0, -1]] = False
        shrunk[:, [0, -1]] = False
        mask = shrunk
    return mask


def opened(mask: Mask, steps: int) -> Mask:
    """(rows, columns) without what is thinner than twice ``steps``."""
    return dilated(eroded(mask, steps), steps)


def closed(mask: Mask, steps: int) -> Mask:
    """(rows, columns) with gaps narrower than twice ``steps`` closed; beyond the picture there is nothing."""
    return eroded(dilated(mask, steps), steps)


def dilated_by_rectangle(mask: Mask, margins: tuple[int, int]) -> Mask:
    """(rows, columns) grown by so many rows and so many columns to all sides and corners."""
    wide = mask.copy()
    for aside in range(1, margins[1] + 1):
        wide[:, aside:] |= mask[:, :-aside]
        wide[:, :-aside] |= mask[:, aside:]
    grown = wide.copy()
    for rows in range(1, margins[0] + 1):
        grown[rows:] |= wide[:-rows]
        grown[:-rows] |= wide[rows:]
    return grown


def closed_by_disc(mask: Mask, radius: int) -> Mask:
    """(rows, columns) closed with a disc; beyond the picture there is nothing."""
    framed = np.pad(mask, radius + 1)
    closed_mask = ~_dilated_by_disc(~_dilated_by_disc(framed, radius), radius)
    return closed_mask[radius + 1 : -radius - 1, radius + 1 : -radius - 1]


def _dilated_by_disc(mask: Mask, radius: int) -> Mask:
    """True where a pixel of the mask is no further than ``radius``, between centres."""
    wide, grown = mask.copy(), mask.copy()
    for aside in range(radius + 1):
        if aside:
            wide[:, aside:] |= mask[:, :-aside]
            wide[:, :-aside] |= mask[:, aside:]
        # From this far above and below the disc is as wide as this.
        up = isqrt(radius**2 - aside**2)
        for rows in range(max(1, isqrt(radius**2 - (aside + 1) ** 2) + 1 if aside < radius else 1), up + 1):
            grown[rows:] |= wide[:-rows]
            grown[:-rows] |= wide[rows:]
    return grown | wide


def without_holes(mask: Mask) -> Mask:
    """(rows, columns) with all filled in that no way of four-connected pixels leads to from the picture's border."""
    labels, count = ndimage.label(~mask)
    outside = np.zeros(count + 1, dtype=bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        outside[edge] = True
    outside[0] = False
    filled: Mask = ~outside[labels]
    return filled


def neighbourhood(plane: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(rows, columns) -> the least and the largest value of each pixel's 3 x 3, the border's pixels repeated."""
    framed = np.pad(plane, 1, mode="edge")
    low = np.minimum(np.minimum(framed[:-2], framed[1:-1]), framed[2:])
    high = np.maximum(np.maximum(framed[:-2], framed[1:-1]), framed[2:])
    return (
        np.minimum(np.minimum(low[:, :-2], low[:, 1:-1]), low[:, 2:]),
        np.maximum(np.maximum(high[:, :-2], high[:, 1:-1]), high[:, 2:]),
    )


def closed_along_slices(mask: Mask, depth: int) -> Mask:
    """(slices, rows, columns) with gaps of up to twice ``depth`` slices closed; outside the volume is nothing."""
    return ~_grown_along_slices(~_grown_along_slices(mask, depth), depth, beyond=True)


def _grown_along_slices(mask: Mask, depth: int, *, beyond: bool = False) -> Mask:
    """True where one of the slices within ``depth`` is; ``beyond``: and near the volume's ends."""
    grown = mask.copy()
    for step in range(1, depth + 1):
        grown[step:] |= mask[:-step]
        grown[:-step] |= mask[step:]
    if beyond:
        grown[:depth] = True
        grown[-depth:] = True
    return grown
