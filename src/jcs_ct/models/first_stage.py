"""What the networks' first stage makes of slices: the only form in which COVID-CS slices are public."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class FirstStage(NamedTuple):
    """First-stage feature maps; every network takes them in the place of slices and then skips that stage.

    Args:
        vgg_feats: (N, C1, H, W) after conv1_2, its BatchNorm and ReLU; None for a classifier.
        res2net_feats: (N, C, H/2, W/2) after the stem, its BatchNorm and ReLU; None for segmentation alone.
    """

    vgg_feats: Tensor | None
    res2net_feats: Tensor | None

    def each(self, change: Callable[[Tensor], Tensor]) -> FirstStage:
        """The same change to every map that is there."""
        return FirstStage(*(None if one is None else change(one) for one in self))


def chosen(images: Tensor | FirstStage, which: Tensor) -> Tensor | FirstStage:
    """The slices, or first stages, that ``which`` (N,) bool or indices picks."""
    return images[which] if isinstance(images, Tensor) else images.each(lambda one: one[which])


def joined(first: Tensor | FirstStage, second: Tensor | FirstStage) -> Tensor | FirstStage:
    """Slices behind slices, or first stages behind first stages that hold the same maps.

    Raises:
        ValueError: slices with features, or other maps.
    """
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second])
    pairs = list(zip(first, second, strict=True))
    if isinstance(first, Tensor) or isinstance(second, Tensor) or any((a is None) != (b is None) for a, b in pairs):
        raise ValueError("only slices, or first stages with the same maps, can be joined")
    return FirstStage(*(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs))
