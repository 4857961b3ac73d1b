"""Presets: the paper's text, the published checkpoints, and the small networks whose weights come in the box."""

from __future__ import annotations

from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.res2net import Res2NetConfig
from jcs_ct.models.segmenter import CombinationConfig, Segmenter, SegmenterConfig
from jcs_ct.models.vgg import VGGConfig

_OFFICIAL_TRUNK = Res2NetConfig(norm="frozen", norm_eps=0.0)

_COMPACT_TRUNK = Res2NetConfig(
    in_channels=1,
    stem_channels=(16, 16, 24),
    planes=(32, 64, 96, 128),
    blocks=(2, 2, 2, 2),
    base_width=32,
    last_stride=1,
)

CLASSIFIERS: dict[str, ClassifierConfig] = {
    # The text asks for two channels and is silent on a bias: as published, without.
    "paper": ClassifierConfig(head_bias=False),
    "official": ClassifierConfig(_OFFICIAL_TRUNK, head_bias=False),
    "compact": ClassifierConfig(_COMPACT_TRUNK, dropout=0.2),
}

_OFFICIAL = SegmenterConfig(
    encoder=VGGConfig(norm="frozen", norm_eps=0.0, pool_before_block5=False),
    fusion_se_hidden_is_one=True,
    fusion_reduce=True,
    convolve_top=True,
)
_COMPACT = SegmenterConfig(
    encoder=VGGConfig(
        in_channels=1, channels=(16, 24, 48, 96, 128), convs=(2, 2, 2, 2, 2), norm="batch", conv_bias=False
    ),
    norm="batch",
)


def _joint(alone: SegmenterConfig, combination: CombinationConfig) -> SegmenterConfig:
    fields = {name: getattr(alone, name) for name in alone.__dataclass_fields__}
    return SegmenterConfig(**{**fields, "combination": combination})


SEGMENTERS: dict[str, SegmenterConfig] = {
    "paper": SegmenterConfig(),
    "paper-joint": _joint(SegmenterConfig(), CombinationConfig()),
    "official": _OFFICIAL,
    "official-joint": _joint(
        _OFFICIAL, CombinationConfig(backbone=_OFFICIAL_TRUNK, resize="down", squeeze_excitation=False)
    ),
    "compact": _COMPACT,
    "compact-joint": _joint(
        _COMPACT, CombinationConfig(backbone=_COMPACT_TRUNK, conv_bias=False, freeze_backbone=True)
    ),
}


def classifier_preset(name: str) -> ClassifierConfig:
    """The classifier config of a preset.

    Raises:
        KeyError: unknown name; the message lists the known ones.
    """
    if name not in CLASSIFIERS:
        raise KeyError(f"no classifier preset {name!r}; known: {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name]


def segmenter_preset(name: str) -> SegmenterConfig:
    """The segmenter config of a preset.

    Raises:
        KeyError: unknown name; the message lists the known ones.
    """
    if name not in SEGMENTERS:
        raise KeyError(f"no segmenter preset {name!r}; known: {', '.join(SEGMENTERS)}")
    return SEGMENTERS[name]


def build_classifier(config: ClassifierConfig) -> Classifier:
    """A classifier with freshly drawn weights."""
    return Classifier(config)


def build_segmenter(config: SegmenterConfig) -> Segmenter:
    """A segmenter with freshly drawn weights."""
    return Segmenter(config)
