"""How much of the lungs a study shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.axes_contradicted import Contradiction, Unchecked, axes_contradiction, why_axes_unchecked
from jcs_ct.lungs.constants import ASSUMED_PIXEL_MM, LEFT, RIGHT, UNKNOWN_SIDE, Mask
from jcs_ct.lungs.field import edge_of, field_of_view, reconstructed_box
from jcs_ct.lungs.gas import LEAST_GAS_ML, largest_gas_ml
from jcs_ct.lungs.heart import heart_is_right
from jcs_ct.lungs.ribcage import Ribcage, ribcage
from jcs_ct.lungs.square_pixels import SquarePixels
from jcs_ct.volume import bounding_box

#: A lung is cut by the field on a slice where it meets the field's edge over more than this length.
LEAST_CUT_MM = 10.0
#: The scan begins or ends within the lungs where its first or last slice shows more than this share of the lung that
#: the fullest one shows.
MOST_AT_END = 0.2
#: No person's lungs hold more than this (total lung capacity is 4 to 8 l, 10 l in the tallest) ...
LARGEST_LUNGS_ML = 11_000.0
#: ... or are higher, deeper or wider than this; the two whole chests at hand are 228 and 272 mm high, 183 and
#: 189 deep, 238 and 306 wide.
LARGEST_LUNGS_MM = (400.0, 320.0, 450.0)
#: Both lungs of an adult are higher, deeper and wider than this; half of the two whole chests is 115 and 137 mm high,
#: 92 and 95 deep, 119 and 153 wide.
SMALLEST_LUNGS_MM = (140.0, 96.0, 160.0)
#: A lung with less than this share of the lung found is as good as missing.
LEAST_SHARE = 0.03
#: Of both lungs the right one holds 53 to 55 % of the air in health, the left one the rest; the two whole chests at
#: hand have 55 and 58 %. A lung with less than this share of both has lost volume or air.
USUAL_LEAST_SHARE = {RIGHT: 0.42, LEFT: 0.35}


@dataclass(frozen=True)
class LungsInView:
    """How much of the lungs a study shows.

    Args:
        share: Of the lung found, by label: ``RIGHT``, ``LEFT`` and ``UNKNOWN_SIDE``.
        cut_slices: On how many slices the field's edge cuts each of them.
        at_ends: Lung on the first and on the last slice that shows anything, as shares of that on the fullest one.
        contradiction: What says that the axes are not the patient's, so that no side is known.
        axes_unchecked: Why nothing bears the stated axes out; None where something does or contradicts them, and
            where HU are assumed.
        heart_is_right: Whether the heart lies where a mirrored picture has it.
        extent_mm: Of both lungs together along (slices, rows, columns); None where the geometry is not known.
        volume_ml: Likewise.
        ribcage: The lungs beside what the ribs enclose; None where lengths or HU are not known, or no ribs are seen.
        gas_ml: The largest region within them that is gas alone; None where lengths or HU are not known.
    """

    share: Mapping[int, float]
    cut_slices: Mapping[int, int]
    at_ends: tuple[float, float] = (0.0, 0.0)
    contradiction: Contradiction | None = None
    axes_unchecked: Unchecked | None = None
    heart_is_right: bool = False
    extent_mm: tuple[float, float, float] | None = None
    volume_ml: float | None = None
    ribcage: Ribcage | None = None
    gas_ml: float | None = None

    @property
    def holds_little_air(self) -> bool:
        """Whether lungs whose ends are in view take up so little of the chest that much of them holds no air."""
        return self.ribcage is not None and self._ends_in_view and self.ribcage.holds_little_air

    @property
    def holds_gas_alone(self) -> bool:
        """Whether so much within the lungs is gas alone that it is no airway."""
        return (self.gas_ml or 0.0) > LEAST_GAS_ML

    @property
    def larger_than_any(self) -> bool:
        """Whether lungs of this size are no person's: the geometry is stated wrongly."""
        extents = self.extent_mm or (0.0, 0.0, 0.0)
        return (self.volume_ml or 0.0) > LARGEST_LUNGS_ML or any(
            extent > most for extent, most in zip(extents, LARGEST_LUNGS_MM, strict=True)
        )

    @property
    def smaller_than_adults(self) -> bool:
        """Whether both lungs, wholly in view, are smaller than an adult's: a child's, or the geometry is wrong."""
        whole = not any(self.cut_slices.values()) and self._ends_in_view
        if self.extent_mm is None or self.only is not None or not whole:
            return False
        return any(extent < least for extent, least in zip(self.extent_mm, SMALLEST_LUNGS_MM, strict=True))

    @property
    def _ends_in_view(self) -> bool:
        return max(self.at_ends) <= MOST_AT_END

    @property
    def lesser(self) -> int | None:
        """The label of a lung, wholly in view, that is much smaller than usual beside the other; None without one."""
        if self.only is not None or self.share[UNKNOWN_SIDE] > 0 or not self._ends_in_view:
            return None
        both = self.share[RIGHT] + self.share[LEFT]
        small = [side for side, least in USUAL_LEAST_SHARE.items() if 0 < self.share[side] < least * both]
        return small[0] if small and not self.cut_slices[small[0]] else None

    @property
    def only(self) -> int | None:
        """The label of the only lung that was found; None with both, and where a side is not known."""
        if self.share[UNKNOWN_SIDE] > 0:
            return None
        missing = [side for side in (RIGHT, LEFT) if self.share[side] < LEAST_SHARE]
        return RIGHT + LEFT - missing[0] if len(missing) == 1 else None


