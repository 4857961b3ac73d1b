"""Whether what was found is lung at all: its area on a slice, and the ribs around it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.lungs.constants import ASSUMED_PIXEL_MM, Mask, coarse_step
from jcs_ct.lungs.square_pixels import SquarePixels
from jcs_ct.volume import every_nth

#: Ribs, spine and sternum are denser than this, as the mean of a pixel of about 256 columns.
SKELETON_HU = 200.0
#: How far around a lung its ribs are looked for.
RIBS_REACH_MM = 25.0
#: Share of what lies around the lungs that is bone. Around the lungs of ten patients, on single slices and on runs of
#: them, it is 0.024 to 0.25 (0.033 and more on runs of 5); around the bowel gas of two, 0.016 and less.
LEAST_BONE_AROUND = 0.02
#: No more slices than these are looked at for bone, evenly spread.
_MOST_SLICES = 40


def lung_slices(
    labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float] | None, *, least_area_mm2: float = 1000.0
) -> Mask:
    """(slices,) True where a slice shows at least ``least_area_mm2`` of lung."""
    pixel_mm2 = spacing_mm[1] * spacing_mm[2] if spacing_mm else ASSUMED_PIXEL_MM**2
    pixels = np.array([np.count_nonzero(plane) for plane in labels], dtype=np.int64)
    enough: Mask = pixels * pixel_mm2 >= least_area_mm2
    return enough


def require_lung(
    labels: NDArray[np.uint8],
    hu: NDArray[Any],
    spacing_mm: tuple[float, float, float] | None,
    *,
    hu_is_assumed: bool = False,
) -> None:
    """Refuse a study without lungs.

    Args:
        labels: (slices, rows, columns) from ``segment_lungs``.
        hu: Same shape.
        spacing_mm: Along (slices, rows, columns); None where it is not known.
        hu_is_assumed: HU come from grey levels: bone cannot be told then, and is not asked for.

    Raises:
        StudyError: NO_LUNG, when no slice shows 10 cm2 of lung, or what looks like lung has no ribs around it (gas
            and stool in the bowel).
    """
    if not lung_slices(labels, spacing_mm).any():
        raise StudyError(
            GateCode.NO_LUNG,
            f"none of {labels.shape[0]} slice(s) shows lung (at least 10 cm2 of air inside the body are expected); "
            "is this an axial chest CT? Choose another series with --series",
        )
    if hu_is_assumed or clips_bone(hu):
        return
    share = bone_share_around(labels, hu, spacing_mm)
    if share < LEAST_BONE_AROUND:
        raise StudyError(
            GateCode.NO_LUNG,
            f"what is as dark as lung has no ribs around it: bone is {share:.1%} of the {RIBS_REACH_MM:.0f} mm "
            f"around it, at least {LEAST_BONE_AROUND:.0%} are expected; gas in the bowel looks like this. Is this an "
            "axial chest CT? Choose another series with --series",
        )


def bone_share_around(
    labels: NDArray[np.uint8], hu: NDArray[Any], spacing_mm: tuple[float, float, float] | None
) -> float:
    """Share of bone in what lies within ``RIBS_REACH_MM`` of the lungs, in rows and columns of the same slices."""
    square = SquarePixels.of(hu.shape, spacing_mm)
    if square is not None:
        labels, hu, spacing_mm = square.nearest(labels), square.resampled(hu), square.spacing_mm
    pixel_mm = spacing_mm[2] if spacing_mm else ASSUMED_PIXEL_MM
    step = coarse_step(hu.shape[2])
    width = 2 * round(RIBS_REACH_MM / (pixel_mm * step)) + 1
    present = np.flatnonzero([plane.any() for plane in labels])
    bone = around = 0
    for index in every_nth(present, _MOST_SLICES):
        lung = labels[index, ::step, ::step] > 0
        near = ndimage.maximum_filter(lung.view(np.uint8), width, mode="constant").astype(bool) & ~lung
        density = _means(_means(hu[index], step).T, step).T
        bone += int(np.count_nonzero(density[near] > SKELETON_HU))
        around += int(np.count_nonzero(near))
    return bone / max(1, around)


def _means(plane: NDArray[Any], step: int) -> NDArray[np.float32]:
    """The mean of ``step`` rows around every ``step``-th row, as a uniform filter of that width has it there."""
    centres = np.arange(0, plane.shape[0], step)
    total = np.zeros((len(centres), plane.shape[1]), dtype=np.float64)
    for offset in range(-(step // 2), step - step // 2):
        place = centres + offset
        place = np.where(place < 0, -1 - place, place)
        total += plane[np.where(place >= plane.shape[0], 2 * plane.shape[0] - 1 - place, place)]
    return (total / step).astype(np.float32)


def clips_bone(hu: NDArray[Any]) -> bool:
    """Whether the values end below bone because they were clipped there: then many are the largest."""
    largest = hu.max()
    return bool(largest <= SKELETON_HU and np.count_nonzero(hu == largest) > 0.001 * hu.size)
