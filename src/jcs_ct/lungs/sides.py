"""Right lung and left lung: parts of lung told apart by the mediastinum, and sided by the patient's midline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.lungs.coarse_chest import CoarseChest
from jcs_ct.lungs.constants import LEFT, RIGHT, UNKNOWN_SIDE, Mask
from jcs_ct.lungs.field import edge_of
from jcs_ct.lungs.lone import agrees
from jcs_ct.lungs.midline import Midline
from jcs_ct.volume import slices_with

#: Two lungs that hang together leave a valley in the air over the columns: where the mediastinum is, at most this
#: share of the lower of the two peaks beside it.
VALLEY = 0.6
#: Each of the two lungs is at least this share of what hangs together.
LEAST_SIDE_SHARE = 0.01
#: The mediastinum lies this close to the midline, however far it is displaced.
MEDIASTINUM_REACH_MM = 80.0
#: A part belongs to a side with this share of it beyond the midline ...
CLEAR_SHARE = 0.7
#: ... or, where a lung has moved over, with this share of what lies behind the middle of the lungs: in front of the
#: spine a lung may cross, beside it not.
CLEAR_SHARE_BEHIND = 0.85
#: A lung reaches no further from the flank it lies under than this.
LARGEST_WIDTH_MM = 190.0
#: Two parts lie side by side when their columns overlap on no more than this share of the narrower one.
MOST_OVERLAP = 0.35
#: A part this large beside the largest is a lung of its own, not a piece of one.
LUNG_OF_ITS_OWN = 0.15
#: Two parts of which nothing else tells the side are two lungs when the lesser is at least this share of the other.
LEAST_OF_TWO = 0.25
#: The field cuts a part when the part's pixels at its edge, over all slices, are more than this share of the part's
#: own height (the root of its mean area on a slice).
CUT_SHARE = 0.1
#: Two lungs that hang together meet over no more than this on a slice (22 mm on the chests at hand); a longer cut
#: runs through one lung, which lies where the mediastinum is looked for.
LONGEST_CONTACT_MM = 40.0
#: A lone lung's share across the midline that is passed over where the field cuts it there.
LARGEST_SLIVER = 0.05
_SMOOTHING_MM = 8.0


@dataclass(frozen=True)
class _Part:
    """One connected part of the air.

    Args:
        by_column: (columns,) its voxels.
        behind: (columns,) those behind the middle row of all air.
        cut_right, cut_left: Whether the field's edge cuts it on its right and on its left.
    """

    by_column: NDArray[np.int64]
    behind: NDArray[np.int64]
    cut_right: bool
    cut_left: bool

    @property
    def size(self) -> int:
        return int(self.by_column.sum())

    def column_at(self, share: float) -> int:
        """The column up to which this share of the part lies."""
        return int(np.searchsorted(np.cumsum(self.by_column), share * self.size))

    def side(self, column: float) -> int | None:
        """The side of a midline on which the part clearly lies; None where it lies on both."""
        for voxels, clear in ((self.by_column, CLEAR_SHARE), (self.behind, CLEAR_SHARE_BEHIND)):
            total = int(voxels.sum())
            if total:
                high = float(voxels[round(column) + 1 :].sum()) / total
                if max(high, 1 - high) >= clear:
                    return LEFT if high > 0.5 else RIGHT
        return None


def sided(parts: NDArray[np.int32], chest: CoarseChest, middles: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Label the air by side.

    Args:
        parts: (slices, rows, columns) connected parts of the air, numbered from 1; 0 is none.
        chest: Whose air it is, of the same shape.
        middles: (slices,) column of the middle of each slice's body.

    Returns:
        Same shape: 0, ``RIGHT``, ``LEFT``, or ``UNKNOWN_SIDE`` where nothing tells the side, or the evidence differs.
    """
    measured = _measure(parts, chest.field)
    sides: dict[int, int | None] = {}
    out = np.zeros(parts.shape, dtype=np.uint8)
    for number, part in measured.items():
        valley = _valley(part, chest.midline, chest.pixel_mm)
        if valley is None:
            sides[number] = _side_of(part, chest.midline, chest.pixel_mm)
        else:
            part_of = parts == number
            _cut(out, part_of, chest, middles + (valley - np.median(middles)))
            if _longest_contact(np.where(part_of, out, 0)) * chest.pixel_mm > LONGEST_CONTACT_MM:
                out[part_of] = UNKNOWN_SIDE
    cut = {side: _columns(out == side) for side in (RIGHT, LEFT)}
    if chest.midline.column is None and _exchanged(sides, measured, cut):
        sides = dict.fromkeys(sides)  # then the midline is between the lungs, and no wall or flank told it
    _order(sides, measured, cut)
    names = np.zeros(max(measured, default=0) + 1, dtype=np.uint8)
    for number, side in sides.items():
        names[number] = UNKNOWN_SIDE if side is None else side
    uncut = out == 0
    out[uncut] = names[parts[uncut]]
    lone = _lone(out)
    if lone is not None:
        _doubt(out, lone, measured, parts, chest)
    return out


