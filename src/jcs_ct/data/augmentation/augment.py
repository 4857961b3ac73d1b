"""Random changes of training slices, drawn; applied apart (``changing``), so that a run can be replayed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Largest displacement as a share of the side: above it the picture could fold over itself.
LARGEST_ELASTIC = 0.06
#: Qualities of JPEG between which is drawn.
_JPEG = (30, 95)


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
        fade: Probability that lesions are made fainter (``fading``), each by its own place in the slice.
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
    fade: float = 0.0

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
        is_faded = bool(extra.random() < self.fade)
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
            is_faded=is_faded,
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
    is_faded: bool = False
