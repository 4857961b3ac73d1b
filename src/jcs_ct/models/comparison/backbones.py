"""VGG-16 and ResNet-50 as the comparison networks use them, with torchvision's weights mapped to their names."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from jcs_ct.models.layers import NormKind, check_slices, make_norm
from jcs_ct.models.vgg import VGGConfig, VGGEncoder

BackboneKind = Literal["vgg16", "resnet50"]

_RESNET50_BLOCKS = (3, 4, 6, 3)
_EXPANSION = 4


class VGG16(VGGEncoder):
    """VGG-16 -> conv1_2 ... conv5_3 (after ReLU) at strides 1, 2, 4, 8 and 16.

    Args:
        in_channels: Of the slices.
        width: Factor on the channel counts.
        norm: ``none`` as published.
        overlapping_pools: PoolNet and EGNet pool 3x3 at stride 2, DSS 2x2.
    """

    def __init__(self, in_channels: int, width: float, *, norm: NormKind, overlapping_pools: bool) -> None:
        first, second, third, fourth, fifth = (max(1, round(c * width)) for c in (64, 128, 256, 512, 512))
        channels = (first, second, third, fourth, fifth)
        # With biases also where it normalises, so that torchvision's vgg16_bn fits.
        super().__init__(VGGConfig(in_channels, channels, norm=norm))
        self.overlapping_pools = overlapping_pools
        self.feature_channels = channels

    def later_blocks(self, first: Tensor) -> list[Tensor]:
        """conv1_2 (N, C1, H, W) -> [conv1_2, ..., conv5_3]."""
        features = [first]
        for block in range(2, 6):
            features.append(self._block(self.pool(features[-1]), block))
        return features

    def pool(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H/2, W/2)."""
        return F.max_pool2d(x, 3, 2, padding=1) if self.overlapping_pools else F.max_pool2d(x, 2, 2)


def make_backbone(kind: BackboneKind, in_channels: int, width: float, norm: NormKind) -> VGG16 | ResNet50:
    """The backbone of a PoolNet or EGNet config."""
    if kind == "vgg16":
        return VGG16(in_channels, width, norm=norm, overlapping_pools=True)
    return ResNet50(in_channels, width, norm=norm)


class Bottleneck(nn.Module):
    """The residual block of ResNet-50; ``stride`` is taken by the first 1x1, as in the Caffe network."""

    def __init__(
        self, in_channels: int, planes: int, *, stride: int, dilation: int, norm: NormKind, project: bool
    ) -> None:
        super().__init__()
        out_channels = planes * _EXPANSION
        self.conv1 = nn.Conv2d(in_channels, planes, 1, stride=stride, bias=False)
        self.bn1 = make_norm(norm, planes, 1e-5)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = make_norm(norm, planes, 1e-5)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = make_norm(norm, out_channels, 1e-5)
        self.downsample: nn.Module = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                make_norm(norm, out_channels, 1e-5),
            )
            if project
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 * planes, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class ResNet50(nn.Module):
    """ResNet-50 -> conv1, layer1 ... layer4 (after ReLU) at strides 2, 4, 8, 16 and 16.

    layer4 keeps the size of layer3 and dilates by 2; the pool rounds sizes up, so that a 512 x 512 slice has layer1
    at 129 x 129.

    Args:
        in_channels: Of the slices.
        width: Factor on the channel counts.
        norm: ``frozen`` as published (needs ImageNet weights), ``batch`` to train from scratch.
    """

    def __init__(self, in_channels: int, width: float, *, norm: NormKind) -> None:
        super().__init__()
        stem, *planes = (max(1, round(c * width)) for c in (64, 64, 128, 256, 512))
        self.in_channels = in_channels
        self.feature_channels = (stem, *(plane * _EXPANSION for plane in planes))
        self.conv1 = nn.Conv2d(in_channels, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = make_norm(norm, stem, 1e-5)
        channels = stem
        for number, (plane, count) in enumerate(zip(planes, _RESNET50_BLOCKS, strict=True), start=1):
            stride, dilation = (2 if number in (2, 3) else 1), (2 if number == 4 else 1)
            blocks = []
            for index in range(count):
                first = index == 0
                blocks.append(
                    Bottleneck(
                        channels, plane, stride=stride if first else 1, dilation=dilation, norm=norm, project=first
                    )
                )
                channels = plane * _EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> [conv1, layer1, ..., layer4]."""
        check_slices(x, self.in_channels)
        stem = F.relu(self.bn1(self.conv1(x)))
        features = [stem]
        x = F.max_pool2d(stem, 3, 2, padding=1, ceil_mode=True)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            features.append(x)
        return features


def check_backbone_norm(backbone: BackboneKind, norm: NormKind) -> None:
    """Refuse what there is not, or cannot be trained.

    Raises:
        ValueError: an unknown backbone, or ``resnet50`` with norm ``none``.
    """
    if backbone not in ("vgg16", "resnet50"):
        raise ValueError(f"backbone must be vgg16 or resnet50, got {backbone!r}")
    if backbone == "resnet50" and norm == "none":
        raise ValueError("resnet50 needs backbone_norm 'frozen' (with ImageNet weights) or 'batch', got 'none'")
