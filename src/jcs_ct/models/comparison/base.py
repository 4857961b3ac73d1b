"""What every comparison network shares: the config's common fields and the segmenter's interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from jcs_ct.models.comparison.backbones import BackboneKind, check_backbone_norm
from jcs_ct.models.layers import ConvNormReLU, NormKind, initialise, tuples_from_lists

#: ``he``: He normal everywhere, as for our own networks; ``gaussian``: N(0, 0.01) outside the backbone, as published.
Initialisation = Literal["he", "gaussian"]


@dataclass(frozen=True)
class ComparisonConfig:
    """The fields that every comparison network has.

    Args:
        in_channels: 3 for grey repeated, 1 for grey.
        width: Factor on every channel count; 1 is the published network, less is for small machines and tests.
    """

    in_channels: int = 3
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {self.in_channels}")
        if not self.width > 0:
            raise ValueError(f"width must be above 0, got {self.width}")

    def channels(self, published: int) -> int:
        """A published channel count times ``width``, at least 1."""
        return max(1, round(published * self.width))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`, also after JSON.

        Raises:
            TypeError: unknown fields.
        """
        return cls(**tuples_from_lists(values))


@dataclass(frozen=True)
class BackboneComparisonConfig(ComparisonConfig):
    """The fields of PoolNet and EGNet, which have a choice of backbone.

    Args:
        backbone: ``resnet50`` or ``vgg16``.
        backbone_norm: ``frozen`` for ResNet-50 and ``none`` for VGG-16 as published (both need ImageNet weights),
            ``batch`` without those.
        norm: Of everything else but the scores; ``none`` as published.
        initialisation: Of everything outside the backbone.
    """

    backbone: BackboneKind = "resnet50"
    backbone_norm: NormKind = "frozen"
    norm: NormKind = "none"
    initialisation: Initialisation = "gaussian"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_backbone_norm(self.backbone, self.backbone_norm)


class ComparisonNetwork(nn.Module):
    """A slice -> logit maps at the slice's size; the first is the prediction. The interface of our ``Segmenter``."""

    config: ComparisonConfig

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> logit maps (N, 1, H, W); the first is the prediction."""
        raise NotImplementedError

    def predict(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 1, H, W) probabilities, the sigmoid of ``forward(x)[0]``."""
        return torch.sigmoid(self(x)[0].float())


def draw_weights(network: nn.Module, backbone: nn.Module, kind: Initialisation) -> None:
    """Draw all weights: He normal, or N(0, 0.01) for every convolution outside the backbone; biases 0."""
    initialise(network)
    if kind == "he":
        return
    inside = {id(module) for module in backbone.modules()}
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and id(module) not in inside:
            nn.init.normal_(module.weight, std=0.01)


def conv_stack(in_channels: int, out_channels: int, kernel_size: int, count: int, norm: NormKind) -> nn.Sequential:
    """``count`` convolutions of one kernel size and width, each with ReLU."""
    widths = [in_channels, *[out_channels] * count]
    return nn.Sequential(
        *(
            ConvNormReLU(before, after, kernel_size, norm=norm, bias=norm == "none")
            for before, after in pairwise(widths)
        )
    )
