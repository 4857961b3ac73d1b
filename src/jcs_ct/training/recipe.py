"""Recipes: everything a training run depends on, validated all at once."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from jcs_ct.data.augmentation.augment import LARGEST_ELASTIC, Augmentation
from jcs_ct.errors import ConfigError
from jcs_ct.files import read_text
from jcs_ct.preprocessing import SlicePreprocessor, Window
from jcs_ct.recipes import find_recipe

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PreprocessingConfig(_Frozen):
    """How slices become tensors; saved in the checkpoint (see ``SlicePreprocessor``)."""

    size: Annotated[int, Field(ge=32)] = 224
    level_hu: float = -600.0
    width_hu: Positive = 1500.0
    body_crop: bool = False
    centre_share: Annotated[float, Field(ge=0.1, le=1)] = Field(
        1.0, description="Share of the sides that is kept around the middle; the published classifier keeps 224/256."
    )
    region: Literal["body", "lungs"] = Field(
        "body", description="What body_crop cuts to; lungs that are not found leave the body."
    )
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


class AugmentationConfig(_Frozen):
    """Random changes of a training slice; 0 switches a change off."""

    flip_left_right: Fraction = 0.5
    flip_up_down: Fraction = 0.0
    crop_scale: tuple[float, float] = Field((1.0, 1.0), description="Zoom range; 0.8 shows 80 % of the side length.")
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift: Fraction = Field(0.0, description="Largest shift as a share of the side length.")
    window_jitter: Fraction = Field(0.0, description="Relative change of contrast and shift of grey.")
    gamma: Annotated[float, Field(ge=0, lt=2)] = Field(0.0, description="Largest |log gamma|.")
    noise: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="Largest standard deviation of added noise.")
    blur: Annotated[float, Field(ge=0)] = Field(0.0, description="Largest Gaussian sigma in network pixels.")
    elastic: Annotated[float, Field(ge=0, le=LARGEST_ELASTIC)] = Field(
        0.0, description="Largest displacement of a smooth deformation as a share of the side length."
    )
    marks: Fraction = Field(0.0, description="Chance of burned-in text or a frame.")
    random_crop: bool = Field(
        False,
        description="A true random crop: what crop_scale shows lies inside the slice, anywhere; shift is not used.",
    )
    sharpen: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Largest share of what a blur takes away that is added, half the time where nothing blurs.",
    )
    resolution: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Least share of the rows and columns that a slice is shrunk to and brought back from."
    )
    jpeg: Fraction = Field(0.0, description="Chance of JPEG compression, of quality 30 to 95.")
    fade: Fraction = Field(
        0.0, description="Chance that a slice's lesions are made fainter, where a mask shows them."
    )

    @model_validator(mode="after")
    def _can_be_drawn(self) -> AugmentationConfig:
        Augmentation(**self.model_dump())
        return self


class OptimiserConfig(_Frozen):
    """Optimiser and schedule, both pure functions of the step."""

    name: Literal["sgd", "adam", "adamw"] = "adam"
    learning_rate: Positive = 2.5e-5
    momentum: Fraction = 0.9
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["poly", "step", "cosine"] = "poly"
    poly_power: Positive = 0.9
    step_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="The rate is divided by 10 every this share of all steps."
    )
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    gradient_clip: Annotated[float, Field(ge=0)] = Field(0.0, description="Largest gradient norm; 0 is off.")


class Recipe(_Frozen):
    """One training run.

    ``steps`` counts optimiser steps; ``batch_size`` is the global batch of one optimiser step.
    """

    task: Literal["classifier", "segmenter"]
    preset: str
    network: dict[str, Any] = Field({}, description="Fields of the preset's network that are set otherwise.")
    loss: Literal["deep_supervision", "published"] = Field(
        "deep_supervision", description="Of a segmenter: Eq. 6 on every output, or a comparison network's own."
    )
    dice_epsilon: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="Added above and below in Dice's fraction (Eq. 6): a batch without lesions costs little.",
    )
    frozen_statistics: Literal["none", "trunk"] = Field(
        "none", description="trunk: a borrowed classifier's normalisation keeps the statistics it has learnt."
    )
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    steps: Annotated[int, Field(gt=0)] = 21_000
    batch_size: Annotated[int, Field(gt=0)] = 4
    accumulate: Annotated[int, Field(gt=0)] = Field(1, description="Micro-batches per optimiser step.")
    mixup_alpha: Annotated[float, Field(ge=0)] = Field(0.0, description="Beta(a, a) of Eq. 3; 0 is off.")
    activation_map_weight: Annotated[float, Field(ge=0)] = Field(0.0, description="Weight of L_seg, Eq. 4; 0 is off.")
    lesion_pixel_weight: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Of a classifier: weight of lesion masks under side outputs of its last three stages (Eq. 6), "
        "which are dropped after training; 0 is off.",
    )
    encoder_feature_weight: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Of a classifier: weight of a trained segmenter's encoder features (--teacher) as a target of "
        "its last three stages; 0 is off.",
    )
    unlabelled_share: Fraction = Field(
        0.0,
        description="Share of training slices drawn from rows without a label, to which the teacher alone speaks "
        "(encoder_feature_weight).",
    )
    label_smoothing: Fraction = 0.0
    ema_decay: Decay = Field(0.0, description="Moving average of weights; 0 is off.")
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "fp32", description="auto is bf16 where the hardware multiplies it natively, else fp32."
    )
    coarse_size: Annotated[int, Field(ge=0)] = Field(
        0, description="Rows and columns of the slices while training starts; 0 is the full size throughout."
    )
    coarse_share: Fraction = Field(0.65, description="Share of the steps that are taken at coarse_size.")
    choose_weights: Literal["best", "last"] = Field(
        "best", description="best by the val split, or the last step's: then no val split is needed."
    )
    seed: Annotated[int, Field(ge=0)] = 0
    validate_every: Annotated[int, Field(gt=0)] = 500
    checkpoint_every: Annotated[int, Field(gt=0)] = 250
    copy_paste: Fraction = Field(
        0.0, description="Of a segmenter: chance that a slice is given the lesions of another training slice."
    )
    balance: Literal["none", "label", "source"] = "none"
    infected_share: Fraction = Field(0.5, description="Share of infected slices drawn, where balance is not none.")
    cache_slices: bool = Field(True, description="Keep prepared slices in memory after first reading.")

    @property
    def weights_file(self) -> str:
        """Name of the file in a run's folder with the weights that ``choose_weights`` asks for."""
        return f"{self.choose_weights}.safetensors"

    @model_validator(mode="after")
    def _settings_fit_the_task(self) -> Recipe:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate ({self.accumulate}) must be at most batch_size ({self.batch_size}): no part is empty"
            )
        if self.task == "segmenter":
            for name in ("lesion_pixel_weight", "encoder_feature_weight", "unlabelled_share"):
                if getattr(self, name):
                    raise ValueError(f"{name} is for classifiers; a segmenter learns nothing but lesion pixels")
            return self
        if self.unlabelled_share and (not self.encoder_feature_weight or self.mixup_alpha):
            raise ValueError(
                "unlabelled_share needs encoder_feature_weight (nothing else speaks to slices without a label) and "
                "no mixup_alpha (a mixture has the labels of both)"
            )
        if self.copy_paste:
            raise ValueError(
                "copy_paste is for segmenters: a classifier could learn the seam of a pasted lesion instead of the "
                "lesion; give it painted slices (`jcs data paint`)"
            )
        if self.augmentation.fade:
            raise ValueError(
                "augmentation.fade is for segmenters: only infected slices fade, so a classifier could learn the "
                "fading instead of the lesion; give it painted slices (`jcs data paint`)"
            )
        return self


