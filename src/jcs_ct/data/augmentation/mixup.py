"""Image mixing (Eq. 3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jcs_ct.models.first_stage import FirstStage


def mixup(
    images: Tensor | FirstStage, labels: Tensor, *, alpha: float, generator: np.random.Generator
) -> tuple[Tensor | FirstStage, Tensor, float, Tensor]:
    """Mix every slice with another one of the batch: ``lam * x_i + (1 - lam) * x_j``, labels alike.

    Args:
        images: (N, C, H, W), or first stages: then their maps are mixed, which is near to mixing slices but not the
            same, as a ReLU lies between.
        labels: (N, classes), rows sum to 1.
        alpha: ``lam`` ~ Beta(alpha, alpha); the paper uses 0.5.
        generator: Source of randomness.

    Returns:
        Mixed images, mixed labels, ``lam`` and the permutation j (N,).
    """
    if alpha <= 0:
        raise ValueError(f"mixup needs alpha > 0, got {alpha}")
    lam = float(generator.beta(alpha, alpha))
    partner = torch.from_numpy(generator.permutation(labels.shape[0]))

    def mix(values: Tensor) -> Tensor:
        return lam * values + (1.0 - lam) * values[partner]

    mixed = mix(images) if isinstance(images, Tensor) else images.each(mix)
    return mixed, lam * labels + (1.0 - lam) * labels[partner], lam, partner
