"""Parameters and multiply-accumulates of the comparison networks, as measured on their authors' public code."""

import math

import pytest
import torch
from torch import Tensor, nn

from jcs_ct.models.comparison import build_comparison, comparison_preset
from jcs_ct.models.comparison.stored import comparison_from_dict, comparison_to_dict, is_comparison
from jcs_ct.models.presets import SEGMENTERS, build_segmenter

# Preset: (million parameters, GMACs for 3 x 512 x 512).
PUBLISHED = {
    "unet": (31.04, 192.7),
    "unet-bilinear": (17.26, 159.9),
    "dss-vgg16": (62.24, 251.4),
    "poolnet-resnet50": (68.3, 194.1),
    "poolnet-vgg16": (52.5, 254.8),
    "egnet-resnet50": (111.7, 619.4),
    "egnet-vgg16": (108.1, 627.2),
}


def count_parameters(network: nn.Module) -> int:
    """Every parameter, trained or not; stored statistics and frozen normalisation are buffers and do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of convolutions and linear layers in one forward pass.

    Normalisation, activations, pools, resizing and sums are not counted, biases neither. The network stays as it is
    but runs where its weights are; build it on the meta device (``with torch.device("meta"):``) and nothing is
    computed.

    Args:
        network: What is counted, called as ``network(x)``.
        shape: Of the input, (N, C, H, W).
    """
    total = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.ConvTranspose2d):
            total += inputs[0].numel() * math.prod(module.weight.shape[1:])
        elif isinstance(module, nn.Conv2d):
            total += output.numel() * math.prod(module.weight.shape[1:])
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    counted = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    hooks = [module.register_forward_hook(add) for module in network.modules() if isinstance(module, counted)]
    device = next(network.parameters()).device
    was_training = network.training
    try:
        network.eval()
        with torch.no_grad():
            network(torch.empty(shape, device=device))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return total


@pytest.mark.parametrize("name", PUBLISHED)
def test_comparison_networks_are_as_large_as_published(name):
    parameters, macs = PUBLISHED[name]
    with torch.device("meta"):
        network = build_comparison(name)
    assert count_parameters(network) / 1e6 == pytest.approx(parameters, rel=0.01)
    assert count_macs(network, (1, 3, 512, 512)) / 1e9 == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(
    ("name", "parameters", "macs"), [("official", 42.5, 243.0), ("official-joint", 117.7, 250.8)]
)
def test_our_official_segmenters_are_as_large_as_published(name, parameters, macs):
    with torch.device("meta"):
        network = build_segmenter(SEGMENTERS[name])
    assert count_parameters(network) / 1e6 == pytest.approx(parameters, rel=0.01)
    assert count_macs(network, (1, 3, 512, 512)) / 1e9 == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_stored_config_says_which_network_it_is_of(name):
    config = comparison_preset(name)
    stored = comparison_to_dict(config)
    assert is_comparison(stored)
    assert comparison_from_dict(stored) == config
    assert not is_comparison(SEGMENTERS["paper"].to_dict())
