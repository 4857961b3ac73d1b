"""The combination with the classifier: its feature maps join the encoder's stage by stage (III-B4, Fig. 4)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jcs_ct.models.layers import ConvNormReLU, NormKind, SqueezeExcitation, resize_to, size_of

#: ``up``: the classifier's map is resized to the encoder's (paper); ``down``: the other way round (published).
Resize = Literal["up", "down"]


class FeatureCombination(nn.Module):
    """One stage: resize, concatenate, 1x1 -> SE -> 3x3; or the three 3x3 of the published networks.

    Args:
        encoder_channels: Of M_Ek, and of the result N_Ek.
        classifier_channels: Of A_k.
        resize: Which map is brought to the other's size.
        squeeze_excitation: True is the paper's 1x1 -> SE -> 3x3, False the published 3x3 -> 3x3 -> 3x3.
        norm, norm_eps: Of the convolutions.
        conv_bias: The published convolutions have biases beside their BatchNorm.
    """

    def __init__(
        self,
        encoder_channels: int,
        classifier_channels: int,
        *,
        resize: Resize,
        squeeze_excitation: bool,
        norm: NormKind,
        norm_eps: float,
        conv_bias: bool,
    ) -> None:
        super().__init__()
        self.resize: Resize = resize
        joined, out = encoder_channels + classifier_channels, encoder_channels

        def conv(in_channels: int, kernel_size: int) -> ConvNormReLU:
            return ConvNormReLU(in_channels, out, kernel_size, norm=norm, eps=norm_eps, bias=conv_bias)

        self.join = conv(joined, 1 if squeeze_excitation else 3)
        self.attend: nn.Module = SqueezeExcitation(out, out // 4) if squeeze_excitation else conv(out, 3)
        self.fuse = conv(out, 3)

    def forward(self, encoder: Tensor, classifier: Tensor) -> Tensor:
        """M_Ek (N, C, H, W) and A_k (N, C', h, w) -> N_Ek, at M_Ek's size (``up``) or A_k's (``down``)."""
        if self.resize == "down":
            encoder = resize_to(encoder, size_of(classifier))
            joined = self.join(torch.cat([encoder, classifier], dim=1))
        elif self.join.conv.kernel_size == (1, 1):
            joined = self._joined_before_resize(encoder, classifier)
        else:
            joined = self.join(torch.cat([encoder, resize_to(classifier, size_of(encoder))], dim=1))
        fused: Tensor = self.fuse(self.attend(joined))
        return fused

    def _joined_before_resize(self, encoder: Tensor, classifier: Tensor) -> Tensor:
        """The 1x1 over both maps, with less work: a convolution over a concatenation is a sum of two.

        A 1x1 works pixel by pixel and a bilinear resize channel by channel, so the classifier's part can run first,
        on a quarter of the pixels and with fewer channels left to resize.
        """
        own, weight = encoder.shape[1], self.join.conv.weight
        borrowed = F.conv2d(classifier, weight[:, own:])
        joined = F.conv2d(encoder, weight[:, :own], self.join.conv.bias) + resize_to(borrowed, size_of(encoder))
        joined = self.join.norm(joined)
        return F.relu(joined) if self.join.relu else joined
