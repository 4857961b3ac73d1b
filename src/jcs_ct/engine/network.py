"""Networks that are ready to be run, and their weights' place in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import nn

from jcs_ct.choices import NetworkTask
from jcs_ct.models.classifier import Classifier
from jcs_ct.models.comparison.base import ComparisonNetwork
from jcs_ct.models.segmenter import Segmenter
from jcs_ct.preprocessing import SlicePreprocessor

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class ReadyNetwork:
    """What a :class:`ReadyClassifier` and a :class:`ReadySegmenter` share.

    Args:
        network: In evaluation mode.
        preprocessor: The path from a slice to its input, as in training.
        preset: Name of its config.
        sha256: Of the weights file.
        name: For reports.

    Raises:
        TypeError: a network of another kind.
    """

    network: nn.Module
    preprocessor: SlicePreprocessor
    preset: str
    sha256: str
    name: str

    task: ClassVar[NetworkTask]
    _kinds: ClassVar[tuple[type[nn.Module], ...]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.network, self._kinds):
            raise TypeError(f"a {type(self).__name__} cannot hold a {type(self.network).__name__}")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, size, size) of one slice."""
        return self.preprocessor.channels, self.preprocessor.size, self.preprocessor.size


@dataclass(frozen=True, eq=False)
class ReadyClassifier(ReadyNetwork):
    """A slice classifier with the preprocessing it was trained with."""

    network: Classifier

    task: ClassVar[NetworkTask] = "classifier"
    _kinds = (Classifier,)


@dataclass(frozen=True, eq=False)
class ReadySegmenter(ReadyNetwork):
    """A segmenter, ours or a comparison network, with the preprocessing it was trained with."""

    network: Segmenter | ComparisonNetwork

    task: ClassVar[NetworkTask] = "segmenter"
    _kinds = (Segmenter, ComparisonNetwork)


def placed(network: N, device: torch.device) -> N:
    """The network on a device, weights channels-last (what convolutions are fastest with)."""
    # torch's annotation of Module.to has no memory_format.
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 of a network's config and tensors as they are now, hex.

    Not the file's hash: a network that was changed in memory, or whose file is not known, is never taken for another.
    """
    digest = hashlib.sha256(repr(getattr(network, "config", type(network).__qualname__)).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def weights_version(network: nn.Module) -> int:
    """A number that grows when a tensor of the network is changed in place; cheap, for this process only."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(0 if tensor.is_inference() else tensor._version for tensor in tensors)
