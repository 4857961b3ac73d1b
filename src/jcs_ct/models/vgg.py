"""VGG-16 without its fully connected layers: five blocks of 3x3 convolutions (paper, III-B1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from jcs_ct.models.layers import ConvNormReLU, NormKind, check_slices, tuples_from_lists


@dataclass(frozen=True)
class VGGConfig:
    """Shape of the encoder.

    Args:
        in_channels: 3 for grey repeated, 1 for grey.
        channels: Per block.
        convs: Convolutions per block; (2, 2, 3, 3, 3) is VGG-16.
        norm, norm_eps: ``none`` in the paper's VGG-16, ``frozen`` with eps 0 in the published checkpoints.
        conv_bias: Whether convolutions have biases.
        pool_before_block5: The paper pools before every block but the first; the published networks leave the
            last pool out, so that E5 keeps stride 8.
    """

    in_channels: int = 3
    channels: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    convs: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3)
    norm: NormKind = "none"
    norm_eps: float = 1e-5
    conv_bias: bool = True
    pool_before_block5: bool = True

    def __post_init__(self) -> None:
        if min(self.convs) < 1:
            raise ValueError(f"every block needs a convolution, got {self.convs}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VGGConfig:
        """From plain values, also after JSON, where tuples have become lists.

        Raises:
            TypeError: unknown fields.
        """
        return cls(**tuples_from_lists(values))

    @property
    def strides(self) -> tuple[int, int, int, int, int]:
        """Of the five blocks."""
        return 1, 2, 4, 8, 16 if self.pool_before_block5 else 8


class VGGEncoder(nn.Module):
    """A slice -> E1 ... E5. Convolutions are named ``conv<block>_<number>``, as is usual for VGG."""

    def __init__(self, config: VGGConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.in_channels
        for block, (width, count) in enumerate(zip(config.channels, config.convs, strict=True), start=1):
            for number in range(1, count + 1):
                layer = ConvNormReLU(channels, width, 3, norm=config.norm, eps=config.norm_eps, bias=config.conv_bias)
                self.add_module(f"conv{block}_{number}", layer)
                channels = width

    def first_block(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, C1, H, W): what the COVID-CS release calls ``vgg_feats``."""
        check_slices(x, self.config.in_channels)
        return self._block(x, 1)

    def later_blocks(self, first: Tensor) -> list[Tensor]:
        """E1 (N, C1, H, W) -> [E1, ..., E5] at strides 1, 2, 4, 8 and 16 (8 without the last pool)."""
        features = [first]
        for block in range(2, 6):
            x = features[-1]
            if block < 5 or self.config.pool_before_block5:
                x = F.max_pool2d(x, 2, 2)
            features.append(self._block(x, block))
        return features

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> [E1, ..., E5]."""
        return self.later_blocks(self.first_block(x))

    def _block(self, x: Tensor, block: int) -> Tensor:
        for number in range(1, self.config.convs[block - 1] + 1):
            x = self.get_submodule(f"conv{block}_{number}")(x)
        return x
