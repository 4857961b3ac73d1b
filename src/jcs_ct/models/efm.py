"""The Enhanced Feature Module: grouped atrous convolutions after the encoder (paper, III-B2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jcs_ct.models.layers import ConvNormReLU, NormKind, SqueezeExcitation, make_norm


class GroupedAtrousModule(nn.Module):
    """1x1 doubles the channels -> four groups, each with its own atrous rate -> SE -> 1x1 halves -> 3x3.

    ReLU follows the expansion, the concatenation, the reduction and the 3x3, as in the published network; the text
    is silent.

    Args:
        channels: In and out.
        rates: Atrous rate of each group.
        norm: Normalisation of the convolutions; the paper's have none.
        se_reduction: r of the squeeze-excitation.
    """

    def __init__(
        self, channels: int, rates: tuple[int, int, int, int], *, norm: NormKind, se_reduction: int = 4
    ) -> None:
        super().__init__()
        expanded, bias = 2 * channels, norm == "none"
        group = expanded // len(rates)
        self.expand = ConvNormReLU(channels, expanded, 1, norm=norm, bias=bias)
        self.atrous = nn.ModuleList(
            nn.Conv2d(group, group, 3, padding=rate, dilation=rate, bias=bias) for rate in rates
        )
        self.norm = make_norm(norm, expanded, 1e-5)
        self.se = SqueezeExcitation(expanded, expanded // se_reduction)
        self.reduce = ConvNormReLU(expanded, channels, 1, norm=norm, bias=bias)
        self.transition = ConvNormReLU(channels, channels, 3, norm=norm, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        groups = self.expand(x).chunk(len(self.atrous), dim=1)
        joined = torch.cat([conv(group) for conv, group in zip(self.atrous, groups, strict=True)], dim=1)
        out: Tensor = self.transition(self.reduce(self.se(F.relu(self.norm(joined)))))
        return out


class EnhancedFeatureModule(nn.Module):
    """E5 -> M_E5 and M_E6: a grouped atrous module, a max pool, and another one with smaller rates."""

    def __init__(self, channels: int, *, norm: NormKind, se_reduction: int = 4) -> None:
        super().__init__()
        self.gam5 = GroupedAtrousModule(channels, (1, 3, 6, 9), norm=norm, se_reduction=se_reduction)
        self.gam6 = GroupedAtrousModule(channels, (1, 2, 3, 4), norm=norm, se_reduction=se_reduction)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> M_E5 (N, C, H, W) and M_E6 (N, C, H/2, W/2)."""
        fifth = self.gam5(x)
        return fifth, self.gam6(F.max_pool2d(fifth, 2, 2))


class PlainTop(nn.Module):
    """What stands in for the EFM when it is ablated: E5 as it is, and a pooled 3x3 convolution as M_E6."""

    def __init__(self, channels: int, *, norm: NormKind) -> None:
        super().__init__()
        self.conv = ConvNormReLU(channels, channels, 3, norm=norm, bias=norm == "none")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> M_E5 (N, C, H, W) and M_E6 (N, C, H/2, W/2)."""
        return x, self.conv(F.max_pool2d(x, 2, 2))
