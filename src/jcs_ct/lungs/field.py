"""The field of view: where a slice was reconstructed at all, and what its edge cuts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.constants import Mask
from jcs_ct.lungs.morphology import eroded
from jcs_ct.volume import BACKGROUND_HU

#: A field is the circle inscribed in the picture when what was reconstructed overlaps with it this far (IoU).
CIRCLE_OVERLAP = 0.97


def field_of_view(hu: NDArray[np.float32]) -> Mask:
    """(rows, columns) True where the slices were reconstructed.

    Scanners reconstruct the circle that fits the picture and pad the corners with one value; the rest of the picture
    is then no air, and what ends at the circle was cut there. Anything else than that circle counts as the whole
    picture (a body that was cut out of its surroundings ends where it ends).

    Args:
        hu: (slices, rows, columns).
    """
    rows, columns = hu.shape[1:]
    padding = np.ones((rows, columns), dtype=bool)
    for plane in hu:
        padding &= plane <= BACKGROUND_HU
    y, x = np.ogrid[:rows, :columns]
    radius = min(rows, columns) / 2
    circle: Mask = (y - (rows - 1) / 2) ** 2 + (x - (columns - 1) / 2) ** 2 <= radius**2
    if not padding[[0, 0, -1, -1], [0, -1, 0, -1]].all():
        return np.ones((rows, columns), dtype=bool)
    overlap = np.count_nonzero(circle & ~padding) / np.count_nonzero(circle | ~padding)
    return circle & ~padding if overlap >= CIRCLE_OVERLAP else np.ones((rows, columns), dtype=bool)


def edge_of(field: Mask, width: int = 1) -> Mask:
    """(rows, columns) True on the outermost ``width`` pixels of a field."""
    return field & ~eroded(field, width)
