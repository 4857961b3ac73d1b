"""Variants that are trained alike and compared: the ablation of Tables V and VI, the networks of Table VII."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jcs_ct.data.manifest import Manifest
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation import published
from jcs_ct.evaluation.budgets import budget_warnings
from jcs_ct.evaluation.cases import CaseSet
from jcs_ct.evaluation.comparing import evaluate_predictions
from jcs_ct.evaluation.crossval import Method, Progress, cross_validate, fold_note, validates
from jcs_ct.evaluation.cuts import check_wanted, with_own_cuts
from jcs_ct.evaluation.page import Evaluation
from jcs_ct.evaluation.predictions import Predictions, method_folder
from jcs_ct.evaluation.segmentation import DEFAULT_RESAMPLING, Resampling
from jcs_ct.models.comparison import COMPARISONS
from jcs_ct.models.presets import SEGMENTERS
from jcs_ct.training.config import Recipe

#: Table V's rows: name -> the two fields of the segmenter.
EFM_AFF: Mapping[str, Mapping[str, bool]] = {
    "no EFM, no AFF": {"enhanced_features": False, "attentive_fusion": False},
    "EFM": {"enhanced_features": True, "attentive_fusion": False},
    "AFF": {"enhanced_features": False, "attentive_fusion": True},
    "EFM + AFF": {"enhanced_features": True, "attentive_fusion": True},
}


def ablation_methods(recipe: Recipe, classifier: Recipe | None = None) -> list[Method]:
    """EFM x AFF, and with a classifier's recipe each of them once more with the combination.

    Args:
        recipe: Of a segmenter that works alone, with a joint preset of the same name beside it.
        classifier: Of the classifier whose features are combined in.

    Raises:
        ConfigError: a preset that cannot be ablated.
    """
    joint = f"{recipe.preset}-joint"
    if recipe.preset not in SEGMENTERS or SEGMENTERS[recipe.preset].joint:
        alone = ", ".join(name for name, config in SEGMENTERS.items() if not config.joint)
        raise ConfigError(f"the ablation starts from a segmenter that works alone ({alone}), got {recipe.preset!r}")
    methods = []
    for name, fields in EFM_AFF.items():
        network = {**recipe.network, **fields}
        methods.append(Method(name, recipe.model_copy(update={"network": network})))
        if classifier is not None:
            combined = recipe.model_copy(
                update={"preset": joint, "network": _with_trunk(network, classifier.network.get("backbone"))}
            )
            methods.append(Method(f"{name}, joint", combined, classifier))
    return methods


def _with_trunk(network: Mapping[str, Any], trunk: Mapping[str, Any] | None) -> dict[str, Any]:
    """A change of the classifier's trunk is a change of the joint segmenter's, too."""
    return {**network, "combination": {"backbone": dict(trunk)}} if trunk else dict(network)


def network_methods(recipe: Recipe, presets: Sequence[str], *, width: float = 1.0) -> list[Method]:
    """One method a preset, everything but the network as in the recipe.

    Args:
        recipe: Budget, preprocessing, augmentation and optimiser of all.
        presets: Of segmenters that work alone and comparison networks.
        width: Factor on the channel counts of comparison networks.

    Raises:
        ConfigError: unknown or joint presets.
    """
    methods = []
    for preset in presets:
        if preset in COMPARISONS:
            network: dict[str, Any] = {"in_channels": recipe.preprocessing.channels, "width": width}
        elif preset in SEGMENTERS and not SEGMENTERS[preset].joint:
            network = dict(recipe.network) if preset == recipe.preset else {}
        else:
            known = [*(name for name, config in SEGMENTERS.items() if not config.joint), *COMPARISONS]
            raise ConfigError(f"cannot train {preset!r} here; choose of {', '.join(known)}")
        methods.append(Method(preset, recipe.model_copy(update={"preset": preset, "network": network})))
    return methods


def train_and_compare(
    methods: Sequence[Method],
    cases: CaseSet,
    folder: Path,
    *,
    title: str,
    protocol: str,
    extra: Manifest | None = None,
    folds: Sequence[str] | None = None,
    others: Sequence[Predictions] = (),
    cut_by_folds: Collection[str] = (),
    beside: Sequence[published.Row] = (),
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
    execution: Execution | None = None,
    progress: Progress | None = None,
) -> Evaluation | None:
    """Cross-validate every method under ``folder/<name>`` and compare them all, with others' predictions if given.

    A method named in ``cut_by_folds`` is preceded by itself with the cut that the other folds choose (``<name>, own
    cut``, written to ``<name>/predictions-own-cut/``); differences are to the first of all.

    Returns:
        The evaluation; None while folds are missing.

    Raises:
        ConfigError: as :func:`~jcs_ct.evaluation.crossval.cross_validate`, or ``cut_by_folds`` names no method.
    """
    check_wanted(cut_by_folds, [*(method.name for method in methods), *(other.name for other in others)])
    found = [
        cross_validate(
            method,
            cases,
            folder / method_folder(method.name),
            extra=extra,
            folds=folds,
            execution=execution,
            progress=progress,
        )
        for method in methods
    ]
    finished = [predictions for predictions in found if predictions is not None]
    if len(finished) < len(methods):
        return None
    together, cuts = with_own_cuts(
        [*finished, *others],
        cut_by_folds,
        cases,
        lambda name: folder / method_folder(name) / "predictions-own-cut",
    )
    return evaluate_predictions(
        together,
        cases,
        title=title,
        protocol=protocol,
        beside=beside,
        resampling=resampling,
        warnings=(*budget_warnings([method.recipe for method in methods]), *warnings),
        facts={
            "folds": fold_note(cases, validating=any(validates(method) for method in methods)),
            "pretrained": {method.name: method.pretrained.name for method in methods if method.pretrained},
            "cuts": cuts,
            "flip_average": [method.name for method in methods if method.flip_average],
            "recipes": {method.name: method.recipe.model_dump(mode="json") for method in methods},
            "classifier_recipes": {
                method.name: method.classifier.model_dump(mode="json") for method in methods if method.classifier
            },
            "extra_training_slices": 0 if extra is None else sum(row.split == "train" for row in extra),
        },
    )
