"""The part of a network that a backend runs: an image batch in, only what is needed of it out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jcs_ct.choices import MapVariant
from jcs_ct.engine.network import ReadyClassifier, ReadyNetwork, ReadySegmenter
from jcs_ct.models.activation_map import activation_map_from_features, normalise_map
from jcs_ct.models.classifier import Classifier
from jcs_ct.models.comparison.base import ComparisonNetwork
from jcs_ct.models.folding import fold_batch_norm
from jcs_ct.models.segmenter import Segmenter

#: Name of the one input of every graph.
INPUT = "image"


class NetworkGraph(nn.Module):
    """A network with named outputs, BatchNorm folded, on the CPU, in evaluation mode."""

    network: nn.Module
    outputs: tuple[str, ...]

    def __init__(self, network: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network = fold_batch_norm(network).cpu()
        self.outputs = outputs
        self.eval()  # the graph itself too: torch's exporter gives every part the mode it found on the outside


class ClassifierGraph(NetworkGraph):
    """Logits and the last feature map: probability and activation map follow from them in closed form, in fp32."""

    network: Classifier

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier, ("logits", "features"))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> (N, 2) logits and (N, K, h, w) features."""
        features = self.network.features(image)[-1]
        return self.network.head_logits(features), features


class SegmenterGraph(NetworkGraph):
    """The probabilities of side output 1; the other side outputs are never computed."""

    network: Segmenter | ComparisonNetwork

    def __init__(self, segmenter: Segmenter | ComparisonNetwork) -> None:
        super().__init__(segmenter, ("probability",))

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """(N, C, H, W) -> (N, 1, H, W)."""
        return (self.network.predict(image),)


class ExplainedClassifierGraph(NetworkGraph):
    """For other programs: the probability of infection and the normalised activation map, closed form included."""

    network: Classifier

    def __init__(self, classifier: Classifier, variant: MapVariant) -> None:
        super().__init__(classifier, ("probability", "activation_map", "logits"))
        self.variant = variant

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, H, W) -> (N,) probability, (N, 1, h, w) map in [0, 1], (N, 2) logits."""
        network = self.network
        features = network.features(image)[-1]
        logits = network.head_logits(features)
        raw = activation_map_from_features(features, logits, network.head.weight, 1, variant=self.variant)
        return torch.softmax(logits, dim=1)[:, 1], normalise_map(raw), logits


def graph_of(ready: ReadyNetwork) -> NetworkGraph:
    """What the engine needs of a network."""
    match ready:
        case ReadyClassifier():
            return ClassifierGraph(ready.network)
        case ReadySegmenter():
            return SegmenterGraph(ready.network)
    raise TypeError(f"{type(ready).__name__} has no graph")


def explained_graph_of(ready: ReadyNetwork, *, variant: MapVariant = "paper") -> NetworkGraph:
    """What another program needs of a network: answers, not their ingredients."""
    if isinstance(ready, ReadyClassifier):
        return ExplainedClassifierGraph(ready.network, variant)
    return graph_of(ready)
