"""Parameters and multiply-accumulates of a network, without memory for its weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


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
