"""The classification branch: Res2Net, global average pooling, two logits (paper, III-A)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from jcs_ct.models.activation_map import activation_map_from_features
from jcs_ct.models.first_stage import FirstStage
from jcs_ct.models.layers import check_slices, initialise
from jcs_ct.models.res2net import Res2Net, Res2NetConfig


@dataclass(frozen=True)
class ClassifierConfig:
    """A slice classifier.

    Args:
        backbone: The trunk.
        head_bias: The published head has no bias.
        dropout: In front of the head, while training.
    """

    backbone: Res2NetConfig = field(default_factory=Res2NetConfig)
    head_bias: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassifierConfig:
        """The inverse of :meth:`to_dict`, also after JSON.

        Raises:
            TypeError: unknown fields.
        """
        fields = dict(values)
        return cls(backbone=Res2NetConfig.from_dict(fields.pop("backbone")), **fields)


class Classifier(nn.Module):
    """A slice -> two logits: uninfected, infected."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Res2Net(config.backbone)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.backbone.stage_channels[-1], 2, bias=config.head_bias)
        initialise(self)

    def forward(self, x: Tensor | FirstStage) -> Tensor:
        """(N, in_channels, H, W), or its first stage -> (N, 2) logits."""
        return self.head_logits(self.features(x)[-1])

    def first_stage(self, x: Tensor) -> FirstStage:
        """The stem's output (N, C, H/2, W/2): what COVID-CS stores for classification (64x112x112 from 224x224)."""
        return FirstStage(None, self.backbone.stem(x))

    def features(self, x: Tensor | FirstStage) -> list[Tensor]:
        """(N, in_channels, H, W), or its first stage -> five feature maps; the last is what is averaged.

        Raises:
            ValueError: slices or feature maps of another shape, or no ``res2net_feats``.
        """
        if not isinstance(x, FirstStage):
            maps: list[Tensor] = self.backbone(x)
            return maps
        if x.res2net_feats is None:
            raise ValueError("a classifier needs res2net_feats; these are the features of segmentation alone")
        check_slices(x.res2net_feats, self.config.backbone.stem_channels[2], least=16, what="res2net_feats")
        return self.backbone.stages(x.res2net_feats)

    def head_logits(self, last: Tensor) -> Tensor:
        """The last feature map (N, K, h, w) -> (N, 2) logits."""
        logits: Tensor = self.head(self.dropout(last.mean(dim=(2, 3))))
        return logits

    def activation_map(self, x: Tensor | FirstStage, target: int | Tensor = 1, *, variant: str = "paper") -> Tensor:
        """(N, in_channels, H, W) -> (N, 1, h, w) activation map of a class (Eq. 1-2), without a backward pass."""
        last = self.features(x)[-1]
        return activation_map_from_features(last, self.head_logits(last), self.head.weight, target, variant=variant)
