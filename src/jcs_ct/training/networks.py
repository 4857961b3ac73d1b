"""From a recipe's preset and changes to a network, and its config as a checkpoint stores it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jcs_ct.errors import ConfigError
from jcs_ct.models.classifier import Classifier, ClassifierConfig
from jcs_ct.models.comparison import COMPARISONS, ComparisonNetwork, build_comparison
from jcs_ct.models.comparison.stored import comparison_from_dict, comparison_to_dict
from jcs_ct.models.presets import SEGMENTERS, build_classifier, build_segmenter, classifier_preset
from jcs_ct.models.segmenter import Segmenter, SegmenterConfig
from jcs_ct.training.config import Recipe


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


def changed(values: Mapping[str, Any], changes: Mapping[str, Any], *, path: str = "network") -> dict[str, Any]:
    """A preset's plain values with some fields set otherwise, nested ones by nested mappings.

    Raises:
        ConfigError: fields that the preset does not have, all at once.
    """
    unknown = [f"{path}.{name}" for name in changes if name not in values]
    if unknown:
        raise ConfigError(f"unknown field(s) {', '.join(unknown)}; there are {', '.join(sorted(values))}")
    result = dict(values)
    for name, change in changes.items():
        inner = values[name]
        both = isinstance(inner, Mapping) and isinstance(change, Mapping)
        result[name] = changed(inner, change, path=f"{path}.{name}") if both else change
    return result
