"""Vessels, holes and dense disease at the wall become lung."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.lungs.body import largest
from jcs_ct.lungs.coarse_chest import CoarseChest
from jcs_ct.lungs.constants import AIR_HU, LEFT, RIGHT, UNKNOWN_SIDE, Mask
from jcs_ct.lungs.convex_hull import convex_hull
from jcs_ct.lungs.morphology import closed_along_slices, closed_by_disc, without_holes
from jcs_ct.volume import bounding_box, slices_with

#: Gaps narrower than twice this (vessels, septa, the hilum's branches) are closed.
CLOSING_MM = 4.0
#: Dense disease no thicker than this, with lung above and below, is bridged.
BRIDGE_MM = 8.0
#: A larger hole that is soft tissue throughout may be the dome of the diaphragm, not disease inside the lung ...
LARGEST_DENSE_HOLE_MM2 = 700.0
#: ... which it is when its outline is smooth: when it fills this share of its convex hull.
DOME_SOLIDITY = 0.9
#: Share of a lung's area on a slice that may be filled in towards the wall.
MOST_DISEASE_AT_WALL = 0.15
#: A gap in the hull faces the wall when this share of it has no lung lateral of it.
FACES_WALL = 0.8
#: Disease without contrast agent is less dense than this; ribs and vertebrae are denser.
DENSEST_DISEASE_HU = 150.0


def filled_lungs(labels: NDArray[np.uint8], chest: CoarseChest) -> NDArray[np.uint8]:
    """Fill what belongs to a lung but is too dense to be air.

    Args:
        labels: (slices, rows, columns): 0, 1 right lung, 2 left lung, 3 side not known; air only.
        chest: Of the same shape. Without a known distance between slices nothing is bridged between them.

    Returns:
        Same shape; labelled pixels keep their label.
    """
    hu, pixel_mm, slice_mm = chest.hu, chest.pixel_mm, chest.slice_mm
    out = labels.copy()
    depth = round(BRIDGE_MM / slice_mm) if slice_mm and slice_mm <= BRIDGE_MM else 0
    for side in (RIGHT, LEFT, UNKNOWN_SIDE):
        lung = labels == side
        if not lung.any():
            continue
        lateral_is_high = None if side == UNKNOWN_SIDE else side == LEFT
        if depth and lung.shape[0] > 2 * depth + 1:
            lung |= closed_along_slices(lung, depth) & (hu > AIR_HU) & (hu < DENSEST_DISEASE_HU)
        for index in slices_with(lung):
            box = bounding_box(lung[index], margin=round(CLOSING_MM / pixel_mm) + 1)
            part = _filled_slice(lung[index][box], hu[index][box], pixel_mm, lateral_is_high=lateral_is_high)
            out[index][box][part & (out[index][box] == 0)] = side
    return out


def _filled_slice(lung: Mask, hu: NDArray[np.float32], pixel_mm: float, *, lateral_is_high: bool | None) -> Mask:
    """One lung on one slice: small gaps closed, holes filled, and the hull's gaps that face the chest wall.

    Without a side nothing says where the wall is, and nothing is filled towards it.
    """
    radius = max(1, round(CLOSING_MM / pixel_mm))
    closed = closed_by_disc(lung, radius) | lung
    closed |= _disease_holes(closed, hu, pixel_mm)
    if lateral_is_high is None or np.count_nonzero(closed) < 20:
        return closed
    added = _gaps_at_wall(closed, lateral_is_high=lateral_is_high) & (hu < DENSEST_DISEASE_HU)
    # Around the dome of the diaphragm a lung is a thin crescent, whose hull is mostly liver: too much to believe.
    if np.count_nonzero(added) > MOST_DISEASE_AT_WALL * np.count_nonzero(closed):
        return closed
    return closed | added


def _disease_holes(lung: Mask, hu: NDArray[np.float32], pixel_mm: float) -> Mask:
    """Holes inside the lung that may be disease: all but large, smooth ones of soft tissue."""
    holes, count = ndimage.label(without_holes(lung) & ~lung)
    if count == 0:
        return np.zeros_like(lung)
    index = np.arange(1, count + 1)
    area_mm2 = np.bincount(holes.ravel())[1:] * pixel_mm**2
    dome = (area_mm2 > LARGEST_DENSE_HOLE_MM2) & (ndimage.median(hu, holes, index) > 0.0)
    for number in index[dome]:
        dome[number - 1] = _solidity(holes == number) >= DOME_SOLIDITY
    filled: Mask = np.concatenate([[False], ~dome])[holes]
    return filled


def _solidity(region: Mask) -> float:
    """Share of the region's convex hull that the region fills."""
    return float(np.count_nonzero(region) / np.count_nonzero(convex_hull(region)))


def _gaps_at_wall(lung: Mask, *, lateral_is_high: bool) -> Mask:
    """The parts of the lung's convex hull, beside the lung, that face the chest wall.

    Concavities towards heart, hilum and diaphragm have lung lateral of them; those at the wall have none. A gap is
    taken or left as a whole.
    """
    gaps, count = ndimage.label(convex_hull(largest(lung)) & ~lung)
    if count == 0:
        return np.zeros_like(lung)
    towards_wall = lung if lateral_is_high else lung[:, ::-1]
    lung_lateral = np.maximum.accumulate(towards_wall[:, ::-1], axis=1)[:, ::-1]
    at_wall = ~(lung_lateral if lateral_is_high else lung_lateral[:, ::-1])
    share = ndimage.mean(at_wall, gaps, np.arange(1, count + 1))
    taken: Mask = np.concatenate([[False], share >= FACES_WALL])[gaps]
    return taken
