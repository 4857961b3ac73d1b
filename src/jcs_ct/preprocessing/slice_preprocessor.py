"""The one path from a slice to a network's tensor, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from jcs_ct.preprocessing.lung_box import OUTSIDE_HU, lung_box
from jcs_ct.preprocessing.region import Region
from jcs_ct.preprocessing.resampling import enlarged, shrunk
from jcs_ct.preprocessing.slice_body import body_mask
from jcs_ct.preprocessing.window import Window

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SlicePreprocessor:
    """From slices in HU to a network's input, and from its output back to the slice.

    Args:
        size: Rows and columns of the network's input.
        window: HU -> grey.
        body_crop: Blank what lies outside the body and crop to its bounding box. Guards against reading the
            table, burned-in text or the field of view instead of the lungs.
        region: What ``body_crop`` cuts to: ``body``, or ``lungs`` (:func:`lung_box`; 10 ms a slice of 384 x 384).
        centre_share: Share of the region's sides that is kept around its middle. 1 keeps it whole; 224/256 is what
            is left where a slice is resized to 256 and the middle 224 pixels are cut out.
        channels: 1, or 3 to repeat the grey channel.
        mean: Subtracted from grey, one value a channel.
        std: Divides after ``mean``, one value a channel.
    """

    size: int = 224
    window: Window = field(default_factory=Window)
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
        rows, columns = hu.shape
        if not self.body_crop:
            region = self._centre(Region(0, rows, 0, columns))
            return self.window(region.of(hu)), region
        body = body_mask(hu, self.window)
        box = Region.around(body)
        # What lies outside the body must not move the box either.
        region = self._centre(lung_box(np.where(body, hu, OUTSIDE_HU), box) if self.region == "lungs" else box)
        grey = self.window(region.of(hu))
        grey[~region.of(body)] = 0.0
        return grey, region

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

    def resize(self, grey: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, columns) grey in [0, 1] -> (1, size, size), antialiased bilinear."""
        return shrunk(grey, (self.size, self.size))[None]

    @overload
    def normalise(self, grey: NDArray[np.float32]) -> NDArray[np.float32]: ...

    @overload
    def normalise(self, grey: Tensor) -> Tensor: ...

    def normalise(self, grey: NDArray[np.float32] | Tensor) -> NDArray[np.float32] | Tensor:
        """(..., 1, size, size) grey in [0, 1] -> (..., channels, size, size), standardised."""
        mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in (self.mean, self.std))
        if isinstance(grey, np.ndarray):
            standardised: NDArray[np.float32] = (grey - mean) / std
            return standardised
        return (grey - grey.new_tensor(mean)) / grey.new_tensor(std)

    def __call__(self, hu: NDArray[Any]) -> tuple[NDArray[np.float32], Region]:
        """(rows, columns) in HU -> (channels, size, size) and the region of the slice it shows."""
        grey, region = self.grey_and_region(hu)
        return self.normalise(self.resize(grey)), region

    def restore(
        self, values: NDArray[np.float32], region: Region, shape: tuple[int, int], *, part: Region | None = None
    ) -> NDArray[np.float32]:
        """(h, w) network output -> (rows, columns) on the slice's own grid; 0 outside the region.

        Args:
            values: Of the region.
            region: Where they lie on the slice.
            shape: Of the slice.
            part: The rectangle of the slice that is asked for; None for all of it.
        """
        part = part or Region(0, shape[0], 0, shape[1])
        out = np.zeros(part.shape, dtype=np.float32)
        seen = part.common(region)
        if seen is not None:
            seen.within(part).of(out)[...] = enlarged(values, region.shape, part=seen.within(region).slices)
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
