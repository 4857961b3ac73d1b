"""The segmentation branch: VGG encoder, EFM, AFF decoder, side outputs; alone or joined to the classifier's trunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from jcs_ct.models.classifier import Classifier
from jcs_ct.models.decoder import Decoder
from jcs_ct.models.efm import EnhancedFeatureModule, PlainTop
from jcs_ct.models.first_stage import FirstStage
from jcs_ct.models.fusion import FeatureCombination, Resize
from jcs_ct.models.layers import NormKind, check_slices, initialise, resize_to, size_of
from jcs_ct.models.res2net import Res2Net, Res2NetConfig
from jcs_ct.models.vgg import VGGConfig, VGGEncoder


@dataclass(frozen=True)
class CombinationConfig:
    """How the classifier's features join (III-B4).

    Args:
        backbone: The classifier's trunk.
        resize: ``up`` in the paper, ``down`` in the published networks.
        squeeze_excitation: The paper's 1x1 -> SE -> 3x3; the published networks have three 3x3.
        norm, norm_eps, conv_bias: Of the convolutions.
        freeze_backbone: Whether the trunk keeps the classifier's weights while the segmenter trains.
    """

    backbone: Res2NetConfig = field(default_factory=Res2NetConfig)
    resize: Resize = "up"
    squeeze_excitation: bool = True
    norm: NormKind = "batch"
    norm_eps: float = 1e-5
    conv_bias: bool = True
    freeze_backbone: bool = False


@dataclass(frozen=True)
class SegmenterConfig:
    """A slice segmenter.

    Args:
        encoder: The VGG encoder.
        combination: Set: the joint network. None: segmentation alone.
        enhanced_features: EFM, or the plain top of the ablation.
        attentive_fusion: AFF, or the plain fusion of the ablation.
        norm: Normalisation in EFM and decoder; the paper's have none.
        fusion_se_hidden_is_one: Published AFF: one hidden unit in both squeeze-excitations.
        fusion_reduce: Published AFF: a 1x1 in front of the last 3x3.
        convolve_top: Published: M_E6 goes through a 1x1 and a 3x3 into the decoder.
    """

    encoder: VGGConfig = field(default_factory=VGGConfig)
    combination: CombinationConfig | None = None
    enhanced_features: bool = True
    attentive_fusion: bool = True
    norm: NormKind = "none"
    fusion_se_hidden_is_one: bool = False
    fusion_reduce: bool = False
    convolve_top: bool = False

    @property
    def joint(self) -> bool:
        """Whether the classifier's features are combined in."""
        return self.combination is not None

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the six maps the decoder gets; the sixth is made of the encoder's own fifth."""
        own = self.encoder.strides
        if self.combination is None or self.combination.resize == "up":
            return (*own, 2 * own[-1])
        return (*self.combination.backbone.strides, 2 * own[-1])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SegmenterConfig:
        """The inverse of :meth:`to_dict`, also after JSON.

        Raises:
            TypeError: unknown fields.
        """
        fields = dict(values)
        encoder = VGGConfig.from_dict(fields.pop("encoder"))
        combination = fields.pop("combination")
        if combination is not None:
            backbone = Res2NetConfig.from_dict(combination["backbone"])
            combination = CombinationConfig(**{**combination, "backbone": backbone})
        return cls(encoder=encoder, combination=combination, **fields)


