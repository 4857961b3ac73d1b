"""The decoder: attentive feature fusion from the coarsest map down to the slice's own size (paper, III-B3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jcs_ct.models.layers import ConvNormReLU, NormKind, SqueezeExcitation, resize_to, size_of


class AttentiveFeatureFusion(nn.Module):
    """One decoder stage: M_Ei and M_D(i+1) -> M_Di.

    Args:
        channels: C_i, in and out.
        deeper_channels: Of M_D(i+1).
        norm: Normalisation of the convolutions; the paper's have none.
        se_hidden_is_one: The published networks squeeze to a single unit, the paper to a quarter.
        reduce_before_transition: The published networks put a 1x1 in front of the last 3x3; the paper's 3x3 takes
            the concatenation itself.
    """

    def __init__(
        self,
        channels: int,
        deeper_channels: int,
        *,
        norm: NormKind,
        se_hidden_is_one: bool,
        reduce_before_transition: bool,
    ) -> None:
        super().__init__()
        half, bias = channels // 2, norm == "none"
        joined, last = 2 * half, 3 * half
        self.lateral = ConvNormReLU(channels, half, 1, norm=norm, bias=bias)
        self.deeper = ConvNormReLU(deeper_channels, half, 1, norm=norm, bias=bias)
        self.se1 = SqueezeExcitation(joined, 1 if se_hidden_is_one else joined // 4)
        self.transition1 = ConvNormReLU(joined, channels, 3, norm=norm, bias=bias)
        self.se2 = SqueezeExcitation(channels + half, 1 if se_hidden_is_one else last // 4)
        self.reduce: nn.Module = (
            ConvNormReLU(channels + half, channels, 1, norm=norm, bias=bias)
            if reduce_before_transition
            else nn.Identity()
        )
        before = channels if reduce_before_transition else channels + half
        self.transition2 = ConvNormReLU(before, channels, 3, norm=norm, bias=bias)

    def forward(self, encoder: Tensor, deeper: Tensor) -> Tensor:
        """M_Ei (N, C_i, H, W) and M_D(i+1) (N, C', h, w) -> M_Di (N, C_i, H, W)."""
        upsampled = resize_to(self.deeper(deeper), size_of(encoder))
        first = self.transition1(self.se1(torch.cat([self.lateral(encoder), upsampled], dim=1)))
        joined = self.se2(torch.cat([first, upsampled], dim=1))
        out: Tensor = self.transition2(self.reduce(joined))
        return out


class PlainFusion(nn.Module):
    """What stands in for AFF when it is ablated: both maps by 1x1, concatenated, one 3x3."""

    def __init__(self, channels: int, deeper_channels: int, *, norm: NormKind) -> None:
        super().__init__()
        half, bias = channels // 2, norm == "none"
        self.lateral = ConvNormReLU(channels, half, 1, norm=norm, bias=bias)
        self.deeper = ConvNormReLU(deeper_channels, half, 1, norm=norm, bias=bias)
        self.transition = ConvNormReLU(2 * half, channels, 3, norm=norm, bias=bias)

    def forward(self, encoder: Tensor, deeper: Tensor) -> Tensor:
        """M_Ei (N, C_i, H, W) and M_D(i+1) (N, C', h, w) -> M_Di (N, C_i, H, W)."""
        upsampled = resize_to(self.deeper(deeper), size_of(encoder))
        out: Tensor = self.transition(torch.cat([self.lateral(encoder), upsampled], dim=1))
        return out


class Decoder(nn.Module):
    """M_E1 ... M_E6 -> M_D1 ... M_D5.

    Args:
        channels: C_1 ... C_5.
        attentive: AFF, or the plain fusion of the ablation.
        norm: Normalisation of the convolutions.
        se_hidden_is_one, reduce_before_transition: See :class:`AttentiveFeatureFusion`.
        convolve_top: The published networks send M_E6 through a 1x1 and a 3x3 first; the paper takes it as it is.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        *,
        attentive: bool,
        norm: NormKind,
        se_hidden_is_one: bool,
        reduce_before_transition: bool,
        convolve_top: bool,
    ) -> None:
        super().__init__()
        top, bias = channels[-1], norm == "none"
        self.top: nn.Module = (
            nn.Sequential(
                ConvNormReLU(top, top, 1, norm=norm, bias=bias), ConvNormReLU(top, top, 3, norm=norm, bias=bias)
            )
            if convolve_top
            else nn.Identity()
        )
        self.stages = nn.ModuleList(
            AttentiveFeatureFusion(
                width,
                deeper,
                norm=norm,
                se_hidden_is_one=se_hidden_is_one,
                reduce_before_transition=reduce_before_transition,
            )
            if attentive
            else PlainFusion(width, deeper, norm=norm)
            for width, deeper in zip(channels, [*channels[1:], top], strict=True)
        )

    def forward(self, encoder: list[Tensor], sixth: Tensor) -> list[Tensor]:
        """[M_E1, ..., M_E5] and M_E6 -> [M_D1, ..., M_D5], each at its M_Ei's size."""
        deeper = self.top(sixth)
        decoded: list[Tensor] = []
        for stage, feature in zip(reversed(self.stages), reversed(encoder), strict=True):
            deeper = stage(feature, deeper)
            decoded.append(deeper)
        return decoded[::-1]
