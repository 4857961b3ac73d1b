"""Folding BatchNorm into the convolutions in front of it: the same logits with fewer operations, for inference."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from jcs_ct.models.efm import GroupedAtrousModule
from jcs_ct.models.layers import ConvNormReLU, FrozenBatchNorm2d
from jcs_ct.models.res2net import Res2Net, Res2NetBlock

N = TypeVar("N", bound=nn.Module)
_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


@torch.no_grad()
def fold_batch_norm(network: N) -> N:
    """A copy in evaluation mode whose BatchNorms are folded into the convolutions they follow.

    Holds for BatchNorm that learns (by its running statistics) and for frozen BatchNorm, with its own eps. The copy's
    state dict is no longer the config's, so it is for running and exporting, not for a checkpoint of the same preset.

    Args:
        network: Any network made of this package's layers.
    """
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        if isinstance(module, GroupedAtrousModule):
            _fold_groups(module)
        for conv, owner, name in _pairs(module):
            norm = owner.get_submodule(name)
            if isinstance(norm, _NORMS):
                _fold(conv, *scale_and_shift(norm))
                setattr(owner, name, nn.Identity())
    return folded


def scale_and_shift(norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a BatchNorm in evaluation mode does to a channel: (C,) factor, (C,) summand; computed in double."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("a BatchNorm without running statistics cannot be folded; it depends on its batch")
    scale = norm.weight.double() * (variance.double() + norm.eps).rsqrt()
    return scale, norm.bias.double() - mean.double() * scale


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.Module, str]]:
    """(convolution, owner of its norm, name of the norm there) of one module's own children."""
    if isinstance(module, ConvNormReLU):
        yield module.conv, module, "norm"
    elif isinstance(module, Res2NetBlock):
        yield module.conv1, module, "bn1"
        yield module.conv3, module, "bn3"
        for number, conv in enumerate(module.convs):
            if isinstance(conv, nn.Conv2d):
                yield conv, module.bns, str(number)
        if isinstance(module.downsample, nn.Sequential) and isinstance(module.downsample[1], nn.Conv2d):
            yield module.downsample[1], module.downsample, "2"
    elif isinstance(module, Res2Net):
        owners: tuple[tuple[int, nn.Module, str], ...] = (
            (0, module.conv1, "1"),
            (3, module.conv1, "4"),
            (6, module, "bn1"),
        )
        for position, owner, name in owners:
            layer = module.conv1[position]
            if isinstance(layer, nn.Conv2d):
                yield layer, owner, name


def _fold_groups(module: GroupedAtrousModule) -> None:
    """The norm behind the concatenation belongs to four convolutions, a quarter of its channels each."""
    if not isinstance(module.norm, _NORMS):
        return
    scale, shift = scale_and_shift(module.norm)
    groups = len(module.atrous)
    for conv, factor, summand in zip(module.atrous, scale.chunk(groups), shift.chunk(groups), strict=True):
        if isinstance(conv, nn.Conv2d):
            _fold(conv, factor, summand)
    module.norm = nn.Identity()


def _fold(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    weight = conv.weight.double() * scale[:, None, None, None]
    bias = shift if conv.bias is None else shift + conv.bias.double() * scale
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=conv.weight.requires_grad)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=conv.weight.requires_grad)
