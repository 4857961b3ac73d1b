"""The patient's cross-section, and the air inside it that is lung."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.lungs.constants import AIR_HU, GAS_HU, TISSUE_HU, Mask
from jcs_ct.lungs.field import edge_of
from jcs_ct.lungs.morphology import closed, dilated, eroded, opened, without_holes
from jcs_ct.volume import bounding_box

#: The trachea and the main bronchi on one slice are not larger than this.
LARGEST_AIRWAY_MM2 = 900.0
SMALLEST_REGION_MM2 = 60.0
#: Airways lie within this share of the body's width from its middle.
AIRWAY_REACH = 0.12
#: A lumen holds air only; between it and lung lies a wall that may be too thin for the grid.
LUMEN_HU = -945.0
#: A dark region at the edge of the field is air around the patient when half of it is darker than this.
AIR_AROUND_HU = -950.0
#: ... or, where it has vessels as lung with emphysema has, than this.
AIR_WITH_VESSELS_HU = -985.0
#: Beside the table it is air with this share of it darker than this; of cut lungs without emphysema 6 % at most are.
AIR_BY_TABLE_HU, AIR_BY_TABLE_SHARE = -960.0, 0.1
#: The chest's wall is thicker than this, the shell of a table thinner.
WALL_MM = 8.0
#: Share of a cut lung's border that is wall. On slices of two whole chests, cropped at random, 99.6 % of the cut
#: lungs reach it, and 0.7 % of the cushions and gaps do.
LEAST_WALL = 0.7
#: The densest twentieth of a slice of lung, its vessels, is denser than this even in emphysema.
VESSEL_HU = -880.0

_FRAME = 8


def find_body(plane: NDArray[np.float32], *, field: Mask | None = None, pixel_mm: float = 1.0) -> Mask:
    """The patient's cross-section with the lungs filled in; the table falls off by the opening.

    Args:
        plane: (rows, columns) in HU.
        field: (rows, columns) True where the slice was reconstructed; given, a lung that its edge cuts is filled in
            too. None where densities cannot tell lung from the air around the patient.
        pixel_mm: Size of a pixel.
    """
    tissue = plane > TISSUE_HU
    filled = _filled(tissue, _FRAME if field is not None else 0)
    if field is not None:
        cut = _cut_lungs(plane, field, filled, pixel_mm)
        if cut is not None:
            filled = _filled(tissue | cut, _FRAME)
    if filled.mean() < 0.05 or (filled & (plane < AIR_HU)).mean() < 0.002:
        return _reach(largest(opened(tissue, 2)))
    return filled


def _filled(tissue: Mask, frame: int) -> Mask:
    """The largest part of the tissue without threads, closed and filled.

    Beyond the edge of the field a patient goes on as at the edge: with a frame, a strip of tissue there is no thread.
    """
    framed = np.pad(tissue, frame, mode="edge")
    body = largest(opened(framed, 2))
    within = np.s_[frame : frame + tissue.shape[0], frame : frame + tissue.shape[1]]
    # Close to the border of the reconstruction a lung may open to the outside.
    return without_holes((closed(np.pad(body, 1), 3)[1:-1, 1:-1] | body)[within])


def _cut_lungs(plane: NDArray[np.float32], field: Mask, filled: Mask, pixel_mm: float) -> Mask | None:
    """Lungs and airways that the field's edge cuts or nearly does.

    Cushions and the air around the patient are dark regions too. The chest's wall around a lung is thick on all
    sides; a cushion lies in a thin shell, and the air is darker. So is an airway, which is small: left open at the
    edge, it would open the lung beside it.

    Args:
        plane: (rows, columns) in HU.
        field: Same shape.
        filled: Same shape: what is known to be inside the body.
        pixel_mm: Size of a pixel.
    """
    labels, count = ndimage.label(field & (plane <= TISSUE_HU))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    outside = np.bincount(labels[~filled], minlength=count + 1)
    cut = np.zeros_like(filled)
    inner = field & ~edge_of(field)
    thick: Mask | None = None
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        area_mm2 = areas[number] * pixel_mm**2
        if area_mm2 < SMALLEST_REGION_MM2 / 2 or outside[number] < 0.5 * areas[number]:
            continue
        region = labels[box] == number
        if area_mm2 >= LARGEST_AIRWAY_MM2 and _is_air_around(plane[box], region, box, plane.shape[0], pixel_mm):
            continue
        if thick is None:
            thick = _thick((plane > TISSUE_HU) | ~field, pixel_mm)
        if _walled(region, box, thick, inner):
            cut[box] |= region
    return cut if cut.any() else None


def _is_air_around(
    values: NDArray[np.float32], region: Mask, box: tuple[slice, ...], rows: int, pixel_mm: float
) -> bool:
    """Whether a dark region's HU are those of the air around a patient.

    In front of the patient and behind, where the table is, cushions and sheets may be most of it: there some air is
    enough. Elsewhere a region with vessels in it is lung with emphysema, unless it is as dark as air throughout.
    """
    inside = values[region]
    over_or_under = box[0].start == 0 or box[0].stop == rows
    if over_or_under and np.mean(inside < AIR_BY_TABLE_HU) > AIR_BY_TABLE_SHARE:
        return True
    median = float(np.median(inside))
    if not AIR_WITH_VESSELS_HU < median <= AIR_AROUND_HU:
        return median <= AIR_AROUND_HU
    within = values[eroded(region, max(1, round(2.0 / pixel_mm)))]
    return over_or_under or within.size == 0 or float(np.percentile(within, 95)) <= VESSEL_HU


def _thick(tissue: Mask, pixel_mm: float) -> Mask:
    """Tissue thicker than ``WALL_MM``, and two pixels around it; beyond the field it goes on."""
    radius = max(2, round(WALL_MM / 2 / pixel_mm))
    framed = opened(np.pad(tissue, 2 * radius, mode="edge"), radius)
    return dilated(framed, 2)[2 * radius : -2 * radius, 2 * radius : -2 * radius]


def _walled(region: Mask, box: tuple[slice, ...], thick: Mask, inner: Mask) -> bool:
    """Whether a region's border within the field's edge (``inner``) is thick tissue; vessels do not count."""
    rows, columns = box
    wide = np.s_[max(0, rows.start - 6) : rows.stop + 6, max(0, columns.start - 6) : columns.stop + 6]
    whole = np.zeros_like(thick[wide])
    place = np.s_[rows.start - wide[0].start :, columns.start - wide[1].start :]
    whole[place][: region.shape[0], : region.shape[1]] = region
    framed = np.pad(whole, 8, mode="edge")
    solid = without_holes(closed(framed, 4) | framed)
    ring = (dilated(solid) & ~solid)[8:-8, 8:-8] & inner[wide]
    wall, border = int(np.count_nonzero(ring & thick[wide])), int(np.count_nonzero(ring))
    return wall >= LEAST_WALL * max(1, border)


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
    # Only where HU were assumed: importing it takes a tenth of a second.
    from skimage.filters import threshold_otsu

    return float(np.clip(threshold_otsu(inside), -700.0, -250.0))  # type: ignore[no-untyped-call]


def without_airways(air: Mask, plane: NDArray[np.float32], body: Mask, middle: float, pixel_mm: float) -> Mask:
    """Remove trachea, main bronchi and specks from one slice's air.

    An airway is a small region near the middle that is dark throughout: one of its own, or the lumen of one whose
    wall is too thin to part it from the lung.

    Args:
        air: (rows, columns) air inside the body.
        plane: Same shape, in HU.
        body: Same shape.
        middle: Column of the patient's midline.
        pixel_mm: Size of a pixel.
    """
    kept = np.zeros_like(air)
    if air.any():
        box = bounding_box(air, margin=1)  # work within gives what it gives on the whole
        width = max(1.0, float(np.count_nonzero(body.any(axis=0))))
        middle -= box[1].start
        kept[box] = _lung_air(air[box], plane[box], middle, AIRWAY_REACH * width, pixel_mm)
    return kept


def _lung_air(air: Mask, plane: NDArray[np.float32], middle: float, reach: float, pixel_mm: float) -> Mask:
    """:func:`without_airways` of the part of a slice that has air."""

    def airways(dark: Mask, darkest_mean_hu: float) -> Mask:
        return _airways(dark, plane, middle, reach, pixel_mm, darkest_mean_hu)

    lumen = airways(air & _darker_around(plane, air, LUMEN_HU), LUMEN_HU)
    if lumen.any():
        air = air & ~dilated(lumen, max(1, round(2.0 / pixel_mm)))
    air = air & ~airways(air, GAS_HU + 60)
    labels, _ = ndimage.label(air)
    enough = np.bincount(labels.ravel()) * pixel_mm**2 >= SMALLEST_REGION_MM2
    enough[0] = False
    kept: Mask = enough[labels]
    return kept


def _darker_around(plane: NDArray[np.float32], where: Mask, hu: float) -> Mask:
    """Where the mean of a pixel's 3 x 3 is below ``hu``; known only ``where``, False far from it."""
    darker = np.zeros_like(where)
    if where.any():
        box = bounding_box(where, margin=1)
        darker[box] = ndimage.uniform_filter(plane[box], 3) < hu
    return darker


