"""Validation slices in order, without random changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self, TypeVar

import numpy as np
import torch

from jcs_ct.data.augmentation.augment import Augmentation


class _Placeable(Protocol):
    def to(self, device: torch.device) -> Self: ...


B = TypeVar("B", bound=_Placeable)
B_co = TypeVar("B_co", bound=_Placeable, covariant=True)


class _Batched(Protocol[B_co]):
    """Slices that come in batches of one kind: images, or first-stage features."""

    def __len__(self) -> int: ...

    def batch(
        self, indices: list[int], *, augmentation: Augmentation | None, generator: np.random.Generator
    ) -> B_co: ...


def validation_batches(dataset: _Batched[B], device: torch.device, *, size: int = 16) -> Iterator[B]:
    """Every slice of a data set once, in the manifest's order."""
    for start in range(0, len(dataset), size):
        indices = list(range(start, min(start + size, len(dataset))))
        batch = dataset.batch(indices, augmentation=None, generator=np.random.default_rng(0))
        yield batch.to(device)
