"""Slices of a manifest as tensors, prepared once by the network's own preprocessor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jcs_ct.data.augment import Augmentation
from jcs_ct.data.manifest import Manifest, ManifestRow, read_grey, read_mask
from jcs_ct.preprocessing import SlicePreprocessor


@dataclass(frozen=True)
class SliceSample:
    """One prepared slice.

    Args:
        grey: (1, size, size) in [0, 1], before standardisation.
        mask: (1, size, size) in {0, 1}; zeros where no mask is known.
        label: 1 infected, 0 not.
        has_mask: Whether ``mask`` says something: a mask file, or an uninfected slice.
    """

    grey: Tensor
    mask: Tensor
    label: int
    has_mask: bool


@dataclass(frozen=True)
class SliceBatch:
    """A batch for training.

    Args:
        images: (N, channels, size, size), standardised.
        masks: (N, 1, size, size) in {0, 1}.
        labels: (N, 2) one-hot.
        has_mask: (N,) bool.
    """

    images: Tensor
    masks: Tensor
    labels: Tensor
    has_mask: Tensor


class SliceDataset:
    """Slices of a manifest; prepared slices are kept in memory (8 bits a pixel) when ``cache`` is on."""

    def __init__(self, manifest: Manifest, preprocessor: SlicePreprocessor, *, cache: bool = True) -> None:
        if any(row.label is None for row in manifest):
            raise ValueError("every slice needs a label here; leave rows without one out of the manifest")
        self.manifest = manifest
        self.preprocessor = preprocessor
        self._cache: dict[int, tuple[Tensor, Tensor | None]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> SliceSample:
        row = self.manifest.rows[index]
        grey, mask = self._prepared(index, row)
        return SliceSample(
            grey=grey.float() / 255.0,
            mask=torch.zeros_like(grey, dtype=torch.float32) if mask is None else mask.float(),
            label=int(row.label or 0),
            has_mask=mask is not None or row.label == 0,
        )

    def _prepared(self, index: int, row: ManifestRow) -> tuple[Tensor, Tensor | None]:
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        prepared = prepare_slice(row, self.preprocessor)
        if self._cache is not None:
            self._cache[index] = prepared
        return prepared

    def batch(
        self, indices: list[int], *, augmentation: Augmentation | None, generator: np.random.Generator
    ) -> SliceBatch:
        """Assemble slices into a batch; with ``augmentation``, each is changed by its own draw."""
        samples = [self[index] for index in indices]
        pairs = [
            augmentation.draw(generator).apply(sample.grey, sample.mask)
            if augmentation
            else (sample.grey, sample.mask)
            for sample in samples
        ]
        return SliceBatch(
            images=self.preprocessor.normalise(torch.stack([grey for grey, _ in pairs])),
            masks=torch.stack([mask for _, mask in pairs]),
            labels=F.one_hot(torch.tensor([sample.label for sample in samples]), 2).float(),
            has_mask=torch.tensor([sample.has_mask for sample in samples]),
        )


def prepare_slice(row: ManifestRow, preprocessor: SlicePreprocessor) -> tuple[Tensor, Tensor | None]:
    """Read one slice -> ((1, size, size) uint8 grey, (1, size, size) uint8 mask or None).

    Grey files carry no HU: they are taken as already windowed, so the window is inverted first and the
    preprocessor treats them as it treats a DICOM slice.
    """
    hu = preprocessor.window.inverse(read_grey(row.path))
    grey, region = preprocessor.grey_and_region(hu)
    resized = (preprocessor.resize(grey) * 255.0).round().clamp(0, 255).to(torch.uint8)
    if row.mask is None:
        return resized, None
    mask = read_mask(row.mask)[region.top : region.bottom, region.left : region.right]
    return resized, (preprocessor.resize(mask.astype(np.float32)) >= 0.5).to(torch.uint8)


def sampling_weights(manifest: Manifest, balance: str) -> np.ndarray:
    """Probability of drawing each row: ``none`` uniform; ``label`` both labels alike; ``source`` every
    (label, source) group alike within its label, so that no source stands for a label by its size."""
    if balance == "none":
        return np.full(len(manifest), 1.0 / len(manifest))
    keys = [(row.label, row.source if balance == "source" else "") for row in manifest]
    groups = sorted(set(keys), key=str)
    per_label = {label: sum(1 for group in groups if group[0] == label) for label, _ in groups}
    size = {group: keys.count(group) for group in groups}
    weights = np.array([1.0 / (per_label[key[0]] * size[key]) for key in keys])
    normalised: np.ndarray = weights / weights.sum()
    return normalised
