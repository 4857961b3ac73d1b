"""Whether a chest contradicts the axes that its header states, by spine and windpipe; and whether it could."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.coarse_chest import CoarseChest
from jcs_ct.lungs.constants import Mask, coarse_step
from jcs_ct.lungs.lung_presence import clips_bone
from jcs_ct.lungs.midline import (
    LEAST_HEIGHT_MM,
    LEAST_SPINE_MM2,
    SPINE_LASTS,
    bone_mm2_around,
    shows_back,
    slices_with_bone,
)
from jcs_ct.lungs.windpipe import windpipe_is_below
from jcs_ct.volume import bounding_box, every_nth, slices_with

#: What may contradict the stated axes.
Contradiction = Literal["spine", "windpipe"]
#: Why nothing bears the stated axes out: the geometry is not known, what is denser than soft tissue was clipped away,
#: or no spine is seen behind.
Unchecked = Literal["geometry", "clipped", "spine"]
#: What is taken for a spine in front, or for one that bears the axes out, goes through this share of the slices.
SPINE_SLICES = 0.8
#: Bone in a vertebra's box that bears the axes out, behind the middle of the lungs: of ten patients 372 mm2 and more,
#: whole and in thirds; turned front to back at most 190 whole, 259 in thirds, and 285 in sixths below the apex.
LEAST_BEHIND_MM2 = 320.0
#: So far behind the lungs a spine is looked for, on no more slices than these, evenly spread.
_BEHIND_MM, _MOST_SLICES = 40.0, 24
#: Bodies less deep than this, from front to back, are held against an adult's spine as if they were as deep: a
#: child's is as small as its body. The two whole chests at hand are 249 and 281 mm deep.
ADULT_DEPTH_MM = 280.0


def axes_contradiction(
    labels: NDArray[np.uint8], hu: NDArray[Any], spacing_mm: tuple[float, float, float]
) -> Contradiction | None:
    """What says that the stated axes are not the patient's; None where nothing does. Pixels are square.

    Args:
        labels: (slices, rows, columns) from ``segment_lungs``.
        hu: Same shape.
        spacing_mm: Along (slices, rows, columns).
    """
    chest = CoarseChest.of(hu, spacing_mm)
    rows, columns = chest.hu.shape[1:]
    return contradiction(chest, labels[:, :: chest.step, :: chest.step][:, :rows, :columns] > 0)


def contradiction(chest: CoarseChest, lungs: Mask) -> Contradiction | None:
    """The same of a chest whose lungs are found; None where lengths or HU are not known.

    Args:
        chest: The chest.
        lungs: (slices, rows, columns) on its grid.
    """
    if chest.slice_mm is None or not chest.shows_bone:
        return None
    if spine_is_in_front(chest, chest.slice_mm):
        return "spine"
    return "windpipe" if windpipe_is_below(chest, lungs, chest.slice_mm) else None


def spine_is_in_front(chest: CoarseChest, slice_mm: float) -> bool:
    """Whether the spine lies where the axes put the breastbone: then they are not the patient's.

    Only where the back is seen and has no spine, and over a height in which other bone moves out of the box. A heart
    and vessels with contrast agent are no spine, in front or behind: they do not go through all slices.
    """
    rows = np.flatnonzero(chest.bodies.any(axis=(0, 2)))
    too_low = len(chest.hu) * slice_mm < LEAST_HEIGHT_MM
    if too_low or not len(rows) or not shows_back(chest.bodies, chest.field):
        return False
    depth_mm = (int(rows[-1]) - int(rows[0]) + 1) * chest.pixel_mm
    pixel_mm = chest.pixel_mm * max(1.0, ADULT_DEPTH_MM / depth_mm)
    area = bone_mm2_around(chest.hu, chest.bodies, pixel_mm)
    half = (int(rows[0]) + int(rows[-1])) // 2
    if area[:half].max(initial=0.0) < LEAST_SPINE_MM2:
        return False
    bone, lasts = area >= LEAST_SPINE_MM2, slices_with_bone(chest.hu, chest.bodies, pixel_mm)
    is_behind = bool((bone & (lasts >= SPINE_LASTS))[half:].any())
    return not is_behind and bool((bone & (lasts >= SPINE_SLICES))[:half].any())


def why_axes_unchecked(
    labels: NDArray[np.uint8], hu: NDArray[Any], spacing_mm: tuple[float, float, float] | None
) -> Unchecked | None:
    """Why axes that nothing contradicts are not borne out either; None where the spine is seen behind the lungs.

    Args:
        labels: (slices, rows, columns) from ``segment_lungs``, of which there are some; pixels are square.
        hu: Same shape, not assumed from grey levels.
        spacing_mm: Along (slices, rows, columns); None where it is not known.
    """
    if spacing_mm is None:
        return "geometry"
    if clips_bone(hu):
        return "clipped"
    return None if _spine_is_behind(labels, hu, spacing_mm[2]) else "spine"


def _spine_is_behind(labels: NDArray[np.uint8], hu: NDArray[Any], pixel_mm: float) -> bool:
    shown = slices_with(labels)
    shown = every_nth(shown, _MOST_SLICES)
    step = coarse_step(hu.shape[2])
    rows, columns = bounding_box(labels[shown, ::step, ::step].max(axis=0) > 0)
    middle, end = (rows.start + rows.stop - 1) // 2, rows.stop - 1 + round(_BEHIND_MM / (pixel_mm * step))
    planes = hu[shown, ::step, ::step].astype(np.float32)
    everywhere = np.ones(planes.shape, dtype=bool)
    area = bone_mm2_around(planes, everywhere, pixel_mm * step)
    lasts = slices_with_bone(planes, everywhere, pixel_mm * step)
    is_spine = (area >= LEAST_BEHIND_MM2) & (lasts >= SPINE_SLICES)
    return bool(is_spine[middle:end, columns].any())
