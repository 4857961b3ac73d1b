"""The published weights' formats: one table a format, from this package's names to theirs.

Names and shapes are facts of the published files; nothing else of them is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

from jcs_ct.choices import PublishedName
from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.presets import CLASSIFIERS, SEGMENTERS
from jcs_ct.models.res2net import Res2Net, Res2NetConfig
from jcs_ct.models.segmenter import Segmenter, SegmenterConfig
from jcs_ct.models.vgg import VGGConfig, VGGEncoder
from jcs_ct.operating_point import OperatingPoint
from jcs_ct.preprocessing import SlicePreprocessor

#: Batches a BatchNorm has seen. Only momentum-free averaging reads it: where a file lacks it, it becomes 0; where a
#: frozen BatchNorm has no place for it, it is left out.
COUNTER = "num_batches_tracked"

NetworkConfig = ClassifierConfig | SegmenterConfig | Res2NetConfig | VGGConfig


@dataclass(frozen=True)
class PublishedFormat:
    """One kind of published file.

    Args:
        name: As it is given to ``jcs weights import --as``.
        about: Where such files come from, in a line.
        task: What becomes of it: ``classifier``, ``segmenter``, ``trunk`` or ``encoder``.
        preset: Preset whose network it is; for a part, the preset it is meant for.
        config: The network's config.
        renamed: (module path here, module path there); the longest one that starts a name holds, empty is the
            whole. The tensor's own name (``weight``, ``running_mean`` ...) is the same on both sides.
        left_out: Beginnings of names there that have no place here (an ImageNet head).
        preprocessor: What the network was trained with.
        operating_point: The published decision, where there is one.
    """

    name: PublishedName
    about: str
    task: str
    preset: str
    config: NetworkConfig
    renamed: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...] = ()
    preprocessor: SlicePreprocessor = field(default_factory=SlicePreprocessor)
    operating_point: OperatingPoint | None = None

    def build(self) -> nn.Module:
        """The network, with freshly drawn weights."""
        if isinstance(self.config, ClassifierConfig):
            return Classifier(self.config)
        if isinstance(self.config, SegmenterConfig):
            return Segmenter(self.config)
        return Res2Net(self.config) if isinstance(self.config, Res2NetConfig) else VGGEncoder(self.config)

    def published_name(self, name: str) -> str:
        """The name there of a tensor here.

        Raises:
            KeyError: the table has no line for it, which is a mistake in the table.
        """
        fitting = [pair for pair in self.renamed if not pair[0] or name.startswith(f"{pair[0]}.")]
        if not fitting:
            raise KeyError(f"{self.name}: the table has no line for {name}")
        here, there = max(fitting, key=lambda pair: len(pair[0]))
        rest = name.removeprefix(f"{here}.") if here else name
        return f"{there}.{rest}" if there else rest

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Name here -> name there, for every tensor of the network, counters included."""
        return {name: self.published_name(name) for name in self._shapes}

    @cached_property
    def expected(self) -> Mapping[str, tuple[int, ...]]:
        """Name there -> shape; counters are left aside, see :data:`COUNTER`."""
        return {self.names[name]: shape for name, shape in self._shapes.items() if not name.endswith(f".{COUNTER}")}

    @cached_property
    def counters(self) -> tuple[str, ...]:
        """Names there of the counters that have a place here."""
        return tuple(there for there in self.names.values() if there.endswith(f".{COUNTER}"))

    @cached_property
    def norms(self) -> tuple[str, ...]:
        """Module paths there of every BatchNorm, frozen or not."""
        return tuple(name.removesuffix(".running_mean") for name in self.expected if name.endswith(".running_mean"))

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            network = self.build()
        return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _numbered_layers(config: VGGConfig) -> list[str]:
    return [
        f"conv{block}_{number}" for block, count in enumerate(config.convs, start=1) for number in range(1, count + 1)
    ]


_LAYERS = _numbered_layers(VGGConfig())

_OFFICIAL_ENCODER = tuple(
    pair
    for layer in _LAYERS
    for pair in (
        (f"encoder.{layer}.conv", f"vgg16.{layer}.conv"),
        (f"encoder.{layer}.norm", f"vgg16.{layer}.bn"),
    )
)

_OFFICIAL_EFM = tuple(
    (f"efm.{here}.{part_here}", f"{there}.{part_there}")
    for here, there in (("gam5", "gpd"), ("gam6", "gpd1"))
    for part_here, part_there in (
        ("expand", "expand_conv"),
        ("atrous", "dilation_convs"),
        ("se", "se_block"),
        ("reduce", "reduce_conv"),
        ("transition", "end_conv"),
    )
)

