"""From a recipe to the task it describes."""

from __future__ import annotations

from pathlib import Path

import torch

from jcs_ct.checkpoints import load_checkpoint
from jcs_ct.errors import ConfigError
from jcs_ct.models.classifier import Classifier
from jcs_ct.training.classification import ClassificationTask
from jcs_ct.training.config import Recipe
from jcs_ct.training.loop import Task
from jcs_ct.training.segmentation import SegmentationTask


def make_task(recipe: Recipe, classifier: Path | None = None) -> Task:
    """Build the recipe's network, its initial weights drawn from the recipe's seed.

    Args:
        recipe: What to train.
        classifier: Checkpoint of a trained classifier, for a joint segmenter.

    Raises:
        ConfigError: an unknown preset, or a classifier where none belongs or one is needed.
        CheckpointError: the classifier's file cannot be used.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if recipe.task == "classifier":
            if classifier is not None:
                raise ConfigError("--classifier is for joint segmenters; this recipe trains a classifier")
            return ClassificationTask(recipe)
        return SegmentationTask(recipe, _trained_classifier(classifier) if classifier else None)


def _trained_classifier(path: Path) -> Classifier:
    network = load_checkpoint(path).network
    if not isinstance(network, Classifier):
        raise ConfigError(f"{path} holds a segmenter; a joint segmenter needs a trained classifier")
    return network
