"""Validation slices in order, without random changes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from jcs_ct.training.inputs import Batch, TrainingData


def validation_batches(dataset: TrainingData, device: torch.device, *, size: int = 16) -> Iterator[Batch]:
    """Every slice of a data set once, in the manifest's order."""
    for start in range(0, len(dataset), size):
        indices = list(range(start, min(start + size, len(dataset))))
        batch = dataset.batch(indices, augmentation=None, generator=np.random.default_rng(0))
        yield batch.to(device)
