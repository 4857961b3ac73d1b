"""PoolNet (CVPR 2019), without its edge branch: pyramid pooling guides every stage of a pooling decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jcs_ct.models.comparison.backbones import BackboneKind, make_backbone
from jcs_ct.models.comparison.base import BackboneComparisonConfig, ComparisonNetwork, draw_weights
from jcs_ct.models.layers import ConvNormReLU, NormKind, check_slices, resize_to, size_of

#: Widths of the decoder's features, deepest first: the top, then the skips.
_WIDTHS: dict[BackboneKind, tuple[int, ...]] = {
    "resnet50": (512, 512, 256, 256, 128),
    "vgg16": (512, 512, 256, 128),
}
_GUIDANCE_CHANNELS = 512
_PYRAMID_SIZES = (1, 3, 5)
_AGGREGATION_POOLS = (2, 4, 8)


@dataclass(frozen=True)
class PoolNetConfig(BackboneComparisonConfig):
    """PoolNet on ``resnet50`` (five features) or ``vgg16`` (conv2_2 ... conv5_3)."""


class GlobalGuidance(nn.Module):
    """Pyramid pooling on the deepest feature, handed to every decoder stage.

    The branches pool down to a single value per channel, so they are never normalised: a batch of one would have
    nothing to normalise over.
    """

    def __init__(
        self, in_channels: int, channels: int, stages: Sequence[int], *, reduce: bool, norm: NormKind
    ) -> None:
        super().__init__()
        self.reduce: nn.Module = nn.Conv2d(in_channels, channels, 1, bias=False) if reduce else nn.Identity()
        width = channels if reduce else in_channels
        self.pyramid = nn.ModuleList(ConvNormReLU(width, width, 1, bias=False) for _ in _PYRAMID_SIZES)
        self.merge = ConvNormReLU(width * (1 + len(_PYRAMID_SIZES)), channels, 3, norm=norm, bias=False)
        self.stages = nn.ModuleList(ConvNormReLU(channels, stage, 3, norm=norm, bias=False) for stage in stages)

    def forward(self, deepest: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """(N, C, h, w) -> one map (N, C_i, *size) per decoder stage."""
        reduced = self.reduce(deepest)
        pooled = [
            resize_to(conv(F.adaptive_avg_pool2d(reduced, size)), size_of(reduced))
            for conv, size in zip(self.pyramid, _PYRAMID_SIZES, strict=True)
        ]
        merged = self.merge(torch.cat([reduced, *pooled], dim=1))
        return [stage(resize_to(merged, size)) for stage, size in zip(self.stages, sizes, strict=True)]


class FeatureAggregation(nn.Module):
    """PoolNet's FAM: the feature seen at four scales, summed; then a 3x3, and a 3x3 over skip and guidance."""

    def __init__(self, in_channels: int, out_channels: int, *, fuse: bool, norm: NormKind) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=False) for _ in _AGGREGATION_POOLS
        )
        self.transition = ConvNormReLU(in_channels, out_channels, 3, norm=norm, bias=False, relu=False)
        self.fuse: nn.Module | None = (
            ConvNormReLU(out_channels, out_channels, 3, norm=norm, bias=False, relu=False) if fuse else None
        )

    def aggregate(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w): ReLU of x + the sum of its pooled, convolved and upsampled copies."""
        total = x
        for conv, pool in zip(self.scales, _AGGREGATION_POOLS, strict=True):
            total = total + resize_to(conv(F.avg_pool2d(x, pool)), size_of(x))
        return F.relu(total)

    def forward(self, x: Tensor, skip: Tensor | None = None, guidance: Tensor | None = None) -> Tensor:
        """(N, C, h, w), skip and guidance (N, C', H, W) -> (N, C', H, W); without a skip the size stays."""
        x = self.aggregate(x)
        if self.fuse is None or skip is None or guidance is None:
            out: Tensor = self.transition(x)
            return out
        fused: Tensor = self.fuse(self.transition(resize_to(x, size_of(skip))) + skip + guidance)
        return fused


class PoolNet(ComparisonNetwork):
    """A slice -> one logit map."""

    def __init__(self, config: PoolNetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = make_backbone(config.backbone, config.in_channels, config.width, config.backbone_norm)
        published = _WIDTHS[config.backbone]
        widths = [config.channels(c) for c in published]
        skips = widths[1:]
        resnet = config.backbone == "resnet50"
        features = self.backbone.feature_channels[-len(widths) :]
        # VGG's features have the decoder's widths already.
        self.laterals = nn.ModuleList(
            ConvNormReLU(before, after, 1, norm=config.norm, bias=False) if resnet else nn.Identity()
            for before, after in zip(features, reversed(widths), strict=True)
        )
        self.guidance = GlobalGuidance(
            features[-1], config.channels(_GUIDANCE_CHANNELS), skips, reduce=resnet, norm=config.norm
        )
        self.stages = nn.ModuleList(
            FeatureAggregation(before, after, fuse=True, norm=config.norm)
            for before, after in zip(widths[:-1], skips, strict=True)
        )
        self.last = FeatureAggregation(skips[-1], skips[-1], fuse=False, norm=config.norm)
        self.score = nn.Conv2d(skips[-1], 1, 1)
        draw_weights(self, self.backbone, config.initialisation)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> [logits (N, 1, H, W)]; at least 128 x 128, which the 8 x 8 pools need."""
        check_slices(x, self.config.in_channels, least=128)
        features = self.backbone(x)[-len(self.laterals) :]
        top, *skips = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)][::-1]
        guidance = self.guidance(features[-1], [size_of(skip) for skip in skips])
        for stage, skip, guide in zip(self.stages, skips, guidance, strict=True):
            top = stage(top, skip, guide)
        return [resize_to(self.score(self.last(top)), size_of(x))]