def lungs_in_view(
    labels: NDArray[np.uint8],
    hu: NDArray[Any],
    spacing_mm: tuple[float, float, float] | None,
    *,
    hu_is_assumed: bool = False,
) -> LungsInView:
    """Measure which lungs a study shows, and which of them its field of view cuts.

    Args:
        labels: (slices, rows, columns) from ``segment_lungs``.
        hu: Same shape.
        spacing_mm: Along (slices, rows, columns); None where it is not known.
        hu_is_assumed: HU come from grey levels: spine and heart are not told then.
    """
    rows, columns = reconstructed_box(hu)
    labels, hu = labels[:, rows, columns], hu[:, rows, columns]
    square = SquarePixels.of(hu.shape, spacing_mm)
    if square is not None:
        labels, hu, spacing_mm = square.nearest(labels), square.resampled(hu), square.spacing_mm
    least = LEAST_CUT_MM / (spacing_mm[2] if spacing_mm else ASSUMED_PIXEL_MM)
    edge = edge_of(field_of_view(hu))
    by_slice, cut = np.zeros((len(labels), 4), dtype=np.int64), np.zeros(4, dtype=np.int64)
    across = np.zeros(labels.shape[1:], dtype=bool)
    for pixels, plane in zip(by_slice, labels, strict=True):
        across |= plane > 0
        for side in (RIGHT, LEFT, UNKNOWN_SIDE):
            pixels[side] = np.count_nonzero(plane == side)
        cut += np.bincount(plane[edge], minlength=4) > least
    voxels, lung = by_slice.sum(axis=0), by_slice.sum(axis=1)
    total, fullest = max(1, int(voxels.sum())), max(1, int(lung.max()))
    first, last = _imaged_ends(hu)
    sides = (RIGHT, LEFT, UNKNOWN_SIDE)
    known_mm = None if hu_is_assumed else spacing_mm
    none_known = bool(voxels[UNKNOWN_SIDE] > 0 and voxels[RIGHT] + voxels[LEFT] == 0)
    contradiction = axes_contradiction(labels, hu, known_mm) if none_known and known_mm else None
    asked = lung.any() and contradiction is None and not hu_is_assumed
    return LungsInView(
        {side: int(voxels[side]) / total for side in sides},
        {side: int(cut[side]) for side in sides},
        (float(lung[first] / fullest), float(lung[last] / fullest)),
        contradiction,
        why_axes_unchecked(labels, hu, spacing_mm) if asked else None,
        bool(known_mm and voxels[UNKNOWN_SIDE] == 0 and heart_is_right(labels, hu, known_mm)),
        None if spacing_mm is None else _extent_mm(lung > 0, across, spacing_mm),
        None if spacing_mm is None else int(voxels.sum()) * float(np.prod(spacing_mm)) / 1000.0,
        ribcage(labels, hu, known_mm) if known_mm else None,
        largest_gas_ml(labels, hu, known_mm) if known_mm else None,
    )


def _extent_mm(along: Mask, across: Mask, spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    """From where lung is: (slices,), and (rows, columns) of all slices together."""
    if not across.any():
        return (0.0, 0.0, 0.0)
    slices, rows, columns = (part.stop - part.start for part in (*bounding_box(along), *bounding_box(across)))
    return (slices * spacing_mm[0], rows * spacing_mm[1], columns * spacing_mm[2])


def _imaged_ends(hu: NDArray[Any]) -> tuple[int, int]:
    """The first and the last slice that hold more than one value; padding in the direction of the slices does not."""
    count = len(hu)
    first = next((index for index in range(count) if hu[index].min() < hu[index].max()), 0)
    last = next((index for index in reversed(range(count)) if hu[index].min() < hu[index].max()), count - 1)
    return first, last