def _doubt(
    sides: NDArray[np.uint8],
    lone: int,
    measured: dict[int, _Part],
    parts: NDArray[np.int32],
    chest: CoarseChest,
) -> None:
    """Take its side from a lone lung that contradicts it, and from what may be of the other lung, in place."""
    if not agrees(sides == lone, lone, chest):
        sides[sides > 0] = UNKNOWN_SIDE
        return
    sides[_beyond(sides, lone, chest.midline, chest.field)] = UNKNOWN_SIDE
    main = max(measured.values(), key=lambda part: part.size)
    for number, part in measured.items():
        inside = part.column_at(0.98) < main.column_at(0.05), part.column_at(0.02) > main.column_at(0.95)
        if (lone == LEFT and inside[0] and part.cut_right) or (lone == RIGHT and inside[1] and part.cut_left):
            sides[parts == number] = UNKNOWN_SIDE


def _lone(sides: NDArray[np.uint8]) -> int | None:
    """The side of a lung without its fellow; None with both, or where none has a side."""
    voxels = {side: np.count_nonzero(sides == side) for side in (RIGHT, LEFT)}
    larger, lesser = (RIGHT, LEFT) if voxels[RIGHT] >= voxels[LEFT] else (LEFT, RIGHT)
    return larger if voxels[lesser] < LUNG_OF_ITS_OWN * voxels[larger] else None


def _beyond(sides: NDArray[np.uint8], lone: int, midline: Midline, field: Mask) -> Mask:
    """What the field cuts off across the midline, and may be of the other lung; nothing where it is a sliver."""
    beyond = np.zeros(sides.shape, dtype=bool)
    if midline.column is None:
        return beyond
    across = np.s_[:, :, : round(midline.column)] if lone == LEFT else np.s_[:, :, round(midline.column) + 1 :]
    beyond[across] = sides[across] == lone
    ends_there = bool((beyond & edge_of(field)).any())
    if not ends_there or np.count_nonzero(beyond) <= LARGEST_SLIVER * np.count_nonzero(sides == lone):
        beyond[across] = False
    return beyond


def _columns(mask: Mask) -> NDArray[np.int64]:
    columns: NDArray[np.int64] = np.count_nonzero(mask, axis=(0, 1))
    return columns


def _measure(parts: NDArray[np.int32], field: Mask) -> dict[int, _Part]:
    """Every part's voxels by column, and whether the field cuts it."""
    slices, rows, columns = np.nonzero(parts)
    if not len(slices):
        return {}
    numbers = parts[slices, rows, columns]
    count, width = int(numbers.max()) + 1, parts.shape[2]

    def by_column(where: Mask | slice) -> NDArray[np.int64]:
        cells = numbers[where] * width + columns[where]
        return np.bincount(cells, minlength=count * width).reshape(count, width)

    everywhere, behind = by_column(np.s_[:]), by_column(rows > np.median(rows))
    at_edge = by_column(edge_of(field)[rows, columns])
    least = CUT_SHARE * np.sqrt(everywhere.sum(axis=1) * len(parts))
    middle = float(np.mean(np.flatnonzero(np.any(field, axis=0))))
    low = np.arange(width) < middle
    return {
        number: _Part(
            everywhere[number],
            behind[number],
            bool(at_edge[number, low].sum() > least[number]),
            bool(at_edge[number, ~low].sum() > least[number]),
        )
        for number in range(1, count)
    }


