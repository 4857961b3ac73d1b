"""U-Net (MICCAI 2015): five levels, skips by concatenation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jcs_ct.models.comparison.base import ComparisonConfig, ComparisonNetwork, conv_stack
from jcs_ct.models.layers import ConvNormReLU, check_slices, initialise, resize_to, size_of

_LEVELS = (64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class UNetConfig(ComparisonConfig):
    """U-Net with batch normalisation and padded convolutions.

    Args:
        upsampling: ``transposed``: 2x2 up-convolutions that halve the channels. ``bilinear``: no weights; the deepest
            level is as wide as the one above it, and the first convolution after each concatenation halves instead.
    """

    upsampling: Literal["transposed", "bilinear"] = "transposed"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.upsampling not in ("transposed", "bilinear"):
            raise ValueError(f"upsampling must be transposed or bilinear, got {self.upsampling!r}")


class UpLevel(nn.Module):
    """Upsample, concatenate behind the skip, two 3x3 convolutions."""

    def __init__(self, deeper: int, skip: int, out_channels: int, *, transposed: bool) -> None:
        super().__init__()
        self.up: nn.Module = nn.ConvTranspose2d(deeper, skip, 2, stride=2) if transposed else nn.Identity()
        joined = skip + (skip if transposed else deeper)
        middle = out_channels if transposed else joined // 2
        self.convs = nn.Sequential(
            ConvNormReLU(joined, middle, 3, norm="batch", bias=False),
            ConvNormReLU(middle, out_channels, 3, norm="batch", bias=False),
        )

    def forward(self, deeper: Tensor, skip: Tensor) -> Tensor:
        """(N, C', h, w) and (N, C, H, W) -> (N, C'', H, W)."""
        upsampled = resize_to(self.up(deeper), size_of(skip))
        out: Tensor = self.convs(torch.cat([skip, upsampled], dim=1))
        return out


class UNet(ComparisonNetwork):
    """A slice -> one logit map."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        transposed = config.upsampling == "transposed"
        levels = [config.channels(c) for c in _LEVELS]
        if not transposed:
            levels[-1] = levels[-2]
        self.down = nn.ModuleList(
            conv_stack(before, after, 3, 2, "batch")
            for before, after in zip([config.in_channels, *levels[:-1]], levels, strict=True)
        )
        ups = []
        deeper = levels[-1]
        for index in (3, 2, 1, 0):
            # Bilinear: a level gives what the one above expects of its skip, the topmost keeps its width.
            out_channels = levels[index] if transposed else levels[max(index - 1, 0)]
            ups.append(UpLevel(deeper, levels[index], out_channels, transposed=transposed))
            deeper = out_channels
        self.ups = nn.ModuleList(ups)
        self.head = nn.Conv2d(deeper, 1, 1)
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> [logits (N, 1, H, W)]."""
        check_slices(x, self.config.in_channels, least=32)
        skips = [self.down[0](x)]
        for level in self.down[1:]:
            skips.append(level(F.max_pool2d(skips[-1], 2)))
        decoded = skips.pop()
        for up in self.ups:
            decoded = up(decoded, skips.pop())
        return [self.head(decoded)]
