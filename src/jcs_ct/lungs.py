"""Lung mask without learned weights: air inside the body, without airways, with dense disease at the wall filled in.

The work is done on a grid of about 256 columns: body by threshold and hole filling, air inside it, airways and bowel
gas out, left and right told apart, then each lung closed against the chest wall. Dense disease is recovered where the
lung reaches around it (its convex hull towards the wall, or the slices above and below); a lobe that is wholly
consolidated over many slices is not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import convex_hull_image

from jcs_ct.errors import GateCode, StudyError

RIGHT, LEFT = 1, 2

#: HU below which a pixel inside the body is air or lung.
AIR_HU = -320.0
#: HU above which a pixel belongs to the body's wall and organs.
TISSUE_HU = -500.0
#: Below this mean HU a small region is gas (airway, bowel), not lung.
GAS_HU = -925.0
#: Pixel size in mm that is assumed where the geometry is not known.
ASSUMED_PIXEL_MM = 0.7
_GRID_COLUMNS = 256

Mask = NDArray[np.bool_]


def segment_lungs(
    hu: NDArray[Any],
    *,
    spacing_mm: tuple[float, float, float] | None,
    hu_is_assumed: bool = False,
    left_is_high_column: bool = True,
) -> NDArray[np.uint8]:
    """Find both lungs.

    Args:
        hu: (slices, rows, columns) in HU.
        spacing_mm: Along (slices, rows, columns); None where it is not known (0.7 mm pixels are assumed).
        hu_is_assumed: HU come from grey levels: the threshold is then found in each slice (Otsu).
        left_is_high_column: Columns run towards the patient's left, as in the usual display.

    Returns:
        (slices, rows, columns) uint8: 0 outside, 1 right lung, 2 left lung, of the patient.
    """
    step = max(1, round(hu.shape[2] / _GRID_COLUMNS))
    coarse = _block_mean(hu, step)
    pixel_mm = (spacing_mm[2] if spacing_mm else ASSUMED_PIXEL_MM) * step
    slice_mm = spacing_mm[0] if spacing_mm else None
    air = np.zeros(coarse.shape, dtype=bool)
    middle = np.zeros(coarse.shape[0], dtype=int)
    for index, plane in enumerate(coarse):
        body = _body(plane)
        threshold = _air_threshold(plane, body) if hu_is_assumed else AIR_HU
        air[index] = _without_airways(body & (plane < threshold), plane, body, pixel_mm)
        middle[index] = _middle_column(body)
    air = _largest_parts(air, coarse)
    labels = np.zeros(coarse.shape, dtype=np.uint8)
    low, high = (RIGHT, LEFT) if left_is_high_column else (LEFT, RIGHT)
    for index in range(coarse.shape[0]):
        labels[index] = _two_lungs(air[index], coarse[index], middle[index], pixel_mm, low, high)
    filled = _filled(labels, coarse, pixel_mm, slice_mm, high)
    full = np.repeat(np.repeat(filled, step, axis=1), step, axis=2)
    rows, columns = hu.shape[1:]
    pad = ((0, 0), (0, max(0, rows - full.shape[1])), (0, max(0, columns - full.shape[2])))
    return np.pad(full, pad, mode="edge")[:, :rows, :columns]


def lung_slices(
    labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float] | None, *, least_area_mm2: float = 1000.0
) -> Mask:
    """(slices,) True where a slice shows at least ``least_area_mm2`` of lung."""
    pixel_mm2 = spacing_mm[1] * spacing_mm[2] if spacing_mm else ASSUMED_PIXEL_MM**2
    enough: Mask = (labels > 0).sum(axis=(1, 2)) * pixel_mm2 >= least_area_mm2
    return enough


def require_lung(labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float] | None) -> None:
    """Refuse a study without lungs.

    Raises:
        StudyError: NO_LUNG, when no slice shows 10 cm2 of lung.
    """
    if not lung_slices(labels, spacing_mm).any():
        raise StudyError(
            GateCode.NO_LUNG,
            f"none of {labels.shape[0]} slice(s) shows lung (at least 10 cm2 of air inside the body are expected); "
            "is this an axial chest CT? Choose another series with --series",
        )


def _block_mean(hu: NDArray[Any], step: int) -> NDArray[np.float32]:
    rows, columns = hu.shape[1] // step * step, hu.shape[2] // step * step
    blocks = hu[:, :rows, :columns].reshape(hu.shape[0], rows // step, step, columns // step, step)
    mean: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float32)
    return mean


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: Mask = labels == sizes.argmax()
    return largest


def _body(plane: NDArray[np.float32]) -> Mask:
    """The cross-section of the patient with the lungs filled in; the table falls off by the opening."""
    tissue = _largest(ndimage.binary_opening(plane > TISSUE_HU, iterations=2))
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


def _air_threshold(plane: NDArray[np.float32], body: Mask) -> float:
    inside = plane[body]
    if inside.size < 100 or np.ptp(inside) < 50:
        return AIR_HU
    return float(np.clip(threshold_otsu(inside), -700.0, -250.0))


def _without_airways(air: Mask, plane: NDArray[np.float32], body: Mask, pixel_mm: float) -> Mask:
    """Remove small dark regions near the middle (trachea, main bronchi) and specks."""
    labels, count = ndimage.label(air)
    if count == 0:
        return air
    index = np.arange(1, count + 1)
    area_mm2 = np.bincount(labels.ravel())[1:] * pixel_mm**2
    mean_hu = ndimage.mean(plane, labels, index)
    centre = np.array([column for _, column in ndimage.center_of_mass(air, labels, index)])
    width = max(1.0, float(np.count_nonzero(body.any(axis=0))))
    central = np.abs(centre - _middle_column(body)) < 0.12 * width
    airway = (area_mm2 < 900.0) & central & (mean_hu < GAS_HU + 60)
    keep = np.concatenate([[False], (area_mm2 >= 60.0) & ~airway])
    kept: Mask = keep[labels]
    return kept


def _middle_column(body: Mask) -> int:
    columns = np.flatnonzero(body.any(axis=0))
    return int((columns[0] + columns[-1]) // 2) if len(columns) else body.shape[1] // 2


def _largest_parts(air: Mask, coarse: NDArray[np.float32]) -> Mask:
    """Keep the 3-D parts of at least 4 % of the largest that are not gas (stomach, bowel)."""
    labels, count = ndimage.label(air)
    if count == 0:
        return air
    index = np.arange(1, count + 1)
    sizes = np.bincount(labels.ravel())[1:]
    mean_hu = ndimage.mean(coarse, labels, index)
    largest = sizes.max()
    keep = (sizes >= 0.04 * largest) & ((mean_hu > GAS_HU) | (sizes >= 0.5 * largest))
    kept: Mask = np.concatenate([[False], keep])[labels]
    return kept


def _two_lungs(
    air: Mask, plane: NDArray[np.float32], middle: int, pixel_mm: float, low: int, high: int
) -> NDArray[np.uint8]:
    """Label one slice's air by side; a region that spans both sides is cut along the densest path between them."""
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
            sides[region & beyond] = high
            sides[region & ~beyond] = low
        else:
            sides[region] = high if share_high > 0.5 else low
    return sides


