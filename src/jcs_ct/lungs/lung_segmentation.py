"""Both lungs of a volume."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.body import air_threshold, find_body, largest_parts, without_airways, without_gas
from jcs_ct.lungs.constants import AIR_HU, ASSUMED_PIXEL_MM, UNKNOWN_SIDE, Mask
from jcs_ct.lungs.field import field_of_view, reconstructed_box
from jcs_ct.lungs.filling import filled_lungs
from jcs_ct.lungs.midline import Midline, find_midline, spine_is_in_front
from jcs_ct.lungs.morphology import neighbourhood
from jcs_ct.lungs.sides import sided
from jcs_ct.lungs.square_pixels import SquarePixels
from jcs_ct.lungs.windpipe import windpipe_is_below
from jcs_ct.volume import bounding_box

_GRID_COLUMNS = 256
_Box = tuple[slice, slice]
_Spacing = tuple[float, float, float]
#: What may contradict the stated axes: a spine in front, a windpipe below.
Contradiction = Literal["spine", "windpipe"]


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
    densities_are_known = spacing_mm is not None and not hu_is_assumed
    chest = _coarse_chest(hu, spacing_mm, densities_are_known=densities_are_known)
    step, coarse, bodies, field, midline, pixel_mm, slice_mm = chest
    middles = np.array([_middle_column(body, midline) for body in bodies])
    air = np.zeros(coarse.shape, dtype=bool)
    thresholds = np.full(coarse.shape[0], AIR_HU, dtype=np.float32)
    for index, (plane, body) in enumerate(zip(coarse, bodies, strict=True)):
        if hu_is_assumed:
            thresholds[index] = air_threshold(plane, body)
        inside = without_airways(body & (plane < thresholds[index]), plane, body, middles[index], pixel_mm)
        air[index] = inside if hu_is_assumed else without_gas(inside, plane, pixel_mm, blur_mm)
    parts = largest_parts(air, coarse)
    labels = sided(parts, coarse, middles, midline, field, pixel_mm, bone=not hu_is_assumed)
    known_mm = slice_mm if densities_are_known else None
    if known_mm and _contradiction(chest, labels > 0, known_mm):
        labels[labels > 0] = UNKNOWN_SIDE
    filled = filled_lungs(labels, coarse, pixel_mm=pixel_mm, slice_mm=slice_mm)
    out = _refined(filled, labels, hu, step, thresholds)
    if not field.all():
        out[:, _enlarged(field.astype(np.uint8), step, hu.shape[1:]) == 0] = 0  # padding is as dark as lung
    return out


def axes_contradiction(labels: NDArray[np.uint8], hu: NDArray[Any], spacing_mm: _Spacing) -> Contradiction | None:
    """What says that the stated axes are not the patient's; None where nothing does. Pixels are square.

    Args:
        labels: (slices, rows, columns) from :func:`segment_lungs`.
        hu: Same shape.
        spacing_mm: Along (slices, rows, columns).
    """
    chest = _coarse_chest(hu, spacing_mm, densities_are_known=True)
    rows, columns = chest.hu.shape[1:]
    lungs = labels[:, :: chest.step, :: chest.step][:, :rows, :columns] > 0
    return _contradiction(chest, lungs, spacing_mm[0])


class _CoarseChest(NamedTuple):
    """A volume on the grid on which lungs are found.

    Args:
        step: Pixels of the volume to one of the grid.
        hu: (slices, rows, columns).
        bodies: Same shape: the patient's cross-sections.
        field: (rows, columns) True where the slices were reconstructed.
        midline: Of the patient.
        pixel_mm: Size of the grid's pixel.
        slice_mm: Distance between slices; None where it is not known.
    """

    step: int
    hu: NDArray[np.float32]
    bodies: Mask
    field: Mask
    midline: Midline
    pixel_mm: float
    slice_mm: float | None


def _coarse_chest(hu: NDArray[Any], spacing_mm: _Spacing | None, *, densities_are_known: bool) -> _CoarseChest:
    step = max(1, round(hu.shape[2] / _GRID_COLUMNS))
    coarse = _block_mean(hu, step)
    pixel_mm = (spacing_mm[2] if spacing_mm else ASSUMED_PIXEL_MM) * step
    slice_mm = spacing_mm[0] if spacing_mm else None
    field = field_of_view(coarse)
    bodies = np.stack(
        [find_body(plane, field=field if densities_are_known else None, pixel_mm=pixel_mm) for plane in coarse]
    )
    midline = find_midline(coarse, bodies, field, pixel_mm=pixel_mm, slice_mm=slice_mm)
    return _CoarseChest(step, coarse, bodies, field, midline, pixel_mm, slice_mm)


def _contradiction(chest: _CoarseChest, lungs: Mask, slice_mm: float) -> Contradiction | None:
    pixel_mm, column = chest.pixel_mm, chest.midline.column
    if spine_is_in_front(chest.hu, chest.bodies, chest.field, pixel_mm=pixel_mm, slice_mm=slice_mm):
        return "spine"
    if column is not None and windpipe_is_below(
        chest.hu, chest.bodies, lungs, column, pixel_mm=pixel_mm, slice_mm=slice_mm
    ):
        return "windpipe"
    return None


def _middle_column(body: Mask, midline: Midline) -> float:
    """A slice's own middle where both flanks are seen; else the patient's midline, or the middle of the picture."""
    columns = np.flatnonzero(body.any(axis=0))
    if midline.right_flank is not None and midline.left_flank is not None and len(columns):
        return float((columns[0] + columns[-1]) // 2)
    return body.shape[1] // 2 if midline.column is None else midline.column


def _block_mean(hu: NDArray[Any], step: int) -> NDArray[np.float32]:
    rows, columns = hu.shape[1] // step * step, hu.shape[2] // step * step
    if hu.dtype.kind in "iu" and hu.dtype.itemsize <= 2:
        return _block_mean_of_integers(hu[:, :rows, :columns], step)
    blocks = hu[:, :rows, :columns].reshape(hu.shape[0], rows // step, step, columns // step, step)
    mean: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float32)
    return mean


def _block_mean_of_integers(hu: NDArray[Any], step: int) -> NDArray[np.float32]:
    """The same mean: sums of whole numbers are exact in any order, and whole planes add up faster than blocks."""
    mean = np.empty((hu.shape[0], hu.shape[1] // step, hu.shape[2] // step), dtype=np.float32)
    for plane, out in zip(hu, mean, strict=True):
        along_rows = plane[::step].astype(np.float32)
        for offset in range(1, step):
            along_rows += plane[offset::step]
        out[:] = along_rows[:, ::step]
        for offset in range(1, step):
            out += along_rows[:, offset::step]
    mean /= np.float32(step * step)
    return mean


def _refined(
    filled: NDArray[np.uint8],
    air: NDArray[np.uint8],
    hu: NDArray[Any],
    step: int,
    thresholds: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Labels of the coarse grid on the slices' own: along the border of air each pixel decides by its own HU."""
    out = np.zeros(hu.shape, dtype=np.uint8)
    for index in np.flatnonzero(filled.any(axis=(1, 2))):
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
