"""Lungs of a single picture that does not say how large its pixels are, nor in which window it was made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs.constants import ASSUMED_WIDTH_MM, LEFT, RIGHT
from jcs_ct.lungs.lung_segmentation import segment_lungs


def segment_picture(hu: NDArray[Any]) -> NDArray[np.uint8]:
    """Find both lungs of one slice; the density between lung and tissue is found in the slice itself.

    Args:
        hu: (rows, columns) in HU, as wide as ``ASSUMED_WIDTH_MM``.

    Returns:
        (rows, columns): 0 no lung, 1 right, 2 left.
    """
    pixel_mm = ASSUMED_WIDTH_MM / hu.shape[1]
    labels: NDArray[np.uint8] = segment_lungs(hu[None], spacing_mm=(1.0, pixel_mm, pixel_mm), hu_is_assumed=True)[0]
    return labels


def lesser_lung_share(labels: NDArray[np.uint8]) -> float:
    """Share of the picture that the smaller lung takes; 0 where only one was found."""
    return min(float((labels == side).mean()) for side in (RIGHT, LEFT))
