"""A check of the gate on voxels: is there more noise than the networks were found to bear?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.volume import every_nth

#: Noise in HU, at about as many pixels as the networks see, from which on infected slices are missed. Of 22 that were
#: found on a COVID-19 series, 20 were with noise of 26 HU (correlated over 0.8 pixels), 16 with 37, 13 with 49, none
#: with 71; ten patients' series have 10 to 30.
MOST_NOISE_HU = 35.0
#: Rows and columns that a picture is brought near to by averaging.
_SIDE = 256
#: Slices that are looked at, of the middle half.
_MOST_SLICES = 16
#: Soft tissue, told by its mean over so many pixels; fewer of them on a slice tell nothing.
_SOFT_HU, _OVER, _LEAST_PIXELS = (-50.0, 150.0), 7, 300
#: From the median of absolute values to the standard deviation of normal noise, and what the kernel makes of it.
_DEVIATION, _GAIN = 1.4826, 6.0
_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)


def check_noise(hu: NDArray[Any]) -> list[Finding]:
    """NOISY, a note: soft tissue is so grainy that infected slices may be missed.

    Args:
        hu: (slices, rows, columns) in HU.
    """
    noise = noise_hu(hu)
    if noise is None or noise <= MOST_NOISE_HU:
        return []
    message = (
        f"noise of about {noise:.0f} HU in soft tissue: infected slices may be missed, and above all a negative "
        "verdict be wrong; a softer kernel or thicker slices of the same scan have less"
    )
    return [Finding("NOISY", message, Severity.NOTE)]


def noise_hu(hu: NDArray[Any]) -> float | None:
    """Standard deviation of the noise in soft tissue, at about 256 x 256 pixels; None without such tissue.

    By the difference of two Laplacians, which edges and slopes leave at 0 (Immerkaer, 1996), as its median.
    """
    count = len(hu)
    middle = hu[count // 4 : count - count // 4]
    rows, columns = hu.shape[1:]
    every = max(1, round(rows / _SIDE)), max(1, round(columns / _SIDE))
    found = []
    for plane in every_nth(middle, _MOST_SLICES):
        coarse = averaged(plane, every)
        mean = ndimage.uniform_filter(coarse, _OVER)
        soft = (mean > _SOFT_HU[0]) & (mean < _SOFT_HU[1])
        if np.count_nonzero(soft) >= _LEAST_PIXELS:
            found.append(float(np.median(np.abs(ndimage.convolve(coarse, _KERNEL)[soft]))))
    return _DEVIATION * float(np.median(found)) / _GAIN if found else None


def averaged(plane: NDArray[Any], every: tuple[int, int]) -> NDArray[np.float32]:
    """(rows, columns) -> means over so many rows and columns, which differ where pixels are not square."""
    high, wide = every
    rows, columns = plane.shape[0] // high, plane.shape[1] // wide
    blocks = plane[: rows * high, : columns * wide].astype(np.float32).reshape(rows, high, columns, wide)
    means: NDArray[np.float32] = blocks.mean(axis=(1, 3))
    return means
