"""Where in the lungs: sides, thirds of a lung's height, and the burden of each zone (side x third)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs import LEFT, RIGHT, UNKNOWN_SIDE

Side = Literal["right", "left", "unknown"]
SIDES: dict[int, Side] = {RIGHT: "right", LEFT: "left", UNKNOWN_SIDE: "unknown"}
THIRDS = ("upper", "middle", "lower")


@dataclass(frozen=True)
class Zone:
    """Burden of one zone (side x third); zonal, not lobar."""

    side: Side
    third: str
    lung_voxels: int
    opacity_voxels: int
    percent_opacity: float | None


def lung_heights(lungs: NDArray[np.uint8]) -> dict[int, tuple[int, int]]:
    """First and last slice of each lung."""
    heights = {}
    for side in SIDES:
        present = np.flatnonzero([bool((plane == side).any()) for plane in lungs])
        if len(present):
            heights[side] = (int(present[0]), int(present[-1]))
    return heights


def third_of(slice_index: float, height: tuple[int, int] | None) -> str:
    """The third of a lung's height that a slice lies in; the middle one where there is no lung."""
    if height is None:
        return THIRDS[1]
    first, last = height
    share = (slice_index - first + 0.5) / (last - first + 1)
    return THIRDS[min(2, max(0, int(share * 3)))]


def measure_zones(
    lung_voxels: NDArray[np.int64], opacity_voxels: NDArray[np.int64], heights: Mapping[int, tuple[int, int]]
) -> tuple[Zone, ...] | None:
    """Side x third of each lung's own height; zonal, not lobar. None where the side of some lung is not known.

    Args:
        lung_voxels: (slices, labels): voxels of each lung label on each slice.
        opacity_voxels: (slices, labels): those of them that are opacified.
        heights: First and last slice of each lung that was found, as :func:`lung_heights` gives them for lesions too:
            what is painted above or below a lung moves none of its zones.
    """
    if lung_voxels[:, UNKNOWN_SIDE].any():
        return None
    zones = []
    for side in (RIGHT, LEFT):
        lung, opacity = lung_voxels[:, side], opacity_voxels[:, side]
        thirds = np.array([third_of(index, heights.get(side)) for index in range(len(lung))])
        for third in THIRDS:
            total, found = int(lung[thirds == third].sum()), int(opacity[thirds == third].sum())
            zones.append(Zone(SIDES[side], third, total, found, 100.0 * found / total if total else None))
    return tuple(zones)
