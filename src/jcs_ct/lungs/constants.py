"""Densities and sizes that tell lung from what lies around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

#: Labels of the patient's lungs; of lung whose side nothing tells.
RIGHT, LEFT, UNKNOWN_SIDE = 1, 2, 3
#: HU below which a pixel inside the body is air or lung.
AIR_HU = -320.0
#: HU above which a pixel belongs to the body's wall and organs.
TISSUE_HU = -500.0
#: Below this mean HU a region is gas (airway, bowel), not lung.
GAS_HU = -925.0
#: Lungs are found, and looked at, on a grid of about so many columns.
COARSE_COLUMNS = 256
#: Pixel size in mm that is assumed where the geometry is not known.
ASSUMED_PIXEL_MM = 0.7
#: Width in mm that a picture of a chest is taken to have where it does not say how large its pixels are.
ASSUMED_WIDTH_MM = 360.0


def coarse_step(columns: int) -> int:
    """Columns of a slice to one of the grid on which lungs are looked at."""
    return max(1, round(columns / COARSE_COLUMNS))
