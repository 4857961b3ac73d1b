"""DSS (TPAMI 2019): side branches on VGG-16, joined by short connections from deep to shallow scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jcs_ct.models.comparison.backbones import VGG16
from jcs_ct.models.comparison.base import (
    ComparisonConfig,
    ComparisonNetwork,
    Initialisation,
    conv_stack,
    draw_weights,
)
from jcs_ct.models.layers import NormKind, check_slices, resize_to, size_of

#: (channels, kernel size) of the side branches on conv1_2 ... conv5_3 and pool5.
_BRANCHES = ((128, 3), (128, 3), (256, 5), (256, 5), (512, 5), (512, 7))
#: Side -> the deeper sides that it receives; sides are counted from 1.
_CONNECTIONS = {4: (5, 6), 3: (5, 6), 2: (3, 4, 5, 6), 1: (3, 4, 5, 6)}
#: The sides whose probabilities are averaged with the fusion's.
_AVERAGED_SIDES = (3, 4, 5)


@dataclass(frozen=True)
class DSSConfig(ComparisonConfig):
    """DSS on VGG-16.

    Args:
        backbone_norm: Of VGG-16; ``none`` as published, ``batch`` where ImageNet weights are missing.
        norm: Of the side branches; likewise.
        initialisation: Of everything outside the backbone.
    """

    backbone_norm: NormKind = "none"
    norm: NormKind = "none"
    initialisation: Initialisation = "gaussian"


class SideBranch(nn.Module):
    """Two k x k convolutions, then a score."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, norm: NormKind) -> None:
        super().__init__()
        self.convs = conv_stack(in_channels, channels, kernel_size, 2, norm)
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, 1, h, w)."""
        out: Tensor = self.score(self.convs(x))
        return out


class ShortConnection(nn.Module):
    """A score and the deeper ones, upsampled to it, through one 1x1."""

    def __init__(self, deeper: int) -> None:
        super().__init__()
        self.merge = nn.Conv2d(1 + deeper, 1, 1)

    def forward(self, own: Tensor, deeper: Sequence[Tensor]) -> Tensor:
        """(N, 1, H, W) and k maps (N, 1, h, w) -> (N, 1, H, W)."""
        upsampled = [resize_to(score, size_of(own)) for score in deeper]
        out: Tensor = self.merge(torch.cat([own, *upsampled], dim=1))
        return out


class DSS(ComparisonNetwork):
    """A slice -> prediction, fusion and six side scores."""

    def __init__(self, config: DSSConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = VGG16(config.in_channels, config.width, norm=config.backbone_norm, overlapping_pools=False)
        features = [*self.backbone.feature_channels, self.backbone.feature_channels[-1]]
        self.branches = nn.ModuleList(
            SideBranch(before, config.channels(channels), kernel_size, config.norm)
            for before, (channels, kernel_size) in zip(features, _BRANCHES, strict=True)
        )
        self.connections = nn.ModuleDict(
            {str(side): ShortConnection(len(_CONNECTIONS[side])) for side in (1, 2, 3, 4)}
        )
        self.fusion = nn.Conv2d(len(_BRANCHES), 1, 1)
        draw_weights(self, self.backbone, config.initialisation)
        nn.init.constant_(self.fusion.weight, 1.0 / len(_BRANCHES))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> eight logit maps (N, 1, H, W): prediction, fusion, sides 1 to 6.

        The prediction is the logit of the mean probability of the fusion and sides 3, 4 and 5; it is not supervised
        by the published loss, which takes the other seven.
        """
        check_slices(x, self.config.in_channels, least=64)
        features = self.backbone(x)
        pool5 = F.avg_pool2d(F.max_pool2d(features[-1], 3, 2, padding=1), 3, 1, padding=1)
        scores = {
            side: branch(feature)
            for side, (branch, feature) in enumerate(zip(self.branches, [*features, pool5], strict=True), start=1)
        }
        for side, deeper in _CONNECTIONS.items():  # deep to shallow: sides 1 and 2 receive 3 and 4 merged
            scores[side] = self.connections[str(side)](scores[side], [scores[number] for number in deeper])
        sides = [resize_to(scores[side], size_of(x)) for side in sorted(scores)]
        fusion = self.fusion(torch.cat(sides, dim=1))
        return [mean_probability_logit(_averaged(fusion, sides)), fusion, *sides]

    def predict(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 1, H, W): the mean probability itself.

        OpenVINO 2026 takes the ``logsumexp`` behind its logit for one over all axes.
        """
        _, fusion, *sides = self(x)
        maps = [torch.sigmoid(each.float()) for each in _averaged(fusion, sides)]
        return torch.cat(maps, dim=1).mean(dim=1, keepdim=True)


def _averaged(fusion: Tensor, sides: Sequence[Tensor]) -> list[Tensor]:
    """The maps whose probabilities the prediction averages."""
    return [fusion, *(sides[side - 1] for side in _AVERAGED_SIDES)]


def mean_probability_logit(logits: Sequence[Tensor]) -> Tensor:
    """k maps of logits -> the logit of the mean of their probabilities, without loss at either end."""
    stacked = torch.stack([each.float() for each in logits])
    return F.logsigmoid(stacked).logsumexp(dim=0) - F.logsigmoid(-stacked).logsumexp(dim=0)
