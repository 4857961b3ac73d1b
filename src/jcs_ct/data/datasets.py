"""Slices of a manifest as tensors, prepared once by the network's own preprocessor."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from jcs_ct.data.augmentation.augment import Augmentation, AugmentationParameters
from jcs_ct.data.augmentation.changing import change_slices
from jcs_ct.data.augmentation.copy_paste import LesionPasting, Paste, paste_lesions
from jcs_ct.data.manifest import Manifest, ManifestRow, read_hu, read_lesions
from jcs_ct.errors import ConfigError
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.volume import spread_over

#: The label of a slice that nobody labelled.
UNKNOWN = -1


@dataclass(frozen=True)
class SliceSample:
    """One prepared slice.

    Args:
        grey: (1, size, size) in [0, 1], before standardisation.
        mask: (1, size, size) in {0, 1}; zeros where no mask is known.
        label: 1 infected, 0 not, ``UNKNOWN`` where nobody said.
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
        labels: (N, 2) one-hot; zeros where the label is not known.
        has_mask: (N,) bool.
    """

    images: Tensor
    masks: Tensor
    labels: Tensor
    has_mask: Tensor

    def to(self, device: torch.device) -> SliceBatch:
        """The same batch on a device, images channels-last (what convolutions are fastest with)."""
        return SliceBatch(
            self.images.to(device, memory_format=torch.channels_last),
            self.masks.to(device),
            self.labels.to(device),
            self.has_mask.to(device),
        )

    def resized(self, size: int) -> SliceBatch:
        """The same batch at ``size`` x ``size`` pixels: images antialiased, masks by their nearest value."""
        images = F.interpolate(self.images, (size, size), mode="bilinear", align_corners=False, antialias=True)
        return replace(self, images=images, masks=F.interpolate(self.masks, (size, size), mode="nearest-exact"))


@dataclass(frozen=True)
class DrawnSlices:
    """What a batch will be: drawn on a processor, made where the prepared slices lie (:meth:`SliceDataset.made`).

    Args:
        indices: Of the slices.
        changes: One a slice, or none for all.
        pasted: By place in the batch, slices with the lesions of others, in the stead of those of ``indices``.
        coarse_size: Rows and columns that the batch is made coarser to; 0 leaves it.
    """

    indices: tuple[int, ...]
    changes: tuple[AugmentationParameters, ...] = ()
    pasted: Mapping[int, SliceSample] = field(default_factory=dict)
    coarse_size: int = 0


@dataclass(frozen=True)
class _Placed:
    """Every prepared slice on one device: (slices, 1, size, size) uint8 grey and mask, (slices,) the others."""

    grey: Tensor
    masks: Tensor
    labels: Tensor
    has_mask: Tensor


class SliceDataset:
    """Slices of a manifest.

    Args:
        manifest: Of slices.
        preprocessor: From a slice to the network's input.
        cache: Keep prepared slices in memory (8 bits a pixel).
        unlabelled_share: Share of slices without a label among those drawn; 0 wants a label of every slice.

    Raises:
        ValueError: slices without a label that nothing is drawn of, or none where a share of them is.
        ConfigError: studies.
    """

    def __init__(
        self,
        manifest: Manifest,
        preprocessor: SlicePreprocessor,
        *,
        cache: bool = True,
        unlabelled_share: float = 0.0,
    ) -> None:
        if any(row.label is None for row in manifest) != (unlabelled_share > 0.0):
            raise ValueError("rows without a label are for an unlabelled_share, and a share of them needs such rows")
        if any(row.is_study for row in manifest):
            raise ConfigError("the manifest holds studies; write their slices with `jcs data slices` and use those")
        self.manifest = manifest
        self.preprocessor = preprocessor
        self._unlabelled_share = unlabelled_share
        self._cache: dict[int, tuple[Tensor, Tensor | None]] | None = {} if cache else None
        self._placed: _Placed | None = None

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> SliceSample:
        row = self.manifest.rows[index]
        grey, mask = self.prepared(index)
        return SliceSample(
            grey=grey.float() / 255.0,
            mask=torch.zeros_like(grey, dtype=torch.float32) if mask is None else mask.float(),
            label=self.labels[index],
            has_mask=mask is not None or row.label == 0,
        )

    @cached_property
    def labels(self) -> tuple[int, ...]:
        """1 infected, 0 not, ``UNKNOWN`` where nobody said."""
        return tuple(UNKNOWN if row.label is None else row.label for row in self.manifest)

    def weights(self, balance: str, *, infected_share: float) -> NDArray[np.float64]:
        """Probability of drawing each slice, see :func:`sampling_weights`."""
        return sampling_weights(
            self.manifest, balance, infected_share=infected_share, unlabelled_share=self._unlabelled_share
        )

    @property
    def keeps_slices(self) -> bool:
        """Whether prepared slices stay in memory."""
        return self._cache is not None

    def keep(self, index: int, prepared: tuple[Tensor, Tensor | None]) -> None:
        """Put a slice that was prepared elsewhere (:meth:`prepared`) in memory."""
        if self._cache is not None:
            self._cache[index] = prepared

    def prepared(self, index: int) -> tuple[Tensor, Tensor | None]:
        """A slice as :func:`prepare_slice` gives it, from memory where it is kept."""
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        prepared = prepare_slice(self.manifest.rows[index], self.preprocessor)
        self.keep(index, prepared)
        return prepared

    def _pasted(self, sample: SliceSample, paste: Paste | None) -> SliceSample:
        """A slice whose lesion pixels are known, with another one's lesions; it is infected then."""
        if paste is None or not sample.has_mask:
            return sample
        donor = self[paste.donor]
        grey, mask = paste_lesions(sample.grey, sample.mask, donor.grey, donor.mask, paste)
        return replace(sample, grey=grey, mask=mask, label=1 if mask.any() else sample.label)

    def batch(
        self,
        indices: list[int],
        *,
        augmentation: Augmentation | None,
        generator: np.random.Generator,
        share: tuple[int, int] = (0, 1),
        pasting: LesionPasting | None = None,
    ) -> SliceBatch:
        """Assemble slices into a batch; with ``augmentation``, each is changed by its own draw. See :meth:`draw`."""
        return self.made(
            self.draw(indices, augmentation=augmentation, generator=generator, share=share, pasting=pasting)
        )

    def draw(
        self,
        indices: list[int],
        *,
        augmentation: Augmentation | None,
        generator: np.random.Generator,
        share: tuple[int, int] = (0, 1),
        pasting: LesionPasting | None = None,
    ) -> DrawnSlices:
        """Draw what happens to every slice of a batch.

        Args:
            indices: Slices.
            augmentation: None changes nothing.
            generator: Source of the draws.
            share: (number, of): every ``of``-th slice from ``number`` on. All draws are made whatever the share, so
                that a slice is changed alike however many devices share the batch.
            pasting: Gives slices the lesions of others, before they are changed.
        """
        changes = [augmentation.draw(generator) for _ in indices] if augmentation else []
        pastes = [pasting.draw(generator) if pasting else None for _ in indices]
        own = slice(share[0], None, share[1])
        pasted = {
            place: self._pasted(self[index], paste)
            for place, (index, paste) in enumerate(zip(indices[own], pastes[own], strict=True))
            if paste is not None
        }
        return DrawnSlices(tuple(indices[own]), tuple(changes[own]), pasted)

    def made(self, drawn: DrawnSlices, device: torch.device | None = None) -> SliceBatch:
        """The batch that was drawn.

        Args:
            drawn: By :meth:`draw`.
            device: Where the slices were placed (:meth:`place`); None assembles them where they are read.
        """
        if device is None or self._placed is None:
            samples = [
                drawn.pasted[place] if place in drawn.pasted else self[index]
                for place, index in enumerate(drawn.indices)
            ]
            grey = torch.stack([sample.grey for sample in samples])
            masks = torch.stack([sample.mask for sample in samples])
            labels = torch.tensor([sample.label for sample in samples])
            has_mask = torch.tensor([sample.has_mask for sample in samples])
        else:
            chosen = torch.tensor(drawn.indices).to(device)
            grey, masks = self._placed.grey[chosen].float() / 255.0, self._placed.masks[chosen].float()
            labels, has_mask = self._placed.labels[chosen], self._placed.has_mask[chosen]
            for place, sample in drawn.pasted.items():
                grey[place], masks[place] = sample.grey.to(device), sample.mask.to(device)
                labels[place], has_mask[place] = sample.label, sample.has_mask
        if drawn.changes:
            grey, masks = change_slices(grey, masks, drawn.changes)
        images = self.preprocessor.normalise(grey)
        one_hot = F.one_hot(labels.clamp(min=0), 2) * (labels != UNKNOWN)[:, None]
        batch = SliceBatch(images, masks, one_hot.float(), has_mask)
        return batch.resized(drawn.coarse_size) if drawn.coarse_size else batch

    def place(self, device: torch.device) -> None:
        """Put every prepared slice on a device (8 bits a pixel), where batches are then made."""
        every = [self.prepared(index) for index in range(len(self))]
        self._placed = _Placed(
            torch.stack([grey for grey, _ in every]).to(device),
            torch.stack([torch.zeros_like(grey) if mask is None else mask for grey, mask in every]).to(device),
            torch.tensor(self.labels).to(device),
            torch.tensor(
                [mask is not None or label == 0 for (_, mask), label in zip(every, self.labels, strict=True)]
            ).to(device),
        )


