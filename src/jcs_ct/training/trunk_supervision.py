"""What a classifier's trunk may learn beside the slices' labels; what is shipped is the classifier alone.

A label says one thing about a slice, and a network finds many ways to know it: a source's look is one. A mask says
which pixels are lesion, and a trained segmenter's encoder what such pixels look like, so stages that must answer
either learn what lesions look like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jcs_ct.models.classifier import Classifier
from jcs_ct.models.first_stage import FirstStage
from jcs_ct.models.vgg import VGGEncoder
from jcs_ct.training.paper_losses import deep_supervision_loss

#: Stages that are supervised, the last ones: strides 8, 16 and 16 or 32.
SUPERVISED_STAGES = 3
#: Added to the standard deviation of a teacher's channel: one that is 0 everywhere asks for nothing.
LEAST_SPREAD = 1e-3


class Supervised(NamedTuple):
    """What the trunk makes of slices.

    Args:
        features: The classifier's five feature maps.
        lesions: Logits of lesion (N, 1, h_i, w_i) of the last three; none where no mask teaches them.
        encoder_loss: How far the last three are from the teacher's features; None without a teacher.
    """

    features: list[Tensor]
    lesions: list[Tensor]
    encoder_loss: Tensor | None


class TrunkSupervision(nn.Module):
    """A classifier with 1x1 convolutions on its last three stages, for training alone.

    Args:
        classifier: What is trained, and kept.
        lesions: Each stage answers which pixels are lesion.
        teacher: Each stage answers with the features of this encoder, which itself does not train.

    Raises:
        ValueError: a teacher of slices with other channels.
    """

    def __init__(self, classifier: Classifier, *, lesions: bool, teacher: VGGEncoder | None = None) -> None:
        super().__init__()
        if teacher is not None and teacher.config.in_channels != classifier.config.backbone.in_channels:
            raise ValueError(
                f"the teacher takes slices of {teacher.config.in_channels} channel(s), the classifier of "
                f"{classifier.config.backbone.in_channels}"
            )
        self.classifier = classifier
        # Held in a list: neither trained nor saved with what is.
        self._teacher = [teacher.eval().requires_grad_(False)] if teacher is not None else []
        stages = classifier.config.backbone.stage_channels[-SUPERVISED_STAGES:]
        self.lesion_outputs = nn.ModuleList(nn.Conv2d(count, 1, 1) for count in stages if lesions)
        fourth, fifth = teacher.config.channels[-2:] if teacher is not None else (0, 0)
        asked = (fourth, fifth, fourth + fifth) if teacher is not None else ()
        self.encoder_outputs = nn.ModuleList(
            nn.Conv2d(count, of_teacher, 1) for count, of_teacher in zip(stages, asked, strict=False)
        )

    def forward(self, x: Tensor | FirstStage) -> Tensor:
        """(N, in_channels, H, W), or its first stage -> (N, 2) logits."""
        logits: Tensor = self.classifier(x)
        return logits

    def supervised(self, x: Tensor | FirstStage) -> Supervised:
        """(N, in_channels, H, W), or without a teacher its first stage -> what masks and the teacher speak to."""
        features = self.classifier.features(x)
        last = features[-SUPERVISED_STAGES:]
        lesions = [output(stage) for output, stage in zip(self.lesion_outputs, last, strict=False)]
        if not self._teacher or isinstance(x, FirstStage):
            return Supervised(features, lesions, None)
        answers = [output(stage) for output, stage in zip(self.encoder_outputs, last, strict=True)]
        return Supervised(features, lesions, encoder_loss(answers, encoder_targets(self._teacher[0].to(x.device), x)))


def lesion_pixel_loss(outputs: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Eq. 6 of side outputs; 0 for no slices, with a gradient of 0, which several devices wait for."""
    if not len(masks):
        return torch.stack([output.float().sum() for output in outputs]).sum()
    return deep_supervision_loss(outputs, masks)


@torch.no_grad()
def encoder_targets(teacher: VGGEncoder, images: Tensor) -> list[Tensor]:
    """(N, in_channels, H, W) -> the teacher's fourth block, its fifth, and both at the fifth's grid.

    Every channel is divided by its standard deviation over the batch, so that none outweighs the others.
    """
    fourth, fifth = (_by_spread(block.float()) for block in teacher(images)[-2:])
    coarse = F.adaptive_avg_pool2d(fourth, (fifth.shape[2], fifth.shape[3]))
    return [fourth, fifth, torch.cat([coarse, fifth], dim=1)]


def _by_spread(block: Tensor) -> Tensor:
    return block / (block.std(dim=(0, 2, 3), keepdim=True) + LEAST_SPREAD)


def encoder_loss(outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Sum over stages of the smooth L1 distance to the teacher's features, at the teacher's grid."""
    losses = [
        F.smooth_l1_loss(
            F.interpolate(output.float(), target.shape[-2:], mode="bilinear", align_corners=False), target
        )
        for output, target in zip(outputs, targets, strict=True)
    ]
    return torch.stack(losses).sum()
