"""What is known of how often the shipped networks are right, and what they were never shown.

The figures stand in ``weights/figures.json``, beside the weights that they were measured on: networks with other
weights, or read at another cut, have none until they are measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis

HeldOut = Literal["series_never_trained_on", "patients_held_out"]
LookAlike = Literal["other_pneumonia", "oedema", "haemorrhage", "atelectasis"]
NeverSeen = Literal["children", "contrast_agent", "metal", "motion", "prone"]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SliceFigures(_Stored):
    """How often slices of one source were called rightly, at the stored cut.

    Args:
        source: Name of the data set.
        held_out: How far it lies from the training.
        patients: That the slices are of: figures of one patient say little of another.
        infected, not_infected: Slices of each kind.
        sensitivity, specificity: In [0, 1]; None where there is no slice of that kind.
    """

    source: str
    held_out: HeldOut
    patients: int = Field(gt=0)
    infected: int = Field(ge=0)
    not_infected: int = Field(ge=0)
    sensitivity: float | None = Field(ge=0, le=1)
    specificity: float | None = Field(ge=0, le=1)


class LesionFigures(_Stored):
    """How well lesions of one source were outlined: mean Dice of its images."""

    source: str
    held_out: HeldOut
    images: int = Field(gt=0)
    patients: int = Field(gt=0)
    dice_percent: float = Field(ge=0, le=100)


class BurdenFigures(_Stored):
    """How far the burden is from readers' (Bland-Altman), by networks trained like these without the volumes judged.

    Args:
        source: Name of the data set.
        volumes: Whole volumes judged, each of another patient.
        mean_percent: Found minus true, in per cent of the lungs: the mean.
        lowest_percent, highest_percent: The 95 % limits of agreement.
    """

    source: str
    volumes: int = Field(gt=0)
    mean_percent: float
    lowest_percent: float
    highest_percent: float


class ClassifierFigures(_Stored):
    """Figures of one classifier's weights, at one cut."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    slice_probability: float
    slices: tuple[SliceFigures, ...]


class SegmenterFigures(_Stored):
    """Figures of one segmenter's weights, at one cut."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    lesion_probability: float
    lesions: tuple[LesionFigures, ...]
    burden: tuple[BurdenFigures, ...]


class ShippedWeights(_Stored):
    """The two networks in the box."""

    classifier: ClassifierFigures
    segmenter: SegmenterFigures


class ShippedFigures(_Stored):
    """``weights/figures.json`` as data."""

    schema_version: Literal["1.1"]
    weights: ShippedWeights
    not_told_apart: tuple[LookAlike, ...]
    never_seen: tuple[NeverSeen, ...]


@dataclass(frozen=True)
class ModelLimits:
    """What a reader must know of the networks beside a verdict.

    Args:
        slices: Of the classifier that read the study; empty where its weights or its cut were not measured.
        lesions, burden: Of the segmenter, likewise.
        not_told_apart: What looks alike to the networks.
        never_seen: What they were not shown; empty for weights that are not the shipped ones.
    """

    slices: tuple[SliceFigures, ...]
    lesions: tuple[LesionFigures, ...]
    burden: tuple[BurdenFigures, ...]
    not_told_apart: tuple[LookAlike, ...]
    never_seen: tuple[NeverSeen, ...]


@cache
def shipped_figures() -> ShippedFigures:
    """The figures beside the weights in the box.

    Raises:
        pydantic.ValidationError: the file does not have this form.
    """
    text = files("jcs_ct").joinpath("weights", "figures.json").read_text(encoding="utf-8")
    return ShippedFigures.model_validate_json(text)


def model_limits(diagnosis: Diagnosis) -> ModelLimits:
    """The limits of the networks that made a diagnosis."""
    known, point = shipped_figures(), diagnosis.operating_point
    classifier, segmenter = known.weights.classifier, known.weights.segmenter
    is_classifier = diagnosis.models.get("classifier", {}).get("sha256") == classifier.sha256
    is_segmenter = diagnosis.models.get("segmenter", {}).get("sha256") == segmenter.sha256
    slices_are_known = is_classifier and point.slice_probability == classifier.slice_probability
    lesions_are_known = is_segmenter and point.lesion_probability == segmenter.lesion_probability
    return ModelLimits(
        slices=classifier.slices if slices_are_known else (),
        lesions=segmenter.lesions if lesions_are_known else (),
        burden=segmenter.burden if lesions_are_known else (),
        not_told_apart=known.not_told_apart,
        never_seen=known.never_seen if is_classifier else (),
    )
