"""From the positions of slices to a volume's geometry: order, affine, steps, shear (PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.imaging.headers import SliceHeader


def angle_deg(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Angle between two directions in degrees, exact for small ones."""
    across = float(np.linalg.norm(np.cross(first, second)))
    return math.degrees(math.atan2(across, float(first @ second)))


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order along their normal, the most superior first.

    Args:
        order: Indices of the headers, most superior first.
        normal: Unit vector across the slices that points up (LPS).
        along_row: Unit vector of increasing column index; ``along_column`` of increasing row index.
        steps_mm: Distance of each slice to the next along the normal, never negative.
        step_lps_mm: Mean step from a slice to the next in LPS, None for a single slice.
        affine: (slice, row, column, 1) -> LPS mm, None for a single slice or when all slices share one position.
        shear_deg: Angle between the normal and the line of the positions, None for a single slice.
        off_line_mm: Largest distance of a slice's corner from that line, in the plane.
        off_line_slice: The slice that has it.
    """

    order: tuple[int, ...]
    normal: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    steps_mm: NDArray[np.float64]
    affine: NDArray[np.float64] | None
    shear_deg: float | None
    off_line_mm: float
    off_line_slice: int

    @property
    def axes(self) -> NDArray[np.float64]:
        """(3, 3): the steps along slices, rows and columns in LPS, at right angles; in mm where they are known."""
        return slice_axes(self.along_row, self.along_column, self.affine)

    @property
    def step_mm(self) -> float | None:
        """Mean distance between neighbouring slices along the normal."""
        return float(self.steps_mm.mean()) if self.steps_mm.size else None

    @property
    def extent_mm(self) -> float | None:
        """Distance between the first and the last slice along the normal."""
        return float(self.steps_mm.sum()) if self.steps_mm.size else None


def upward_normal(along_row: NDArray[np.float64], along_column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vector across slices, towards the positive end of the LPS axis it lies nearest to (up, for axial ones)."""
    normal = _unit(np.cross(along_row, along_column))
    return -normal if normal[int(np.argmax(np.abs(normal)))] < 0 else normal


def slice_axes(
    along_row: NDArray[np.float64], along_column: NDArray[np.float64], affine: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """(3, 3): directions of (slices, rows, columns) in LPS, slices against their normal, with an affine's lengths."""
    axes = np.stack([-upward_normal(along_row, along_column), along_column, along_row], axis=1)
    return axes if affine is None else axes * np.linalg.norm(affine[:3, :3], axis=0)


def usual_orientation(
    headers: Sequence[SliceHeader],
) -> tuple[NDArray[np.float64], NDArray[np.float64], SliceHeader] | None:
    """Unit vectors along a row and along a column, and the first slice that has them: the commonest orientation.

    None where no slice states one of two directions at right angles (PS3.3 C.7.6.2.1.1).
    """
    stated = [header for header in headers if header.orientation is not None and is_orthonormal(header.orientation)]
    if not stated:
        return None
    rounded = [tuple(round(cosine, 4) for cosine in header.orientation or ()) for header in stated]
    first = stated[rounded.index(Counter(rounded).most_common(1)[0][0])]
    cosines = np.asarray(first.orientation, dtype=np.float64)
    return _unit(cosines[:3]), _unit(cosines[3:]), first


def is_orthonormal(orientation: tuple[float, ...]) -> bool:
    """Whether an Image Orientation (Patient) holds two unit vectors at right angles, to a hundredth."""
    along_row, along_column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    lengths = (np.linalg.norm(along_row), np.linalg.norm(along_column))
    return bool(max(abs(length - 1) for length in lengths) < 0.01 and abs(along_row @ along_column) < 0.01)


def stack_slices(headers: Sequence[SliceHeader]) -> Stack:
    """Order slices by the projection of their position on the slice normal, never by z alone.

    Orientation and pixel spacing are those of the first slice that has the commonest orientation.

    Args:
        headers: All with position, orientation and pixel spacing.

    Raises:
        ValueError: a header lacks one of them.
    """
    if any(None in (header.position, header.orientation, header.pixel_spacing) for header in headers):
        raise ValueError("slices need position, orientation and pixel spacing to be stacked")
    usual = usual_orientation(headers)
    if usual is None or usual[2].pixel_spacing is None:
        raise ValueError("slices need orientation and pixel spacing to be stacked")
    along_row, along_column, first = usual
    row_mm, column_mm = first.pixel_spacing or ()
    normal = upward_normal(along_row, along_column)
    positions = np.asarray([header.position for header in headers], dtype=np.float64)
    heights = positions @ normal
    ties = [(header.instance_number or 0, header.file_index, header.frame) for header in headers]
    order = sorted(range(len(headers)), key=lambda index: (-heights[index], ties[index]))
    positions, heights = positions[order], heights[order]
    steps = heights[:-1] - heights[1:]
    shear, off_line, off_slice = _straightness(positions, heights, normal)
    affine = None
    if steps.sum() > 0:
        affine = np.eye(4)
        affine[:3, 0] = (positions[-1] - positions[0]) / (len(headers) - 1)
        affine[:3, 1] = along_column * row_mm
        affine[:3, 2] = along_row * column_mm
        affine[:3, 3] = positions[0]
    return Stack(tuple(order), normal, along_row, along_column, steps, affine, shear, off_line, off_slice)


def _unit(vector: NDArray[Any]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit


def _straightness(
    positions: NDArray[np.float64], heights: NDArray[np.float64], normal: NDArray[np.float64]
) -> tuple[float | None, float, int]:
    """Shear angle of the line of positions, and how far the worst slice lies beside that line.

    The line is the Theil-Sen one (median of the drift per mm against the middle), so that one stray slice does not
    look like a tilt.
    """
    in_plane = positions - np.outer(heights, normal)
    extent = heights[0] - heights[-1]
    if extent <= 0:
        return None, 0.0, 0
    drift = _median_slope(heights, in_plane)
    residual = in_plane - np.outer(heights, drift)
    distances = np.linalg.norm(residual - np.median(residual, axis=0), axis=1)
    worst = int(np.argmax(distances))
    return math.degrees(math.atan(float(np.linalg.norm(drift)))), float(distances[worst]), worst


def _median_slope(heights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over pairs half the stack apart of the change of ``values`` per mm of height."""
    apart = max(1, len(heights) // 2)
    rise = heights[:-apart] - heights[apart:]
    change = values[:-apart] - values[apart:]
    usable = rise > 1e-6
    if not usable.any():
        return np.zeros(values.shape[1])
    slope: NDArray[np.float64] = np.median(change[usable] / rise[usable, None], axis=0)
    return slope
