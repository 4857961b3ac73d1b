"""Activation maps in closed form (paper, III-A, Eq. 1-2): what in a slice speaks for a class.

Behind global average pooling and a linear layer the gradient of a logit with respect to a feature pixel is the head's
weight over the number of pixels, the same everywhere; so no backward pass is needed, and the map itself can be
differentiated when pixel labels supervise it (Eq. 4).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jcs_ct.models.closed_form import LEAST_RANGE, TINIEST_RANGE, require_variant


def activation_map_from_features(
    features: Tensor, logits: Tensor, weight: Tensor, target: int | Tensor, *, variant: str = "paper"
) -> Tensor:
    """The map of one class per slice.

    ``paper``: w_k = mean over pixels of the gradient of the class's **probability**, AM = sum_k ReLU(w_k X^k).
    ``grad_cam``: the gradient is the **logit**'s, and the ReLU is taken after the sum.

    Args:
        features: X, (N, K, h, w), what global average pooling gets.
        logits: (N, classes).
        weight: (classes, K), of the linear layer.
        target: Class, one for all or (N,).
        variant: ``paper`` or ``grad_cam``.

    Returns:
        (N, 1, h, w), at least 0, not normalised.

    Raises:
        ValueError: an unknown variant.
    """
    require_variant(variant)
    pixels = features.shape[2] * features.shape[3]
    classes = torch.as_tensor(target, device=logits.device).expand(logits.shape[0])
    weight = weight.to(features.dtype)
    if variant == "grad_cam":
        gradient = weight[classes] / pixels
        return F.relu((gradient[:, :, None, None] * features).sum(dim=1, keepdim=True))
    # d p_c / d z_j = p_c (delta_cj - p_j), so d p_c / d X = p_c sum_j p_j (W_c - W_j) / (h w). Differences of weights
    # first: W_c - sum_j p_j W_j is the same, but cancels to noise where the network is sure (p_c near 1).
    probability = torch.softmax(logits.to(features.dtype), dim=1)
    of_target = probability.gather(1, classes[:, None])
    differences = weight[classes][:, None] - weight
    gradient = of_target * (probability[:, :, None] * differences).sum(dim=1) / pixels
    return F.relu(gradient[:, :, None, None] * features).sum(dim=1, keepdim=True)


def normalise_map(maps: Tensor) -> Tensor:
    """(N, 1, h, w) -> the same between 0 and 1, slice by slice; a constant map becomes 0. Differentiable.

    Relative to each map's own range, however small: the gradient of a probability fades as e to the minus the logits'
    gap, and a network that is sure of a slice must not lose its map (a gap of 30 leaves values of 1e-13).
    """
    low = maps.amin(dim=(2, 3), keepdim=True)
    high = maps.amax(dim=(2, 3), keepdim=True)
    varies = (high - low) > (LEAST_RANGE * high).clamp(min=TINIEST_RANGE)
    return torch.where(varies, (maps - low) / torch.where(varies, high - low, 1.0), 0.0)
