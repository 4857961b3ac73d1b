"""The small layers that every network here is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: ``none``; ``batch``: BatchNorm that learns; ``frozen``: BatchNorm with stored statistics that never change.
NormKind = Literal["none", "batch", "frozen"]


class FrozenBatchNorm2d(nn.Module):
    """BatchNorm whose statistics and weights are constants.

    Args:
        channels: Number of channels.
        eps: Added to the variance; the published JCS networks use 0.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 0.0) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]


def make_norm(kind: NormKind, channels: int, eps: float) -> nn.Module:
    """The normalisation that a config names."""
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps=eps)
    if kind == "frozen":
        return FrozenBatchNorm2d(channels, eps=eps)
    return nn.Identity()


class ConvNormReLU(nn.Module):
    """Convolution that keeps the size, then normalisation, then ReLU (each of the last two optional)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        norm: NormKind = "none",
        eps: float = 1e-5,
        bias: bool = True,
        relu: bool = True,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=bias)
        self.norm = make_norm(norm, out_channels, eps)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W)."""
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x


class SqueezeExcitation(nn.Module):
    """Channel attention: mean over the slice -> C/r -> ReLU -> C -> sigmoid -> multiply (paper, III-B2).

    Args:
        channels: C.
        hidden: C/r; the paper reduces by 4, the published AFF to a single unit.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        weights = torch.sigmoid(self.linear2(F.relu(self.linear1(x.mean(dim=(2, 3))))))
        return x * weights[:, :, None, None]


def resize_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, h, w) -> (N, C, *size), bilinear with align_corners False; nothing is done at the right size."""
    if x.shape[-2:] == torch.Size(size):
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def size_of(x: Tensor) -> tuple[int, int]:
    """(height, width) of a (N, C, H, W) tensor."""
    return x.shape[-2], x.shape[-1]


def check_slices(x: Tensor, channels: int, least: int = 32, what: str = "slices") -> None:
    """Say what a network needs when it gets something else.

    Raises:
        ValueError: not (N, channels, H, W), or a side shorter than ``least``.
    """
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"expected {what} as (N, {channels}, H, W), got {tuple(x.shape)}")
    if min(x.shape[-2:]) < least:
        raise ValueError(f"{what} must be at least {least}x{least} pixels, got {x.shape[-2]}x{x.shape[-1]}; resize")


def initialise(network: nn.Module) -> None:
    """He initialisation of every convolution, so that networks train from scratch; nothing for the meta device."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def tuples_from_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples: lists of a stored config become tuples again."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
