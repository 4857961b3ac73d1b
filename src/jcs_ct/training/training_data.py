"""What a run trains on: slices of a manifest, or lists of first-stage features; the loop sees one interface."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset

from jcs_ct.data.augmentation.augment import Augmentation
from jcs_ct.data.augmentation.copy_paste import LesionPasting
from jcs_ct.data.covid_cs.feature_dataset import FeatureBatch, FeatureDataset
from jcs_ct.data.covid_cs.feature_lists import FeatureLists
from jcs_ct.data.datasets import UNKNOWN, SliceBatch, SliceDataset
from jcs_ct.data.manifest import Manifest
from jcs_ct.errors import ConfigError
from jcs_ct.models.classifier import Classifier
from jcs_ct.models.segmenter import Segmenter
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.recipe import Recipe
from jcs_ct.training.trunk_supervision import TrunkSupervision

logger = logging.getLogger(__name__)

Batch = SliceBatch | FeatureBatch


class TrainingData(Protocol):
    """Labelled slices in any form that networks take."""

    @property
    def labels(self) -> tuple[int, ...]:
        """1 infected, 0 not, ``UNKNOWN`` where nobody said."""
        ...

    def __len__(self) -> int: ...

    def weights(self, balance: str, *, infected_share: float) -> NDArray[np.float64]:
        """Probability of drawing each slice, (slices,), sums to 1."""
        ...

    def batch(
        self,
        indices: list[int],
        *,
        augmentation: Augmentation | None,
        generator: np.random.Generator,
        share: tuple[int, int] = (0, 1),
        pasting: LesionPasting | None = None,
    ) -> Batch:
        """Slices as a batch, each changed by its own draw."""
        ...


@dataclass(frozen=True)
class Inputs:
    """The two parts of a run's data, and their identity.

    Args:
        training: Drawn from.
        validation: Chooses the weights; None where the recipe keeps the last ones.
        sha256: Of the manifest or the lists, for provenance.
        pasting: Gives training slices the lesions of others; None where the recipe does not ask for it.
    """

    training: TrainingData
    validation: TrainingData | None
    sha256: str
    pasting: LesionPasting | None = None


def open_inputs(
    data: Manifest | FeatureLists,
    recipe: Recipe,
    preprocessor: SlicePreprocessor,
    network: nn.Module,
    *,
    workers: int = 0,
) -> Inputs:
    """A recipe's data as it is drawn from.

    Args:
        data: Of the run.
        recipe: Says which slices are used, and how.
        preprocessor: From a slice to the network's input.
        network: Must take what is drawn.
        workers: Processes that will make batches: they prepare every slice now, which they share later.

    Raises:
        ConfigError: an empty split, one label only for a classifier, no lesion for a segmenter, studies in the place
            of slices, or features that do not fit the recipe.
    """
    chooses = recipe.choose_weights == "best"
    if isinstance(data, FeatureLists):
        _check_features(data, recipe, network, validates=chooses)
        features = Inputs(FeatureDataset(data.train), FeatureDataset(data.val) if chooses else None, data.sha256)
        _refuse_one_label(features, recipe)
        return features
    if recipe.task == "segmenter":
        data = data.with_masks()
    training = SliceDataset(
        _training_rows(data, recipe),
        preprocessor,
        cache=recipe.cache_slices,
        unlabelled_share=recipe.unlabelled_share,
    )
    validation = SliceDataset(_split(data, "val"), preprocessor, cache=recipe.cache_slices) if chooses else None
    _refuse_one_label(Inputs(training, validation, ""), recipe)
    by_mask = [name for name in ("activation_map_weight", "lesion_pixel_weight") if getattr(recipe, name)]
    if by_mask and not any(row.mask and row.label == 1 for row in training.manifest):
        logger.warning("no infected training slice has a mask: %s cannot teach lesions", " and ".join(by_mask))
    if workers:
        for dataset in (training, validation):
            if dataset is not None:
                prepare_slices(dataset, workers=workers)
    return Inputs(training, validation, data.sha256, make_pasting(training.manifest, recipe))


def make_pasting(training: Manifest, recipe: Recipe) -> LesionPasting | None:
    """The recipe's pasting of lesions between training slices; None where it is off.

    Raises:
        ConfigError: no training slice has a lesion mask.
    """
    if not recipe.copy_paste:
        return None
    try:
        return LesionPasting.among(training, recipe.copy_paste)
    except ValueError as error:
        raise ConfigError(f"copy_paste: {error}") from error


def _refuse_one_label(inputs: Inputs, recipe: Recipe) -> None:
    """Refuse to teach a classifier one label, a segmenter no lesion, or to choose weights on such slices."""
    parts = {"train": inputs.training, "val": inputs.validation}
    if recipe.task == "segmenter":
        # Where nothing is infected, the weights that mark nothing are best.
        without = [f"{name!r}" for name, data in parts.items() if data is not None and 1 not in data.labels]
        if without:
            raise ConfigError(
                f"a segmenter needs infected slices with lesion masks: there are none in the split(s) "
                f"{', '.join(without)}. `jcs data split` deals patients anew; without any in val, "
                "--set choose_weights=last keeps the last weights"
            )
        return
    problems = [
        f"the split {name!r} has {len(data)} slice(s), all {'infected' if max(data.labels) else 'uninfected'}"
        for name, data in parts.items()
        if data is not None and len({*data.labels} - {UNKNOWN}) == 1
    ]
    if problems:
        raise ConfigError(
            f"a classifier needs infected and uninfected slices: {'; '.join(problems)}. `jcs data split` deals "
            "patients anew; without both labels in val, --set choose_weights=last keeps the last weights"
        )


def _split(manifest: Manifest, name: str) -> Manifest:
    part = Manifest(tuple(row for row in manifest.split(name) if row.label is not None))
    if not part.rows:
        raise ConfigError(f"the manifest has no labelled slice in the split {name!r}")
    return part


def _training_rows(manifest: Manifest, recipe: Recipe) -> Manifest:
    """The labelled training slices, and those without a label where the recipe draws them.

    Raises:
        ConfigError: none of either kind.
    """
    labelled = _split(manifest, "train")
    if not recipe.unlabelled_share:
        return labelled
    every = manifest.split("train")
    if len(every) == len(labelled):
        raise ConfigError(
            "unlabelled_share: the split 'train' has no row without a label; leave the labels of some empty, or "
            "--set unlabelled_share=0"
        )
    return every


def _check_features(lists: FeatureLists, recipe: Recipe, network: nn.Module, *, validates: bool) -> None:
    """Refuse what features cannot do before anything is trained; the first slice goes through the network once."""
    problems = []
    if validates and not lists.val:
        problems.append(
            "weights are chosen on a validation list: give --validation LIST, or set choose_weights: last"
        )
    if recipe.coarse_size:
        problems.append("coarse_size shrinks slices, which features no longer are: --set coarse_size=0")
    if recipe.encoder_feature_weight:
        problems.append("a teacher looks at slices, which features no longer are: leave --teacher out")
    if recipe.copy_paste:
        problems.append("copy_paste moves lesions between slices, which features no longer are: --set copy_paste=0")
    if recipe.task == "segmenter" and any(one.mask is None for one in (*lists.train, *lists.val)):
        problems.append("a segmenter needs a mask for every slice of its lists, not a label")
    if not isinstance(network, Classifier | TrunkSupervision | Segmenter):
        problems.append(f"{recipe.preset!r} does not start from first-stage features; our own networks do")
    if problems:
        raise ConfigError("\n  ".join([f"features cannot train this recipe, {len(problems)} problem(s):", *problems]))
    first = FeatureDataset(lists.train[:1]).batch([0])
    rows = first.masks.shape[-2]
    if rows != recipe.preprocessing.size:
        raise ConfigError(
            f"the features are of slices of {rows} rows, the recipe's are {recipe.preprocessing.size}: "
            f"--set preprocessing.size={rows}, so that the checkpoint says what the network was trained on"
        )
    try:
        with torch.no_grad():
            network.eval()(first.images)
    except ValueError as error:
        raise ConfigError(f"{lists.train[0].features}: {error}") from error


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


def prepare_slices(dataset: SliceDataset, *, workers: int) -> None:
    """Read and prepare every slice of a data set once, in ``workers`` processes, and keep them in memory.

    Processes that make batches share what was prepared before they were started, and nothing after.
    """
    if not dataset.keeps_slices:
        return
    loader = DataLoader(_Prepared(dataset), batch_size=None, num_workers=workers, collate_fn=as_it_is)
    for index, prepared in enumerate(loader):
        dataset.keep(index, prepared)


class _Prepared(Dataset[tuple[torch.Tensor, torch.Tensor | None]]):
    """The prepared slices of a data set, by index."""

    def __init__(self, dataset: SliceDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._dataset.prepared(index)


def as_it_is(batch: object) -> object:
    """In the place of a collation: a batch is assembled already."""
    return batch
