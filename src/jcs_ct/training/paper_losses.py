"""The paper's losses; all take logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_cross_entropy(logits: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with soft labels, as image mixing makes them (Eq. 3).

    Args:
        logits: (N, classes).
        target: (N, classes), rows sum to 1.
        smoothing: Share of the label that is spread over all classes.
    """
    target = target * (1.0 - smoothing) + smoothing / target.shape[1]
    return -(target * F.log_softmax(logits.float(), dim=1)).sum(dim=1).mean()


def activation_map_loss(normalised_map: Tensor, mask: Tensor, has_mask: Tensor) -> Tensor:
    """L_seg (Eq. 4): distance between the normalised activation map and the lesion mask.

    Our reading of the text: mean squared error at the map upsampled (bilinear) to the mask; slices without a mask
    are skipped, and a batch without any gives 0.

    Args:
        normalised_map: (N, 1, h, w) in [0, 1], differentiable.
        mask: (N, 1, H, W) in {0, 1}.
        has_mask: (N,) bool.
    """
    upsampled = F.interpolate(normalised_map.float(), mask.shape[-2:], mode="bilinear", align_corners=False)
    per_slice = (upsampled - mask).square().mean(dim=(1, 2, 3))
    weight = has_mask.to(per_slice.dtype)
    return (per_slice * weight).sum() / weight.sum().clamp(min=1.0)


def dice_loss(probability: Tensor, mask: Tensor, *, eps: float = 1.0) -> Tensor:
    """1 - Dice over the whole batch, with the factor 2 that Eq. 6 leaves out (a perfect match costs 0).

    Pooled over the batch, as in the published training code; ``eps`` keeps a batch without lesions at a low loss.
    """
    overlap = (probability * mask).sum()
    return 1.0 - (2.0 * overlap + eps) / (probability.sum() + mask.sum() + eps)


def deep_supervision_loss(side_outputs: Sequence[Tensor], mask: Tensor, *, dice_eps: float = 1.0) -> Tensor:
    """Eq. 6: the sum over side outputs of BCE + (1 - Dice), each upsampled to the mask.

    Args:
        side_outputs: Logits (N, 1, h_i, w_i).
        mask: (N, 1, H, W) in {0, 1}.
        dice_eps: Of :func:`dice_loss`.
    """
    total = mask.new_zeros((), dtype=torch.float32)
    for side in side_outputs:
        logits = side.float()
        if logits.shape[-2:] != mask.shape[-2:]:
            logits = F.interpolate(logits, mask.shape[-2:], mode="bilinear", align_corners=False)
        dice = dice_loss(torch.sigmoid(logits), mask, eps=dice_eps)
        total = total + F.binary_cross_entropy_with_logits(logits, mask) + dice
    return total
