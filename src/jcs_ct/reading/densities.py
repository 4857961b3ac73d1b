"""Ground glass and consolidation: lesions split by how dense they are between this patient's lung and soft tissue.

Relative to both, the cut needs neither a known window nor true HU. It was chosen on the three-class masks of CT100
(``jcs evaluate densities`` chooses it anew in every fold; docs/results/ct100.md has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.preprocessing import Region
from jcs_ct.volume import slices_with

#: A mask of lesions, or their numbers.
Lesions = NDArray[np.bool_] | NDArray[np.uint16]
GROUND_GLASS, CONSOLIDATION = 1, 2
#: Share of the way from lung to soft tissue from which smoothed density counts as consolidation.
CONSOLIDATION_SHARE = 0.56
#: Sigma of the in-plane Gaussian in mm: a class is a property of a patch, not of a noisy pixel.
SMOOTHING_MM = 1.4
#: HU above which a pixel beside the lungs is soft tissue or denser.
_LEAST_TISSUE_HU = -500.0
#: Pixels of each kind without which nothing is said.
_LEAST_PIXELS = 50


@dataclass(frozen=True)
class TissueLevels:
    """Median HU of aerated lung and of the soft tissue around it; ``lung < soft_tissue``."""

    lung: float
    soft_tissue: float

    def __post_init__(self) -> None:
        if not self.lung < self.soft_tissue:
            raise ValueError(f"lung ({self.lung:g} HU) must be less dense than soft tissue ({self.soft_tissue:g} HU)")

    def at(self, share: float) -> float:
        """HU at a share of the way from lung (0) to soft tissue (1)."""
        return self.lung + share * (self.soft_tissue - self.lung)


def tissue_levels(hu: NDArray[Any], lungs: NDArray[np.uint8], lesions: Lesions) -> TissueLevels | None:
    """Measure lung and soft tissue on the slices that show lesions.

    Args:
        hu: (slices, rows, columns) in HU, or in grey levels that were read under an assumed window.
        lungs: Same shape: 0 outside, else lung.
        lesions: Same shape: 0 outside.

    Returns:
        None where too little of either is seen.
    """
    lung_seen, tissue_seen = _Values(), _Values()
    for index in slices_with(lesions):
        lung = lungs[index] > 0
        if not lung.any():
            continue
        around = Region.around(lung)
        box = np.s_[around.top : around.bottom, around.left : around.right]
        inside, lung, healthy = hu[index][box], lung[box], lesions[index][box] == 0
        is_dense = inside > _LEAST_TISSUE_HU
        lung_seen.add(inside[lung & healthy & ~is_dense])
        tissue_seen.add(inside[~lung & healthy & is_dense])
    if min(lung_seen.count, tissue_seen.count) < _LEAST_PIXELS:
        return None
    return TissueLevels(lung_seen.median(), tissue_seen.median())


class _Values:
    """How often each whole HU was seen: the median of any number of pixels in the memory of 65 536 counts."""

    def __init__(self) -> None:
        self._lowest = int(np.iinfo(np.int16).min)
        self._seen = np.zeros(1 << 16, dtype=np.int64)

    @property
    def count(self) -> int:
        return int(self._seen.sum())

    def add(self, values: NDArray[Any]) -> None:
        whole = np.rint(values).astype(np.int64) - self._lowest
        self._seen += np.bincount(np.clip(whole, 0, len(self._seen) - 1), minlength=len(self._seen))

    def median(self) -> float:
        upto, count = np.cumsum(self._seen), self.count
        middle = np.searchsorted(upto, [(count - 1) // 2, count // 2], side="right")
        return float(middle.mean()) + self._lowest


def smoothed_density(
    hu: NDArray[Any], lesions: NDArray[np.bool_], pixel_mm: tuple[float, float]
) -> NDArray[np.float32]:
    """One slice's HU after an in-plane Gaussian of :data:`SMOOTHING_MM`, at the lesion's pixels.

    Args:
        hu: (rows, columns).
        lesions: Same shape.
        pixel_mm: Sides of a pixel, along (rows, columns).

    Returns:
        (n,) in the order of ``hu[lesions]``.
    """
    if not lesions.any():
        return np.empty(0, dtype=np.float32)
    around = Region.around(lesions)
    sigma = [SMOOTHING_MM / side for side in pixel_mm]
    above, aside = (int(np.ceil(4 * one)) for one in sigma)
    box = np.s_[
        max(0, around.top - above) : around.bottom + above, max(0, around.left - aside) : around.right + aside
    ]
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(hu[box].astype(np.float32), sigma)[lesions[box]]
    return smooth


def split_densities(
    hu: NDArray[Any],
    lungs: NDArray[np.uint8],
    lesions: Lesions,
    pixel_mm: tuple[float, float],
    *,
    share: float = CONSOLIDATION_SHARE,
) -> NDArray[np.uint8] | None:
    """Split lesions into ground glass and consolidation.

    Args:
        hu: (slices, rows, columns) in HU, or in grey levels that were read under an assumed window.
        lungs: Same shape: 0 outside, else lung.
        lesions: Same shape: 0 outside.
        pixel_mm: Sides of a pixel, along (rows, columns).
        share: See :data:`CONSOLIDATION_SHARE`.

    Returns:
        Same shape: 0 no lesion, 1 ground glass, 2 consolidation. None where lung and soft tissue cannot be measured.

    Raises:
        ValueError: shapes that differ.
    """
    if not hu.shape == lungs.shape == lesions.shape:
        raise ValueError(f"hu {hu.shape}, lungs {lungs.shape} and lesions {lesions.shape} must have one shape")
    labels = np.zeros(hu.shape, dtype=np.uint8)
    if not lesions.any():
        return labels
    levels = tissue_levels(hu, lungs, lesions)
    if levels is None:
        return None
    cut = levels.at(share)
    for index in slices_with(lesions):
        lesion = lesions[index] > 0
        dense = smoothed_density(hu[index], lesion, pixel_mm) >= cut
        labels[index][lesion] = np.where(dense, CONSOLIDATION, GROUND_GLASS)
    return labels
