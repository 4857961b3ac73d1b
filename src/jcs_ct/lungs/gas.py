"""Gas alone in what was taken for lung: air in the pleural space, a bulla."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.lungs.coarse_chest import block_mean
from jcs_ct.volume import bounding_box

#: Gas alone is darker than this, as the mean of a square of ``MEAN_MM``; there is no vessel in it.
GAS_ALONE_HU, MEAN_MM = -965.0, 3.0
#: More than this that hangs together is no airway: in ten patients 2 ml at most do, of six simulated pneumothoraces
#: of 169 to 927 ml 130 to 804.
LEAST_GAS_ML = 20.0


def largest_gas_ml(labels: NDArray[np.uint8], hu: NDArray[Any], spacing_mm: tuple[float, float, float]) -> float:
    """The volume of the largest region within the lungs that hangs together and is gas alone.

    Args:
        labels: (slices, rows, columns) from ``segment_lungs``; pixels are square.
        hu: Same shape.
        spacing_mm: Along (slices, rows, columns).
    """
    if not labels.any():
        return 0.0
    box = np.s_[:, *bounding_box(labels.max(axis=0) > 0)]
    step = max(1, round(MEAN_MM / spacing_mm[2]))
    within = block_mean((labels[box] > 0).view(np.uint8), step) == 1.0
    regions, count = ndimage.label(within & (block_mean(hu[box], step) < GAS_ALONE_HU))
    if not count:
        return 0.0
    squares = int(np.bincount(regions[regions > 0]).max())
    return squares * step**2 * float(np.prod(spacing_mm)) / 1000.0
