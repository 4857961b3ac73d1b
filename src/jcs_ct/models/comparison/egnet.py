"""EGNet (ICCV 2019): a top-down saliency path and an edge path, whose feature guides every saliency feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from jcs_ct.models.comparison.backbones import VGG16, make_backbone
from jcs_ct.models.comparison.base import (
    BackboneComparisonConfig,
    ComparisonNetwork,
    conv_stack,
    draw_weights,
)
from jcs_ct.models.layers import ConvNormReLU, NormKind, check_slices, resize_to, size_of

#: f2 ... f6.
_FEATURES = (128, 256, 512, 512, 512)
#: (width, kernel size) of the saliency path at f3 ... f6.
_SALIENCY = ((256, 3), (512, 5), (512, 5), (512, 7))
_EDGE_CHANNELS = 128
#: Kernel size of the guided features, shallow to deep.
_GUIDED_KERNELS = (3, 5, 5, 7)


@dataclass(frozen=True)
class EGNetConfig(BackboneComparisonConfig):
    """EGNet on ``resnet50`` (conv1, layer1 ... layer4) or ``vgg16`` (conv2_2 ... conv5_3 and three 3x3 on pool5)."""


class EGNetOutputs(NamedTuple):
    """Logits at the slice's size.

    Attributes:
        saliency: Nine maps (N, 1, H, W): the prediction, the four guided ones and the four of the top-down path, both
            shallow to deep.
        edge: The lesion's boundary, (N, 1, H, W).
    """

    saliency: list[Tensor]
    edge: Tensor


class ScoredStack(nn.Module):
    """Three k x k convolutions, and a 3x3 score of what they give."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, norm: NormKind) -> None:
        super().__init__()
        self.convs = conv_stack(in_channels, channels, kernel_size, 3, norm)
        self.score = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) -> feature (N, C', h, w), score (N, 1, h, w)."""
        feature = self.convs(x)
        return feature, self.score(feature)


class TopDownPath(nn.Module):
    """f3 ... f6 -> saliency features and scores; every level adds the deeper one's feature."""

    def __init__(self, config: EGNetConfig) -> None:
        super().__init__()
        features = [config.channels(c) for c in _FEATURES[1:]]
        widths = [config.channels(c) for c, _ in _SALIENCY]
        self.levels = nn.ModuleList(
            ScoredStack(before, after, kernel_size, config.norm)
            for before, after, (_, kernel_size) in zip(features, widths, _SALIENCY, strict=True)
        )
        self.transitions = nn.ModuleList(
            ConvNormReLU(deeper, own, 1, norm=config.norm, bias=False) if deeper != own else nn.Identity()
            for own, deeper in zip(features[:-1], widths[1:], strict=True)
        )

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """[f3, ..., f6] -> four saliency features and four scores, shallow to deep."""
        feature, score = self.levels[-1](features[-1])
        decoded, scores = [feature], [score]
        for index in (2, 1, 0):
            deeper = resize_to(self.transitions[index](decoded[0]), size_of(features[index]))
            feature, score = self.levels[index](features[index] + deeper)
            decoded.insert(0, feature)
            scores.insert(0, score)
        return decoded, scores


class OneToOneGuidance(nn.Module):
    """Every saliency feature joined to the edge feature, at the edge's resolution; then all of them."""

    def __init__(self, config: EGNetConfig) -> None:
        super().__init__()
        channels, norm = config.channels(_EDGE_CHANNELS), config.norm
        self.laterals = nn.ModuleList(
            ConvNormReLU(config.channels(width), channels, 1, norm=norm, bias=norm == "none")
            for width, _ in _SALIENCY
        )
        self.levels = nn.ModuleList(ScoredStack(channels, channels, size, norm) for size in _GUIDED_KERNELS)
        self.final = nn.Sequential(
            ConvNormReLU(channels, channels, 5, norm=norm, bias=norm == "none"),
            nn.Conv2d(channels, 1, 3, padding=1),
        )

    def forward(self, edge: Tensor, saliency: list[Tensor]) -> list[Tensor]:
        """Edge feature (N, C, H, W), four saliency features -> scores (N, 1, H, W): final, then the four guided."""
        scores: list[Tensor] = []
        total: Tensor | None = None
        for lateral, level, feature in zip(self.laterals, self.levels, saliency, strict=True):
            guided, score = level(resize_to(lateral(feature), size_of(edge)) + edge)
            scores.append(score)
            total = guided if total is None else F.relu(total + guided)
        return [self.final(total), *scores]


class EGNet(ComparisonNetwork):
    """A slice -> nine saliency maps, and an edge map beside them."""

    def __init__(self, config: EGNetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = make_backbone(config.backbone, config.in_channels, config.width, config.backbone_norm)
        widths = [config.channels(c) for c in _FEATURES]
        vgg = config.backbone == "vgg16"
        self.conv6: nn.Module = conv_stack(widths[3], widths[4], 3, 3, config.norm) if vgg else nn.Identity()
        # VGG's features have these widths already.
        self.laterals = nn.ModuleList(
            nn.Identity() if vgg else ConvNormReLU(before, after, 1, norm=config.norm, bias=False)
            for before, after in zip(self.backbone.feature_channels, widths, strict=True)
        )
        edge_channels = config.channels(_EDGE_CHANNELS)
        self.top_down = TopDownPath(config)
        self.location = ConvNormReLU(config.channels(_SALIENCY[-1][0]), widths[0], 1, norm=config.norm, bias=False)
        self.edge = ScoredStack(widths[0], edge_channels, 3, config.norm)
        self.guidance = OneToOneGuidance(config)
        draw_weights(self, self.backbone, config.initialisation)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> nine logit maps (N, 1, H, W): :attr:`EGNetOutputs.saliency`."""
        return self.forward_with_edge(x).saliency

    def forward_with_edge(self, x: Tensor) -> EGNetOutputs:
        """(N, in_channels, H, W) -> what the published loss takes."""
        check_slices(x, self.config.in_channels, least=64)
        second, *others = self._features(x)
        saliency, side_scores = self.top_down(others)
        edge, edge_score = self.edge(second + resize_to(self.location(saliency[-1]), size_of(second)))
        scores = [*self.guidance(edge, saliency), *side_scores]
        return EGNetOutputs([resize_to(score, size_of(x)) for score in scores], resize_to(edge_score, size_of(x)))

    def _features(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> [f2, ..., f6]."""
        features: list[Tensor] = self.backbone(x)
        if isinstance(self.backbone, VGG16):
            features = [*features[1:], self.conv6(self.backbone.pool(features[-1]))]
        return [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
