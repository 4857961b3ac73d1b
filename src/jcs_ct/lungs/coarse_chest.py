"""A chest on the grid on which its lungs are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.body import find_body
from jcs_ct.lungs.constants import ASSUMED_PIXEL_MM, Mask, coarse_step
from jcs_ct.lungs.field import field_of_view
from jcs_ct.lungs.midline import Midline, find_midline

_Spacing = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class CoarseChest:
    """A volume with square pixels, as means of blocks: about 256 columns.

    Args:
        step: Pixels of the volume to one of the grid.
        hu: (slices, rows, columns).
        bodies: Same shape: the patient's cross-sections.
        field: (rows, columns) True where the slices were reconstructed.
        midline: Of the patient.
        pixel_mm: Size of the grid's pixel.
        slice_mm: Distance between slices; None where it is not known.
        shows_bone: Whether HU are true, so that bone can be told from other tissue; not where they were assumed.
    """

    step: int
    hu: NDArray[np.float32]
    bodies: Mask
    field: Mask
    midline: Midline
    pixel_mm: float
    slice_mm: float | None
    shows_bone: bool

    @classmethod
    def of(cls, hu: NDArray[Any], spacing_mm: _Spacing | None, *, hu_is_assumed: bool = False) -> Self:
        """From a volume.

        Args:
            hu: (slices, rows, columns), pixels square.
            spacing_mm: Along (slices, rows, columns); None where it is not known.
            hu_is_assumed: HU come from grey levels.
        """
        step = coarse_step(hu.shape[2])
        coarse = block_mean(hu, step)
        pixel_mm = (spacing_mm[2] if spacing_mm else ASSUMED_PIXEL_MM) * step
        slice_mm = spacing_mm[0] if spacing_mm else None
        field = field_of_view(coarse)
        densities_are_known = spacing_mm is not None and not hu_is_assumed
        bodies = np.stack(
            [find_body(plane, field=field if densities_are_known else None, pixel_mm=pixel_mm) for plane in coarse]
        )
        midline = find_midline(coarse, bodies, field, pixel_mm=pixel_mm, slice_mm=slice_mm)
        return cls(step, coarse, bodies, field, midline, pixel_mm, slice_mm, not hu_is_assumed)

    def middles(self) -> NDArray[np.float64]:
        """(slices,) the middle column of each slice's body where both flanks are seen; else the midline's, or the
        picture's.
        """
        return np.array([_middle_column(body, self.midline) for body in self.bodies])


def _middle_column(body: Mask, midline: Midline) -> float:
    columns = np.flatnonzero(body.any(axis=0))
    if midline.right_flank is not None and midline.left_flank is not None and len(columns):
        return float((columns[0] + columns[-1]) // 2)
    return body.shape[1] // 2 if midline.column is None else midline.column


def block_mean(hu: NDArray[Any], step: int) -> NDArray[np.float32]:
    """(slices, rows, columns) -> (slices, rows // step, columns // step): means of blocks of ``step`` by ``step``."""
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
