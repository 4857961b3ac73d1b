"""Where a slice and a patient become positive."""

from __future__ import annotations

from dataclasses import dataclass


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