def prepare_slice(row: ManifestRow, preprocessor: SlicePreprocessor) -> tuple[Tensor, Tensor | None]:
    """Read one slice -> ((1, size, size) uint8 grey, (1, size, size) uint8 mask or None), infected pixels 1."""
    grey, region = preprocessor.grey_and_region(read_hu(row.path, row.window))
    resized = (torch.from_numpy(preprocessor.resize(grey)) * 255.0).round().clamp(0, 255).to(torch.uint8)
    mask = read_lesions(row)
    if mask is None:
        return resized, None
    mask = mask[region.top : region.bottom, region.left : region.right]
    return resized, torch.from_numpy((preprocessor.resize(mask.astype(np.float32)) >= 0.5).astype(np.uint8))


def alike_by_source(manifest: Manifest, most: int) -> Manifest:
    """At most ``most`` rows, or one a source: every source's share is the same, evenly over its rows.

    A source with fewer rows than its share gives all it has.
    """
    of_source: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in manifest:
        of_source[row.source].append(row)
    chosen: list[ManifestRow] = []
    for rows in of_source.values():
        chosen += [rows[place] for place in spread_over(len(rows), max(1, most // len(of_source)))]
    return Manifest(tuple(chosen))


def prepared_images(manifest: Manifest, preprocessor: SlicePreprocessor) -> NDArray[np.float32]:
    """(N, channels, size, size) standardised slices."""
    grey = [prepare_slice(row, preprocessor)[0].float() / 255.0 for row in manifest]
    if not grey:
        return np.zeros((0, preprocessor.channels, preprocessor.size, preprocessor.size), dtype=np.float32)
    images: NDArray[np.float32] = preprocessor.normalise(torch.stack(grey)).numpy()
    return images


def sampling_weights(
    manifest: Manifest, balance: str, *, infected_share: float = 0.5, unlabelled_share: float = 0.0
) -> NDArray[np.float64]:
    """Probability of drawing each row.

    Args:
        manifest: Rows.
        balance: ``none`` uniform; ``label`` both labels by ``infected_share``; ``source`` the same, and every source
            alike within its label, so that no source stands for a label by its size.
        infected_share: Share of infected slices among labelled ones. Where one label is absent the other takes all.
        unlabelled_share: Share of rows without a label, balanced like the others.

    Returns:
        (rows,) float64, sums to 1.
    """
    unlabelled = np.array([row.label is None for row in manifest])
    weights = np.zeros(len(manifest))
    for part, share in ((~unlabelled, 1.0 - unlabelled_share), (unlabelled, unlabelled_share)):
        rows = [row for row, chosen in zip(manifest, part, strict=True) if chosen]
        if balance == "none":
            weights[part] = share / max(len(rows), 1)
        elif rows:
            sources = [row.source if balance == "source" else "" for row in rows]
            labels = [row.label or 0 for row in rows]
            weights[part] = share * balanced_weights(labels, sources, infected_share=infected_share)
    return weights


def balanced_weights(labels: Sequence[int], sources: Sequence[str], *, infected_share: float) -> NDArray[np.float64]:
    """Probability of drawing each slice so that labels stand by ``infected_share``, and sources alike within a label.

    Args:
        labels: 1 infected, 0 not.
        sources: The same for all makes labels alone count.
        infected_share: Share of infected slices drawn. Where one label is absent the other takes all.

    Returns:
        (slices,) float64, sums to 1.
    """
    keys = list(zip(labels, sources, strict=True))
    sizes = Counter(keys)
    sources_of = Counter(label for label, _ in sizes)
    share = {1: infected_share, 0: 1.0 - infected_share}
    weights = np.array([share[key[0]] / (sources_of[key[0]] * sizes[key]) for key in keys])
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised
