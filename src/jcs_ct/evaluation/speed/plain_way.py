"""The plain way to run the networks, as research code does: one slice at a time, fp32, module by module.

What ``jcs diagnose`` does is held against it: the same answers, in less time.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jcs_ct.engine import ReadyNetwork
from jcs_ct.models.activation_map import normalise_map
from jcs_ct.models.classifier import Classifier
from jcs_ct.models.comparison.base import ComparisonNetwork
from jcs_ct.models.segmenter import Segmenter
from jcs_ct.preprocessing import Region

N = TypeVar("N", bound=nn.Module)


def plain_copy(network: N, device: torch.device) -> N:
    """The network with weights that lie as torch makes them; running the engine leaves its own channels-last."""
    # torch's annotation of Module.to has no memory_format.
    return copy.deepcopy(network).to(device=device, memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def _input(network: nn.Module, ready: ReadyNetwork, hu: NDArray[Any]) -> tuple[torch.Tensor, Region]:
    image, region = ready.preprocessor(hu)
    return torch.from_numpy(image[None]).to(next(network.parameters()).device), region


def eager_logits(network: Classifier, ready: ReadyNetwork, hu: NDArray[Any]) -> torch.Tensor:
    """(rows, columns) HU -> (2,) logits, the plain way."""
    image, _ = _input(network, ready, hu)
    with torch.no_grad():
        logits: torch.Tensor = network(image)[0].cpu()
    return logits


def eager_probability(network: Classifier, ready: ReadyNetwork, hu: NDArray[Any]) -> float:
    """(rows, columns) HU -> the probability of infection, the plain way."""
    return float(torch.softmax(eager_logits(network, ready, hu), dim=0)[1])


def eager_map(classifier: Classifier, ready: ReadyNetwork, hu: NDArray[Any]) -> NDArray[np.float32]:
    """(rows, columns) HU -> the activation map on the slice's grid (Eq. 1-2), by a backward pass."""
    image, region = _input(classifier, ready, hu)
    with torch.enable_grad():
        features = classifier.features(image)[-1]
        probability = torch.softmax(classifier.head_logits(features), dim=1)[0, 1]
        (gradient,) = torch.autograd.grad(probability, features)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    raw = torch.relu(weights * features.detach()).sum(dim=1, keepdim=True)
    return ready.preprocessor.restore(_plane(normalise_map(raw)), region, (hu.shape[0], hu.shape[1]))


def eager_lesions(
    network: Segmenter | ComparisonNetwork, ready: ReadyNetwork, hu: NDArray[Any]
) -> NDArray[np.float32]:
    """(rows, columns) HU -> the probability of lesion on the slice's grid, the plain way."""
    image, region = _input(network, ready, hu)
    with torch.no_grad():
        probabilities = [torch.sigmoid(logits) for logits in network(image)]
    return ready.preprocessor.restore(_plane(probabilities[0]), region, (hu.shape[0], hu.shape[1]))


def _plane(values: torch.Tensor) -> NDArray[np.float32]:
    """(1, 1, h, w) -> (h, w)."""
    plane: NDArray[np.float32] = values[0, 0].detach().float().cpu().numpy()
    return plane
