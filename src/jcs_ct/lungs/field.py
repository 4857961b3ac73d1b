"""The field of view: where a slice was reconstructed at all, and what its edge cuts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.constants import Mask
from jcs_ct.lungs.morphology import eroded
from jcs_ct.volume import BACKGROUND_HU, bounding_box

#: What was reconstructed is a circle or a rectangle when it overlaps with it this far (IoU).
SHAPE_OVERLAP = 0.97
#: One value in all corners of all slices, darker than this, is padding; lungs with emphysema are not as dark.
DARKEST_LUNG_HU = -990.0


def field_of_view(hu: NDArray[np.float32]) -> Mask:
    """(rows, columns) True where the slices were reconstructed.

    Scanners reconstruct the circle that fits the picture and pad the corners with one value; the rest of the picture
    is then no air, and what ends at the circle was cut there. Anything else than that circle counts as the whole
    picture (a body that was cut out of its surroundings ends where it ends).

    Args:
        hu: (slices, rows, columns).
    """
    rows, columns = hu.shape[1:]
    whole = np.ones((rows, columns), dtype=bool)
    corners = hu[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    value = float(corners.max())
    if value > BACKGROUND_HU and (value > DARKEST_LUNG_HU or value != corners.min()):
        return whole
    padding = whole.copy()
    for plane in hu:
        padding &= plane <= value
    circle = _inscribed_circle(rows, columns)
    return circle & ~padding if _overlaps(circle, ~padding) else whole


def reconstructed_box(hu: NDArray[Any]) -> tuple[slice, slice]:
    """The rows and columns that hold what was reconstructed, where a smaller field was padded to the picture's size.

    A field that is narrower than the body comes padded with one value: after a crop that keeps the grid, a
    resampling onto another series' grid, a small reconstruction in a large matrix. What lies at its edge was cut
    there, and the padding is no air that a lung could open to. The padding is told by the shape of what it leaves: a
    rectangle, a circle, or a part of the circle inscribed in the picture. A body that was cut out of its surroundings
    is none of these, and counts as the whole picture.

    Args:
        hu: (slices, rows, columns).
    """
    rows, columns = hu.shape[1:]
    whole = np.s_[:rows, :columns]
    value = _padding_value(hu)
    if value is None:
        return whole
    shown = np.zeros((rows, columns), dtype=bool)
    for plane in hu:
        shown |= plane != value
    if not shown.any():
        return whole
    across_rows, across_columns = bounding_box(shown)
    box = (across_rows, across_columns)
    inside = shown[box]
    shapes = (np.ones_like(inside), _inscribed_circle(*inside.shape), _inscribed_circle(rows, columns)[box])
    return box if any(_overlaps(shape, inside) for shape in shapes) else whole


def _padding_value(hu: NDArray[Any]) -> float | None:
    """The one value that at least one whole side of the picture holds on every slice; None where none does."""
    for side in (hu[:, 0], hu[:, -1], hu[:, :, 0], hu[:, :, -1]):
        if side.min() == side.max():
            return float(side.flat[0])
    return None


def _inscribed_circle(rows: int, columns: int) -> Mask:
    """(rows, columns) True within the largest circle around the middle."""
    y, x = np.ogrid[:rows, :columns]
    radius = min(rows, columns) / 2
    circle: Mask = (y - (rows - 1) / 2) ** 2 + (x - (columns - 1) / 2) ** 2 <= radius**2
    return circle


def _overlaps(shape: Mask, shown: Mask) -> bool:
    """Whether two masks are the same but for ``SHAPE_OVERLAP``."""
    return bool(np.count_nonzero(shape & shown) >= SHAPE_OVERLAP * np.count_nonzero(shape | shown))


def edge_of(field: Mask, width: int = 1) -> Mask:
    """(rows, columns) True on the outermost ``width`` pixels of a field."""
    return field & ~eroded(field, width)
