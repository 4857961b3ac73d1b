"""Training the segmenter: deep supervision (Eq. 6), alone or joined to a classifier that has been trained first."""

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
from jcs_ct.errors import ConfigError
from jcs_ct.models.classifier import Classifier
from jcs_ct.models.comparison import COMPARISONS, ComparisonNetwork, build_comparison
from jcs_ct.models.comparison.losses import dss_loss, egnet_loss, poolnet_loss
from jcs_ct.models.comparison.stored import comparison_from_dict, comparison_to_dict
from jcs_ct.models.presets import SEGMENTERS, build_segmenter
from jcs_ct.models.segmenter import Segmenter, SegmenterConfig
from jcs_ct.preprocessing import SlicePreprocessor
from jcs_ct.training.paper_losses import deep_supervision_loss
from jcs_ct.training.recipe import Recipe, changed
from jcs_ct.training.training_data import Batch, TrainingData, validation_batches
from jcs_ct.training.training_state import Origins


class SegmentationTask:
    """Deep supervision over a segmenter's outputs, or a comparison network's own loss.

    Args:
        recipe: Its preset says which network, and whether the classifier's features are combined in.
        classifier: A trained classifier, whose trunk a joint preset borrows.
        classifier_sha256: Of its file, for provenance.

    Raises:
        ConfigError: a classifier for a preset that has no place for one, or a published loss where none was
            published.
    """

    def __init__(
        self, recipe: Recipe, classifier: Classifier | None = None, classifier_sha256: str | None = None
    ) -> None:
        self.recipe = recipe
        self.classifier_sha256 = classifier_sha256
        self.network, self.config = recipe_segmenter(recipe)
        self.pretrained: PretrainedWeights | None = None
        self.ancestor_manifests: Mapping[str, str | None] = {}
        self.loss_name = _published_loss(self.config) if recipe.loss == "published" else "deep_supervision"
        self.forward_methods: tuple[str, ...] = ("forward_with_edge",) if self.loss_name == "egnet" else ()
        if classifier is not None:
            if not isinstance(self.network, Segmenter) or not self.network.config.joint:
                raise ConfigError(
                    f"the preset {recipe.preset!r} has no place for a classifier; leave --classifier out"
                )
            self.network.load_classifier(classifier)

    @property
    def origins(self) -> Origins:
        """The network that it starts from, and the classifier that it borrows."""
        started = self.pretrained.sha256 if self.pretrained else None
        return {"--pretrained": started, "--classifier": self.classifier_sha256}

    def train_mode(self, network: nn.Module) -> None:
        """Training mode; with ``frozen_statistics: trunk`` a borrowed trunk keeps the classifier's statistics."""
        network.train()
        frozen = self.recipe.frozen_statistics == "trunk"
        if frozen and isinstance(self.network, Segmenter) and self.network.backbone is not None:
            self.network.backbone.eval()

    def loss(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> dict[str, Tensor]:
        """Eq. 6 or the published loss; ``generator`` is not used, the slices are not mixed."""
        if self.loss_name == "egnet":
            return {"loss": egnet_loss(network.forward_with_edge(batch.images), batch.masks, divisor=1.0)}  # type: ignore[operator]
        outputs = network(batch.images)
        if self.loss_name == "dss":
            return {"loss": dss_loss(outputs, batch.masks)}
        if self.loss_name == "poolnet":
            # The training loop averages over the slices of a step itself.
            return {"loss": poolnet_loss(outputs, batch.masks, divisor=1.0)}
        return {"loss": deep_supervision_loss(outputs, batch.masks, dice_eps=self.recipe.dice_epsilon)}

    def validate(self, dataset: TrainingData, device: torch.device) -> dict[str, float]:
        """Mean Dice per infected slice at threshold 0.5, and the share of false pixels on uninfected ones."""
        dice: list[Tensor] = []
        false_share: list[Tensor] = []
        for batch in validation_batches(dataset, device):
            found = torch.sigmoid(self.network(batch.images)[0].float()) >= 0.5
            truth = batch.masks >= 0.5
            overlap = (found & truth).sum(dim=(1, 2, 3)).double()
            total = (found.sum(dim=(1, 2, 3)) + truth.sum(dim=(1, 2, 3))).double()
            infected = truth.any(dim=3).any(dim=2).any(dim=1)
            dice.append((2.0 * overlap / total.clamp(min=1.0))[infected].cpu())
            false_share.append(found.double().mean(dim=(1, 2, 3))[~infected].cpu())
        per_slice, false = torch.cat(dice), torch.cat(false_share)
        mean_dice = float(per_slice.mean()) if len(per_slice) else 0.0
        mean_false = float(false.mean()) if len(false) else 0.0
        return {"score": mean_dice - mean_false, "dice": mean_dice, "false_pixel_share": mean_false}

    def maps(self, batch: Batch) -> tuple[Tensor, list[str]]:
        """Probabilities of lesion, (N, 1, H, W), and how much of each slice is above one half."""
        probability = torch.sigmoid(self.network(batch.images)[0].float())
        shares = (probability >= 0.5).float().mean(dim=(1, 2, 3))
        return probability, [f"lesion {100.0 * float(share):.1f} %" for share in shares]

    def write(self, path: Path, preprocessor: SlicePreprocessor, provenance: Mapping[str, Any]) -> None:
        """Write the segmenter as a checkpoint."""
        info = CheckpointInfo(
            task="segmenter",
            preset=self.recipe.preset,
            config=self.config,
            preprocessor=preprocessor,
            provenance={
                **provenance,
                "pretrained": asdict(self.pretrained) if self.pretrained else None,
                "classifier_sha256": self.classifier_sha256,
                ANCESTORS: dict(self.ancestor_manifests),
            },
        )
        save_checkpoint(path, self.network, info)


def _published_loss(config: Mapping[str, Any]) -> str:
    name = str(config.get("comparison", ""))
    if name not in ("dss", "poolnet", "egnet"):
        raise ConfigError("loss 'published' is there for DSS, PoolNet and EGNet only; use deep_supervision")
    return name


def recipe_segmenter(recipe: Recipe) -> tuple[Segmenter | ComparisonNetwork, dict[str, Any]]:
    """The segmenter of a recipe, ours or one of the comparison, and its config as plain values.

    Raises:
        ConfigError: an unknown preset, or changes that do not fit it.
    """
    if recipe.preset in SEGMENTERS:
        values = changed(SEGMENTERS[recipe.preset].to_dict(), recipe.network)
    elif recipe.preset in COMPARISONS:
        values = changed(comparison_to_dict(COMPARISONS[recipe.preset]), recipe.network)
    else:
        known = ", ".join([*SEGMENTERS, *COMPARISONS])
        raise ConfigError(f"unknown preset {recipe.preset!r} for a segmenter; known: {known}")
    try:
        if recipe.preset in COMPARISONS:
            return build_comparison(comparison_from_dict(values)), values
        return build_segmenter(SegmenterConfig.from_dict(values)), values
    except (TypeError, ValueError) as error:
        raise ConfigError(f"network: {error}") from error
