"""What JPEG takes from a grey picture, as tensor arithmetic: many pictures at once, on any device.

A codec works on the processor alone; a batch that lies on a GPU would have to leave it and come back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_BLOCK = 8
#: Quantisation of luminance at quality 50 (ITU-T T.81, table K.1).
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


def compressed(grey: Tensor, qualities: Sequence[int]) -> Tensor:
    """Baseline JPEG of 8 bits and back.

    Args:
        grey: (N, 1, rows, columns) in [0, 1].
        qualities: 1 to 100, one a picture, as the Independent JPEG Group scales table K.1.

    Returns:
        The same shape; within about a grey level of 255 of what a codec gives.
    """
    rows, columns = grey.shape[-2:]
    below, right = -rows % _BLOCK, -columns % _BLOCK
    levels = F.pad((grey * 255.0).round() - 128.0, (0, right, 0, below), mode="replicate")
    size = (len(grey), 1, (rows + below) // _BLOCK, _BLOCK, (columns + right) // _BLOCK, _BLOCK)
    blocks = levels.reshape(size).transpose(3, 4)
    cosines = _cosines().to(grey)
    steps = torch.stack([_quantisation(quality) for quality in qualities]).to(grey)[:, None, None, None]
    kept = (cosines @ blocks @ cosines.T / steps).round() * steps
    restored: Tensor = (cosines.T @ kept @ cosines).transpose(3, 4).reshape(levels.shape)
    return ((restored + 128.0).round().clamp(0.0, 255.0) / 255.0)[..., :rows, :columns]


def _cosines() -> Tensor:
    """(8, 8) orthonormal discrete cosine transform, frequency by place (ITU-T T.81, A.3.3)."""
    frequency, place = torch.meshgrid(torch.arange(_BLOCK), torch.arange(_BLOCK), indexing="ij")
    waves = torch.cos((2 * place + 1) * frequency * (math.pi / (2 * _BLOCK))) * math.sqrt(2.0 / _BLOCK)
    waves[0] /= math.sqrt(2.0)
    return waves


def _quantisation(quality: int) -> Tensor:
    """(8, 8) steps between 1 and 255."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return torch.div(torch.tensor(_LUMINANCE) * scale + 50, 100, rounding_mode="floor").clamp(1, 255)
