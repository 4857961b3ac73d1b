"""The comparison networks by name: as published, for training without ImageNet weights, and their own schedules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from jcs_ct.models.comparison.base import ComparisonConfig, ComparisonNetwork
from jcs_ct.models.comparison.dss import DSS, DSSConfig
from jcs_ct.models.comparison.egnet import EGNet, EGNetConfig
from jcs_ct.models.comparison.poolnet import PoolNet, PoolNetConfig
from jcs_ct.models.comparison.unet import UNet, UNetConfig

_NEED_IMAGENET: dict[str, DSSConfig | PoolNetConfig | EGNetConfig] = {
    "dss-vgg16": DSSConfig(),
    "poolnet-resnet50": PoolNetConfig(),
    "poolnet-vgg16": PoolNetConfig(backbone="vgg16", backbone_norm="none"),
    "egnet-resnet50": EGNetConfig(),
    "egnet-vgg16": EGNetConfig(backbone="vgg16", backbone_norm="none"),
}

COMPARISONS: dict[str, ComparisonConfig] = {
    "unet": UNetConfig(),
    "unet-bilinear": UNetConfig(upsampling="bilinear"),
    **_NEED_IMAGENET,
    # Without ImageNet weights the published forms do not start: batch normalisation throughout and He initialisation.
    **{
        f"{name}-scratch": replace(config, backbone_norm="batch", norm="batch", initialisation="he")
        for name, config in _NEED_IMAGENET.items()
    },
}


@dataclass(frozen=True)
class PublishedSchedule:
    """How a network's authors train it; batches are of one slice.

    Args:
        optimizer: ``sgd`` or ``adam``.
        lr: Learning rate at the start.
        weight_decay: L2 penalty.
        momentum: Of SGD.
        accumulation: Slices per step.
        length, unit: The run's length in ``epochs`` or ``iterations``.
        drops: Where, in that unit, the rate is divided by 10.
    """

    optimizer: Literal["sgd", "adam"]
    lr: float
    length: int
    unit: Literal["epochs", "iterations"]
    drops: tuple[int, ...]
    weight_decay: float = 5e-4
    momentum: float = 0.0
    accumulation: int = 10


_SCHEDULES: dict[str, PublishedSchedule] = {
    "dss-vgg16": PublishedSchedule("sgd", 1e-8, 12_000, "iterations", (7_500,), momentum=0.9),
    "poolnet-resnet50": PublishedSchedule("adam", 5e-5, 24, "epochs", (15,)),
    "poolnet-vgg16": PublishedSchedule("adam", 1e-4, 24, "epochs", (15,)),
    "egnet-resnet50": PublishedSchedule("adam", 5e-5, 30, "epochs", (15, 24)),
    "egnet-vgg16": PublishedSchedule("adam", 2e-5, 30, "epochs", (15, 24)),
}


def comparison_preset(name: str) -> ComparisonConfig:
    """The config of a comparison network.

    Raises:
        KeyError: unknown name; the message lists the known ones.
    """
    if name not in COMPARISONS:
        raise KeyError(f"no comparison network {name!r}; known: {', '.join(COMPARISONS)}")
    return COMPARISONS[name]


def published_schedule(name: str) -> PublishedSchedule | None:
    """The schedule of a preset's authors; None where the comparison gives none (U-Net).

    A ``-scratch`` preset has that of its published form, whose small rates it was not meant for.

    Raises:
        KeyError: unknown name; the message lists the known ones.
    """
    comparison_preset(name)
    return _SCHEDULES.get(name.removesuffix("-scratch"))


def build_comparison(network: str | ComparisonConfig) -> ComparisonNetwork:
    """A comparison network with freshly drawn weights, from a preset's name or a config.

    Raises:
        KeyError: unknown name.
        TypeError: a config of no network here.
    """
    config = comparison_preset(network) if isinstance(network, str) else network
    if isinstance(config, UNetConfig):
        return UNet(config)
    if isinstance(config, DSSConfig):
        return DSS(config)
    if isinstance(config, PoolNetConfig):
        return PoolNet(config)
    if isinstance(config, EGNetConfig):
        return EGNet(config)
    raise TypeError(f"no comparison network has a {type(config).__name__}")
