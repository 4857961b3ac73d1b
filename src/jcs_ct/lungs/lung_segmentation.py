"""Both lungs of a volume."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.axes_contradicted import contradiction
from jcs_ct.lungs.body import air_threshold, largest_parts, without_airways, without_gas
from jcs_ct.lungs.coarse_chest import CoarseChest
from jcs_ct.lungs.constants import AIR_HU, UNKNOWN_SIDE
from jcs_ct.lungs.field import reconstructed_box
from jcs_ct.lungs.filling import filled_lungs
from jcs_ct.lungs.morphology import neighbourhood
from jcs_ct.lungs.sides import sided
from jcs_ct.lungs.square_pixels import SquarePixels
from jcs_ct.volume import bounding_box, slices_with

_Box = tuple[slice, slice]
_Spacing = tuple[float, float, float]


def segment_lungs(
    hu: NDArray[Any],
    *,
    spacing_mm: _Spacing | None,
    hu_is_assumed: bool = False,
) -> NDArray[np.uint8]:
    """Find both lungs.

    Args:
        hu: (slices, rows, columns) in HU, in the patient's axes: rows run to the back, columns to the left.
        spacing_mm: Along (slices, rows, columns); None where it is not known (0.7 mm pixels are assumed).
        hu_is_assumed: HU come from grey levels: the threshold is then found in each slice (Otsu).

    Returns:
        (slices, rows, columns) uint8: 0 outside, 1 right lung, 2 left lung, of the patient; 3 lung whose
        side cannot be known, as all of it where spine or windpipe contradict the axes.
    """
    if hu.ndim != 3:
        raise ValueError(f"hu must be 3-D (slices, rows, columns), got {hu.ndim}-D")
    rows, columns = reconstructed_box(hu)
    out = np.zeros(hu.shape, dtype=np.uint8)
    out[:, rows, columns] = _within_field(hu[:, rows, columns], spacing_mm, hu_is_assumed=hu_is_assumed)
    return out


def _within_field(hu: NDArray[Any], spacing_mm: _Spacing | None, *, hu_is_assumed: bool) -> NDArray[np.uint8]:
    """:func:`segment_lungs` without padding around a smaller field."""
    square = SquarePixels.of(hu.shape, spacing_mm)
    if square is None:
        return _find_lungs(hu, spacing_mm, hu_is_assumed=hu_is_assumed)
    resampled = square.resampled(hu)
    return square.returned(
        _find_lungs(resampled, square.spacing_mm, hu_is_assumed=hu_is_assumed, blur_mm=square.blur_mm)
    )


def _find_lungs(
    hu: NDArray[Any], spacing_mm: _Spacing | None, *, hu_is_assumed: bool, blur_mm: float = 0.0
) -> NDArray[np.uint8]:
    """:func:`segment_lungs` where pixels are square; ``blur_mm`` is how wide a border resampling made of an edge."""
    chest = CoarseChest.of(hu, spacing_mm, hu_is_assumed=hu_is_assumed)
    middles = chest.middles()
    air = np.zeros(chest.hu.shape, dtype=bool)
    thresholds = np.full(len(chest.hu), AIR_HU, dtype=np.float32)
    for index, (plane, body) in enumerate(zip(chest.hu, chest.bodies, strict=True)):
        if hu_is_assumed:
            thresholds[index] = air_threshold(plane, body)
        inside = without_airways(body & (plane < thresholds[index]), plane, body, middles[index], chest.pixel_mm)
        air[index] = inside if hu_is_assumed else without_gas(inside, plane, chest.pixel_mm, blur_mm)
    labels = sided(largest_parts(air, chest.hu), chest, middles)
    if contradiction(chest, labels > 0):
        labels[labels > 0] = UNKNOWN_SIDE
    out = _refined(filled_lungs(labels, chest), labels, hu, chest.step, thresholds)
    if not chest.field.all():
        padding = _enlarged(chest.field.astype(np.uint8), chest.step, hu.shape[1:]) == 0
        out[:, padding] = 0  # it is as dark as lung
    return out


def _refined(
    filled: NDArray[np.uint8],
    air: NDArray[np.uint8],
    hu: NDArray[Any],
    step: int,
    thresholds: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Labels of the coarse grid on the slices' own: along the border of air each pixel decides by its own HU."""
    out = np.zeros(hu.shape, dtype=np.uint8)
    for index in slices_with(filled):
        part, own_part = _around(filled[index], step, hu.shape[1:])
        lung = filled[index][part]
        inner, near = neighbourhood(lung)
        # The border of what was filled in is not one of density: it stays where it is.
        dense = np.where((lung > 0) & (air[index][part] == 0), lung, 0)
        shape = out[index][own_part].shape
        kept = _enlarged(np.maximum(inner, dense), step, shape)
        own = _enlarged(np.where(lung > 0, lung, near), step, shape)
        is_air = hu[index][own_part] < thresholds[index]
        out[index][own_part] = np.where(kept > 0, kept, np.where(is_air, own, 0))
    return out


def _around(lung: NDArray[np.uint8], step: int, shape: tuple[int, ...]) -> tuple[_Box, _Box]:
    """The rectangle of a coarse slice that holds its lungs and a pixel more, and the same on the slice's own grid.

    Outside it no pixel is changed: memory that is not written is not taken.
    """
    rows, columns = bounding_box(lung > 0, margin=1)
    own = [
        slice(coarse.start * step, wanted if coarse.stop == have else coarse.stop * step)
        for coarse, have, wanted in zip((rows, columns), lung.shape, shape, strict=True)
    ]
    return (rows, columns), (own[0], own[1])


def _enlarged(plane: NDArray[np.uint8], step: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    full = np.repeat(np.repeat(plane, step, axis=0), step, axis=1)
    pad = [(0, max(0, wanted - have)) for wanted, have in zip(shape, full.shape, strict=True)]
    return np.pad(full, pad, mode="edge")[: shape[0], : shape[1]]
