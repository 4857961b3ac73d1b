"""How much of what the ribs enclose was found to be lung: where it is little, much lung holds no air."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.coarse_chest import CoarseChest
from jcs_ct.lungs.convex_hull import convex_hull
from jcs_ct.volume import every_nth, slices_with

#: Ribs, spine and breastbone are no less dense than this, as the mean of a pixel of about 256 columns; where HU were
#: clipped there, they are as dense.
RIBS_HU = 150.0
#: Between these shares of the lungs' height, counted from the top, the ribs enclose lungs, heart and vessels alone.
HEIGHT = (0.2, 0.7)
#: Of the hull of ribs and lungs 41 to 66 % are lung in ten patients; with the back half or more of both lungs filled
#: in, 24 to 32 % in two of them.
LEAST_AERATED_SHARE = 0.37
#: Behind the lungs lie 3 to 22 % of the hull's depth in these patients; 35 to 59 % where the back third or more of
#: both lungs was filled in.
MOST_BEHIND = 0.27
#: No more slices than these are looked at, evenly spread.
_MOST_SLICES = 12


@dataclass(frozen=True)
class Ribcage:
    """What the ribs enclose at the middle height of the lungs, as medians over the slices.

    Args:
        lung: Share of the convex hull of ribs and lungs that is lung.
        behind: Share of the hull's depth that lies behind the lungs.
    """

    lung: float
    behind: float

    @property
    def holds_little_air(self) -> bool:
        """Whether much of the lungs is probably without air, or fluid lies in their place."""
        return self.lung < LEAST_AERATED_SHARE or self.behind > MOST_BEHIND


def ribcage(labels: NDArray[np.uint8], hu: NDArray[Any], spacing_mm: tuple[float, float, float]) -> Ribcage | None:
    """Compare the lungs with what the ribs around them enclose; None where no ribs are seen around them.

    Args:
        labels: (slices, rows, columns) from ``segment_lungs``; pixels are square.
        hu: Same shape.
        spacing_mm: Along (slices, rows, columns).
    """
    shown = slices_with(labels)
    low, high = (round(share * len(shown)) for share in HEIGHT)
    chosen = shown[low : max(high, low + 1)]
    if not len(chosen):
        return None
    chosen = every_nth(chosen, _MOST_SLICES)
    chest = CoarseChest.of(hu[chosen], spacing_mm)
    rows, columns = chest.hu.shape[1:]
    lungs = labels[chosen, :: chest.step, :: chest.step][:, :rows, :columns] > 0
    shares, gaps = [], []
    for lung, bone in zip(lungs, (chest.hu >= RIBS_HU) & chest.bodies, strict=True):
        if not (lung.any() and bone.any()):
            continue
        hull = convex_hull(bone | lung)
        depth, lung_rows = np.flatnonzero(hull.any(axis=1)), np.flatnonzero(lung.any(axis=1))
        shares.append(np.count_nonzero(lung) / np.count_nonzero(hull))
        gaps.append((depth[-1] - lung_rows[-1]) / max(1, depth[-1] - depth[0]))
    return Ribcage(float(np.median(shares)), float(np.median(gaps))) if shares else None
