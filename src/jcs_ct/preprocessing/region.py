"""A rectangle of a slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from jcs_ct.volume import bounding_box

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True)
class Region:
    """A rectangle of a slice in pixels: rows [top, bottom), columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    def __post_init__(self) -> None:
        if not (0 <= self.top < self.bottom and 0 <= self.left < self.right):
            raise ValueError(f"empty or negative region: {self}")

    @classmethod
    def around(cls, mask: NDArray[np.bool_]) -> Region:
        """The bounding box of a mask that has a pixel."""
        rows, columns = bounding_box(mask)
        return cls(rows.start, rows.stop, columns.start, columns.stop)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def common(self, other: Region) -> Region | None:
        """What lies in both; None where nothing does."""
        top, bottom = max(self.top, other.top), min(self.bottom, other.bottom)
        left, right = max(self.left, other.left), min(self.right, other.right)
        return Region(top, bottom, left, right) if top < bottom and left < right else None

    def within(self, outer: Region) -> Region:
        """The same rectangle, counted from a corner of one that holds it."""
        return Region(self.top - outer.top, self.bottom - outer.top, self.left - outer.left, self.right - outer.left)

    def of(self, plane: NDArray[_Value]) -> NDArray[_Value]:
        """(rows, columns) -> this rectangle of it, a view."""
        return plane[self.slices]
