"""The slice grid in patient millimetres, smooth random fields on it, and soft painting."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Values on a slice, or on any set of points; float32 wherever speed counts.
Plane = NDArray[np.floating[Any]]
#: A coordinate in mm: one number, or one for each point.
Coordinate = Plane | np.floating[Any] | float


def stream(seed: int, *path: int) -> np.random.Generator:
    """An independent generator for every (seed, path); does not depend on the order of calls."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *path])))


@dataclass(frozen=True, eq=False)
class SliceGrid:
    """Pixel centres of an axial slice.

    Args:
        x_mm: (columns,), grows to the patient's left.
        y_mm: (rows,), grows posteriorly.
    """

    x_mm: Plane
    y_mm: Plane

    @classmethod
    def centred(cls, rows: int, columns: int, row_mm: float, column_mm: float) -> SliceGrid:
        """A grid whose centre is the origin."""
        x = (np.arange(columns) - (columns - 1) / 2) * column_mm
        y = (np.arange(rows) - (rows - 1) / 2) * row_mm
        return cls(x.astype(np.float32), y.astype(np.float32))

    @cached_property
    def pixel_mm(self) -> float:
        """The larger of the two pixel spacings in mm."""
        return float(max(self.x_mm[1] - self.x_mm[0], self.y_mm[1] - self.y_mm[0]))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return len(self.y_mm), len(self.x_mm)

    @property
    def x(self) -> Plane:
        """(1, columns) in mm."""
        return self.x_mm[None, :]

    @property
    def y(self) -> Plane:
        """(rows, 1) in mm."""
        return self.y_mm[:, None]

    def box(self, left: float, right: float, front: float, back: float) -> tuple[slice, slice]:
        """Rows and columns whose centres lie in a rectangle given in mm (may be empty)."""
        rows = np.searchsorted(self.y_mm, (front, back))
        columns = np.searchsorted(self.x_mm, (left, right))
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))

    def crop(self, box: tuple[slice, slice]) -> SliceGrid:
        """The grid of a part of the slice; it keeps the pixel size of the whole."""
        part = SliceGrid(self.x_mm[box[1]], self.y_mm[box[0]])
        part.__dict__["pixel_mm"] = self.pixel_mm
        return part


class SmoothField:
    """Band-limited random field in 3-D with mean 0 and SD about 1, defined everywhere.

    Cubic B-spline interpolation of a periodic lattice of normal numbers.

    Args:
        generator: Source of the lattice.
        scale_mm: Distance of lattice points along (x, y, z), or one number.
        size: Lattice points along each axis before the field repeats.
    """

    def __init__(
        self, generator: np.random.Generator, scale_mm: float | tuple[float, float, float], size: int = 64
    ) -> None:
        scales = (scale_mm,) * 3 if isinstance(scale_mm, int | float) else scale_mm
        self._scale = scales
        depth = min(size, 48)
        lattice = generator.standard_normal((depth, size, size), dtype=np.float32)
        # The variance a cubic B-spline leaves is (sum of w^2 averaged over a cell)^3 = 0.4793^3.
        self._lattice = lattice * np.float32(0.4793**-1.5)

    def plane(self, grid: SliceGrid, z_mm: float) -> Plane:
        """(rows, columns): the field on a slice at ``z_mm``."""
        index, weights = _spline_weights(np.array([z_mm / self._scale[2]]), self._lattice.shape[0])
        flat = np.einsum("k,kyx->yx", weights[:, 0], self._lattice[index[:, 0]])
        index, weights = _spline_weights(grid.y_mm / self._scale[1], flat.shape[0])
        rows: Plane = sum(weights[k][:, None] * flat[index[k]] for k in range(4))
        index, weights = _spline_weights(grid.x_mm / self._scale[0], flat.shape[1])
        out: Plane = sum(weights[k] * rows[:, index[k]] for k in range(4))
        return out


def _spline_weights(position: NDArray[np.floating], period: int) -> tuple[NDArray[np.int64], Plane]:
    """(n,) positions in lattice units -> (4, n) lattice indices and (4, n) cubic B-spline weights."""
    base = np.floor(position)
    t = (position - base).astype(np.float32)
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / np.float32(
        6
    )
    index = (base.astype(np.int64)[None] + np.arange(-1, 3)[:, None]) % period
    return index, weights


def coverage(inside_mm: Plane, edge_mm: float) -> Plane:
    """Share of a pixel that lies inside, from the signed distance to the border (positive inside)."""
    share: Plane = np.clip(inside_mm / np.float32(edge_mm) + np.float32(0.5), 0, 1)
    return share


def smooth_step(value: Plane) -> Plane:
    """0 below 0, 1 above 1, with continuous slope."""
    t = np.clip(value, 0, 1)
    step: Plane = t * t * (3 - 2 * t)
    return step


def smooth_max(a: Plane, b: Plane, radius: float) -> Plane:
    """Union of two signed distances whose crease is rounded by ``radius`` mm."""
    overlap = np.maximum(np.float32(radius) - np.abs(a - b), 0)
    union: Plane = np.maximum(a, b) + overlap * overlap * np.float32(0.25 / radius)
    return union


def paint(hu: Plane, share: Plane, value: float | Plane) -> None:
    """Mix ``value`` into ``hu`` in place by the share of each pixel."""
    hu += share * (value - hu)


def ellipse_distance(
    x: Plane, y: Plane, centre: tuple[float, float], half_axes: tuple[float, float], angle: float = 0.0
) -> Plane:
    """Signed distance in mm to an ellipse, positive inside (exact on the axes, close to it elsewhere)."""
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = (dx * cos + dy * sin) / np.float32(half_axes[0])
    across = (dy * cos - dx * sin) / np.float32(half_axes[1])
    radius = np.sqrt(along * along + across * across) + np.float32(1e-6)
    # Divide by the gradient's length, which makes the value a distance near the border.
    gradient = np.sqrt((along / half_axes[0]) ** 2 + (across / half_axes[1]) ** 2) / radius
    distance: Plane = (1 - radius) / np.maximum(gradient, np.float32(1e-3))
    return distance


def paint_ellipse(
    hu: Plane,
    grid: SliceGrid,
    centre: tuple[float, float],
    half_axes: tuple[float, float],
    value: float,
    *,
    angle: float = 0.0,
    edge_mm: float | None = None,
) -> None:
    """Paint a filled ellipse, touching only the pixels of its bounding box."""
    edge = grid.pixel_mm if edge_mm is None else edge_mm
    if min(half_axes) < 0.1:
        return
    reach = max(half_axes) + edge
    box = grid.box(centre[0] - reach, centre[0] + reach, centre[1] - reach, centre[1] + reach)
    part = grid.crop(box)
    if 0 in part.shape:
        return
    distance = ellipse_distance(part.x, part.y, centre, half_axes, angle)
    paint(hu[box], coverage(distance, edge), value)
