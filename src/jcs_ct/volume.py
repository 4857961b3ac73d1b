"""The data model: a CT volume and label volumes on its grid, self-checking, their fields read-only.

Arrays are lent, not copied, since one of a study may fill much of the memory: a volume cannot be written through its
own fields, and whoever made the array must not write into it any more.

Array axes are always (slices, rows, columns); slice 0 is the most superior one of a supine axial scan.
World coordinates are DICOM patient coordinates, LPS, in millimetres (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

#: What lies outside the reconstructed field of view (padding) is set to this value on reading.
BACKGROUND_HU = -1024
#: Values at or below this are padding, whatever a header says (-2000, -2048, -3024 in practice).
PADDING_HU = -2000
#: Corners of a mask and of its CT may lie this far apart, in mm: tools that write masks round affines and positions.
MASK_TOLERANCE_MM = 0.5


def _check_affine(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape != (4, 4):
        raise ValueError(f"affine must be 4x4 (slice, row, column, 1) -> LPS mm, got shape {affine.shape}")
    if not np.isfinite(affine).all():
        raise ValueError("affine has values that are not finite")
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("affine is singular: at least two of its axes are parallel or of length 0")
    affine = affine.copy()
    affine.setflags(write=False)
    return affine


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.setflags(write=False)
    return view


def _check_finite(hu: NDArray[Any]) -> None:
    """Slice by slice: a mask of all voxels would be a quarter of the volume again."""
    for index, plane in enumerate(hu if hu.dtype.kind == "f" else ()):
        if not np.isfinite(plane).all():
            raise ValueError(
                f"hu has values that are NaN or infinite, the first in slice {index}: set what was not imaged to "
                f"{BACKGROUND_HU}"
            )


def corners_apart_mm(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """The largest distance between where two affines put a corner of one grid, between voxel centres.

    Args:
        first, second: 4x4, in mm, of the same axes.
        shape: Of the grid.
    """
    corners = np.array([[*np.multiply(corner, np.subtract(shape, 1)), 1] for corner in np.ndindex(2, 2, 2)]).T
    return float(np.linalg.norm(((first - second) @ corners)[:3], axis=0).max())


_Scalar = TypeVar("_Scalar", bound=np.generic)


def every_nth(items: NDArray[_Scalar], most: int) -> NDArray[_Scalar]:
    """(n, ...) -> no more than ``most`` of them, as a view: every n-th from the first on."""
    return items[:: max(1, -(-len(items) // most))]


def evenly_spaced(indices: Sequence[int], most: int) -> list[int]:
    """At most so many of the indices, each in the middle of a part of equal length."""
    count = min(most, len(indices))
    return [indices[(2 * place + 1) * len(indices) // (2 * count)] for place in range(count)]


def spread_over(count: int, most: int) -> list[int]:
    """At most so many of the indices 0 to ``count`` - 1, evenly spaced, the first and the last one among them."""
    return [int(place) for place in np.linspace(0, count - 1, min(most, count)).round()]


def slices_with(labels: NDArray[Any]) -> NDArray[np.intp]:
    """(slices, rows, columns) -> the indices of the slices that hold anything but 0, in order."""
    return np.flatnonzero(labels.any(axis=(1, 2)))


def bounding_box(mask: NDArray[np.bool_], *, margin: int = 0) -> tuple[slice, ...]:
    """The smallest box that holds a mask, and ``margin`` more on every side where there is room.

    Args:
        mask: Of any number of axes.
        margin: Steps of the grid.

    Raises:
        ValueError: the mask is empty.
    """
    ranges = []
    for axis in range(mask.ndim):
        present = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(present):
            raise ValueError("an empty mask has no bounding box")
        ranges.append(slice(max(0, int(present[0]) - margin), min(mask.shape[axis], int(present[-1]) + margin + 1)))
    return tuple(ranges)


@dataclass(frozen=True, eq=False)
class CTVolume:
    """A CT volume in Hounsfield units.

    Args:
        hu: (slices, rows, columns), int16 or float32, in HU, all finite. Padding is ``BACKGROUND_HU``. Lent: not
            copied, and not to be written any more.
        affine: 4x4, maps (slice, row, column, 1) to LPS mm at voxel centres; ``None`` when the geometry is
            not known or not trustworthy: then every figure in mm or ml is withheld.
        hu_is_assumed: True when ``hu`` was made from grey levels under an assumed window (PNG, JPEG).
        axes_are_assumed: True when the source states no orientation: rows and columns are taken to run as slices are
            usually shown, and the patient's right and left are an assumption.

    Raises:
        ValueError: wrong dimensions, dtype or affine, or values that are not finite.
    """

    hu: NDArray[Any]
    affine: NDArray[np.float64] | None
    hu_is_assumed: bool = False
    axes_are_assumed: bool = False

    def __post_init__(self) -> None:
        if self.hu.ndim != 3:
            raise ValueError(f"hu must be 3-D (slices, rows, columns), got {self.hu.ndim}-D")
        if self.hu.dtype not in (np.dtype(np.int16), np.dtype(np.float32)):
            raise ValueError(f"hu must be int16 or float32, got {self.hu.dtype}")
        if min(self.hu.shape) < 1:
            raise ValueError(f"hu is empty: shape {self.hu.shape}")
        _check_finite(self.hu)
        object.__setattr__(self, "hu", _read_only(self.hu))
        if self.affine is not None:
            object.__setattr__(self, "affine", _check_affine(self.affine))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        slices, rows, columns = self.hu.shape
        return slices, rows, columns

    @property
    def is_measurable(self) -> bool:
        """Whether lengths and volumes may be stated."""
        return self.affine is not None

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Distance between voxel centres along (slices, rows, columns) in mm, or None."""
        if self.affine is None:
            return None
        slice_mm, row_mm, column_mm = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slice_mm), float(row_mm), float(column_mm)

    @cached_property
    def voxel_ml(self) -> float | None:
        """Volume of one voxel in ml, or None."""
        return None if self.affine is None else float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    def to_lps_mm(self, index: tuple[float, float, float]) -> tuple[float, float, float] | None:
        """LPS position in mm of a (slice, row, column) index, or None when the geometry is not known."""
        if self.affine is None:
            return None
        left, posterior, superior = self.affine[:3, :3] @ np.asarray(index, dtype=np.float64) + self.affine[:3, 3]
        return float(left), float(posterior), float(superior)


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """Integer labels on the grid of a CT volume.

    Args:
        labels: (slices, rows, columns), bool, uint8 or uint16; 0 is background. Lent, as :class:`CTVolume` has it.
        affine: As in :class:`CTVolume`.
        names: What each label stands for.

    Raises:
        ValueError: wrong dimensions, dtype or affine.
    """

    labels: NDArray[Any]
    affine: NDArray[np.float64] | None
    names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels.ndim != 3:
            raise ValueError(f"labels must be 3-D (slices, rows, columns), got {self.labels.ndim}-D")
        if self.labels.dtype not in (np.dtype(bool), np.dtype(np.uint8), np.dtype(np.uint16)):
            raise ValueError(f"labels must be bool, uint8 or uint16, got {self.labels.dtype}")
        object.__setattr__(self, "labels", _read_only(self.labels))
        if self.affine is not None:
            object.__setattr__(self, "affine", _check_affine(self.affine))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        slices, rows, columns = self.labels.shape
        return slices, rows, columns