def load_recipe(recipe: Path | str, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe, by its path or by its name in the package, and apply ``overrides``.

    Args:
        recipe: A path, or a name (``jcs_ct.recipes.recipe_names``).
        overrides: By dotted names, such as ``optimiser.learning_rate``.

    Raises:
        ConfigError: no such recipe, or every problem of the file at once.
    """
    path = find_recipe(recipe)
    try:
        values = yaml.safe_load(read_text(path, what="recipe"))
    except yaml.YAMLError as error:
        raise ConfigError(f"the recipe {path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the recipe {path} must be a mapping of settings, got {type(values).__name__}")
    given = overrides or {}
    for dotted, value in given.items():
        _set(values, dotted, value)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        asked: list[str] = []
        written: list[str] = []
        for item in error.errors():
            name = ".".join(str(part) for part in item["loc"])
            # Settings that do not fit together are named by the part that they lie in.
            is_asked = any(name == one or name.startswith(f"{one}.") or one.startswith(f"{name}.") for one in given)
            (asked if is_asked else written).append(_problem(item))
        heads = [(f"{len(asked)} setting(s) given beside the recipe (--set) cannot be used:", asked)] if asked else []
        heads += [(f"the recipe {path} has {len(written)} problem(s):", written)] if written else []
        raise ConfigError("\n".join(line for head, lines in heads for line in (head, *lines))) from error


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Put a setting where its dotted name says.

    Raises:
        ConfigError: it would lie below a setting that has no settings below it.
    """
    target = values
    *parents, last = dotted.split(".")
    for depth, name in enumerate(parents):
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            raise ConfigError(f"{dotted} cannot be set: {'.'.join(parents[: depth + 1])} has no settings below it")
    target[last] = value


def _problem(item: ErrorDetails) -> str:
    """One line of what is wrong; settings that do not fit together have no one value."""
    name = ".".join(str(part) for part in item["loc"])
    if item["type"] == "value_error":
        return f"  {name or 'recipe'}: {item['msg'].removeprefix('Value error, ')}"
    if item["type"] != "extra_forbidden":
        return f"  {name}: {item['msg']} (got {item['input']!r})"
    known = _setting_names(Recipe)
    near = get_close_matches(name, known, n=1) or [one for one in known if one.rpartition(".")[2] == name]
    return f"  {name}: there is no such setting" + (f"; did you mean {near[0]}?" if near else "")


def _setting_names(model: type[BaseModel], before: str = "") -> list[str]:
    """Dotted names of all settings, those of the parts too."""
    names = []
    for name, field in model.model_fields.items():
        names.append(f"{before}{name}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += _setting_names(field.annotation, f"{before}{name}.")
    return names


def make_preprocessor(config: PreprocessingConfig) -> SlicePreprocessor:
    """The preprocessor a recipe describes.

    Raises:
        ConfigError: values that do not fit together.
    """
    try:
        return SlicePreprocessor(
            size=config.size,
            window=Window(config.level_hu, config.width_hu),
            body_crop=config.body_crop,
            centre_share=config.centre_share,
            region=config.region,
            channels=config.channels,
            mean=config.mean,
            std=config.std,
        )
    except ValueError as error:
        raise ConfigError(f"preprocessing: {error}") from error


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
