"""What was drawn for a batch of training slices, applied to all of them at once, on the device they lie on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jcs_ct.data.augmentation.augment import AugmentationParameters
from jcs_ct.data.augmentation.fading import LEAST_KEPT, fade_lesions
from jcs_ct.data.augmentation.jpeg import compressed
from jcs_ct.data.augmentation.marks import burn_marks

#: Points a side between which an elastic deformation is interpolated; the outermost lie on the picture's border.
ELASTIC_POINTS = 5
#: Points a side between which the share that fading leaves is interpolated.
FADING_POINTS = 4
#: Sigma in pixels of the blur that sharpening takes the difference to.
_SHARPENED_OVER = 1.0
#: A Gaussian of less sigma in pixels changes nothing that could be seen.
_LEAST_BLUR = 0.1


def change_slices(grey: Tensor, masks: Tensor, drawn: Sequence[AugmentationParameters]) -> tuple[Tensor, Tensor]:
    """Change every slice of a batch, and its mask alike, by its own draw.

    Args:
        grey: (N, 1, rows, columns) in [0, 1], on any device.
        masks: (N, 1, rows, columns) in {0, 1}, on the same.
        drawn: One a slice. Its noise is drawn on the device: another kind of device, other noise.

    Returns:
        Grey in [0, 1] and masks in {0, 1}, of the same shapes.
    """
    faded = [place for place, one in enumerate(drawn) if one.is_faded]
    if faded:
        grey = grey.clone()
        grey[faded] = fade_lesions(grey[faded], masks[faded], _kept([drawn[place] for place in faded], grey))
    both = _resampled(torch.cat([grey, masks], dim=1), drawn)
    changed = _intensities(both[:, :1], drawn)
    for place, one in enumerate(drawn):
        if one.is_marked:
            changed[place, 0] = _marked(changed[place, 0], one.noise_seed)
    return changed, (both[:, 1:] >= 0.5).to(grey.dtype)


def _resampled(planes: Tensor, drawn: Sequence[AugmentationParameters]) -> Tensor:
    """(N, planes, rows, columns) turned, shifted, zoomed, mirrored and bent; what comes in from outside is 0."""
    theta = torch.tensor([_affine(one) for one in drawn], dtype=planes.dtype).to(planes.device)
    grid = F.affine_grid(theta, list(planes.shape), align_corners=False)
    if any(one.elastic > 0 for one in drawn):
        grid = grid + displacements(drawn, planes.shape[-2:], planes.device)
    return F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _kept(drawn: Sequence[AugmentationParameters], like: Tensor) -> Tensor:
    """(N, 1, rows, columns) share of a lesion's excess that fading leaves, between points drawn log-uniformly."""
    points = _drawn_points(drawn, 4, (1, FADING_POINTS, FADING_POINTS), like.device)
    exponent = F.interpolate(0.5 * (points + 1.0), like.shape[-2:], mode="bilinear", align_corners=True)
    return torch.exp(math.log(LEAST_KEPT) * exponent)


