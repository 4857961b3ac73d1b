"""The published losses of DSS, PoolNet and EGNet; they take logits.

U-Net's, binary cross-entropy and Dice, is the common recipe's deep supervision of its single output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from jcs_ct.models.comparison.egnet import EGNetOutputs


def summed_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, summed over the pixels of a slice and averaged over slices.

    Args:
        logits: (N, 1, H, W).
        target: (N, 1, H, W) in {0, 1}.
        weight: (N, 1, H, W), a factor per pixel.
    """
    total = F.binary_cross_entropy_with_logits(logits.float(), target, weight=weight, reduction="sum")
    return total / target.shape[0]


def dss_loss(outputs: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Summed cross-entropy of the fusion and the six sides; the prediction, which is made of them, is left out.

    Args:
        outputs: What :class:`DSS` gives: prediction, fusion, sides 1 to 6.
        mask: (N, 1, H, W) in {0, 1}.
    """
    return torch.stack([summed_cross_entropy(logits, mask) for logits in outputs[1:]]).sum()


def poolnet_loss(outputs: Sequence[Tensor], mask: Tensor, *, divisor: float = 10.0) -> Tensor:
    """Summed cross-entropy over ``divisor``, the number of slices that the authors accumulate.

    Args:
        outputs: What :class:`PoolNet` gives.
        mask: (N, 1, H, W) in {0, 1}.
        divisor: 1 where the training loop averages over accumulated slices itself.
    """
    return summed_cross_entropy(outputs[0], mask) / divisor


def egnet_loss(outputs: EGNetOutputs, mask: Tensor, *, divisor: float = 10.0) -> Tensor:
    """Summed cross-entropy of nine saliency maps and class-balanced cross-entropy of the edge, over ``divisor``.

    Args:
        outputs: What :meth:`EGNet.forward_with_edge` gives.
        mask: (N, 1, H, W) in {0, 1}.
        divisor: As in :func:`poolnet_loss`.
    """
    saliency = torch.stack([summed_cross_entropy(logits, mask) for logits in outputs.saliency]).sum()
    return (saliency + balanced_edge_loss(outputs.edge, mask_boundary(mask))) / divisor


def balanced_edge_loss(logits: Tensor, boundary: Tensor) -> Tensor:
    """Summed cross-entropy: boundary pixels weigh neg/N, the others 1.1 pos/N, counted over the batch.

    A batch without a boundary costs nothing here.

    Args:
        logits: (N, 1, H, W).
        boundary: (N, 1, H, W) in {0, 1}.
    """
    share = boundary.mean()
    weight = torch.where(boundary > 0.5, 1.0 - share, 1.1 * share)
    return summed_cross_entropy(logits, boundary, weight)


def mask_boundary(mask: Tensor) -> Tensor:
    """The lesion's pixels that touch, by a side or a corner, a pixel without lesion; the slice's rim is no boundary.

    Args:
        mask: (N, 1, H, W) in {0, 1}.

    Returns:
        (N, 1, H, W) in {0, 1}.
    """
    near_background = F.max_pool2d(1.0 - mask, 3, stride=1, padding=1)
    return mask * near_background
