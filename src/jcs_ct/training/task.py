"""What differs between training a classifier and a segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.inputs import Batch, TrainingData


class Task(Protocol):
    """What differs between training a classifier and a segmenter."""

    forward_methods: tuple[str, ...]
    """Methods of the network, other than ``forward``, that ``loss`` calls."""

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        ...

    def loss(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> dict[str, Tensor]:
        """Losses by name; ``loss`` is the one that is minimised."""
        ...

    def validate(self, network: nn.Module, dataset: TrainingData, device: torch.device) -> dict[str, float]:
        """Figures by name; ``score`` chooses the best weights (greater is better)."""
        ...

    def maps(self, network: nn.Module, batch: Batch) -> tuple[Tensor, list[str]]:
        """What the network sees, (N, 1, h, w) between 0 and 1, and a few words on each slice; for sample pictures."""
        ...

    def write(self, path: Path, preprocessor: SlicePreprocessor, provenance: Mapping[str, Any]) -> None:
        """Write the network, with the weights it holds, as a checkpoint."""
        ...
