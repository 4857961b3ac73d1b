"""Where a slice and a patient become positive: the paper's rule (III-C), and what is left of it in small studies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

#: Slack for shares of whole slices in floating point.
SHARE_SLACK = 1e-9
#: Share by which two lengths of lung may differ and still be equal: spacings are worked out from positions.
_SPACING_SLACK = 1e-3
#: A verdict is near where one in so many of the slices that make a patient positive would turn it.
_NEAR = 4


class Verdict(StrEnum):
    """What the patient rule says; withheld where a study is too small to say anything of the patient."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    WITHHELD = "withheld"


class VerdictBasis(StrEnum):
    """What a verdict rests on: the paper's count of infected slices, their share in a small study, or nothing."""

    SLICE_COUNT = "slice_count"
    SLICE_SHARE = "slice_share"
    TOO_FEW_SLICES = "too_few_slices"


@dataclass(frozen=True)
class PatientRule:
    """The rule that one study is judged by.

    Args:
        basis: What it counts.
        positive_slice_threshold: The patient is positive when **more** slices than this are infected; None withholds
            the verdict.
    """

    basis: VerdictBasis
    positive_slice_threshold: int | None

    def verdict(self, positive_slice_count: int) -> Verdict:
        """The verdict on a study with so many infected slices."""
        if self.positive_slice_threshold is None:
            return Verdict.WITHHELD
        return Verdict.POSITIVE if positive_slice_count > self.positive_slice_threshold else Verdict.NEGATIVE

    def margin(self, positive_slice_count: int) -> int | None:
        """Slices that would have to be judged otherwise for the other verdict; None where it is withheld."""
        if self.positive_slice_threshold is None:
            return None
        above = positive_slice_count - self.positive_slice_threshold
        return above if above > 0 else 1 - above

    def is_near(self, positive_slice_count: int) -> bool:
        """Whether the verdict hangs on a single slice, or on no more than a quarter of what makes a patient positive.

        Never where no slice is infected.
        """
        margin = self.margin(positive_slice_count)
        if margin is None or self.positive_slice_threshold is None or positive_slice_count == 0:
            return False
        return margin <= max(1, (self.positive_slice_threshold + 1) // _NEAR)


@dataclass(frozen=True)
class OperatingPoint:
    """Where a slice and a patient become positive; chosen on validation patients, stored in the checkpoint.

    Args:
        slice_probability: A slice is infected when its probability is at least this.
        positive_slice_threshold: The patient is positive when **more** slices than this are infected.
        reference_spacing_mm: Slice spacing the threshold was chosen for. When given and the study's spacing is
            known, the threshold is scaled so that it means the same length of lung; None takes it literally.
        lesion_probability: A pixel is lesion when its probability is at least this.
        small_study_share: In a study too small for the count, the share of its lung slices that takes the threshold's
            place. A study is too small when the threshold is a larger share of its lung slices than this: with one in
            six and 25 slices 1 mm apart, below 150 mm of lung, which no whole adult chest is. It is the share that
            the threshold asks of the smallest whole study, so the rule is continuous there. None always counts.

    Raises:
        ValueError: a probability that is not from 0 to 1, a share that is not above 0 and below 1, a negative
            threshold, or a spacing that is not above 0.
    """

    slice_probability: float = 0.5
    positive_slice_threshold: int = 25
    reference_spacing_mm: float | None = None
    lesion_probability: float = 0.5
    small_study_share: float | None = 1 / 6

    def __post_init__(self) -> None:
        for name in ("slice_probability", "lesion_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.positive_slice_threshold < 0:
            raise ValueError(f"positive_slice_threshold must be 0 or more, got {self.positive_slice_threshold}")
        spacing = self.reference_spacing_mm
        if spacing is not None and not 0.0 < spacing < math.inf:
            raise ValueError(f"reference_spacing_mm must be above 0, got {spacing}")
        if self.small_study_share is not None and not 0.0 < self.small_study_share < 1.0:
            raise ValueError(f"small_study_share must be above 0 and below 1, got {self.small_study_share}")

    def with_threshold(
        self, positive_slice_threshold: int, reference_spacing_mm: float | None = None
    ) -> OperatingPoint:
        """The same cuts under a threshold that a person asked for.

        Args:
            positive_slice_threshold: Positive when more slices than this are infected.
            reference_spacing_mm: Slice spacing it is meant for. None takes the count as it is in every study: it is
                neither scaled to the study's spacing nor replaced by a share in a small study.
        """
        return replace(
            self,
            positive_slice_threshold=positive_slice_threshold,
            reference_spacing_mm=reference_spacing_mm,
            small_study_share=None if reference_spacing_mm is None else self.small_study_share,
        )

    def threshold_for(self, slice_spacing_mm: float | None) -> int:
        """The slice-count threshold for a whole study of this slice spacing (at least 1 when scaled).

        It is rounded down, so that more slices than it are exactly those that take more lung than the threshold's
        length at the reference spacing.
        """
        if self.reference_spacing_mm is None or slice_spacing_mm is None:
            return self.positive_slice_threshold
        scaled = self.positive_slice_threshold * self.reference_spacing_mm / slice_spacing_mm
        return max(1, math.floor(scaled * (1 + _SPACING_SLACK)))

    def rule_for(self, lung_slice_count: int, slice_spacing_mm: float | None) -> PatientRule:
        """The patient rule for a study: the count, in a small study the share, in the smallest none.

        The verdict is withheld where the share is less than one slice: a single slice, right or wrong, would decide.
        """
        count = self.threshold_for(slice_spacing_mm)
        if self.small_study_share is None:
            return PatientRule(VerdictBasis.SLICE_COUNT, count)
        share = self.small_study_share * lung_slice_count + SHARE_SLACK
        if share >= count:
            return PatientRule(VerdictBasis.SLICE_COUNT, count)
        if share < 1.0:
            return PatientRule(VerdictBasis.TOO_FEW_SLICES, None)
        return PatientRule(VerdictBasis.SLICE_SHARE, math.floor(share))

    def least_lung_slices(self, positive_slice_threshold: int = 1) -> int:
        """Fewest lung slices of which this threshold is no larger share than ``small_study_share``."""
        if self.small_study_share is None:
            return 0
        return math.ceil(positive_slice_threshold / self.small_study_share - SHARE_SLACK)
