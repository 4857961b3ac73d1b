"""A classifier whose trunk learns lesions' pixels beside the slices' labels; what is shipped is the classifier alone.

A label says one thing about a slice, and a network finds many ways to know it: a source's look is one. A mask says
which pixels are lesion, so stages that must answer that learn what lesions look like.
"""

from __future__ import annotations

from torch import Tensor, nn

from jcs_ct.models.classifier import Classifier
from jcs_ct.models.first_stage import FirstStage

#: Stages that have a side output, the last ones: strides 8, 16 and 16 or 32.
SUPERVISED_STAGES = 3


class LesionSupervision(nn.Module):
    """A classifier with a side output, one 1x1 convolution, on each of its last three stages."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        channels = classifier.config.backbone.stage_channels[-SUPERVISED_STAGES:]
        self.side_outputs = nn.ModuleList(nn.Conv2d(count, 1, 1) for count in channels)

    def forward(self, x: Tensor | FirstStage) -> Tensor:
        """(N, in_channels, H, W), or its first stage -> (N, 2) logits."""
        logits: Tensor = self.classifier(x)
        return logits

    def features(self, x: Tensor | FirstStage) -> list[Tensor]:
        """The classifier's five feature maps."""
        return self.classifier.features(x)

    def features_and_lesions(self, x: Tensor | FirstStage) -> tuple[list[Tensor], list[Tensor]]:
        """The classifier's five feature maps, and logits of lesion (N, 1, h_i, w_i) of the last three."""
        features = self.features(x)
        sides = zip(self.side_outputs, features[-SUPERVISED_STAGES:], strict=True)
        return features, [side(feature) for side, feature in sides]
