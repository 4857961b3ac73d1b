"""What differs between training a classifier and a segmenter, and from a recipe to the one it describes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from jcs_ct.checkpoints import load_classifier, load_segmenter, read_info, start_from
from jcs_ct.checkpoints.ancestry import inherited_manifests
from jcs_ct.errors import ConfigError
from jcs_ct.models.classifier import Classifier
from jcs_ct.models.segmenter import Segmenter
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.classifier_task import ClassificationTask
from jcs_ct.training.recipe import Recipe, make_preprocessor
from jcs_ct.training.segmenter_task import SegmentationTask
from jcs_ct.training.training_data import Batch, TrainingData
from jcs_ct.training.training_state import Origins

logger = logging.getLogger(__name__)

#: No network asks for slices whose sides are longer than this.
LARGEST_LEAST_SIDE = 128


class Task(Protocol):
    """What differs between training a classifier and a segmenter."""

    forward_methods: tuple[str, ...]
    """Methods of the network, other than ``forward``, that ``loss`` calls."""

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        ...

    @property
    def origins(self) -> Origins:
        """The weights that the run works from; with others it is another run."""
        ...

    def train_mode(self, network: nn.Module) -> None:
        """Set the network, as the devices wrap it, to training."""
        ...

    def loss(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> dict[str, Tensor]:
        """Losses by name; ``loss`` is the one that is minimised."""
        ...

    def validate(self, dataset: TrainingData, device: torch.device) -> dict[str, float]:
        """Figures by name; ``score`` chooses the best weights (greater is better)."""
        ...

    def maps(self, batch: Batch) -> tuple[Tensor, list[str]]:
        """What the network sees, (N, 1, h, w) between 0 and 1, and a few words on each slice; for sample pictures."""
        ...

    def write(self, path: Path, preprocessor: SlicePreprocessor, provenance: Mapping[str, Any]) -> None:
        """Write the network, with the weights it holds, as a checkpoint."""
        ...


def make_task(
    recipe: Recipe,
    classifier: Path | None = None,
    pretrained: Path | str | None = None,
    teacher: Path | None = None,
) -> Task:
    """Build the recipe's network, its initial weights drawn from the recipe's seed.

    Args:
        recipe: What to train.
        classifier: Checkpoint of a trained classifier, for a joint segmenter; one that starts from a whole joint
            segmenter may do without, and keeps the trunk it has.
        pretrained: What the network starts from, see ``start_from``; the classifier's trunk is borrowed afterwards.
        teacher: Checkpoint of a trained segmenter, whose encoder teaches a classifier's trunk.

    Raises:
        ConfigError: an unknown preset, slices that do not fit it, a classifier where none belongs or one is needed,
            or ``auto`` for a network that no published weights fit.
        CheckpointError: the classifier's or the pretrained file cannot be used.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if recipe.task == "classifier":
            if classifier is not None:
                raise ConfigError("--classifier is for joint segmenters; this recipe trains a classifier")
            taught_by = _teacher(teacher, recipe) if teacher is not None else (None, None)
            learner = _started(_fitting(ClassificationTask(recipe, *taught_by)), pretrained)
            learner.ancestor_manifests = _inherited(learner, pretrained, teacher=teacher)
            return learner
        if teacher is not None:
            raise ConfigError("--teacher is for classifiers; this recipe trains a segmenter")
        borrowed = load_classifier(classifier) if classifier else None
        lent = (borrowed.network, borrowed.sha256) if borrowed is not None else (None, None)
        task = _started(_fitting(SegmentationTask(recipe, *lent)), pretrained)
        if isinstance(task.network, Segmenter) and task.network.config.joint:
            if borrowed is not None:
                task.network.load_classifier(borrowed.network)
            elif task.pretrained is None or task.pretrained.part != "whole":
                raise ConfigError(
                    f"the preset {recipe.preset!r} borrows a trained classifier's features; train one first and give "
                    "it with --classifier, or start from a trained joint segmenter with --pretrained"
                )
        task.ancestor_manifests = _inherited(task, pretrained, classifier=classifier)
        return task


def _inherited(
    task: ClassificationTask | SegmentationTask, pretrained: Path | str | None, **others: Path | None
) -> dict[str, str | None]:
    """Manifests of the networks that a run works from; ImageNet's weights, which are a part of one, have none."""
    files = {who: path for who, path in others.items() if path is not None}
    if pretrained is not None and task.pretrained is not None and task.pretrained.part == "whole":
        files["pretrained network"] = Path(pretrained)
    return inherited_manifests({who: read_info(path).provenance for who, path in files.items()})


def _teacher(path: Path, recipe: Recipe) -> tuple[Segmenter, str]:
    """A trained segmenter that sees grey values as the recipe prepares them, and the hash of its file."""
    ready = load_segmenter(path)
    if not isinstance(ready.network, Segmenter):
        raise ConfigError(f"{path} is a comparison network; a teacher is one of our own segmenters")
    ours, its = make_preprocessor(recipe.preprocessing), ready.preprocessor
    if (ours.window, ours.mean, ours.std) != (its.window, its.mean, its.std):
        raise ConfigError(
            f"{path} was trained on grey values of another window, mean or standard deviation than the recipe's; "
            "give the recipe its preprocessing, or another teacher"
        )
    return ready.network, ready.sha256


T = TypeVar("T", ClassificationTask, SegmentationTask)


def _fitting(task: T) -> T:
    """The task, after its network took a slice as the recipe prepares it: what does not fit is said before a run.

    Raises:
        ConfigError: other channels or a smaller side than the network takes.
    """
    prepared = task.recipe.preprocessing
    side = min(prepared.size, task.recipe.coarse_size or prepared.size, LARGEST_LEAST_SIDE)
    network = task.network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, prepared.channels, side, side))
    except ValueError as error:
        raise ConfigError(
            f"slices as the recipe prepares them do not fit the preset {task.recipe.preset!r}: {error} (see "
            "preprocessing.channels and .size, coarse_size, and the network's in_channels)"
        ) from error
    network.train()
    return task


def _started(task: T, pretrained: Path | str | None) -> T:
    if pretrained is not None:
        network = task.classifier if isinstance(task, ClassificationTask) else task.network
        if not isinstance(network, Classifier | Segmenter):
            raise ConfigError("--pretrained is for our own networks; comparison networks start from scratch")
        task.pretrained = start_from(network, pretrained)
        logger.info("started the %s from %s", task.pretrained.part, task.pretrained.origin)
    return task
