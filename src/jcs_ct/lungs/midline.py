"""The patient's midline, from the spine and from the outline of the body: never from the middle of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.lungs.constants import Mask
from jcs_ct.lungs.field import edge_of

#: Denser than soft tissue without contrast agent: cortex and most of a vertebra's marrow.
SPINE_HU = 200.0
#: Width and height of a vertebra with its arch and processes.
SPINE_BOX_MM = (40.0, 60.0)
#: Mean area of bone that a box around the spine holds. Over the chests of ten patients it holds 507 mm2 or more where
#: at least half of the spine is in view, and 364 mm2 or less where none of it is (30 fields along the ribs each).
LEAST_SPINE_MM2 = 440.0
#: Bone of a spine on a slice, in mm2, and the share of the slices that have it where a spine is as it should be.
SPINE_ON_SLICE_MM2, SPINE_LASTS = 100.0, 0.9
#: The spine lies this close to the middle of the body, however unevenly arms and fat do ...
SPINE_OFF_MIDDLE_MM = 45.0
#: ... and no closer than this to a flank.
SPINE_OFF_FLANK_MM = 80.0
#: Over this height ribs and shoulder blades move out of a box and only the spine stays in it.
LEAST_HEIGHT_MM = 100.0
#: A flank is seen when the field's edge cuts the body beside it on no more than this share of its rows: seven eighths
#: of that half of an elliptic body are in view then.
MOST_CUT_FLANK = 0.5
#: The back is seen when the edge cuts the body there on no more than this share of its columns.
MOST_CUT_BACK = 0.25


@dataclass(frozen=True)
class Midline:
    """Where the patient's midline runs, and where the body ends.

    Args:
        column: Of the midline; None where neither the spine nor both flanks are seen.
        right_flank, left_flank: Columns where the body ends; None where the field's edge cuts it.
        is_elsewhere: Without a column: the back is seen and has no spine, so the midline is outside the field.
    """

    column: float | None
    right_flank: float | None
    left_flank: float | None
    is_elsewhere: bool = False


def find_midline(
    coarse: NDArray[np.float32], bodies: Mask, field: Mask, *, pixel_mm: float, slice_mm: float | None
) -> Midline:
    """Find the midline of a volume whose rows run along the patient's sides.

    The spine decides where it is seen: arms and fat may lie unevenly, and heart and lungs may be displaced.

    Args:
        coarse: (slices, rows, columns) in HU.
        bodies: Same shape.
        field: (rows, columns), see ``field_of_view``.
        pixel_mm: Size of a pixel.
        slice_mm: Distance between slices; None where it is not known.
    """
    right, left = _flanks(bodies, field)
    first, last = 0.0, float(coarse.shape[2] - 1)
    middle = None
    if right is not None and left is not None:
        middle = (right + left) / 2
        first, last = middle - SPINE_OFF_MIDDLE_MM / pixel_mm, middle + SPINE_OFF_MIDDLE_MM / pixel_mm
    elif slice_mm is None or len(coarse) * slice_mm < LEAST_HEIGHT_MM:
        return Midline(None, right, left)
    elif right is not None:
        first = right + SPINE_OFF_FLANK_MM / pixel_mm
    elif left is not None:
        last = left - SPINE_OFF_FLANK_MM / pixel_mm
    column = _spine_column(coarse, bodies, pixel_mm, round(first), round(last))
    if column is None:
        column = middle
    return Midline(column, right, left, is_elsewhere=column is None and shows_back(bodies, field))


def _flanks(bodies: Mask, field: Mask) -> tuple[float | None, float | None]:
    """(right, left) median columns where the body ends; None where the field's edge cuts it."""
    edge = edge_of(field, 2)
    ends: list[tuple[int, int]] = []
    rows = cut_right = cut_left = 0
    for body in bodies:
        present = np.flatnonzero(body.any(axis=1))
        if not len(present):
            continue
        first = body[present].argmax(axis=1)
        last = body.shape[1] - 1 - body[present, ::-1].argmax(axis=1)
        ends.append((int(first.min()), int(last.max())))
        rows += len(present)
        cut_right += int(np.count_nonzero(edge[present, first]))
        cut_left += int(np.count_nonzero(edge[present, last]))
    if not ends:
        return None, None
    right, left = (float(value) for value in np.median(ends, axis=0))
    most = MOST_CUT_FLANK * rows
    return (right if cut_right <= most else None), (left if cut_left <= most else None)


def shows_back(bodies: Mask, field: Mask) -> bool:
    """Whether the body ends inside the field behind: in most of its columns, over all slices."""
    edge = edge_of(field, 2)
    columns = cut = 0
    for body in bodies:
        present = np.flatnonzero(body.any(axis=0))
        last = body.shape[0] - 1 - body[::-1, present].argmax(axis=0)
        columns += len(present)
        cut += int(np.count_nonzero(edge[last, present]))
    return columns > 0 and cut <= MOST_CUT_BACK * columns


def bone_mm2_around(coarse: NDArray[np.float32], bodies: Mask, pixel_mm: float) -> NDArray[np.float32]:
    """(rows, columns) mm2 of bone, mean over the slices, in a box of a vertebra's size around every pixel."""
    present = np.zeros(coarse.shape[1:], dtype=np.float32)
    for plane, body in zip(coarse, bodies, strict=True):
        present += (plane > SPINE_HU) & body
    width, height = spine_box(pixel_mm)
    mean = ndimage.uniform_filter(present / len(coarse), (height, width), mode="constant")
    area: NDArray[np.float32] = mean * np.float32(width * height * pixel_mm**2)
    return area


def slices_with_bone(coarse: NDArray[np.float32], bodies: Mask, pixel_mm: float) -> NDArray[np.float32]:
    """(rows, columns) share of the slices with ``SPINE_ON_SLICE_MM2`` of bone in a vertebra's box around each pixel.

    A spine goes through nearly all of them; a heart and vessels that a contrast agent makes as dense do not.
    """
    width, height = spine_box(pixel_mm)
    least = np.float32(SPINE_ON_SLICE_MM2 / (width * height * pixel_mm**2))
    count = np.zeros(coarse.shape[1:], dtype=np.float32)
    for plane, body in zip(coarse, bodies, strict=True):
        bone = ((plane > SPINE_HU) & body).astype(np.float32)
        count += ndimage.uniform_filter(bone, (height, width), mode="constant") >= least
    return count / np.float32(len(coarse))


def spine_box(pixel_mm: float) -> tuple[int, int]:
    """Width and height in pixels of a vertebra's box."""
    width, height = (max(1, round(size / pixel_mm)) for size in SPINE_BOX_MM)
    return width, height


def _spine_column(coarse: NDArray[np.float32], bodies: Mask, pixel_mm: float, first: int, last: int) -> float | None:
    """The spine's column among [first, last], in the back half of the body; None where it is not seen.

    Where the side of the picture cuts a box, the rest of it is taken to be like what is seen: half a spine is one.
    """
    rows = np.flatnonzero(bodies.any(axis=(0, 2)))
    first, last = max(0, first), min(coarse.shape[2] - 1, last)
    if not len(rows) or first > last:
        return None
    area = bone_mm2_around(coarse, bodies, pixel_mm)
    seen = ndimage.uniform_filter1d(np.ones(area.shape[1], dtype=np.float32), spine_box(pixel_mm)[0], mode="constant")
    by_column = area[(rows[0] + rows[-1]) // 2 :, first : last + 1].max(axis=0)
    spine = by_column / seen[first : last + 1] >= LEAST_SPINE_MM2
    return float(first + np.where(spine, by_column, 0).argmax()) if spine.any() else None
