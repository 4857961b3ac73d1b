"""The turn from a source's array axes to the patient's, and back: axes permuted and flipped, nothing resampled.

A volume in the patient's axes has slices from superior to inferior, rows that run to the back and columns that run to
the patient's left, as an axial slice is usually shown. World coordinates are LPS (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

#: Where the patient's axes (slices, rows, columns) lie in LPS, and which way they run there.
_LPS_AXES, _LPS_SIGNS = (2, 1, 0), (-1, 1, 1)


@dataclass(frozen=True)
class AxisTurn:
    """Which source axis became each of the patient's axes, and which were flipped; one of 48.

    Args:
        order: For (slices, rows, columns), the source axis it was.
        flips: For (slices, rows, columns), whether it runs against the source's.

    Raises:
        ValueError: ``order`` is no permutation of 0, 1, 2, or there are not three flips.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def __post_init__(self) -> None:
        if sorted(self.order) != [0, 1, 2] or len(self.flips) != 3:
            raise ValueError(f"a turn needs a permutation of 0, 1, 2 and three flips, got {self.order}, {self.flips}")

    @classmethod
    def to_patient(cls, affine: NDArray[np.float64]) -> Self:
        """The turn that brings an array with this affine nearest to the patient's axes.

        Args:
            affine: (3 or 4) x (3 or 4), its first three columns the steps of the array's axes in LPS, of any length.

        Raises:
            ValueError: two array axes lie nearest to one of the patient's (turned by about 45 degrees).
        """
        steps = np.asarray(affine, dtype=np.float64)[:3, :3]
        nearest = [int(np.argmax(np.abs(step))) for step in steps.T]
        if sorted(nearest) != [0, 1, 2]:
            raise ValueError(f"array axes lie nearest to the LPS axes {nearest}: two of them to one")
        order = [nearest.index(axis) for axis in _LPS_AXES]
        flips = [
            bool(steps[axis, source] * sign < 0)
            for axis, source, sign in zip(_LPS_AXES, order, _LPS_SIGNS, strict=True)
        ]
        return cls((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))

    @property
    def is_identity(self) -> bool:
        """Whether the source lay in the patient's axes already."""
        return self == AS_STORED

    @property
    def source_directions(self) -> tuple[str, str, str]:
        """Where the source's first, second and third axis run to in the patient: one of S I, A P, R L each."""
        towards = {
            axis: ends[flip]
            for axis, flip, ends in zip(self.order, self.flips, (("I", "S"), ("P", "A"), ("L", "R")), strict=True)
        }
        return towards[0], towards[1], towards[2]

    @property
    def inverse(self) -> AxisTurn:
        """The turn from the patient's axes back to the source's."""
        slices, rows, columns = (self.order.index(axis) for axis in range(3))
        return AxisTurn((slices, rows, columns), (self.flips[slices], self.flips[rows], self.flips[columns]))

    @property
    def in_plane(self) -> AxisTurn:
        """The part of the turn that happens within an axial slice.

        It leads to the patient's axes from axial slices, superior first, whose rows and columns are the source's own
        (of the two source axes that lie in the slice, the one that comes first in the array is the rows).
        """
        rows, columns = self.order[1:]
        order = (0, 1, 2) if rows < columns else (0, 2, 1)
        return AxisTurn(order, (False, *self.flips[1:]))

    def turned(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of an array with three axes, turned."""
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return array.transpose(self.order)[steps]

    def turned_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of an array of this shape, once turned."""
        slices, rows, columns = (shape[axis] for axis in self.order)
        return slices, rows, columns

    def turned_affine(self, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """The affine of the turned array: every voxel keeps its place.

        Args:
            affine: 4x4, (index along each of the array's axes, 1) -> mm.
            shape: Of the array, before it is turned.
        """
        to_array = np.zeros((4, 4))
        to_array[3, 3] = 1.0
        for place, (axis, flip) in enumerate(zip(self.order, self.flips, strict=True)):
            to_array[axis, place] = -1.0 if flip else 1.0
            to_array[axis, 3] = shape[axis] - 1 if flip else 0.0
        return np.asarray(affine @ to_array, dtype=np.float64)

    def turned_index(
        self, index: tuple[float, float, float], shape: tuple[int, int, int]
    ) -> tuple[float, float, float]:
        """Where a voxel of an array of this shape lies in the turned one."""
        slices, rows, columns = (
            shape[axis] - 1 - index[axis] if flip else index[axis]
            for axis, flip in zip(self.order, self.flips, strict=True)
        )
        return slices, rows, columns


#: The turn of a source that lies in the patient's axes already.
AS_STORED = AxisTurn()


def axial_angles_deg(affine: NDArray[np.float64]) -> tuple[float, float]:
    """How far axial slices lean over, and how far they are turned in their plane, in degrees.

    Args:
        affine: (3 or 4) x (3 or 4), of an array turned to the patient's axes; columns of any length.

    Returns:
        The angle of the slices' normal to the body axis, and the angle of the columns' direction, seen along the body
        axis, to the line from right to left.
    """
    steps = np.asarray(affine, dtype=np.float64)[:3, :3]
    normal = np.cross(steps[:, 2], steps[:, 1])
    lean = np.degrees(np.arctan2(np.hypot(normal[0], normal[1]), abs(normal[2])))
    turn = np.degrees(np.arctan2(abs(steps[1, 2]), steps[0, 2]))
    return float(lean), float(turn)
