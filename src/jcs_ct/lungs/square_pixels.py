"""A volume with pixels that are not square, brought onto ones that are, and labels brought back.

Lungs are sought by shapes and areas in pixels. Scanners reconstruct square ones; axial slices that are cut out of
coronal or sagittal ones, and volumes that were resampled, may have others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Spacing = tuple[float, float, float]
#: Sides of a pixel that differ by no more than this share are taken as equal.
SQUARE_TOLERANCE = 0.02
#: The square has the pixel's shorter side, but no less than this share of the longer one: headers may state any.
LEAST_SIDE = 1 / 8


@dataclass(frozen=True, eq=False)
class SquarePixels:
    """A grid with square pixels over the same rectangle as a study's own slices.

    Args:
        rows, columns: Where the grid's pixels lie on the study's own, as indices of rows and of columns.
        own_rows, own_columns: The grid's pixel nearest to each of the study's own rows and columns.
        spacing_mm: Of the grid, along (slices, rows, columns).
        blur_mm: How wide an edge becomes on it: the longer side of the study's own pixel.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    own_rows: NDArray[np.intp]
    own_columns: NDArray[np.intp]
    spacing_mm: _Spacing
    blur_mm: float

    @classmethod
    def of(cls, shape: tuple[int, ...], spacing_mm: _Spacing | None) -> SquarePixels | None:
        """The grid for slices of ``shape``, (slices, rows, columns); None where their pixels are square already."""
        if spacing_mm is None:
            return None
        slice_mm, *sides = spacing_mm
        if max(sides) <= (1 + SQUARE_TOLERANCE) * min(sides):
            return None
        side = max(min(sides), LEAST_SIDE * max(sides))
        (rows, own_rows), (columns, own_columns) = (
            _axis(count, mm, side) for count, mm in zip(shape[1:], sides, strict=True)
        )
        return cls(rows, columns, own_rows, own_columns, (slice_mm, side, side), max(sides))

    def resampled(self, hu: NDArray[Any]) -> NDArray[Any]:
        """(slices, rows, columns) in HU on the grid, between the two nearest pixels along either side."""
        out = np.empty((len(hu), len(self.rows), len(self.columns)), dtype=hu.dtype)
        for plane, target in zip(hu, out, strict=True):
            between = _between(_between(plane.astype(np.float32), self.rows).T, self.columns).T
            target[...] = np.rint(between) if hu.dtype.kind in "iu" else between
        return out

    def nearest(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(slices, rows, columns) of labels on the grid, each pixel with its nearest label."""
        rows, columns = (np.rint(places).astype(np.intp) for places in (self.rows, self.columns))
        return labels[:, rows[:, None], columns]

    def returned(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels on the grid -> (slices, rows, columns) of the study's own, each pixel with its nearest label."""
        return labels[:, self.own_rows[:, None], self.own_columns]


def _axis(count: int, own_mm: float, side_mm: float) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Where the grid's pixels lie among ``count`` of the study's own, and which is nearest to each of these."""
    wanted = max(1, round(count * own_mm / side_mm))
    scale = count / wanted
    places = np.clip((np.arange(wanted) + 0.5) * scale - 0.5, 0, count - 1)
    return places, np.minimum(((np.arange(count) + 0.5) / scale).astype(np.intp), wanted - 1)


def _between(plane: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows of a plane at places between them."""
    low = np.minimum(places.astype(np.intp), len(plane) - 1)
    high = np.minimum(low + 1, len(plane) - 1)
    share = (places - low).astype(np.float32)[:, None]
    mixed: NDArray[np.float32] = plane[low] * (1 - share) + plane[high] * share
    return mixed
