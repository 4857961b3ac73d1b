"""Random changes of training slices: parameters are drawn apart from applying them, so a run can be replayed."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from jcs_ct.data.augmentation.marks import burn_marks

#: Points a side between which an elastic deformation is interpolated; the outermost lie on the picture's border.
ELASTIC_POINTS = 5
#: Largest displacement as a share of the side: above it the picture could fold over itself.
LARGEST_ELASTIC = 0.06
#: Qualities of JPEG between which is drawn.
_JPEG = (30, 95)
#: Sigma in pixels of the blur that sharpening takes the difference to.
_SHARPENED_OVER = 1.0


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of the random changes; a range of 0 switches a change off.

    Args:
        flip_left_right, flip_up_down: Probabilities.
        crop_scale: Share of the side length that is shown, drawn log-uniformly (below 1 zooms in).
        rotate_degrees: Largest rotation.
        shift: Largest shift as a share of the side length.
        window_jitter: Largest relative change of contrast, and largest shift of grey.
        gamma: Largest |log gamma|.
        noise: Largest standard deviation of added Gaussian noise (grey in [0, 1]).
        blur: Largest sigma of a Gaussian blur in pixels, applied half the time.
        elastic: Largest displacement of a smooth random deformation as a share of the side length.
        marks: Probability that text or a frame is burned in, which the mask does not follow.
        random_crop: What ``crop_scale`` shows (at most all) lies inside the slice, anywhere; ``shift`` is not used.
        sharpen: Largest share of the difference to a blurred slice that is added, half the time where nothing blurs.
        resolution: Least share of rows and columns that a slice is shrunk to and brought back from, half the time.
        jpeg: Probability of JPEG compression, of quality 30 to 95.
    """

    flip_left_right: float = 0.5
    flip_up_down: float = 0.0
    crop_scale: tuple[float, float] = (1.0, 1.0)
    rotate_degrees: float = 0.0
    shift: float = 0.0
    window_jitter: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    elastic: float = 0.0
    marks: float = 0.0
    random_crop: bool = False
    sharpen: float = 0.0
    resolution: float = 1.0
    jpeg: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high:
            raise ValueError(f"crop_scale must be two numbers 0 < low <= high, got {self.crop_scale}")
        if self.random_crop and high > 1:
            raise ValueError(
                f"a random crop lies inside the slice: crop_scale must be at most 1, got {self.crop_scale}"
            )
        if not 0 <= self.elastic <= LARGEST_ELASTIC:
            raise ValueError(f"elastic must be at least 0 and at most {LARGEST_ELASTIC}, got {self.elastic}")

    def draw(self, generator: np.random.Generator) -> AugmentationParameters:
        """Draw one slice's parameters; always the same number of draws, so that streams stay aligned."""
        u = generator.uniform(-1.0, 1.0, size=9)
        flips = generator.uniform(size=3)
        log_low, log_high = (math.log(value) for value in self.crop_scale)
        seed = int(generator.integers(2**31))
        # A stream of their own: what was added later leaves the draws of recipes without it where they were.
        extra = np.random.default_rng([seed, 1])
        elastic = self.elastic * extra.random()
        is_marked = bool(extra.random() < self.marks)
        chances, amounts = extra.random(3), extra.random(3)
        scale = math.exp(log_low + (log_high - log_low) * (u[0] + 1.0) / 2.0)
        # In the sampling grid's units (the side length is 2): the shown part just touches the border at 1 - scale.
        reach = 1.0 - scale if self.random_crop else 2.0 * self.shift
        blur = self.blur * abs(u[8]) if flips[2] < 0.5 else 0.0
        return AugmentationParameters(
            flip_columns=bool(flips[0] < self.flip_left_right),
            flip_rows=bool(flips[1] < self.flip_up_down),
            scale=scale,
            angle=math.radians(self.rotate_degrees * u[1]),
            shift=(reach * u[2], reach * u[3]),
            contrast=1.0 + self.window_jitter * u[4],
            brightness=self.window_jitter * u[5],
            gamma=math.exp(self.gamma * u[6]),
            noise=self.noise * abs(u[7]),
            noise_seed=seed,
            blur=blur,
            elastic=elastic,
            is_marked=is_marked,
            sharpen=self.sharpen * amounts[0] if chances[0] < 0.5 and not blur else 0.0,
            resolution=1.0 - (1.0 - self.resolution) * amounts[1] if chances[1] < 0.5 else 1.0,
            jpeg_quality=round(_JPEG[0] + (_JPEG[1] - _JPEG[0]) * amounts[2]) if chances[2] < self.jpeg else None,
        )


