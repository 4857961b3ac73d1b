"""Training the slice classifier: image mixing (Eq. 3) and maps that pixel labels supervise (Eq. 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jcs_ct.checkpoints import CheckpointInfo, PretrainedWeights, save_checkpoint
from jcs_ct.data.augmentation.mixup import mixup
from jcs_ct.errors import ConfigError
from jcs_ct.metrics.classification import roc_auc
from jcs_ct.models.activation_map import activation_map_from_features, normalise_map
from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.first_stage import FirstStage, chosen, joined
from jcs_ct.models.presets import build_classifier, classifier_preset
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.paper_losses import activation_map_loss, soft_cross_entropy
from jcs_ct.training.recipe import Recipe, changed
from jcs_ct.training.training_data import Batch, TrainingData, validation_batches


class ClassificationTask:
    """Cross-entropy on mixed slices, plus L_seg on the slices that have a mask and are infected."""

    forward_methods: tuple[str, ...] = ("features",)

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.network: Classifier = recipe_classifier(recipe)
        self.config = self.network.config
        self.pretrained: PretrainedWeights | None = None

    def train_mode(self, network: nn.Module) -> None:
        """Everything trains."""
        network.train()

    def loss(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> dict[str, Tensor]:
        """``loss`` = cross-entropy on mixed slices + weight * L_seg on the slices as they are.

        The map of a mixture has no mask of its own, so L_seg looks at unmixed slices: those of the batch that are
        infected and have a mask. They go through the network together with the mixed ones, so that batch
        normalisation sees one batch.
        """
        recipe = self.recipe
        images: Tensor | FirstStage = batch.images
        labels = batch.labels
        if recipe.mixup_alpha:
            images, labels, _, _ = mixup(images, labels, alpha=recipe.mixup_alpha, generator=generator)
        supervised = batch.has_mask & (batch.labels[:, 1] > 0.5)
        if not recipe.activation_map_weight or not bool(supervised.any()):
            entropy = soft_cross_entropy(network(images), labels, smoothing=recipe.label_smoothing)
            return {"loss": entropy, "cross_entropy": entropy}
        unmixed_images = chosen(batch.images, supervised)
        stages: list[Tensor] = network.features(joined(images, unmixed_images))  # type: ignore[operator]
        features, unmixed = torch.split(stages[-1].float(), [len(labels), int(supervised.sum())])
        logits = self.network.head_logits(features)
        entropy = soft_cross_entropy(logits, labels, smoothing=recipe.label_smoothing)
        raw = activation_map_from_features(unmixed, self.network.head_logits(unmixed), self.network.head.weight, 1)
        known = torch.ones(len(unmixed), dtype=torch.bool, device=unmixed.device)
        map_loss = activation_map_loss(normalise_map(raw), batch.masks[supervised], known)
        return {
            "loss": entropy + recipe.activation_map_weight * map_loss,
            "cross_entropy": entropy,
            "activation_map": map_loss,
        }

    def validate(self, dataset: TrainingData, device: torch.device) -> dict[str, float]:
        """AUC, cross-entropy and accuracy on the validation slices, mixed sources and all."""
        logits, labels = [], []
        for batch in validation_batches(dataset, device):
            logits.append(self.network(batch.images).float().cpu())
            labels.append(batch.labels.cpu())
        all_logits, all_labels = torch.cat(logits), torch.cat(labels)
        truth = all_labels[:, 1].numpy().astype(bool)
        margin = (all_logits[:, 1] - all_logits[:, 0]).numpy().astype(np.float64)
        auc = roc_auc(truth, margin)
        entropy = float(soft_cross_entropy(all_logits, all_labels))
        return {
            "score": auc - 0.1 * entropy,
            "auc": auc,
            "cross_entropy": entropy,
            "accuracy": float(((margin > 0) == truth).mean()),
        }

    def maps(self, batch: Batch) -> tuple[Tensor, list[str]]:
        """Activation maps of infection between 0 and 1, (N, 1, h, w), and the probability behind each."""
        last = self.network.features(batch.images)[-1].float()
        logits = self.network.head_logits(last)
        raw = activation_map_from_features(last, logits, self.network.head.weight, 1)
        probability = torch.softmax(logits, dim=1)[:, 1]
        return normalise_map(raw), [f"infected {float(value):.2f}" for value in probability]

    def write(self, path: Path, preprocessor: SlicePreprocessor, provenance: Mapping[str, Any]) -> None:
        """Write the classifier as a checkpoint without an operating point."""
        info = CheckpointInfo(
            task="classifier",
            preset=self.recipe.preset,
            config=self.config.to_dict(),
            preprocessor=preprocessor,
            provenance={**provenance, "pretrained": asdict(self.pretrained) if self.pretrained else None},
        )
        save_checkpoint(path, self.network, info)


def recipe_classifier(recipe: Recipe) -> Classifier:
    """The classifier of a recipe.

    Raises:
        ConfigError: an unknown preset, or changes that do not fit it.
    """
    try:
        config = classifier_preset(recipe.preset)
    except KeyError as error:
        raise ConfigError(f"unknown preset {recipe.preset!r} for a classifier: {error}") from error
    with_changes = changed(config.to_dict(), recipe.network)
    try:
        return build_classifier(ClassifierConfig.from_dict(with_changes))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"network: {error}") from error