_OFFICIAL_DECODER = (
    ("decoder.top.0", "fpn.inners_a.5"),
    ("decoder.top.1", "fpn.fuse.5"),
    *(
        (f"decoder.stages.{stage}.{here}", there.format(stage=stage))
        for stage in range(5)
        for here, there in (
            ("lateral", "fpn.inners_a.{stage}"),
            ("deeper", "fpn.inners_b.{stage}"),
            ("se1", "fpn.fuse.{stage}.se1"),
            ("transition1", "fpn.fuse.{stage}.conv1"),
            ("se2", "fpn.fuse.{stage}.se2"),
            ("reduce", "fpn.fuse.{stage}.reduce_conv"),
            ("transition2", "fpn.fuse.{stage}.conv2"),
        )
    ),
    *((f"side_heads.{stage}", f"cls{stage + 1}") for stage in range(5)),
)

_OFFICIAL_COMBINATION = tuple(
    (f"combination.{stage}.{here}.{part}", f"fuse.{there}.{stage}.{part_there}")
    for stage in range(5)
    for here, there in (("join", "cat_modules"), ("attend", "se_modules"), ("fuse", "fuse_modules"))
    for part, part_there in (("conv", "conv"), ("norm", "bn"))
)

_OFFICIAL_SEGMENTATION = (*_OFFICIAL_ENCODER, *_OFFICIAL_EFM, *_OFFICIAL_DECODER)


def _torchvision_layers(*, with_norm: bool) -> tuple[tuple[str, str], ...]:
    """``features.<n>`` counts convolutions, BatchNorms, ReLUs and pools in one row."""
    pairs, position, block = [], 0, "1"
    for layer in _LAYERS:
        if layer[4] != block:  # a pool stands between blocks
            position, block = position + 1, layer[4]
        pairs.append((f"{layer}.conv", f"features.{position}"))
        if with_norm:
            pairs.append((f"{layer}.norm", f"features.{position + 1}"))
        position += 3 if with_norm else 2
    return tuple(pairs)


_SEGMENTATION_INPUT = SlicePreprocessor(size=512)

PUBLISHED: Mapping[str, PublishedFormat] = {
    published.name: published
    for published in (
        PublishedFormat(
            name="official-segmentation",
            about="the JCS authors' segmentation branch, trained alone",
            task="segmenter",
            preset="official",
            config=SEGMENTERS["official"],
            renamed=_OFFICIAL_SEGMENTATION,
            preprocessor=_SEGMENTATION_INPUT,
        ),
        PublishedFormat(
            name="official-joint",
            about="the JCS authors' segmentation branch with the classifier's trunk",
            task="segmenter",
            preset="official-joint",
            config=SEGMENTERS["official-joint"],
            renamed=(*_OFFICIAL_SEGMENTATION, ("backbone", "res2net"), *_OFFICIAL_COMBINATION),
            preprocessor=_SEGMENTATION_INPUT,
        ),
        PublishedFormat(
            name="official-classifier",
            about="the JCS authors' classifier",
            task="classifier",
            preset="official",
            config=CLASSIFIERS["official"],
            renamed=(("backbone", ""), ("head", "fc")),
            preprocessor=SlicePreprocessor(size=224, centre_share=224 / 256),
            operating_point=OperatingPoint(slice_probability=0.5, positive_slice_threshold=18),
        ),
        PublishedFormat(
            name="timm-res2net101d",
            about="Res2Net-101 v1b on ImageNet: timm's res2net101d, or res2net101_v1b_26w_4s of its authors",
            task="trunk",
            preset="paper",
            config=Res2NetConfig(),
            renamed=(("", ""),),
            left_out=("fc.",),
        ),
        PublishedFormat(
            name="torchvision-vgg16_bn",
            about="VGG-16 with BatchNorm on ImageNet, torchvision's vgg16_bn",
            task="encoder",
            preset="official",
            config=VGGConfig(norm="batch"),
            renamed=_torchvision_layers(with_norm=True),
            left_out=("classifier.",),
            preprocessor=_SEGMENTATION_INPUT,
        ),
        PublishedFormat(
            name="torchvision-vgg16",
            about="VGG-16 on ImageNet, torchvision's vgg16",
            task="encoder",
            preset="paper",
            config=VGGConfig(),
            renamed=_torchvision_layers(with_norm=False),
            left_out=("classifier.",),
            preprocessor=_SEGMENTATION_INPUT,
        ),
    )
}