def _valley(part: _Part, midline: Midline, pixel_mm: float) -> int | None:
    """The column of the mediastinum between two lungs that hang together; None where the part is of one lung."""
    heights = ndimage.gaussian_filter1d(part.by_column.astype(np.float64), _SMOOTHING_MM / pixel_mm, mode="nearest")
    first, last = part.column_at(LEAST_SIDE_SHARE), part.column_at(1 - LEAST_SIDE_SHARE)
    if midline.column is not None:
        reach = MEDIASTINUM_REACH_MM / pixel_mm
        first, last = max(first, round(midline.column - reach)), min(last, round(midline.column + reach))
    if first >= last:
        return None
    valley = first + int(heights[first : last + 1].argmin())
    lower_peak = min(heights[: valley + 1].max(), heights[valley:].max())
    return valley if heights[valley] <= VALLEY * lower_peak else None


def _side_of(part: _Part, midline: Midline, pixel_mm: float) -> int | None:
    """By the midline; where that is not in view, by the only flank or the only wall of the chest beside the part."""
    if midline.column is not None:
        return part.side(midline.column)
    widest = LARGEST_WIDTH_MM / pixel_mm
    right = midline.right_flank is not None and part.column_at(0.98) - midline.right_flank <= widest
    left = midline.left_flank is not None and midline.left_flank - part.column_at(0.02) <= widest
    if not right and not left and midline.is_elsewhere:
        right, left = part.cut_left and not part.cut_right, part.cut_right and not part.cut_left
    if right == left:
        return None
    return RIGHT if right else LEFT


def _exchanged(sides: dict[int, int | None], measured: dict[int, _Part], cut: dict[int, NDArray[np.int64]]) -> bool:
    """Whether a part that is called right lies in higher columns than all that is called left, or the other way.

    Walls of the chest say so of both lungs, each cut on its outer side, where a spine is in view and too small to be
    taken for one, as a child's is.
    """
    voxels = {side: columns.copy() for side, columns in cut.items()}
    for number, side in sides.items():
        if side is not None:
            voxels[side] += measured[number].by_column
    return any(
        bool(voxels[RIGHT + LEFT - side].any())
        and (_median(measured[number].by_column) > _median(voxels[RIGHT + LEFT - side])) == (side == RIGHT)
        for number, side in sides.items()
        if side is not None
    )


def _median(columns: NDArray[np.int64]) -> int:
    return int(np.searchsorted(np.cumsum(columns), columns.sum() / 2))


def _order(sides: dict[int, int | None], measured: dict[int, _Part], cut: dict[int, NDArray[np.int64]]) -> None:
    """Side what the midline leaves open by the other lung: of two lungs side by side, one is right and one left."""
    largest = max((part.size for part in measured.values()), default=0)
    open_parts = [number for number, side in sides.items() if side is None]
    lungs = [number for number in sides if measured[number].size >= LUNG_OF_ITS_OWN * largest]
    if len(lungs) == 2 and all(number in open_parts for number in lungs) and not any(c.any() for c in cut.values()):
        first, second = sorted(lungs, key=lambda number: measured[number].column_at(0.5))
        alike = min(measured[number].size for number in lungs) >= LEAST_OF_TWO * largest
        if alike and _side_by_side(measured[first].by_column, measured[second].by_column):
            sides[first], sides[second] = RIGHT, LEFT
    for number in open_parts:
        if sides[number] is not None:
            continue
        for side in (RIGHT, LEFT):
            known = cut[side] + sum(
                (measured[other].by_column for other, found in sides.items() if found == side),
                np.zeros_like(cut[side]),
            )
            if known.sum() >= LUNG_OF_ITS_OWN * largest:
                part = measured[number].by_column
                pair = (part, known) if side == LEFT else (known, part)
                if _side_by_side(*pair):
                    sides[number] = RIGHT + LEFT - side


