"""What the networks' first stage makes of slices: the only form in which COVID-CS slices are public."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class FirstStage(NamedTuple):
    """First-stage feature maps; every network takes them in the place of slices and then skips that stage.

    Args:
        vgg_feats: (N, C1, H, W) after conv1_2, its BatchNorm and ReLU; None for a classifier.
        res2net_feats: (N, C, H/2, W/2) after the stem, its BatchNorm and ReLU; None for segmentation alone.
    """

    vgg_feats: Tensor | None
    res2net_feats: Tensor | None
