"""The patient rule and the order of work: classify every slice, count, and only then segment (paper, III-C)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.findings import Burden, Lesion
from jcs_ct.imaging.study import QualityFlag


@dataclass(frozen=True)
class SlicePrediction:
    """What the classifier says of one slice; ``slice_index`` counts from the most superior slice."""

    slice_index: int
    infection_probability: float
    infected: bool
    has_lung: bool


@dataclass(frozen=True)
class OperatingPoint:
    """Where a slice and a patient become positive; chosen on validation patients, stored in the checkpoint.

    Args:
        slice_probability: A slice is infected when its probability is at least this.
        positive_slice_threshold: The patient is positive when **more** slices than this are infected.
        reference_spacing_mm: Slice spacing the threshold was chosen for. When given and the study's spacing is
            known, the threshold is scaled so that it means the same length of lung; None takes it literally.
        lesion_probability: A pixel is lesion when its probability is at least this.
    """

    slice_probability: float = 0.5
    positive_slice_threshold: int = 25
    reference_spacing_mm: float | None = None
    lesion_probability: float = 0.5

    def threshold_for(self, slice_spacing_mm: float | None) -> int:
        """The slice-count threshold for a study of this slice spacing (at least 1 when scaled)."""
        if self.reference_spacing_mm is None or slice_spacing_mm is None:
            return self.positive_slice_threshold
        return max(1, round(self.positive_slice_threshold * self.reference_spacing_mm / slice_spacing_mm))


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The result of reading one study.

    Args:
        positive: Verdict of the patient rule.
        positive_slice_count, positive_slice_threshold: The rule's two numbers.
        lung_slice_count: Slices that show lung.
        positive_fraction: ``positive_slice_count / lung_slice_count`` (0 without lung).
        slices: One prediction a slice.
        segmented: Whether the segmentation branch ran.
        activation: (slices, rows, columns) float16 in [0, 1]: each slice's normalised activation map times its
            infection probability, on the study's grid; zeros on slices that are not infected.
        lung_labels: (slices, rows, columns) uint8: 0 outside, 1 right lung, 2 left lung (the patient's).
        lesion_labels: (slices, rows, columns) uint16: lesion_id, 0 background; all 0 when not segmented.
        lesions, burden: Findings; ``burden`` is None when not segmented.
        operating_point: What decided.
        flags: The gate's flags and those of the reading.
        timings_s: Seconds a stage.
        models: Facts about the networks: name, preset, sha256, of classifier and segmenter.
    """

    positive: bool
    positive_slice_count: int
    positive_slice_threshold: int
    lung_slice_count: int
    positive_fraction: float
    slices: tuple[SlicePrediction, ...]
    segmented: bool
    activation: NDArray[np.float16]
    lung_labels: NDArray[np.uint8]
    lesion_labels: NDArray[np.uint16]
    lesions: tuple[Lesion, ...]
    burden: Burden | None
    operating_point: OperatingPoint
    flags: tuple[QualityFlag, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
