"""Lesions made fainter: what separates them from the lung around them shrinks, their outline stays.

Annotated slices hold mostly dense lesions; a network learns from them that ground glass of 50 to 150 HU above its
lung is none. A faded lesion keeps its vessels and its noise: only its smooth excess over the lung around is taken
away.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

#: Share of a lesion's excess over its lung that the strongest fading leaves.
LEAST_KEPT = 0.2
#: Mean excess, in grey of the lung window, that is left at least (60 HU): what nobody can see is no lesion.
SEEN_GREY = 0.04
#: Grey of aerated lung in the lung window (-960 to -600 HU): denser is lesion, vessel or wall, thinner is air.
_LUNG_GREY = (0.26, 0.5)
#: Sigmas as shares of the side: of the lung around a pixel, of what is smooth in a lesion, of a mask's soft rim.
_AROUND, _SMOOTH, _RIM = 0.04, 0.008, 0.004
#: Less lung than this share around a pixel tells nothing; the slice's own lung does then.
_LEAST_LUNG_SHARE = 0.02


def fade_lesions(grey: Tensor, masks: Tensor, kept: Tensor) -> Tensor:
    """Take the smooth excess of lesions over the lung around them away, but for a share.

    Args:
        grey: (N, 1, rows, columns) in [0, 1] under the lung window, on any device.
        masks: (N, 1, rows, columns) in {0, 1}.
        kept: (N, 1, rows, columns) share of the excess that is left, in (0, 1]; 1 changes nothing.

    Returns:
        Grey of the same shape. Slices without lesion, and lesions no denser than their lung, stay as they were.
    """
    side = max(grey.shape[-2:])
    lung = _lung_around(grey, masks, _AROUND * side)
    excess = (_smoothed(grey, _SMOOTH * side) - lung).clamp(min=0.0)
    area = masks.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1.0)
    mean_excess = (excess * masks).sum(dim=(1, 2, 3), keepdim=True) / area
    kept = torch.maximum(kept, (SEEN_GREY / mean_excess.clamp(min=1e-6)).clamp(max=1.0))
    return (grey - (1.0 - kept) * _smoothed(masks, _RIM * side) * excess).clamp(0.0, 1.0)


def _lung_around(grey: Tensor, masks: Tensor, sigma: float) -> Tensor:
    """(N, 1, rows, columns) grey of the aerated lung around every pixel, lesions left out."""
    low, high = _LUNG_GREY
    aerated = ((grey > low) & (grey < high) & (masks < 0.5)).to(grey.dtype)
    sizes = aerated.sum(dim=(2, 3), keepdim=True).clamp(min=1.0)
    of_slice = (grey * aerated).sum(dim=(2, 3), keepdim=True) / sizes
    share = _smoothed(aerated, sigma)
    return torch.where(share > _LEAST_LUNG_SHARE, _smoothed(grey * aerated, sigma) / share.clamp(min=1e-6), of_slice)


def _smoothed(planes: Tensor, sigma: float) -> Tensor:
    """(N, 1, rows, columns) under a Gaussian of ``sigma`` pixels, the border repeated."""
    radius = max(1, math.ceil(2.5 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=planes.dtype, device=planes.device)
    taps = torch.exp(-0.5 * (offsets / sigma) ** 2)
    taps = taps / taps.sum()
    padded = F.pad(planes, (radius, radius, radius, radius), mode="replicate")
    return F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
