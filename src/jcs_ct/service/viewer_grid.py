"""The grid that the browser's viewer shows and paints on, and the way back to the study's.

The viewer gets the chest only, in arrays that run right to left, posterior to anterior and inferior to superior in
memory (NIfTI's RAS+), so that no axis is turned in the browser and a painted byte has one place. Wide studies are
halved in plane; what is painted there changes blocks of two by two pixels, and blocks that were not painted keep the
study's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from jcs_ct.volume import CTVolume

#: Voxels above which the viewer's grid is halved in plane: a browser keeps some 12 bytes for each.
MOST_VOXELS = 40_000_000
#: Voxels of the viewer's grid above which it draws overlays with half the columns and rows (``LARGE`` of viewer.js).
LARGE_VOXELS = 8_000_000
#: What is kept around the lungs, in mm and, without geometry, in pixels.
MARGIN_MM, MARGIN_PIXELS = 10.0, 16
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Standard display, for studies without geometry: slices go down, rows backwards, columns to the left; 1 mm each.
_ASSUMED_LPS = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])

Array = NDArray[Any]
_orientation_of: Any = orientations.io_orientation  # nibabel's own annotations are partial


@dataclass(frozen=True)
class ViewerGrid:
    """A box of a study's grid, thinned in plane, with its axes in the viewer's order.

    Args:
        study_shape: (slices, rows, columns).
        first, stop: The box, per axis of the study.
        step: 1, or 2 where rows and columns are halved.
        order: Axis of the study that runs along the viewer's x, y and z.
        flipped: Whether the viewer's x, y and z run against it.
        affine: 4x4, viewer's (x, y, z, 1) to RAS mm.
        is_measurable: Whether positions in mm mean anything.
    """

    study_shape: tuple[int, int, int]
    first: tuple[int, int, int]
    stop: tuple[int, int, int]
    step: int
    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    affine: tuple[tuple[float, ...], ...]
    is_measurable: bool

    @classmethod
    def around(cls, volume: CTVolume, shown: NDArray[np.bool_], *, most_voxels: int = MOST_VOXELS) -> ViewerGrid:
        """The grid for a study.

        Args:
            volume: The study's voxels.
            shown: (slices, rows, columns): what must be seen (lungs and lesions).
            most_voxels: See :data:`MOST_VOXELS`.
        """
        first, stop = _box(volume, shown)
        size = int(np.prod(np.subtract(stop, first)))
        step = 2 if size > most_voxels else 1
        to_ras = _LPS_TO_RAS @ (_ASSUMED_LPS if volume.affine is None else volume.affine)
        scaled = to_ras @ np.diag([1.0, step, step, 1.0])
        scaled[:3, 3] = to_ras[:3, :3] @ np.array([first[0], *(edge + (step - 1) / 2 for edge in first[1:])])
        scaled[:3, 3] += to_ras[:3, 3]
        orientation: Array = _orientation_of(scaled)
        axes = [int(np.flatnonzero(orientation[:, 0] == world)[0]) for world in range(3)]
        flipped = [bool(orientation[axis, 1] < 0) for axis in axes]
        shape = _thinned(first, stop, step)
        affine = np.eye(4)
        affine[:3, 3] = scaled[:3, 3]
        for world, axis in enumerate(axes):
            affine[:3, world] = scaled[:3, axis] * (-1.0 if flipped[world] else 1.0)
            if flipped[world]:
                affine[:3, 3] += scaled[:3, axis] * (shape[axis] - 1)
        return cls(
            study_shape=volume.shape,
            first=first,
            stop=stop,
            step=step,
            order=(axes[0], axes[1], axes[2]),
            flipped=(flipped[0], flipped[1], flipped[2]),
            affine=tuple(tuple(float(value) for value in row) for row in affine),
            is_measurable=volume.is_measurable,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(x, y, z) of the viewer's arrays."""
        thinned = _thinned(self.first, self.stop, self.step)
        return thinned[self.order[0]], thinned[self.order[1]], thinned[self.order[2]]

    def to_viewer(self, array: Array, *, labels: bool) -> Array:
        """(slices, rows, columns) on the study's grid -> (x, y, z) on the viewer's.

        Args:
            array: On the study's grid.
            labels: Where the grid is halved, a block takes its largest label; grey values their mean.
        """
        inside = array[tuple(slice(a, b) for a, b in zip(self.first, self.stop, strict=True))]
        if self.step == 2:
            blocks = _blocks(inside)
            inside = blocks.max(axis=(2, 4)) if labels else blocks.mean(axis=(2, 4)).astype(array.dtype)
        return self._turned(inside)

    def place_of(self, index: tuple[float, float, float]) -> tuple[int, int, int]:
        """The viewer's (x, y, z) that shows a (slice, row, column) of the study; the nearest for those outside."""
        thinned = _thinned(self.first, self.stop, self.step)
        place = []
        for axis, flip in zip(self.order, self.flipped, strict=True):
            along = int((index[axis] + 0.5 - self.first[axis]) // (1 if axis == 0 else self.step))
            held = min(max(along, 0), thinned[axis] - 1)
            place.append(thinned[axis] - 1 - held if flip else held)
        return place[0], place[1], place[2]

    def paint(self, painted: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A reader's mask, on the study's grid.

        Args:
            painted: (x, y, z): the mask as the viewer has it now.
            mask: (slices, rows, columns): the mask that the viewer was given.

        Returns:
            (slices, rows, columns): ``mask`` with every block replaced that differs in the viewer.

        Raises:
            ValueError: shapes that do not belong to this grid.
        """
        if painted.shape != self.shape or mask.shape != self.study_shape:
            raise ValueError(f"painted {painted.shape} and mask {mask.shape}: not of this grid {self.shape}")
        before = self._turned_back(self.to_viewer(mask, labels=True).astype(bool))
        after = self._turned_back(painted)
        result = mask.copy()
        inside = result[tuple(slice(a, b) for a, b in zip(self.first, self.stop, strict=True))]
        changed = before != after
        np.copyto(inside, self._expanded(after, inside.shape), where=self._expanded(changed, inside.shape))
        return result

    def _expanded(self, array: Array, shape: tuple[int, ...]) -> Array:
        if self.step == 1:
            return array
        return array.repeat(2, axis=1).repeat(2, axis=2)[:, : shape[1], : shape[2]]

    def _turned(self, array: Array) -> Array:
        turned = array.transpose(self.order)
        return turned[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flipped)]

    def _turned_back(self, array: Array) -> Array:
        straight = array[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flipped)]
        return straight.transpose(np.argsort(self.order))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ViewerGrid:
        """From JSON values."""
        fields = {name: values[name] for name in cls.__dataclass_fields__}
        for name in ("study_shape", "first", "stop", "order", "flipped"):
            fields[name] = tuple(fields[name])
        fields["affine"] = tuple(tuple(row) for row in fields["affine"])
        return cls(**fields)


def halved_in_plane(array: Array, affine: Array) -> tuple[Array, Array]:
    """A map or labels with half the columns and rows: each value is the largest of two by two voxels of the grid.

    Of two lesions that meet within a block the one with the larger number is shown.

    Args:
        array: (x, y, z).
        affine: 4x4, of the viewer's grid.

    Returns:
        The largest value of each block, (x / 2, y / 2, z), and its affine.
    """
    width, height, depth = array.shape
    padded = np.pad(array, [(0, width % 2), (0, height % 2), (0, 0)], mode="edge")
    blocks = padded.reshape(-(-width // 2), 2, -(-height // 2), 2, depth)
    scaled = affine @ np.diag([2.0, 2.0, 1.0, 1.0])
    scaled[:, 3] = affine @ np.array([0.5, 0.5, 0.0, 1.0])
    return blocks.max(axis=(1, 3)), scaled


def _box(volume: CTVolume, shown: NDArray[np.bool_]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """All slices, and of rows and columns what is shown with a margin."""
    first, stop = [0], [volume.shape[0]]
    plane = np.asarray(shown.any(axis=0))
    for axis, line in ((1, plane.any(axis=1)), (2, plane.any(axis=0))):
        present = np.flatnonzero(line)
        size = volume.shape[axis]
        margin = MARGIN_PIXELS if volume.spacing_mm is None else round(MARGIN_MM / volume.spacing_mm[axis])
        low, high = (int(present[0]), int(present[-1]) + 1) if len(present) else (0, size)
        first.append(max(0, low - margin))
        stop.append(min(size, high + margin))
    return (first[0], first[1], first[2]), (stop[0], stop[1], stop[2])


def _thinned(first: tuple[int, ...], stop: tuple[int, ...], step: int) -> tuple[int, int, int]:
    rows, columns = (-(-(stop[axis] - first[axis]) // step) for axis in (1, 2))
    return stop[0] - first[0], rows, columns


def _blocks(array: Array) -> Array:
    """(slices, rows, columns) -> (slices, rows / 2, 2, columns / 2, 2); odd edges are repeated."""
    odd = [(0, 0), (0, array.shape[1] % 2), (0, array.shape[2] % 2)]
    padded = np.pad(array, odd, mode="edge") if any(after for _, after in odd) else array
    slices, rows, columns = padded.shape
    return padded.reshape(slices, rows // 2, 2, columns // 2, 2)
