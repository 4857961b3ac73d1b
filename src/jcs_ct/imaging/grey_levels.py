"""What the grey levels of pictures stand for, told from their values: a window, or HU in one of the usual ways."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import GateCode, StudyError

#: The window that grey levels are taken to show where nothing else is known: level and width in HU.
ASSUMED_LEVEL, ASSUMED_WIDTH = -600.0, 1500.0
#: 16-bit levels whose largest value is below this hold HU + 1024.
SHIFTED_HU_BELOW = 8192
_WHITE_16 = 65535.0
#: 16-bit levels that all lie between these hold HU + 32768, as DeepLesion stores them.
_OFFSET_HU = (32768 - 4096, 32768 + 8192)
#: Numbers from -4096 to -1 have these 16-bit levels when their sign is lost; told in as many levels as this and more.
_WRAPPED_FROM, _LEAST_LEVELS = 65536 - 4096, 1024
#: Signed or real levels that lie between these, some below the second, are HU.
_HU_RANGE, _AIR_BELOW = (-32768.0, 32767.0), -200.0


class GreyMeaning(StrEnum):
    """What grey levels stand for; the value says it in a sentence's middle."""

    WINDOW = "a lung window (level -600, width 1500 HU)"
    HU_PLUS_1024 = "HU + 1024"
    HU_PLUS_32768 = "HU + 32768"
    HU = "HU"


def grey_meaning(levels: NDArray[Any]) -> GreyMeaning:
    """What levels stand for, any shape.

    Args:
        levels: uint8, uint16, or float32 (real or signed numbers).

    Raises:
        StudyError: NO_HU, when they may stand for several things or for none.
    """
    low, high = float(levels.min(initial=0)), float(levels.max(initial=0))
    if levels.dtype == np.uint8:
        return GreyMeaning.WINDOW
    if levels.dtype == np.uint16:
        _refuse_misread(levels, high)
        if high < SHIFTED_HU_BELOW:
            return GreyMeaning.HU_PLUS_1024
        if levels.size and _OFFSET_HU[0] <= int(levels.min()) and high <= _OFFSET_HU[1]:
            return GreyMeaning.HU_PLUS_32768
        if high < _WHITE_16 / 2:
            message = (
                f"16-bit grey levels reach {high:.0f} of 65535: too much for HU + 1024 (below {SHIFTED_HU_BELOW}), "
                "too little for a lung window; store HU + 1024, or say the window in a manifest (level_hu, width_hu)"
            )
            raise StudyError(GateCode.NO_HU, message)
        if levels.size >= _LEAST_LEVELS and levels.min() > _WHITE_16 / 2:
            message = (
                f"16-bit grey levels from {levels.min()} to {high:.0f} of 65535 show neither air nor lung in a lung "
                "window: they are moved, or counted down from white; store HU + 1024"
            )
            raise StudyError(GateCode.NO_HU, message)
        if not (levels % 16).any() and (levels % 256).any():
            message = (
                "16-bit grey levels are all multiples of 16: 12 bits moved to the left, and nothing says what they "
                "stand for; store HU + 1024, or say the window in a manifest (level_hu, width_hu)"
            )
            raise StudyError(GateCode.NO_HU, message)
        return GreyMeaning.WINDOW
    if low >= 0.0 and high <= 1.0:
        return GreyMeaning.WINDOW
    if low < _AIR_BELOW and low >= _HU_RANGE[0] and high <= _HU_RANGE[1]:
        return GreyMeaning.HU
    message = (
        f"real or signed values from {low:g} to {high:g} are neither HU (air far below {_AIR_BELOW:g}) nor grey from "
        "0 to 1; store HU, or scale them to 0 to 1"
    )
    raise StudyError(GateCode.NO_HU, message)


def _refuse_misread(levels: NDArray[np.uint16], high: float) -> None:
    """Refuse 16-bit levels that were written as something else: 8-bit grey, or HU with their sign lost.

    Raises:
        StudyError: NO_HU.
    """
    if levels.size < _LEAST_LEVELS:
        return
    if 0 < high <= 255:
        message = (
            f"16-bit grey levels reach {high:.0f} only: as HU + 1024 all would be air, so they are 8-bit grey in 16 "
            "bits; store them with 8 bits, or HU + 1024"
        )
        raise StudyError(GateCode.NO_HU, message)
    positive, negative = levels < SHIFTED_HU_BELOW, levels >= _WRAPPED_FROM
    if positive.any() and negative.any() and bool((positive | negative).all()):
        message = (
            f"16-bit grey levels lie below {SHIFTED_HU_BELOW} and above {_WRAPPED_FROM}, nowhere between: HU whose "
            "numbers below zero were stored as if all were positive; store HU + 1024"
        )
        raise StudyError(GateCode.NO_HU, message)


def white_of(levels: NDArray[Any]) -> float:
    """The level that a window's upper end has: 255, 65535 or 1."""
    return {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): _WHITE_16}.get(levels.dtype, 1.0)


def grey_to_hu(levels: NDArray[Any]) -> NDArray[np.float32]:
    """Levels -> HU, any shape, as :func:`grey_meaning` takes them.

    Raises:
        StudyError: as :func:`grey_meaning`.
    """
    meaning = grey_meaning(levels)
    if meaning is GreyMeaning.WINDOW:
        hu: NDArray[np.float32] = levels.astype(np.float32) * np.float32(ASSUMED_WIDTH / white_of(levels))
        hu += np.float32(ASSUMED_LEVEL - ASSUMED_WIDTH / 2)
        return hu
    shift = {GreyMeaning.HU_PLUS_1024: 1024, GreyMeaning.HU_PLUS_32768: 32768}.get(meaning, 0)
    return levels.astype(np.float32) - np.float32(shift)
