"""On which side of the spine the heart lies: what a picture that is mirrored left to right has wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.constants import LEFT, RIGHT, coarse_step
from jcs_ct.lungs.midline import LEAST_SPINE_MM2, bone_mm2_around, slices_with_bone
from jcs_ct.volume import every_nth, slices_with

#: The heart lies between these shares of the lungs' height, counted from the top; where less than this height is in
#: view they may be those of the liver's dome.
HEART_HEIGHT, LEAST_HEIGHT_MM = (0.4, 0.65), 180.0
#: No more slices than these are looked at, evenly spread.
_MOST_SLICES = 24
#: What is denser than this between the lungs is heart and mediastinum.
SOFT_HU = -200.0
#: The heart lies to the right when so much more of what lies between the lungs is right of the spine than left, as a
#: share of both ...
MOST_RIGHT = 0.1
#: ... and the left lung is the larger by this share of both: disease as dense as the heart makes no lung larger.
LARGER_LEFT = 0.03


def heart_is_right(labels: NDArray[np.uint8], hu: NDArray[Any], spacing_mm: tuple[float, float, float]) -> bool:
    """Whether the heart lies to the right of the spine and the left lung is the larger one beside it.

    False where no spine is seen, either lung is missing there, or only part of their height is in view. Pixels are
    square.

    Args:
        labels: (slices, rows, columns) from ``segment_lungs``, every side known.
        hu: Same shape.
        spacing_mm: Along (slices, rows, columns).
    """
    shown = slices_with(labels)
    if len(shown) * spacing_mm[0] < LEAST_HEIGHT_MM:
        return False
    low, high = (round(share * len(shown)) for share in HEART_HEIGHT)
    chosen = shown[low:high]
    step = coarse_step(hu.shape[2])
    chosen = every_nth(chosen, _MOST_SLICES)
    lungs, planes = labels[chosen, ::step, ::step], hu[chosen, ::step, ::step].astype(np.float32)
    right, left = (int(np.count_nonzero(lungs == side)) for side in (RIGHT, LEFT))
    whole = hu[every_nth(shown, _MOST_SLICES), ::step, ::step].astype(np.float32)
    column = _spine(whole, lungs > 0, spacing_mm[2] * step)
    if column is None or not right or left - right < LARGER_LEFT * (left + right):
        return False
    between = _between(lungs > 0) & (planes > SOFT_HU) & (lungs == 0)
    on_right, on_left = np.count_nonzero(between[:, :, :column]), np.count_nonzero(between[:, :, column + 1 :])
    return bool(on_right - on_left >= MOST_RIGHT * (on_right + on_left))


def _spine(whole: NDArray[np.float32], lungs: NDArray[np.bool_], pixel_mm: float) -> int | None:
    """The spine's column, in the middle half of the lungs' width and behind their middle; None where none is seen.

    It has the most bone in ``whole``, slices over all of the lungs' height, and goes through nearly all of them: a
    heart with contrast agent is as dense, but does not.
    """
    rows, columns = (np.flatnonzero(lungs.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    top, quarter = int(rows[0] + rows[-1]) // 2, (int(columns[-1]) - int(columns[0])) // 4
    first, last = int(columns[0]) + quarter, int(columns[-1]) - quarter + 1
    behind = np.s_[top : int(rows[-1]) + round(40.0 / pixel_mm), first:last]
    everywhere = np.ones(whole.shape, dtype=bool)
    area = bone_mm2_around(whole, everywhere, pixel_mm)[behind]
    if not area.size or area.max() < LEAST_SPINE_MM2:
        return None
    lasting = area * slices_with_bone(whole, everywhere, pixel_mm)[behind]
    return first + int(lasting.max(axis=0).argmax())


def _between(lungs: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels with lung on both sides in their row."""
    before = np.maximum.accumulate(lungs, axis=2)
    after = np.maximum.accumulate(lungs[:, :, ::-1], axis=2)[:, :, ::-1]
    between: NDArray[np.bool_] = before & after
    return between
