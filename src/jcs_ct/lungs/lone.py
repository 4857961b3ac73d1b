"""A lung without its fellow: whether its shape and the ribs beside it agree with the side its place gives it.

With the other lung missing nothing holds a lung in its place, and its place alone says little. A lung on its own side
lies with its convex face against the ribs and with its hollow one against heart and spine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.coarse_chest import CoarseChest
from jcs_ct.lungs.constants import LEFT, Mask
from jcs_ct.lungs.convex_hull import convex_chain
from jcs_ct.volume import every_nth

#: Ribs are denser than this on the grid of the mask; a border is at the ribs where one lies this close beside it.
RIB_HU, RIB_REACH_MM = 150.0, 16.0
#: Share of a lung's outer border with ribs beside it: of lungs in their place 0.37 to 0.79 (phantoms and eight real
#: chests), of those displaced across the midline 0.33 at most but where their inner face has as many.
LEAST_RIBS = 0.35
#: The inner face (spine and sternum lie there) has at most this share of the outer one's ribs (0.86 at most seen) ...
MOST_RIBS_INSIDE = 0.95
#: ... and ribs on no more than this share of it where the field cuts the outer face.
MOST_RIBS_INSIDE_OF_CUT = 0.48
#: The outer face is hollow over no more than this share of the lung's area, or this share of the inner face's hollow;
#: of lungs in their place 0.001 to 0.04 and a fifth of the inner one's at most, displaced ones have it the other way.
MOST_HOLLOW_OUTSIDE, MOST_HOLLOW_TO_INSIDE = 0.02, 0.5
#: A face is cut by the field where its edge meets it on more than this share of the rows. Of a cut outer face the
#: hollow is at most this share of the inner one's, which is hollow itself, and some of the outer face is in view.
CUT_FACE = 0.3
MOST_HOLLOW_OF_CUT, LEAST_HOLLOW_INSIDE, MOST_CUT_OUTSIDE = 0.25, 0.1, 0.95
#: An inner face that is cut on more than this share of the rows, with the midline in view or deeply hollow, goes on
#: across the midline, or is the other lung's, hanging together with this one.
MOST_CUT_ACROSS, DEEPLY_HOLLOW = 0.4, 0.2
#: Slices that are looked at hold more than this share of the lung's largest area on a slice; no more than so many,
#: evenly spread.
_LARGE_SLICE, _MOST_SLICES = 0.4, 40


@dataclass(frozen=True)
class Face:
    """The right or the left border of a lung, over all slices.

    Args:
        hollow: Area between the border and its convex hull, as a share of the lung's area.
        ribs: Share of the border, where it is in view, with bone beside it; 0 where none of it is.
        cut: Share of the border that the field cuts.
    """

    hollow: float
    ribs: float
    cut: float


def agrees(lung: Mask, side: int, chest: CoarseChest) -> bool:
    """Whether a lone lung's shape and surroundings are those of a lung of this side.

    Args:
        lung: (slices, rows, columns) its air, on the grid of the chest.
        side: ``RIGHT`` or ``LEFT``.
        chest: What it lies in.
    """
    outer, inner = faces(lung, side, chest)
    bone = chest.shows_bone and float(chest.hu.max()) > RIB_HU  # where its values were clipped, it is not told
    if outer.hollow > max(MOST_HOLLOW_OUTSIDE, MOST_HOLLOW_TO_INSIDE * inner.hollow):
        return False
    if inner.cut > MOST_CUT_ACROSS and (chest.midline.column is not None or inner.hollow > DEEPLY_HOLLOW):
        return False
    if outer.cut > CUT_FACE:
        in_view = outer.cut <= MOST_CUT_OUTSIDE and inner.cut <= CUT_FACE
        hollow = inner.hollow >= LEAST_HOLLOW_INSIDE and outer.hollow <= MOST_HOLLOW_OF_CUT * inner.hollow
        return in_view and hollow and (not bone or inner.ribs <= MOST_RIBS_INSIDE_OF_CUT)
    return not bone or (outer.ribs >= LEAST_RIBS and inner.ribs <= MOST_RIBS_INSIDE * outer.ribs)


def faces(lung: Mask, side: int, chest: CoarseChest) -> tuple[Face, Face]:
    """The face towards a side of the patient and the one away from it, as :func:`agrees` takes them."""
    areas = np.count_nonzero(lung, axis=(1, 2))
    large = np.flatnonzero(areas > _LARGE_SLICE * areas.max())
    large = every_nth(large, _MOST_SLICES)
    towards = 1 if side == LEFT else -1
    reach = max(1, round(RIB_REACH_MM / chest.pixel_mm))
    return (
        _face(lung[large, :, ::towards], chest.hu[large, :, ::towards], chest.field[:, ::towards], reach),
        _face(lung[large, :, ::-towards], chest.hu[large, :, ::-towards], chest.field[:, ::-towards], reach),
    )


def _face(lung: Mask, coarse: NDArray[np.float32], field: Mask, reach: int) -> Face:
    """The face in the high columns."""
    width = lung.shape[2]
    ends = width - 1 - field[:, ::-1].argmax(axis=1)
    hollow = 0.0
    border = seen = at_ribs = cut = 0
    for air, plane in zip(lung, coarse, strict=True):
        rows = np.flatnonzero(air.any(axis=1))
        last = width - 1 - air[rows, ::-1].argmax(axis=1)
        hollow += _hollow(rows, last)
        in_view = last < ends[rows] - 1
        border += len(rows)
        cut += int(np.count_nonzero(~in_view))
        seen += int(np.count_nonzero(in_view))
        beside = np.minimum(last[in_view, None] + 1 + np.arange(reach), width - 1)
        at_ribs += int(np.count_nonzero((plane[rows[in_view, None], beside] > RIB_HU).any(axis=1)))
    return Face(hollow / max(1, int(np.count_nonzero(lung))), at_ribs / max(1, seen), cut / max(1, border))


def _hollow(rows: NDArray[np.int64], last: NDArray[np.int64]) -> float:
    """Pixels between a border, by its last column in each row, and the upper convex hull over it."""
    corners = np.asarray(
        convex_chain([(row, -column) for row, column in zip(rows.tolist(), last.tolist(), strict=True)])
    )
    return float((np.interp(rows, corners[:, 0], -corners[:, 1]) - last).sum())
