"""Slices as first-stage features: batches that networks train from, without the images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from jcs_ct.data.augmentation.augment import Augmentation
from jcs_ct.data.augmentation.copy_paste import LesionPasting
from jcs_ct.data.covid_cs.feature_files import StoredFeatures, dequantise, read_features
from jcs_ct.data.covid_cs.feature_lists import ListedSlice
from jcs_ct.data.datasets import balanced_weights
from jcs_ct.data.manifest import read_mask
from jcs_ct.errors import ConfigError
from jcs_ct.models.first_stage import FirstStage

#: Whether rows and columns are reversed.
Turn = tuple[bool, bool]
_NO_TURN: Turn = (False, False)


@dataclass(frozen=True)
class FeatureBatch:
    """A batch whose first stage is done; has the fields of ``SliceBatch``.

    Args:
        images: First-stage features, what a network takes in the place of slices.
        masks: (N, 1, H, W) in {0, 1}, at the slice's size.
        labels: (N, 2) one-hot: infected where a mask has a pixel.
        has_mask: (N,) bool.
    """

    images: FirstStage
    masks: Tensor
    labels: Tensor
    has_mask: Tensor

    def to(self, device: torch.device) -> FeatureBatch:
        """The same batch on a device."""
        return FeatureBatch(
            self.images.each(lambda one: one.to(device)),
            self.masks.to(device),
            self.labels.to(device),
            self.has_mask.to(device),
        )

    def resized(self, size: int) -> FeatureBatch:
        """What slices can do and features cannot.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"first-stage features cannot be resized to slices of {size} pixels: --set coarse_size=0")


class FeatureDataset:
    """Slices of a list as first-stage features: what trains, tests and times a network without the images."""

    def __init__(self, listed: Iterable[ListedSlice]) -> None:
        self.listed = tuple(listed)

    def __len__(self) -> int:
        return len(self.listed)

    @cached_property
    def labels(self) -> tuple[int, ...]:
        """1 infected, 0 not: as listed, or whether the mask has a pixel (every mask is read once).

        Raises:
            ConfigError, MaskError: a mask that cannot be read.
        """
        return tuple(
            int(read_mask(one.mask).any()) if one.mask is not None else int(one.label or 0) for one in self.listed
        )

    def weights(self, balance: str, *, infected_share: float) -> NDArray[np.float64]:
        """Probability of drawing each slice, see ``balanced_weights``; a list is one source."""
        if balance == "none":
            return np.full(len(self), 1.0 / len(self))
        return balanced_weights(self.labels, [""] * len(self), infected_share=infected_share)

    def batch(
        self,
        indices: list[int],
        *,
        augmentation: Augmentation | None = None,
        generator: np.random.Generator | None = None,
        share: tuple[int, int] = (0, 1),
        pasting: LesionPasting | None = None,
    ) -> FeatureBatch:
        """Assemble slices of one size into a batch.

        Args:
            indices: Slices.
            augmentation: Flips by its probabilities; its other changes need the slice itself and are left out.
            generator: Source of the draws; needed with ``augmentation``.
            share: (number, of): every ``of``-th slice from ``number`` on.
            pasting: None; lesions are pasted into slices, not into their features.

        Raises:
            ConfigError: unreadable files, slices of several sizes, or ``pasting``.
        """
        if pasting is not None:
            raise ConfigError("lesions cannot be pasted into first-stage features: --set copy_paste=0")
        turned = [_NO_TURN] * len(indices)
        if augmentation is not None and generator is not None:
            drawn = [augmentation.draw(generator) for _ in indices]
            turned = [(one.flip_rows, one.flip_columns) for one in drawn]
        indices, flips = indices[share[0] :: share[1]], turned[share[0] :: share[1]]
        stored = [read_features(self.listed[index].features) for index in indices]
        sizes = sorted({one.slice_shape for one in stored})
        if len(sizes) > 1:
            raise ConfigError(
                f"a batch needs slices of one size, got {sizes}; use batches of one, or one size a list"
            )
        masks = [self.mask(index, one) for index, one in zip(indices, stored, strict=True)]
        pairs = list(zip(indices, masks, strict=True))
        labels = [self.listed[index].label if mask is None else int(mask.any()) for index, mask in pairs]
        return FeatureBatch(
            images=FirstStage(
                _stacked([one.vgg_feats for one in stored], flips),
                _stacked([one.res2net_feats for one in stored], flips),
            ),
            masks=torch.stack(
                [
                    _flipped(
                        torch.zeros(1, *sizes[0]) if mask is None else torch.from_numpy(mask).float()[None], flip
                    )
                    for mask, flip in zip(masks, flips, strict=True)
                ]
            ),
            labels=F.one_hot(torch.tensor(labels), 2).float(),
            has_mask=torch.tensor(
                [mask is not None or label == 0 for mask, label in zip(masks, labels, strict=True)]
            ),
        )

    def mask(self, index: int, stored: StoredFeatures) -> NDArray[np.bool_] | None:
        """(rows, columns) mask of a slice, None where the list has none; beside half-size features it is halved.

        Raises:
            ConfigError: no such file, or a mask of another size.
            MaskError: more than two values.
        """
        path = self.listed[index].mask
        if path is None:
            return None
        mask = read_mask(path)
        if mask.shape == stored.slice_shape:
            return mask
        if mask.shape == (2 * stored.slice_shape[0], 2 * stored.slice_shape[1]):
            share = F.avg_pool2d(torch.from_numpy(mask).float()[None], 2)[0]
            return (share >= 0.5).numpy()
        raise ConfigError(
            f"{path}: the mask has {mask.shape[0]}x{mask.shape[1]} pixels, the features' slice "
            f"{stored.slice_shape[0]}x{stored.slice_shape[1]}"
        )


def _stacked(maps: list[NDArray[np.uint8] | None], flips: list[Turn]) -> Tensor | None:
    present = [
        _flipped(torch.from_numpy(dequantise(values)), flip)
        for values, flip in zip(maps, flips, strict=True)
        if values is not None
    ]
    if present and len(present) != len(maps):
        raise ConfigError("some slices of the batch lack a feature map that others have; use one kind of file a list")
    return torch.stack(present) if present else None


def _flipped(values: Tensor, turn: Turn) -> Tensor:
    return values.flip([axis for axis, flips in zip((-2, -1), turn, strict=True) if flips])
