"""Lists of methods that are trained alike and compared: the ablation of Tables V and VI, Table VII's networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jcs_ct.errors import ConfigError
from jcs_ct.experiments.methods import Method
from jcs_ct.models.comparison import COMPARISONS
from jcs_ct.models.presets import SEGMENTERS
from jcs_ct.training.recipe import Recipe

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


def network_methods(
    recipe: Recipe,
    presets: Sequence[str],
    *,
    width: float = 1.0,
    pretrained: Path | None = None,
    flip_average: bool = False,
) -> list[Method]:
    """One method a preset, everything but the network as in the recipe.

    Args:
        recipe: Budget, preprocessing, augmentation and optimiser of all.
        presets: Of segmenters that work alone and comparison networks.
        width: Factor on the channel counts of comparison networks.
        pretrained: What the networks start from; of a single preset only, whose weights they are.
        flip_average: Of all.

    Raises:
        ConfigError: unknown or joint presets, or several networks and weights of one.
    """
    if pretrained is not None and len(presets) > 1:
        raise ConfigError("--pretrained holds weights of one preset, and several networks are to be trained")
    methods = []
    for preset in presets:
        if preset in COMPARISONS:
            network: dict[str, Any] = {"in_channels": recipe.preprocessing.channels, "width": width}
        elif preset in SEGMENTERS and not SEGMENTERS[preset].joint:
            network = dict(recipe.network) if preset == recipe.preset else {}
        else:
            known = [*(name for name, config in SEGMENTERS.items() if not config.joint), *COMPARISONS]
            raise ConfigError(f"cannot train {preset!r} here; choose of {', '.join(known)}")
        changed = recipe.model_copy(update={"preset": preset, "network": network})
        methods.append(Method(preset, changed, pretrained=pretrained, flip_average=flip_average))
    return methods
