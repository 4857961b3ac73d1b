"""What to make, and what was made: the settings of a phantom and the phantom itself."""

from __future__ import annotations

from dataclasses import dataclass

from jcs_ct.errors import ConfigError
from jcs_ct.phantom.acquisition import Acquisition
from jcs_ct.phantom.distractors import Distractor
from jcs_ct.phantom.opacifications import LesionShape
from jcs_ct.volume import CTVolume, LabelVolume

#: What the labels of :attr:`Phantom.lungs` stand for.
LUNG_NAMES = {1: "right lung", 2: "left lung"}
_MOST_LESIONS = 200


@dataclass(frozen=True)
class PhantomConfig:
    """Settings of one phantom study; equal settings give equal bytes.

    Args:
        slices: Number of axial slices. With ``slice_spacing_mm`` None they cover the whole chest.
        lesions: Number of lesions of a positive phantom.
        seed: Everything random follows from it: patient, scanner, lesions, noise.
        negative: No lesion, whatever ``lesions`` says; distractors may still be there.
        size: Rows and columns.
        slice_spacing_mm: Distance of slices; None spreads ``slices`` over the lungs' height. Given, the slices are
            centred on the lungs and may show only a part of the chest (or stop beyond it).
        pixel_mm: Pixel spacing; None fits the field of view to the patient.

    Raises:
        ConfigError: values that make no phantom; names all of them.
    """

    slices: int = 60
    lesions: int = 8
    seed: int = 0
    negative: bool = False
    size: int = 512
    slice_spacing_mm: float | None = None
    pixel_mm: float | None = None

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.slices <= 2000:
            problems.append(f"slices must be 1 to 2000, got {self.slices}")
        if not self.negative and not 1 <= self.lesions <= _MOST_LESIONS:
            problems.append(
                f"lesions must be 1 to {_MOST_LESIONS}, got {self.lesions}; for a study without lesions ask for a "
                "negative phantom"
            )
        if self.seed < 0:
            problems.append(f"seed must not be negative, got {self.seed}")
        if not 32 <= self.size <= 2048:
            problems.append(f"size must be 32 to 2048 pixels, got {self.size}")
        if self.slice_spacing_mm is not None and not 0.3 <= self.slice_spacing_mm <= 50:
            problems.append(f"slice_spacing_mm must be 0.3 to 50 mm, got {self.slice_spacing_mm}")
        if self.pixel_mm is not None and not 0.1 <= self.pixel_mm <= 20:
            problems.append(f"pixel_mm must be 0.1 to 20 mm, got {self.pixel_mm}")
        if problems:
            raise ConfigError("; ".join(problems))


@dataclass(frozen=True, eq=False)
class Phantom:
    """A procedural chest CT with its exact truth.

    Args:
        config: What was asked for.
        volume: (slices, rows, columns) int16 HU, slice 0 most superior.
        lesions: The lesion's id where its share of the lung is at least one half (uint8), 0 elsewhere.
        lungs: uint8, 1 the patient's right lung, 2 the left; disease inside the lung included, effusion left out.
        shapes: The lesions that were drawn, by id from 1. One that the slices miss has no voxel.
        distractors: What was added that is not a lesion.
        acquisition: The scanner that was imitated.
    """

    config: PhantomConfig
    volume: CTVolume
    lesions: LabelVolume
    lungs: LabelVolume
    shapes: tuple[LesionShape, ...]
    distractors: tuple[Distractor, ...]
    acquisition: Acquisition
