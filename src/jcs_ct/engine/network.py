"""Networks that are ready to be run: their modules, or where they lie on disk until something asks for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from jcs_ct.choices import NetworkTask
from jcs_ct.preprocessing import SlicePreprocessor

if TYPE_CHECKING:
    from torch import nn

    from jcs_ct.models.classifier import Classifier
    from jcs_ct.models.comparison.base import ComparisonNetwork
    from jcs_ct.models.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """A network on disk whose modules are built when they are asked for.

    A backend that has it compiled needs neither them nor torch, whose import takes longer than a study's
    classification.

    Args:
        sha256: Of the weights file, hex.
        build: Reads the file into a network in evaluation mode; raises where the file was changed meanwhile.
        read_tensor: One tensor by its name, in fp32.
    """

    sha256: str
    build: Callable[[], nn.Module]
    read_tensor: Callable[[str], NDArray[np.float32]]

    @cached_property
    def network(self) -> nn.Module:
        """The modules, built once."""
        network = self.build()
        self.__dict__["_version_on_disk"] = weights_version(network)
        return network

    @property
    def version(self) -> int:
        """Grows when a tensor of the network is changed in place; 0 as long as the file holds what is in memory."""
        if "network" not in self.__dict__:
            return 0
        return weights_version(self.network) - int(self.__dict__["_version_on_disk"])


@dataclass(frozen=True, eq=False)
class ReadyNetwork:
    """What a :class:`ReadyClassifier` and a :class:`ReadySegmenter` share.

    Args:
        source: In evaluation mode; or where it is stored.
        preprocessor: The path from a slice to its input, as in training.
        preset: Name of its config.
        sha256: Of the weights file.
        name: For reports.

    Raises:
        TypeError: a network of another kind.
    """

    source: nn.Module | StoredNetwork
    preprocessor: SlicePreprocessor
    preset: str
    sha256: str
    name: str

    task: ClassVar[NetworkTask]

    def __post_init__(self) -> None:
        if not isinstance(self.source, StoredNetwork):
            self._require_kind(self.source)

    @classmethod
    def _kinds(cls) -> tuple[type[nn.Module], ...]:
        """What it can hold; asked for only where there are modules, and torch with them."""
        return ()

    def _require_kind(self, network: nn.Module) -> nn.Module:
        if not isinstance(network, self._kinds()):
            raise TypeError(f"a {type(self).__name__} cannot hold a {type(network).__name__}")
        return network

    @property
    def network(self) -> nn.Module:
        """Its modules; those of a stored network are built now.

        Raises:
            CheckpointError: the stored tensors do not fit the network, or the file was changed meanwhile.
        """
        return self._require_kind(self.source.network) if isinstance(self.source, StoredNetwork) else self.source

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, size, size) of one slice."""
        return self.preprocessor.channels, self.preprocessor.size, self.preprocessor.size

    @property
    def weights_version(self) -> int:
        """A number that grows when a tensor of the network is changed in place; cheap, for this process only."""
        return self.source.version if isinstance(self.source, StoredNetwork) else weights_version(self.source)

    @property
    def weights_digest(self) -> str:
        """SHA-256 that tells these weights from others, hex: of the file while it holds what is in memory, else of
        config and tensors. A network that was changed, or whose file is not known, is never taken for another.
        """
        if isinstance(self.source, StoredNetwork) and self.source.version == 0:
            return self.source.sha256
        return _tensors_sha256(self.network)


@dataclass(frozen=True, eq=False)
class ReadyClassifier(ReadyNetwork):
    """A slice classifier with the preprocessing it was trained with."""

    source: Classifier | StoredNetwork

    task: ClassVar[NetworkTask] = "classifier"

    @classmethod
    def _kinds(cls) -> tuple[type[nn.Module], ...]:
        from jcs_ct.models.classifier import Classifier

        return (Classifier,)

    @property
    def network(self) -> Classifier:
        """Its modules; those of a stored network are built now."""
        return cast("Classifier", super().network)

    def head_weight(self) -> NDArray[np.float32]:
        """(classes, K) of the linear layer, which the activation map's closed form needs."""
        if isinstance(self.source, StoredNetwork) and self.source.version == 0:
            return self.source.read_tensor("head.weight")
        weight: NDArray[np.float32] = self.network.head.weight.detach().float().cpu().numpy()
        return weight


@dataclass(frozen=True, eq=False)
class ReadySegmenter(ReadyNetwork):
    """A segmenter, ours or a comparison network, with the preprocessing it was trained with."""

    source: Segmenter | ComparisonNetwork | StoredNetwork

    task: ClassVar[NetworkTask] = "segmenter"

    @classmethod
    def _kinds(cls) -> tuple[type[nn.Module], ...]:
        from jcs_ct.models.comparison.base import ComparisonNetwork
        from jcs_ct.models.segmenter import Segmenter

        return (Segmenter, ComparisonNetwork)

    @property
    def network(self) -> Segmenter | ComparisonNetwork:
        """Its modules; those of a stored network are built now."""
        return cast("Segmenter | ComparisonNetwork", super().network)


def _tensors_sha256(network: nn.Module) -> str:
    digest = hashlib.sha256(repr(getattr(network, "config", type(network).__qualname__)).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def weights_version(network: nn.Module) -> int:
    """A number that grows when a tensor of the network is changed in place; cheap, for this process only."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(0 if tensor.is_inference() else tensor._version for tensor in tensors)