def _drawn_points(
    drawn: Sequence[AugmentationParameters], stream: int, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """(N, *shape) uniform in [-1, 1], each slice's by its own seed; ``stream`` tells the seed's uses apart."""
    points = [np.random.default_rng([one.noise_seed, stream]).uniform(-1.0, 1.0, shape) for one in drawn]
    return torch.from_numpy(np.stack(points).astype(np.float32)).to(device)


def _affine(one: AugmentationParameters) -> list[list[float]]:
    cos, sin = math.cos(one.angle) * one.scale, math.sin(one.angle) * one.scale
    columns = -1.0 if one.flip_columns else 1.0
    rows = -1.0 if one.flip_rows else 1.0
    return [[cos * columns, -sin * rows, one.shift[0]], [sin * columns, cos * rows, one.shift[1]]]


def displacements(drawn: Sequence[AugmentationParameters], shape: Sequence[int], device: torch.device) -> Tensor:
    """(N, rows, columns, 2) elastic displacements in the sampling grid's units (the side length is 2)."""
    placed = _drawn_points(drawn, 3, (2, ELASTIC_POINTS, ELASTIC_POINTS), device)
    smooth = F.interpolate(placed, tuple(shape), mode="bicubic", align_corners=True)
    # Between the points a cubic may overshoot them.
    largest = _each([2.0 * one.elastic for one in drawn], smooth)
    return (largest * smooth.clamp(-1.0, 1.0)).permute(0, 2, 3, 1)


def _intensities(grey: Tensor, drawn: Sequence[AugmentationParameters]) -> Tensor:
    """(N, 1, rows, columns) in [0, 1] -> the same, sharpness and grey levels changed."""
    grey = grey.clone()
    for place, one in enumerate(drawn):
        if one.resolution < 1.0:
            grey[place] = _at_resolution(grey[place], one.resolution)
    if any(one.blur > _LEAST_BLUR for one in drawn):
        grey = _blurred(grey, [one.blur for one in drawn])
    if any(one.sharpen > 0.0 for one in drawn):
        detail = grey - _blurred(grey, [_SHARPENED_OVER] * len(drawn))
        grey = grey + _each([one.sharpen for one in drawn], grey) * detail
    grey = (grey - 0.5) * _each([one.contrast for one in drawn], grey) + 0.5
    grey = grey + _each([one.brightness for one in drawn], grey)
    grey = grey.clamp(0.0, 1.0) ** _each([one.gamma for one in drawn], grey)
    if any(one.noise > 0 for one in drawn):
        grey = (grey + _each([one.noise for one in drawn], grey) * _noise(grey, drawn)).clamp(0.0, 1.0)
    lossy = [place for place, one in enumerate(drawn) if one.jpeg_quality is not None]
    if lossy:
        qualities = [quality for one in drawn if (quality := one.jpeg_quality) is not None]
        grey[lossy] = compressed(grey[lossy], qualities)
    return grey


def _each(values: Sequence[float], like: Tensor) -> Tensor:
    """(N, 1, 1, 1): one number a slice."""
    return torch.tensor(values, dtype=like.dtype).to(like.device).view(-1, 1, 1, 1)


def _noise(grey: Tensor, drawn: Sequence[AugmentationParameters]) -> Tensor:
    """Standard normal noise, each slice's by its own seed."""
    noise = torch.zeros_like(grey)
    for place, one in enumerate(drawn):
        if one.noise > 0:
            source = torch.Generator(grey.device).manual_seed(one.noise_seed)
            noise[place] = torch.randn(grey.shape[1:], generator=source, device=grey.device)
    return noise


def _blurred(grey: Tensor, sigmas: Sequence[float]) -> Tensor:
    """(N, 1, rows, columns) -> the same, each slice under a Gaussian of its own sigma in pixels."""
    radius = max(1, math.ceil(2.5 * max(sigmas)))
    taps = torch.stack([_taps(sigma, radius) for sigma in sigmas]).to(grey)
    # A slice is a channel here, so that every one meets its own taps.
    planes = F.pad(grey.transpose(0, 1), (radius, radius, radius, radius), mode="replicate")
    planes = F.conv2d(planes, taps[:, None, None, :], groups=len(sigmas))
    return F.conv2d(planes, taps[:, None, :, None], groups=len(sigmas)).transpose(0, 1)


def _taps(sigma: float, radius: int) -> Tensor:
    """(2 * radius + 1,) a Gaussian cut at 2.5 sigma, sums to 1; a single 1 where sigma changes nothing."""
    offsets = torch.arange(-radius, radius + 1)
    if sigma <= _LEAST_BLUR:
        return (offsets == 0).float()
    taps = torch.exp(-0.5 * (offsets / sigma) ** 2) * (offsets.abs() <= max(1, math.ceil(2.5 * sigma)))
    return taps / taps.sum()


def _at_resolution(grey: Tensor, share: float) -> Tensor:
    """(1, rows, columns) -> the same as if it had been stored with ``share`` of its rows and columns."""
    rows, columns = grey.shape[-2:]
    less = (max(8, round(rows * share)), max(8, round(columns * share)))
    shrunk = F.interpolate(grey[None], less, mode="bilinear", align_corners=False, antialias=True)
    return F.interpolate(shrunk, (rows, columns), mode="bilinear", align_corners=False)[0]


def _marked(grey: Tensor, seed: int) -> Tensor:
    """(rows, columns) with text or a frame burned in."""
    # Marks do not look at what lies below them: they are drawn beside the device, on nothing.
    marks = burn_marks(np.full(tuple(grey.shape), np.nan, dtype=np.float32), np.random.default_rng([seed, 2]))
    placed = torch.from_numpy(marks).to(grey.device)
    return torch.where(placed.isnan(), grey, placed)
