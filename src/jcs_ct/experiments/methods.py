"""What is trained in every run of an experiment, and how its answers are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jcs_ct.errors import ConfigError
from jcs_ct.models.presets import SEGMENTERS
from jcs_ct.training.recipe import Recipe


@dataclass(frozen=True)
class Method:
    """One way to train a network and to read what it says.

    Args:
        name: For tables and folders.
        recipe: Of a segmenter or a classifier.
        classifier: Recipe of the classifier that a joint segmenter borrows; trained anew in every run.
        pretrained: What every run's network starts from. It must never have seen a judged slice, which nothing here
            can check. Or the folder of an earlier method's runs: each starts from the network of the same run there.
        flip_average: Of a segmenter: predict every slice and its mirror image, and average.
        least_specificity: Of a classifier: floor under the specificity where the cut is chosen, on validation slices.

    Raises:
        ConfigError: settings that do not fit together; all at once.
    """

    name: str
    recipe: Recipe
    classifier: Recipe | None = None
    pretrained: Path | None = None
    flip_average: bool = False
    least_specificity: float = 0.95

    def __post_init__(self) -> None:
        problems = []
        if not self.is_segmenter and self.classifier is not None:
            problems.append("it trains a classifier, which borrows none: leave --classifier-recipe out")
        if not self.is_segmenter and self.flip_average:
            problems.append("--flip-average is for segmenters, and it trains a classifier")
        if self.classifier is not None and self.classifier.task != "classifier":
            problems.append("the classifier's recipe trains a segmenter")
        preset = SEGMENTERS.get(self.recipe.preset) if self.is_segmenter else None
        if preset is not None and preset.joint and self.classifier is None:
            problems.append(
                f"{self.recipe.preset!r} borrows a classifier's features, and one trained on all slices would have "
                "seen the held-out ones: give --classifier-recipe, so that every fold trains its own"
            )
        if problems:
            raise ConfigError("\n  ".join([f"the recipe of {self.name!r} cannot be used so:", *problems]))

    @property
    def is_segmenter(self) -> bool:
        """Whether the answer is a probability a pixel; a classifier's is one a slice."""
        return self.recipe.task == "segmenter"

    @property
    def validates(self) -> bool:
        """Whether slices of their own choose something: the weights, or a classifier's cut."""
        recipes = (self.recipe, self.classifier)
        return not self.is_segmenter or any(each is not None and each.choose_weights == "best" for each in recipes)

    @property
    def trains_classifier(self) -> bool:
        """Whether a classifier is trained, which needs slices of both labels."""
        return not self.is_segmenter or self.classifier is not None


def method_folder(name: str) -> str:
    """A folder name for a method."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def require_own_folders(names: Sequence[str]) -> None:
    """Refuse names of which two make one folder: one's files would be taken for the other's.

    Raises:
        ConfigError: there are such.
    """
    named: dict[str, list[str]] = {}
    for name in names:
        named.setdefault(method_folder(name), []).append(name)
    shared = [alike for alike in named.values() if len(alike) > 1]
    if shared:
        listed = "; ".join(" and ".join(repr(name) for name in alike) for alike in shared)
        raise ConfigError(f"names that make one folder, give them names of their own: {listed}")


def method_facts(methods: Sequence[Method]) -> Mapping[str, Any]:
    """What a page says of how its methods were trained; plain values by method."""
    return {
        "recipes": {method.name: method.recipe.model_dump(mode="json") for method in methods},
        "classifier_recipes": {
            method.name: method.classifier.model_dump(mode="json") for method in methods if method.classifier
        },
        "pretrained": {method.name: method.pretrained.name for method in methods if method.pretrained},
        "flip_average": [method.name for method in methods if method.flip_average],
        "least_specificity": {method.name: method.least_specificity for method in methods if not method.is_segmenter},
    }
