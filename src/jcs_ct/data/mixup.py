"""Image mixing (Eq. 3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mixup(
    images: Tensor, labels: Tensor, *, alpha: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor, float, Tensor]:
    """Mix every slice with another one of the batch: ``lam * x_i + (1 - lam) * x_j``, labels alike.

    Args:
        images: (N, C, H, W).
        labels: (N, classes), rows sum to 1.
        alpha: ``lam`` ~ Beta(alpha, alpha); the paper uses 0.5.
        generator: Source of randomness.

    Returns:
        Mixed images, mixed labels, ``lam`` and the permutation j (N,).
    """
    if alpha <= 0:
        raise ValueError(f"mixup needs alpha > 0, got {alpha}")
    lam = float(generator.beta(alpha, alpha))
    partner = torch.from_numpy(generator.permutation(images.shape[0]))
    mixed = lam * images + (1.0 - lam) * images[partner]
    return mixed, lam * labels + (1.0 - lam) * labels[partner], lam, partner
