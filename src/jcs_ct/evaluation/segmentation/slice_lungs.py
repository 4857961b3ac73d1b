"""Lungs of a judged slice: what lies outside the body, as the table, is air and no lung."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs import segment_picture
from jcs_ct.preprocessing import OUTSIDE_HU, body_mask


def lungs_within_body(grey: NDArray[Any], hu: NDArray[Any]) -> NDArray[np.uint8]:
    """Both lungs of one slice.

    Args:
        grey: (rows, columns) in [0, 1], as a network sees the slice.
        hu: (rows, columns) in HU.

    Returns:
        (rows, columns): as :func:`jcs_ct.lungs.segment_picture`.
    """
    return segment_picture(np.where(body_mask(grey), hu, OUTSIDE_HU))
