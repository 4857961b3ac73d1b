"""The patient's cross-section, and the air inside it that is lung."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from jcs_ct.lungs.constants import AIR_HU, GAS_HU, TISSUE_HU, Mask

#: The trachea and the main bronchi on one slice are not larger than this.
LARGEST_AIRWAY_MM2 = 900.0
SMALLEST_REGION_MM2 = 60.0
#: Airways lie within this share of the body's width from its middle.
AIRWAY_REACH = 0.12
#: A lumen holds air only; between it and lung lies a wall that may be too thin for the grid.
LUMEN_HU = -945.0
#: The densest twentieth of a slice of lung, its vessels, is denser than this even in emphysema.
VESSEL_HU = -880.0


def find_body(plane: NDArray[np.float32]) -> Mask:
    """(rows, columns) HU -> the patient with the lungs filled in; the table falls off by the opening."""
    tissue = largest(ndimage.binary_opening(plane > TISSUE_HU, iterations=2))
    # Close to the border of the reconstruction a lung may open to the outside.
    framed = np.pad(tissue, 1)
    closed = ndimage.binary_closing(framed, iterations=3)[1:-1, 1:-1]
    filled: Mask = ndimage.binary_fill_holes(closed | tissue)
    if filled.mean() < 0.05 or (filled & (plane < AIR_HU)).mean() < 0.002:
        return _reach(tissue)
    return filled


def _reach(tissue: Mask) -> Mask:
    """Pixels with tissue on both sides in their row and column: for figures that are cropped to the thorax."""
    across = np.maximum.accumulate(tissue, axis=1) & np.maximum.accumulate(tissue[:, ::-1], axis=1)[:, ::-1]
    along = np.maximum.accumulate(tissue, axis=0) & np.maximum.accumulate(tissue[::-1], axis=0)[::-1]
    reach: Mask = across & along
    return reach


def air_threshold(plane: NDArray[np.float32], body: Mask) -> float:
    """HU between lung and tissue, found in the slice itself (Otsu) where HU were assumed from grey levels."""
    inside = plane[body]
    if inside.size < 100 or np.ptp(inside) < 50:
        return AIR_HU
    return float(np.clip(threshold_otsu(inside), -700.0, -250.0))  # type: ignore[no-untyped-call]


def middle_column(body: Mask) -> int:
    """The column half-way across the body; of the picture where there is none."""
    columns = np.flatnonzero(body.any(axis=0))
    return int((columns[0] + columns[-1]) // 2) if len(columns) else body.shape[1] // 2


def without_airways(air: Mask, plane: NDArray[np.float32], body: Mask, pixel_mm: float) -> Mask:
    """Remove trachea, main bronchi and specks from one slice's air.

    An airway is a small region near the middle that is dark throughout: one of its own, or the lumen of one whose
    wall is too thin to part it from the lung.
    """
    lumen = _airways(air & (ndimage.uniform_filter(plane, 3) < LUMEN_HU), plane, body, pixel_mm, LUMEN_HU)
    if lumen.any():
        air = air & ~ndimage.binary_dilation(lumen, iterations=max(1, round(2.0 / pixel_mm)))
    air = air & ~_airways(air, plane, body, pixel_mm, GAS_HU + 60)
    labels, _ = ndimage.label(air)
    enough = np.bincount(labels.ravel()) * pixel_mm**2 >= SMALLEST_REGION_MM2
    enough[0] = False
    kept: Mask = enough[labels]
    return kept


def _airways(dark: Mask, plane: NDArray[np.float32], body: Mask, pixel_mm: float, darkest_mean_hu: float) -> Mask:
    """Regions of ``dark`` with an airway's size, place and density."""
    labels, count = ndimage.label(dark)
    if count == 0:
        return dark
    index = np.arange(1, count + 1)
    area_mm2 = np.bincount(labels.ravel())[1:] * pixel_mm**2
    columns = np.broadcast_to(np.arange(dark.shape[1]), dark.shape)
    width = max(1.0, float(np.count_nonzero(body.any(axis=0))))
    offset = np.abs(ndimage.mean(columns, labels, index) - middle_column(body))
    airway = (
        (area_mm2 >= SMALLEST_REGION_MM2 / 2)
        & (area_mm2 < LARGEST_AIRWAY_MM2)
        & (offset < AIRWAY_REACH * width)
        & (ndimage.mean(plane, labels, index) < darkest_mean_hu)
    )
    found: Mask = np.concatenate([[False], airway])[labels]
    return found


def without_gas(air: Mask, plane: NDArray[np.float32], pixel_mm: float) -> Mask:
    """Remove regions of one slice that are gas throughout (stomach, bowel): lung has vessels, gas has none."""
    labels, count = ndimage.label(air)
    if count == 0:
        return air
    # The border of a region is denser by partial volume: it says nothing of the inside.
    inside = ndimage.binary_erosion(air, iterations=max(1, round(2.0 / pixel_mm)))
    keep = np.ones(count + 1, dtype=bool)
    keep[0] = False
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        values = plane[box][inside[box] & (labels[box] == number)]
        keep[number] = values.size == 0 or values.mean() > GAS_HU or np.percentile(values, 95) > VESSEL_HU
    kept: Mask = keep[labels]
    return kept


def largest_parts(air: Mask, hu: NDArray[np.float32]) -> Mask:
    """Keep the 3-D parts of at least 4 % of the largest that are not gas (stomach, bowel)."""
    labels, count = ndimage.label(air)
    if count == 0:
        return air
    # Of the air only: counting wants 16 bytes a voxel, more of a whole volume than all else together.
    parts = labels[air]
    sizes = np.bincount(parts, minlength=count + 1)[1:]
    mean_hu = np.bincount(parts, weights=hu[air], minlength=count + 1)[1:] / sizes
    keep = (sizes >= 0.04 * sizes.max()) & ((mean_hu > GAS_HU) | (sizes >= 0.5 * sizes.max()))
    kept = np.zeros_like(air)
    kept[air] = keep[parts - 1]
    return kept


def largest(mask: Mask) -> Mask:
    """The largest connected region; the mask itself when it is empty."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    region: Mask = labels == sizes.argmax()
    return region
