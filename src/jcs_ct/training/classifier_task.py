"""Training the slice classifier: image mixing (Eq. 3), and pixel labels for its map (Eq. 4) and its trunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jcs_ct.checkpoints import CheckpointInfo, PretrainedWeights, save_checkpoint
from jcs_ct.checkpoints.ancestry import ANCESTORS
from jcs_ct.data.augmentation.mixup import mixup
from jcs_ct.errors import ConfigError
from jcs_ct.metrics.classification import roc_auc
from jcs_ct.models.activation_map import activation_map_from_features, normalise_map
from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.first_stage import FirstStage, chosen, joined
from jcs_ct.models.presets import build_classifier, classifier_preset
from jcs_ct.models.segmenter import Segmenter
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.paper_losses import activation_map_loss, soft_cross_entropy
from jcs_ct.training.recipe import Recipe, changed
from jcs_ct.training.training_data import Batch, TrainingData, validation_batches
from jcs_ct.training.training_state import Origins
from jcs_ct.training.trunk_supervision import TrunkSupervision, lesion_pixel_loss


class ClassificationTask:
    """Cross-entropy on mixed slices, plus what masks say of the slices that have one, and a teacher of all.

    ``network`` is what trains: the classifier, with side outputs where the recipe supervises its trunk.

    Args:
        recipe: Its preset says which network.
        teacher: A trained segmenter, whose encoder's features ``encoder_feature_weight`` makes a target.
        teacher_sha256: Of its file, for provenance.

    Raises:
        ConfigError: a weight without a teacher, a teacher without a weight, or one of slices with other channels.
    """

    def __init__(self, recipe: Recipe, teacher: Segmenter | None = None, teacher_sha256: str | None = None) -> None:
        self.recipe = recipe
        self.classifier: Classifier = recipe_classifier(recipe)
        self.config = self.classifier.config
        self.network: Classifier | TrunkSupervision = self.classifier
        self.forward_methods: tuple[str, ...] = ("features",)
        if (teacher is None) == bool(recipe.encoder_feature_weight):
            raise ConfigError("encoder_feature_weight and --teacher go together: give both, or neither")
        if recipe.lesion_pixel_weight or teacher is not None:
            encoder = teacher.encoder if teacher is not None else None
            try:
                self.network = TrunkSupervision(
                    self.classifier, lesions=bool(recipe.lesion_pixel_weight), teacher=encoder
                )
            except ValueError as error:
                raise ConfigError(str(error)) from error
            self.forward_methods = ("supervised",)
        self.pretrained: PretrainedWeights | None = None
        self.ancestor_manifests: Mapping[str, str | None] = {}
        self.teacher_sha256 = teacher_sha256

    @property
    def origins(self) -> Origins:
        """The network that it starts from, and the one that teaches it."""
        started = self.pretrained.sha256 if self.pretrained else None
        return {"--pretrained": started, "--teacher": self.teacher_sha256}

    def train_mode(self, network: nn.Module) -> None:
        """Everything trains."""
        network.train()

    def loss(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> dict[str, Tensor]:
        """``loss`` = cross-entropy on mixed slices + weighted L_seg, Eq. 6 of side outputs and distance to a teacher.

        Slices without a label are for the teacher, which sees all.

        A mixture has neither a map nor lesion pixels of its own, so these look at unmixed slices: L_seg at those that
        are infected and have a mask, the side outputs at uninfected ones as well. Where slices are mixed they go
        through the network together with the mixed ones, so that batch normalisation sees one batch.
        """
        recipe = self.recipe
        images: Tensor | FirstStage = batch.images
        labels = batch.labels
        if recipe.mixup_alpha:
            images, labels, _, _ = mixup(images, labels, alpha=recipe.mixup_alpha, generator=generator)
        infected = batch.has_mask & (batch.labels[:, 1] > 0.5)
        shown = batch.has_mask if recipe.lesion_pixel_weight else infected & (recipe.activation_map_weight > 0)
        unmixed = shown.nonzero()[:, 0]
        if recipe.mixup_alpha and len(unmixed):
            images = joined(images, chosen(batch.images, shown))
            unmixed = torch.arange(len(labels), len(labels) + len(unmixed), device=unmixed.device)
        stages: list[Tensor]
        sides: list[Tensor] = []
        encoder: Tensor | None = None
        if isinstance(self.network, TrunkSupervision):
            stages, sides, encoder = network.supervised(images)  # type: ignore[operator]
        else:
            stages = network.features(images)  # type: ignore[operator]
        last = stages[-1].float()
        logits = self.classifier.head_logits(last[: len(labels)])
        if recipe.unlabelled_share:
            labelled = labels.sum(dim=1) > 0.5
            logits, labels = logits[labelled], labels[labelled]
        entropy = (
            soft_cross_entropy(logits, labels, smoothing=recipe.label_smoothing) if len(labels) else logits.sum()
        )
        losses = {"loss": entropy, "cross_entropy": entropy}
        if recipe.activation_map_weight:
            # Named where no slice has one, too: devices and parts of a step average the same names.
            losses["activation_map"] = (
                self._map_loss(last[unmixed[infected[shown]]], batch.masks[infected])
                if bool(infected.any())
                else entropy.new_zeros(())
            )
            losses["loss"] = losses["loss"] + recipe.activation_map_weight * losses["activation_map"]
        if recipe.lesion_pixel_weight:
            losses["lesion_pixels"] = lesion_pixel_loss([side[unmixed] for side in sides], batch.masks[shown])
            losses["loss"] = losses["loss"] + recipe.lesion_pixel_weight * losses["lesion_pixels"]
        if encoder is not None:
            losses["encoder_features"] = encoder
            losses["loss"] = losses["loss"] + recipe.encoder_feature_weight * encoder
        return losses

    def _map_loss(self, last: Tensor, masks: Tensor) -> Tensor:
        """L_seg (Eq. 4) of infected slices: their last feature maps (N, K, h, w), their masks (N, 1, H, W)."""
        logits = self.classifier.head_logits(last)
        raw = activation_map_from_features(last, logits, self.classifier.head.weight, 1)
        every = torch.ones(len(last), dtype=torch.bool, device=last.device)
        return activation_map_loss(normalise_map(raw), masks, every)

    def validate(self, dataset: TrainingData, device: torch.device) -> dict[str, float]:
        """AUC, cross-entropy and accuracy on the validation slices, mixed sources and all."""
        logits, labels = [], []
        for batch in validation_batches(dataset, device):
            logits.append(self.classifier(batch.images).float().cpu())
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
        last = self.classifier.features(batch.images)[-1].float()
        logits = self.classifier.head_logits(last)
        raw = activation_map_from_features(last, logits, self.classifier.head.weight, 1)
        probability = torch.softmax(logits, dim=1)[:, 1]
        return normalise_map(raw), [f"infected {float(value):.2f}" for value in probability]

    def write(self, path: Path, preprocessor: SlicePreprocessor, provenance: Mapping[str, Any]) -> None:
        """Write the classifier as a checkpoint without an operating point."""
        info = CheckpointInfo(
            task="classifier",
            preset=self.recipe.preset,
            config=self.config.to_dict(),
            preprocessor=preprocessor,
            provenance={
                **provenance,
                "pretrained": asdict(self.pretrained) if self.pretrained else None,
                "teacher_sha256": self.teacher_sha256,
                ANCESTORS: dict(self.ancestor_manifests),
            },
        )
        save_checkpoint(path, self.classifier, info)


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
