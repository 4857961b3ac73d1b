"""The activation map of a forward pass in closed form, for inference: without torch, whatever the backend.

``models.activation_map`` is the same on tensors, which training differentiates; a test holds the two together.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from jcs_ct.choices import MapVariant

Floats = NDArray[np.float32]
VARIANTS: tuple[MapVariant, ...] = get_args(MapVariant)

#: A map whose range is a smaller share of its largest value is constant but for rounding.
LEAST_RANGE = 1e-6
#: Below this a range and its inverse are no longer told from zero and infinity in fp32.
TINIEST_RANGE = 1e-30


def probabilities(logits: Floats) -> Floats:
    """(N, classes) -> the same, adding up to 1."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def require_variant(variant: str) -> None:
    """Raise ``ValueError`` for a map that there is not."""
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")


def normalised_maps(
    features: Floats, logits: Floats, weight: Floats, target: int, *, variant: str = "paper"
) -> Floats:
    """The map of one class per slice (paper, Eq. 1-2), between 0 and 1 within each slice.

    Args:
        features: X, (N, K, h, w), what global average pooling gets.
        logits: (N, classes).
        weight: (classes, K), of the linear layer.
        target: Class.
        variant: ``paper`` or ``grad_cam``, see :func:`jcs_ct.models.activation_map.activation_map_from_features`.

    Returns:
        (N, h, w); a constant map is 0.

    Raises:
        ValueError: an unknown variant.
    """
    require_variant(variant)
    pixels = np.float32(features.shape[2] * features.shape[3])
    if variant == "grad_cam":
        gradient = np.broadcast_to(weight[target] / pixels, features.shape[:2])
    else:
        shares = probabilities(logits)
        differences = weight[target] - weight
        gradient = shares[:, target, None] * (shares[:, :, None] * differences).sum(axis=1) / pixels
    products = gradient[:, :, None, None] * features
    if variant != "grad_cam":
        np.maximum(products, 0, out=products)
    maps = np.maximum(products.sum(axis=1), 0)
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    varies = (high - low) > np.maximum(LEAST_RANGE * high, TINIEST_RANGE)
    normalised: Floats = np.where(varies, (maps - low) / np.where(varies, high - low, 1), 0).astype(np.float32)
    return normalised
