"""The one path from a slice to a network's tensor; it is saved inside every checkpoint.

Training, diagnosis and export all call :class:`SlicePreprocessor`, so a network never sees a slice that was
prepared in another way than the ones it learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull
from torch import Tensor
from torch.nn import functional as F

from jcs_ct.lungs import lesser_lung_share, segment_picture


@dataclass(frozen=True)
class Window:
    """A linear grey window: HU -> [0, 1] (PS3.3 C.11.2.1.2, LINEAR_EXACT).

    Args:
        level: Centre in HU.
        width: Width in HU, greater than 0.
    """

    level: float = -600.0
    width: float = 1500.0

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"window width must be greater than 0 HU, got {self.width}")

    def __call__(self, hu: NDArray[Any]) -> NDArray[np.float32]:
        """HU, any shape -> grey in [0, 1], float32, same shape."""
        grey = (np.asarray(hu, dtype=np.float32) - np.float32(self.level - self.width / 2)) / np.float32(self.width)
        return np.clip(grey, 0.0, 1.0, out=grey)

    def inverse(self, grey: NDArray[Any]) -> NDArray[np.float32]:
        """Grey in [0, 1] -> HU under this window; what the window clipped stays clipped."""
        return np.asarray(grey, dtype=np.float32) * np.float32(self.width) + np.float32(self.level - self.width / 2)


@dataclass(frozen=True)
class Region:
    """A rectangle of a slice in pixels: rows [top, bottom), columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    def __post_init__(self) -> None:
        if not (0 <= self.top < self.bottom and 0 <= self.left < self.right):
            raise ValueError(f"empty or negative region: {self}")

    @classmethod
    def around(cls, mask: NDArray[np.bool_]) -> Region:
        """The bounding box of a mask that has a pixel."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        return cls(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.bottom - self.top, self.right - self.left


#: Grey above which a pixel counts as tissue for :func:`body_mask` (-500 HU under the standard lung window).
BODY_GREY = 0.567
_COARSE = 128


def body_mask(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The patient's cross-section with the lungs filled in, without table and background.

    Found at a coarse grid of about 128 pixels: convex hull of the largest component of tissue after an opening.

    Args:
        grey: (rows, columns) in [0, 1] under a lung window.

    Returns:
        (rows, columns) bool. All True when no body can be told from the background (cropped figures, noise).
    """
    rows, columns = grey.shape
    step = max(1, min(rows, columns) // _COARSE)
    coarse = grey[::step, ::step] > BODY_GREY
    opened = ndimage.binary_opening(coarse, structure=np.ones((3, 3), dtype=bool))
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.ones(grey.shape, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    body = labels == int(sizes.argmax())
    if sum(bool(edge.any()) for edge in _edges(body)) >= 3:
        # A figure cut to the chest: corners of the wall may hang together only beyond the picture.
        body = np.isin(labels, np.concatenate([edge[edge > 0] for edge in _edges(labels)]))
    # Lungs that touch the picture's border (cropped figures) are part of the body: its hull keeps them, which a
    # filling of holes, or of rows and columns, loses in part.
    body = ndimage.binary_dilation(_convex_hull(body), iterations=1)
    if body.mean() < 0.1:
        return np.ones(grey.shape, dtype=bool)
    full = np.repeat(np.repeat(body, step, axis=0), step, axis=1)[:rows, :columns]
    if full.shape != grey.shape:
        pad = ((0, rows - full.shape[0]), (0, columns - full.shape[1]))
        full = np.pad(full, pad, mode="edge")
    return full


#: What is set outside the body, where a slice's own values there must not count.
OUTSIDE_HU = np.float32(-1024.0)
#: Kept around the lungs, as a share of the sides of their box: disease at the wall, and where it lies.
LUNG_MARGIN = 0.05
#: Lungs whose box is smaller than this share of the body's box were not found whole (figures cropped to the thorax).
LEAST_LUNG_SHARE = 0.3
#: Each lung is at least this share of the body's box, or a crop could keep one lung and lose the other.
LEAST_EACH_LUNG = 0.02


def lung_box(hu: NDArray[Any], body: Region) -> Region:
    """The rectangle around both lungs with a margin, inside the body's; the body's own where they are not both found.

    Args:
        hu: (rows, columns) in HU.
        body: The body's bounding box.
    """
    inside = np.asarray(hu)[body.top : body.bottom, body.left : body.right]
    labels = segment_picture(inside)
    if lesser_lung_share(labels) < LEAST_EACH_LUNG:
        return body
    lungs = Region.around(labels > 0)
    height, width = lungs.shape
    if height * width < LEAST_LUNG_SHARE * inside.size:
        return body
    above, aside = round(LUNG_MARGIN * height), round(LUNG_MARGIN * width)
    return Region(
        max(body.top, body.top + lungs.top - above),
        min(body.bottom, body.top + lungs.bottom + above),
        max(body.left, body.left + lungs.left - aside),
        min(body.right, body.left + lungs.right + aside),
    )


def _edges(plane: NDArray[Any]) -> list[NDArray[Any]]:
    return [plane[0], plane[-1], plane[:, 0], plane[:, -1]]


def _convex_hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The hull of a mask that is more than a line, through pixel centres."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    ends = np.concatenate([np.stack([rows, first], axis=1), np.stack([rows, last], axis=1)])
    corners = ends[ConvexHull(ends).vertices]
    picture = Image.new("1", (mask.shape[1], mask.shape[0]))
    ImageDraw.Draw(picture).polygon([(int(column), int(row)) for row, column in corners], fill=1, outline=1)
    return np.asarray(picture, dtype=bool) | mask


@dataclass(frozen=True)
class SlicePreprocessor:
    """From slices in HU to a network's input, and from its output back to the slice.

    Args:
        size: Rows and columns of the network's input.
        window: HU -> grey.
        body_crop: Blank what lies outside the body and crop to its bounding box. Guards against reading the
            table, burned-in text or the field of view instead of the lungs.
        region: What ``body_crop`` cuts to: ``body``, or ``lungs`` (:func:`lung_box`; a tenth of a second a slice).
        centre_share: Share of the region's sides that is kept around its middle. 1 keeps it whole; 224/256 is what
            is left where a slice is resized to 256 and the middle 224 pixels are cut out.
        channels: 1, or 3 to repeat the grey channel.
        mean: Subtracted from grey, one value a channel.
        std: Divides after ``mean``, one value a channel.
    """

    size: int = 224
    window: Window = Window()
    body_crop: bool = False
    channels: int = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    centre_share: float = 1.0
    region: Literal["body", "lungs"] = "body"

    def __post_init__(self) -> None:
        if self.size < 32:
            raise ValueError(f"network input must be at least 32 pixels wide, got {self.size}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need {self.channels} values, got {len(self.mean)} and {len(self.std)}")
        if not 0.1 <= self.centre_share <= 1.0:
            raise ValueError(f"centre_share must be at least 0.1 and at most 1, got {self.centre_share}")
        if self.region not in ("body", "lungs"):
            raise ValueError(f"region must be body or lungs, got {self.region!r}")
        if self.region == "lungs" and not self.body_crop:
            raise ValueError("region lungs is cut out of the body: it needs body_crop")

    def grey_and_region(self, hu: NDArray[Any]) -> tuple[NDArray[np.float32], Region]:
        """(rows, columns) in HU -> windowed grey, cut to the region the network sees, and that region."""
        grey = self.window(hu)
        rows, columns = grey.shape
        if not self.body_crop:
            region = self._centre(Region(0, rows, 0, columns))
            return grey[region.top : region.bottom, region.left : region.right], region
        body = body_mask(grey)
        box = Region.around(body)
        # What lies outside the body must not move the box either.
        region = self._centre(lung_box(np.where(body, hu, OUTSIDE_HU), box) if self.region == "lungs" else box)
        grey = np.where(body, grey, np.float32(0.0))
        return grey[region.top : region.bottom, region.left : region.right], region

    def _centre(self, region: Region) -> Region:
        rows, columns = region.shape
        row_margin = round(rows * (1.0 - self.centre_share) / 2.0)
        column_margin = round(columns * (1.0 - self.centre_share) / 2.0)
        return Region(
            region.top + row_margin,
            region.bottom - row_margin,
            region.left + column_margin,
            region.right - column_margin,
        )

    def resize(self, grey: NDArray[np.float32]) -> Tensor:
        """(rows, columns) grey in [0, 1] -> (1, size, size) float32, antialiased bilinear."""
        plane = torch.from_numpy(np.ascontiguousarray(grey))[None, None]
        resized = F.interpolate(plane, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        return resized[0]

    def normalise(self, grey: Tensor) -> Tensor:
        """(..., 1, size, size) grey in [0, 1] -> (..., channels, size, size), standardised."""
        mean = grey.new_tensor(self.mean)[:, None, None]
        std = grey.new_tensor(self.std)[:, None, None]
        return (grey - mean) / std

    def __call__(self, hu: NDArray[Any]) -> tuple[Tensor, Region]:
        """(rows, columns) in HU -> (channels, size, size) float32 and the region of the slice it shows."""
        grey, region = self.grey_and_region(hu)
        return self.normalise(self.resize(grey)), region

    def restore(self, values: Tensor, region: Region, shape: tuple[int, int]) -> NDArray[np.float32]:
        """(h, w) network output -> (rows, columns) on the slice's own grid; 0 outside the region."""
        plane = values.detach().float()[None, None]
        resized = F.interpolate(plane, region.shape, mode="bilinear", align_corners=False)[0, 0]
        out = np.zeros(shape, dtype=np.float32)
        out[region.top : region.bottom, region.left : region.right] = resized.cpu().numpy()
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SlicePreprocessor:
        """The inverse of :meth:`to_dict`.

        Raises:
            TypeError: unknown fields.
            ValueError: values that do not fit together.
        """
        fields = dict(values)
        fields["window"] = Window(**fields["window"])
        fields["mean"] = tuple(fields["mean"])
        fields["std"] = tuple(fields["std"])
        return cls(**fields)