class Segmenter(nn.Module):
    """A slice -> five side outputs; the first, at full resolution, is the prediction."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.encoder.channels
        self.encoder = VGGEncoder(config.encoder)
        self.efm: nn.Module = (
            EnhancedFeatureModule(channels[-1], norm=config.norm)
            if config.enhanced_features
            else PlainTop(channels[-1], norm=config.norm)
        )
        self.decoder = Decoder(
            channels,
            attentive=config.attentive_fusion,
            norm=config.norm,
            se_hidden_is_one=config.fusion_se_hidden_is_one,
            reduce_before_transition=config.fusion_reduce,
            convolve_top=config.convolve_top,
        )
        self.side_heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in channels)
        self.backbone: Res2Net | None = None
        self.combination: nn.ModuleList | None = None
        if config.combination is not None:
            self._add_combination(config.combination, channels)
        initialise(self)

    def _add_combination(self, config: CombinationConfig, channels: tuple[int, ...]) -> None:
        self.backbone = Res2Net(config.backbone)
        self.combination = nn.ModuleList(
            FeatureCombination(
                own,
                borrowed,
                resize=config.resize,
                squeeze_excitation=config.squeeze_excitation,
                norm=config.norm,
                norm_eps=config.norm_eps,
                conv_bias=config.conv_bias,
            )
            for own, borrowed in zip(channels, config.backbone.stage_channels, strict=True)
        )
        if config.freeze_backbone:
            self.backbone.requires_grad_(False)

    def load_classifier(self, classifier: Classifier) -> None:
        """Borrow a trained classifier's trunk.

        Raises:
            ValueError: this segmenter has no place for one, or the trunks differ.
        """
        if self.backbone is None:
            raise ValueError("this segmenter works alone: it has no place for a classifier's features")
        if classifier.config.backbone != self.backbone.config:
            raise ValueError(
                f"the classifier's trunk {classifier.config.backbone} is not this network's {self.backbone.config}"
            )
        self.backbone.load_state_dict(classifier.backbone.state_dict())

    def train(self, mode: bool = True) -> Segmenter:
        """As usual, except that a frozen trunk keeps its statistics too."""
        super().train(mode)
        frozen = self.config.combination is not None and self.config.combination.freeze_backbone
        if frozen and self.backbone is not None:
            self.backbone.eval()
        return self

    def forward(self, x: Tensor | FirstStage) -> list[Tensor]:
        """(N, in_channels, H, W), or its first stage -> five logit maps (N, 1, H, W); the first is side output 1.

        Raises:
            ValueError: slices or feature maps of another shape, or a map that this network needs is missing.
        """
        vgg_feats, res2net_feats = self._started(x)
        decoded = self._decode(vgg_feats, res2net_feats)
        size = size_of(vgg_feats)  # the first block keeps the slice's size
        return [resize_to(head(feature), size) for head, feature in zip(self.side_heads, decoded, strict=True)]

    def predict(self, x: Tensor | FirstStage) -> Tensor:
        """(N, in_channels, H, W), or its first stage -> (N, 1, H, W) probabilities of side output 1 alone."""
        vgg_feats, res2net_feats = self._started(x)
        finest = self.side_heads[0](self._decode(vgg_feats, res2net_feats)[0])
        return torch.sigmoid(resize_to(finest, size_of(vgg_feats)).float())

    def first_stage(self, x: Tensor) -> FirstStage:
        """What the COVID-CS release stores: ``vgg_feats`` (N, C1, H, W) and ``res2net_feats`` (N, C, H/2, W/2)."""
        return FirstStage(*self._started(x))

    def _started(self, x: Tensor | FirstStage) -> tuple[Tensor, Tensor | None]:
        if not isinstance(x, FirstStage):
            return self.encoder.first_block(x), self.backbone.stem(x) if self.backbone is not None else None
        if x.vgg_feats is None:
            raise ValueError("a segmenter needs vgg_feats; these are a classifier's features")
        check_slices(x.vgg_feats, self.config.encoder.channels[0], what="vgg_feats")
        if self.backbone is None:
            return x.vgg_feats, None
        if x.res2net_feats is None:
            raise ValueError("the joint network needs res2net_feats beside vgg_feats")
        check_slices(x.res2net_feats, self.backbone.config.stem_channels[2], least=16, what="res2net_feats")
        rows, columns = size_of(x.vgg_feats)
        if size_of(x.res2net_feats) != ((rows + 1) // 2, (columns + 1) // 2):
            raise ValueError(
                f"res2net_feats must be half of vgg_feats' {rows}x{columns}, got "
                f"{x.res2net_feats.shape[-2]}x{x.res2net_feats.shape[-1]}; are they of the same slice?"
            )
        return x.vgg_feats, x.res2net_feats

    def _decode(self, vgg_feats: Tensor, res2net_feats: Tensor | None) -> list[Tensor]:
        """First stage -> [M_D1, ..., M_D5]."""
        encoded = self.encoder.later_blocks(vgg_feats)
        # M_E6 comes from the encoder's own M_E5, before the classifier's features join.
        encoded[-1], sixth = self.efm(encoded[-1])
        if self.backbone is not None and self.combination is not None and res2net_feats is not None:
            borrowed = self.backbone.stages(res2net_feats)
            encoded = [
                combine(own, other) for combine, own, other in zip(self.combination, encoded, borrowed, strict=True)
            ]
        decoded: list[Tensor] = self.decoder(encoded, sixth)
        return decoded