@dataclass(frozen=True)
class AugmentationParameters:
    """What happens to one slice and its mask."""

    flip_columns: bool
    flip_rows: bool
    scale: float
    angle: float
    shift: tuple[float, float]
    contrast: float
    brightness: float
    gamma: float
    noise: float
    noise_seed: int
    blur: float
    elastic: float = 0.0
    is_marked: bool = False
    sharpen: float = 0.0
    resolution: float = 1.0
    jpeg_quality: int | None = None

    def apply(self, grey: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(1, H, W) grey in [0, 1] and (1, H, W) mask in {0, 1} -> the same, changed alike."""
        both = self._resample(torch.cat([grey, mask]))
        changed = self._intensities(both[:1])
        if self.is_marked:
            marked = burn_marks(changed[0].numpy(), np.random.default_rng([self.noise_seed, 2]))
            changed = torch.from_numpy(marked)[None]
        return changed, (both[1:] >= 0.5).to(grey.dtype)

    def _resample(self, planes: Tensor) -> Tensor:
        cos, sin = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        columns = -1.0 if self.flip_columns else 1.0
        rows = -1.0 if self.flip_rows else 1.0
        theta = planes.new_tensor(
            [[cos * columns, -sin * rows, self.shift[0]], [sin * columns, cos * rows, self.shift[1]]]
        )
        grid = F.affine_grid(theta[None], [1, *planes.shape], align_corners=False)
        if self.elastic > 0:
            grid = grid + self.displacement(planes.shape[-2:]).to(grid)
        return F.grid_sample(planes[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]

    def displacement(self, shape: Sequence[int]) -> Tensor:
        """(1, rows, columns, 2) elastic displacement in the sampling grid's units (the side length is 2)."""
        source = np.random.default_rng([self.noise_seed, 3])
        points = source.uniform(-1.0, 1.0, (1, 2, ELASTIC_POINTS, ELASTIC_POINTS)).astype(np.float32)
        smooth = F.interpolate(torch.from_numpy(points), tuple(shape), mode="bicubic", align_corners=True)
        # Between the points a cubic may overshoot them.
        return (2.0 * self.elastic * smooth.clamp(-1.0, 1.0)).permute(0, 2, 3, 1)

    def _intensities(self, grey: Tensor) -> Tensor:
        if self.resolution < 1.0:
            grey = _at_resolution(grey, self.resolution)
        if self.blur > 0.1:
            grey = _blurred(grey, self.blur)
        if self.sharpen > 0.0:
            grey = grey + self.sharpen * (grey - _blurred(grey, _SHARPENED_OVER))
        grey = (grey - 0.5) * self.contrast + 0.5 + self.brightness
        grey = grey.clamp(0.0, 1.0) ** self.gamma
        if self.noise > 0:
            source = torch.Generator().manual_seed(self.noise_seed)
            grey = (grey + self.noise * torch.randn(grey.shape, generator=source)).clamp(0.0, 1.0)
        return grey if self.jpeg_quality is None else _compressed(grey, self.jpeg_quality)


def _blurred(grey: Tensor, sigma: float) -> Tensor:
    """(1, H, W) -> the same under a Gaussian of ``sigma`` pixels."""
    radius = max(1, math.ceil(2.5 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2).to(grey)
    taps = taps / taps.sum()
    padded = F.pad(grey[None], (radius, radius, radius, radius), mode="replicate")
    padded = F.conv2d(padded, taps.view(1, 1, 1, -1))
    return F.conv2d(padded, taps.view(1, 1, -1, 1))[0]


def _at_resolution(grey: Tensor, share: float) -> Tensor:
    """(1, H, W) -> the same as if it had been stored with ``share`` of its rows and columns."""
    rows, columns = grey.shape[-2:]
    less = (max(8, round(rows * share)), max(8, round(columns * share)))
    shrunk = F.interpolate(grey[None], less, mode="bilinear", align_corners=False, antialias=True)
    return F.interpolate(shrunk, (rows, columns), mode="bilinear", align_corners=False)[0]


def _compressed(grey: Tensor, quality: int) -> Tensor:
    """(1, H, W) in [0, 1] -> the same after JPEG in 8 bits."""
    stored = io.BytesIO()
    Image.fromarray((grey[0] * 255.0).round().to(torch.uint8).numpy()).save(stored, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(stored), dtype=np.float32) / 255.0)[None]