def _airways(
    dark: Mask, plane: NDArray[np.float32], middle: float, reach: float, pixel_mm: float, darkest_mean_hu: float
) -> Mask:
    """Regions of ``dark`` with an airway's size, place and density."""
    labels, count = ndimage.label(dark)
    if count == 0:
        return dark
    rows, columns = np.nonzero(labels)
    numbers = labels[rows, columns]
    pixels = np.bincount(numbers)[1:]
    area_mm2 = pixels * pixel_mm**2
    offset = np.abs(np.bincount(numbers, weights=columns)[1:] / pixels - middle)
    mean_hu = np.bincount(numbers, weights=plane[rows, columns])[1:] / pixels
    airway = (
        (area_mm2 >= SMALLEST_REGION_MM2 / 2)
        & (area_mm2 < LARGEST_AIRWAY_MM2)
        & (offset < reach)
        & (mean_hu < darkest_mean_hu)
    )
    found: Mask = np.concatenate([[False], airway])[labels]
    return found


def without_gas(air: Mask, plane: NDArray[np.float32], pixel_mm: float, blur_mm: float = 0.0) -> Mask:
    """Remove regions of one slice that are gas throughout (stomach, bowel): lung has vessels, gas has none.

    Args:
        air: (rows, columns) air inside the body.
        plane: Same shape, in HU.
        pixel_mm: Size of a pixel.
        blur_mm: By how much the border of a region is wider than partial volume makes it.
    """
    kept = np.zeros_like(air)
    if air.any():
        box = bounding_box(air, margin=1)
        kept[box] = _not_gas(air[box], plane[box], 2.0 + blur_mm, pixel_mm)
    return kept