def _densest_path(plane: NDArray[np.float32], middle: int, reach: int) -> NDArray[np.int64]:
    """(rows,) column of the path from top to bottom with the largest sum of HU, near the middle."""
    first = max(0, middle - reach)
    strip = np.clip(plane[:, first : middle + reach + 1], -1000.0, 50.0)
    best = strip.copy()
    came = np.zeros(strip.shape, dtype=np.int8)
    for row in range(1, strip.shape[0]):
        before = np.pad(best[row - 1], 1, constant_values=-np.inf)
        options = np.stack([before[:-2], before[1:-1], before[2:]])
        came[row] = options.argmax(axis=0) - 1
        best[row] += options.max(axis=0)
    path = np.zeros(strip.shape[0], dtype=np.int64)
    path[-1] = int(best[-1].argmax())
    for row in range(strip.shape[0] - 1, 0, -1):
        path[row - 1] = path[row] + came[row, path[row]]
    return path + first


def _filled(
    labels: NDArray[np.uint8],
    coarse: NDArray[np.float32],
    pixel_mm: float,
    slice_mm: float | None,
    high: int,
) -> NDArray[np.uint8]:
    """Vessels, holes and dense disease at the wall become lung."""
    out = np.zeros_like(labels)
    depth = round(8.0 / slice_mm) if slice_mm and slice_mm <= 8.0 else 0
    radius = max(1, round(4.0 / pixel_mm))
    disc = _disc(radius)
    for side in (RIGHT, LEFT):
        lung = labels == side
        if depth and lung.shape[0] > 2 * depth + 1:
            above_and_below = ndimage.binary_closing(lung, structure=np.ones((2 * depth + 1, 1, 1), dtype=bool))
            lung |= above_and_below & (coarse > AIR_HU) & (coarse < 150.0)
        for index in range(lung.shape[0]):
            if lung[index].any():
                out[index][_closed_lung(lung[index], disc, lateral_is_high=side == high) & (out[index] == 0)] = side
    return out


def _closed_lung(lung: Mask, disc: Mask, *, lateral_is_high: bool) -> Mask:
    """One lung on one slice: small gaps closed, holes filled, and the hull's part that faces the chest wall added.

    The hull's concavities towards heart and liver have lung lateral of them; those at the wall have none.
    """
    pad = disc.shape[0]
    closed = ndimage.binary_closing(np.pad(lung, pad), structure=disc)[pad:-pad, pad:-pad] | lung
    closed = ndimage.binary_fill_holes(closed)
    if np.count_nonzero(closed) < 20:
        return closed
    hull = convex_hull_image(_largest(closed))
    towards_wall = closed if lateral_is_high else closed[:, ::-1]
    lung_lateral = np.maximum.accumulate(towards_wall[:, ::-1], axis=1)[:, ::-1]
    lung_medial = np.maximum.accumulate(towards_wall, axis=1)
    at_wall = ~lung_lateral & lung_medial
    at_wall = at_wall if lateral_is_high else at_wall[:, ::-1]
    result: Mask = closed | (hull & at_wall)
    return result


def _disc(radius: int) -> Mask:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc: Mask = x * x + y * y <= radius * radius
    return disc
