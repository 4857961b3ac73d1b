"""COVID-CS as it is published: lists of ``features mask`` pairs, and their slices as first-stage features."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from jcs_ct.data.annotations import annotate, read_annotations
from jcs_ct.data.features import StoredFeatures, dequantise, read_features
from jcs_ct.data.manifest import read_mask
from jcs_ct.errors import ConfigError, MaskError
from jcs_ct.files import write_text
from jcs_ct.models.first_stage import FirstStage


@dataclass(frozen=True)
class ListedSlice:
    """A line of a list.

    Args:
        features: MATLAB file.
        mask: Lesion mask, or None.
        label: 1 infected, 0 not, None where the mask alone says it.
    """

    features: Path
    mask: Path | None
    label: int | None


def read_list(path: Path, root: Path | None = None) -> tuple[ListedSlice, ...]:
    """Read a published list: a features file and its mask a line, separated by blanks; ``#`` starts a comment.

    For classification the second word is the label, 0 or 1. Relative names count from ``root``, which is the list's
    own folder when it is not given.

    Raises:
        ConfigError: unreadable, or lines of another form; all at once.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read the list {path}: {error.strerror}") from error
    root = path.parent if root is None else root
    listed: list[ListedSlice] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2:
            problems.append(
                f"line {number}: expected a features file and a mask (or 0, or 1), got {len(words)} word(s)"
            )
        elif words[1] in ("0", "1"):
            listed.append(ListedSlice(root / words[0], None, int(words[1])))
        else:
            listed.append(ListedSlice(root / words[0], root / words[1], None))
    if not listed and not problems:
        problems.append("it has no lines")
    if problems:
        raise ConfigError("\n  ".join([f"the list {path} has {len(problems)} problem(s):", *problems]))
    return tuple(listed)


def write_list(path: Path, listed: Iterable[ListedSlice]) -> None:
    """Write a list with names relative to its folder."""
    lines = []
    for one in listed:
        second = str(one.label) if one.mask is None else _relative(one.mask, path.parent)
        lines.append(f"{_relative(one.features, path.parent)} {second}")
    write_text(path, "\n".join(lines) + "\n")


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


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
            FirstStage(*(None if map_ is None else map_.to(device) for map_ in self.images)),
            self.masks.to(device),
            self.labels.to(device),
            self.has_mask.to(device),
        )


class FeatureDataset:
    """Slices of a list as first-stage features: what trains, tests and times a network without the images."""

    def __init__(self, listed: Iterable[ListedSlice]) -> None:
        self.listed = tuple(listed)

    def __len__(self) -> int:
        return len(self.listed)

    def batch(self, indices: list[int], *, generator: np.random.Generator | None = None) -> FeatureBatch:
        """Assemble slices of one size into a batch; with a generator, each is flipped left-right at even odds.

        Raises:
            ConfigError: unreadable files, or slices of several sizes.
        """
        stored = [read_features(self.listed[index].features) for index in indices]
        sizes = sorted({one.slice_shape for one in stored})
        if len(sizes) > 1:
            raise ConfigError(
                f"a batch needs slices of one size, got {sizes}; use batches of one, or one size a list"
            )
        masks = [self.mask(index, one) for index, one in zip(indices, stored, strict=True)]
        flips = [generator is not None and bool(generator.random() < 0.5) for _ in indices]
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


def _stacked(maps: list[NDArray[np.uint8] | None], flips: list[bool]) -> Tensor | None:
    present = [
        _flipped(torch.from_numpy(dequantise(values)), flip)
        for values, flip in zip(maps, flips, strict=True)
        if values is not None
    ]
    if present and len(present) != len(maps):
        raise ConfigError("some slices of the batch lack a feature map that others have; use one kind of file a list")
    return torch.stack(present) if present else None


def _flipped(values: Tensor, flip: bool) -> Tensor:
    return values.flip(-1) if flip else values


def check_list(path: Path, root: Path | None = None) -> list[dict[str, Any]]:
    """Read every file of a list -> one record a slice: size, saturated values (None unknown), lesions.

    Raises:
        ConfigError: every missing, damaged or mismatched file, all at once.
    """
    listed = read_list(path, root)
    dataset, records, problems = FeatureDataset(listed), [], []
    for index, one in enumerate(listed):
        try:
            stored = read_features(one.features)
            mask = dataset.mask(index, stored)
        except (ConfigError, MaskError) as error:
            problems.append(str(error))
            continue
        records.append(
            {
                "features": one.features.name,
                "rows": stored.slice_shape[0],
                "columns": stored.slice_shape[1],
                "vgg_feats": stored.vgg_feats is not None,
                "res2net_feats": stored.res2net_feats is not None,
                "saturated": stored.saturated,
                "at_255": sum(int((map_ == 255).sum()) for map_ in stored.maps),
                "lesions": None if mask is None else len(annotate(mask)),
            }
        )
    if problems:
        raise ConfigError("\n  ".join([f"the list {path} has {len(problems)} problem(s):", *problems]))
    return records


def check_annotations(path: Path, annotations: Path, root: Path | None = None) -> None:
    """Hold annotations against the masks of a list: as many lesions a slice, and the same areas.

    An annotation belongs to the slice whose features or mask have its image's name, up to the suffix.

    Raises:
        ConfigError: every slice where they differ, and every annotated image that the list lacks, all at once.
    """
    listed = read_list(path, root)
    by_stem = {stem: one for one in listed for stem in _stems(one)}
    problems = []
    for image, lesions in read_annotations(annotations).items():
        one = by_stem.get(Path(image).stem)
        if one is None or one.mask is None:
            problems.append(f"{image}: annotated, but the list has no mask for it")
            continue
        said = sorted(lesion.area_pixel for lesion in lesions)
        measured = sorted(lesion.area_pixel for lesion in annotate(read_mask(one.mask)))
        if said != measured:
            problems.append(f"{image}: annotated areas {said}, the mask has {measured}")
    if problems:
        raise ConfigError("\n  ".join([f"{annotations} has {len(problems)} problem(s):", *problems[:20]]))


def _stems(one: ListedSlice) -> set[str]:
    return {one.features.stem, *([] if one.mask is None else [one.mask.stem])}
