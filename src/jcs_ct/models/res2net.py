"""Res2Net v1b: a residual network whose 3x3 convolutions run over scales of channels (Gao et al., TPAMI 2021).

v1b means a deep stem of three convolutions and average pooling where a shortcut or a scale has a stride.
Module names follow the published Res2Net state dicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jcs_ct.models.layers import NormKind, check_slices, make_norm, tuples_from_lists


@dataclass(frozen=True)
class Res2NetConfig:
    """Shape of a Res2Net.

    Args:
        in_channels: 3 for grey repeated, 1 for grey.
        stem_channels: Of the stem's three convolutions; the last is what the first stage gets.
        planes: Per stage; a stage has ``4 * planes`` channels out.
        blocks: Per stage; (3, 4, 23, 3) is Res2Net-101.
        base_width: A scale has ``planes * base_width / 64`` channels.
        scales: Groups of channels inside a block.
        norm, norm_eps: ``frozen`` with eps 0 in the published checkpoints, ``batch`` elsewhere.
        last_stride: Stride of the last stage; 1 keeps the activation map at 1/16 instead of 1/32.
    """

    in_channels: int = 3
    stem_channels: tuple[int, int, int] = (32, 32, 64)
    planes: tuple[int, int, int, int] = (64, 128, 256, 512)
    blocks: tuple[int, int, int, int] = (3, 4, 23, 3)
    base_width: int = 26
    scales: int = 4
    norm: NormKind = "batch"
    norm_eps: float = 1e-5
    last_stride: int = 2

    def __post_init__(self) -> None:
        if self.scales < 2:
            raise ValueError(f"Res2Net needs at least 2 scales, got {self.scales}")
        if self.last_stride not in (1, 2):
            raise ValueError(f"last_stride must be 1 or 2, got {self.last_stride}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Res2NetConfig:
        """From plain values, also after JSON, where tuples have become lists.

        Raises:
            TypeError: unknown fields.
        """
        return cls(**tuples_from_lists(values))

    @property
    def strides(self) -> tuple[int, int, int, int, int]:
        """Of the five feature maps."""
        return 2, 4, 8, 16, 16 * self.last_stride

    @property
    def stage_channels(self) -> tuple[int, int, int, int, int]:
        """Channels of the five feature maps: stem, then the four stages."""
        first, second, third, fourth = (4 * planes for planes in self.planes)
        return self.stem_channels[2], first, second, third, fourth


class Res2NetBlock(nn.Module):
    """1x1 -> split into scales, each 3x3 adding the one before -> 1x1, beside a shortcut."""

    def __init__(self, config: Res2NetConfig, in_channels: int, planes: int, *, stride: int, first: bool) -> None:
        super().__init__()
        norm, eps = config.norm, config.norm_eps
        width, out_channels = planes * config.base_width // 64, 4 * planes
        self.width, self.first = width, first
        self.conv1 = nn.Conv2d(in_channels, width * config.scales, 1, bias=False)
        self.bn1 = make_norm(norm, width * config.scales, eps)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False) for _ in range(config.scales - 1)
        )
        self.bns = nn.ModuleList(make_norm(norm, width, eps) for _ in range(config.scales - 1))
        self.pool = nn.AvgPool2d(3, stride, padding=1) if first else nn.Identity()
        self.conv3 = nn.Conv2d(width * config.scales, out_channels, 1, bias=False)
        self.bn3 = make_norm(norm, out_channels, eps)
        self.downsample = (
            nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                make_norm(norm, out_channels, eps),
            )
            if first
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 * planes, H / stride, W / stride)."""
        parts = torch.split(F.relu(self.bn1(self.conv1(x))), self.width, dim=1)
        done: list[Tensor] = []
        for part, conv, norm in zip(parts, self.convs, self.bns, strict=False):
            # The first block of a stage changes the size, so its scales cannot be added to one another.
            joined = part if self.first or not done else part + done[-1]
            done.append(F.relu(norm(conv(joined))))
        done.append(self.pool(parts[-1]))
        return F.relu(self.bn3(self.conv3(torch.cat(done, dim=1))) + self.downsample(x))


class Res2Net(nn.Module):
    """The classification trunk: a slice -> feature maps of five sizes."""

    def __init__(self, config: Res2NetConfig) -> None:
        super().__init__()
        self.config = config
        norm, eps = config.norm, config.norm_eps
        first, second, third = config.stem_channels
        self.conv1 = nn.Sequential(
            nn.Conv2d(config.in_channels, first, 3, stride=2, padding=1, bias=False),
            make_norm(norm, first, eps),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1, bias=False),
            make_norm(norm, second, eps),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, padding=1, bias=False),
        )
        self.bn1 = make_norm(norm, third, eps)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = third
        for number, (planes, blocks) in enumerate(zip(config.planes, config.blocks, strict=True), start=1):
            stride = {1: 1, 4: config.last_stride}.get(number, 2)
            stage = [Res2NetBlock(config, channels, planes, stride=stride, first=True)]
            channels = 4 * planes
            stage += [Res2NetBlock(config, channels, planes, stride=1, first=False) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))

    def stem(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, C, H/2, W/2): what the COVID-CS release calls ``res2net_feats``."""
        check_slices(x, self.config.in_channels)
        return F.relu(self.bn1(self.conv1(x)))

    def stages(self, stem: Tensor) -> list[Tensor]:
        """(N, C, H/2, W/2) -> the five feature maps at strides 2, 4, 8, 16 and 32 (16 where last_stride is 1)."""
        features = [stem]
        x = self.maxpool(stem)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            features.append(x)
        return features

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> the five feature maps."""
        return self.stages(self.stem(x))