def _not_gas(air: Mask, plane: NDArray[np.float32], border_mm: float, pixel_mm: float) -> Mask:
    labels, count = ndimage.label(air)
    # The border of a region is denser by partial volume: it says nothing of the inside.
    inside = eroded(air, max(1, round(border_mm / pixel_mm)))
    keep = np.ones(count + 1, dtype=bool)
    keep[0] = False
    for number, region in enumerate(ndimage.find_objects(labels), start=1):
        values = plane[region][inside[region] & (labels[region] == number)]
        keep[number] = values.size == 0 or values.mean() > GAS_HU or np.percentile(values, 95) > VESSEL_HU
    kept: Mask = keep[labels]
    return kept


def largest_parts(air: Mask, hu: NDArray[np.float32]) -> NDArray[np.int32]:
    """Number the 3-D parts of at least 4 % of the largest that are not gas (stomach, bowel), from 1; 0 is none."""
    labels: NDArray[np.int32]
    labels, count = ndimage.label(air)
    if count == 0:
        return labels
    # Of the air only: counting wants 16 bytes a voxel, more of a whole volume than all else together.
    parts = labels[air]
    sizes = np.bincount(parts, minlength=count + 1)[1:]
    mean_hu = np.bincount(parts, weights=hu[air], minlength=count + 1)[1:] / sizes
    keep = (sizes >= 0.04 * sizes.max()) & ((mean_hu > GAS_HU) | (sizes >= 0.5 * sizes.max()))
    number = np.where(keep, np.cumsum(keep), 0).astype(labels.dtype)
    labels[air] = number[parts - 1]
    return labels


def largest(mask: Mask) -> Mask:
    """The largest connected region; the mask itself when it is empty."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    region: Mask = labels == sizes.argmax()
    return region