def _side_by_side(right: NDArray[np.int64], left: NDArray[np.int64]) -> bool:
    """Whether ``right`` lies in lower columns than ``left``, by their middle nine tenths."""

    def ends(columns: NDArray[np.int64]) -> tuple[int, int]:
        upto = np.cumsum(columns) / columns.sum()
        return int(np.searchsorted(upto, 0.05)), int(np.searchsorted(upto, 0.95))

    (right_first, right_last), (left_first, left_last) = ends(right), ends(left)
    if right_first + right_last >= left_first + left_last:
        return False
    narrower = min(right_last - right_first, left_last - left_first) + 1
    return max(0, right_last - left_first + 1) <= MOST_OVERLAP * narrower


def _cut(out: NDArray[np.uint8], part: Mask, chest: CoarseChest, middles: NDArray[np.float64]) -> None:
    """Write two lungs that hang together into ``out``, slice by slice."""
    for index in slices_with(part):
        plane = two_lungs(part[index], chest.hu[index], round(float(middles[index])), chest.pixel_mm)
        out[index][part[index]] = plane[part[index]]


def _longest_contact(sides: NDArray[np.uint8]) -> int:
    """Pixels over which right and left lung meet, on the slice where these are most."""
    met = RIGHT * LEFT
    beside = np.count_nonzero(sides[:, :, :-1] * sides[:, :, 1:] == met, axis=(1, 2))
    below = np.count_nonzero(sides[:, :-1] * sides[:, 1:] == met, axis=(1, 2))
    return int((beside + below).max())


def two_lungs(air: Mask, plane: NDArray[np.float32], middle: int, pixel_mm: float) -> NDArray[np.uint8]:
    """Label one slice's air by side; a region on both sides is cut along the densest path between them."""
    labels, count = ndimage.label(air)
    sides = np.zeros(air.shape, dtype=np.uint8)
    if count == 0:
        return sides
    margin = round(15.0 / pixel_mm)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        region = labels == number
        first, last = box[1].start, box[1].stop
        spans = first < middle - margin and last > middle + margin
        share_high = float(np.mean(np.nonzero(region)[1] > middle))
        if spans and 0.15 < share_high < 0.85:
            path = _densest_path(plane, middle, round(35.0 / pixel_mm))
            beyond = np.arange(air.shape[1])[None, :] > path[:, None]
            sides[region & beyond] = LEFT
            sides[region & ~beyond] = RIGHT
        else:
            sides[region] = LEFT if share_high > 0.5 else RIGHT
    return sides


def _densest_path(plane: NDArray[np.float32], middle: int, reach: int) -> NDArray[np.int64]:
    """(rows,) column of the path from top to bottom with the largest sum of HU, near the middle."""
    first = max(0, middle - reach)
    strip = np.clip(plane[:, first : middle + reach + 1], -1000.0, 50.0)
    best = strip.copy()
    came = np.zeros(strip.shape, dtype=np.int8)
    # What may come before each column: its left neighbour in the row above, the column itself, its right neighbour.
    options = np.full((3, strip.shape[1]), -np.inf, dtype=strip.dtype)
    for row in range(1, strip.shape[0]):
        options[0, 1:] = best[row - 1, :-1]
        options[1] = best[row - 1]
        options[2, :-1] = best[row - 1, 1:]
        came[row] = options.argmax(axis=0) - 1
        best[row] += options.max(axis=0)
    path = np.zeros(strip.shape[0], dtype=np.int64)
    path[-1] = int(best[-1].argmax())
    for row in range(strip.shape[0] - 1, 0, -1):
        path[row - 1] = path[row] + came[row, path[row]]
    return path + first
