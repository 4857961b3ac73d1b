"""What a reader must know before a verdict, a volume or a side is believed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from jcs_ct.imaging.study import QualityFlag, Study
from jcs_ct.lungs import LEFT, MOST_AT_END, RIGHT, UNKNOWN_SIDE, LungsInView
from jcs_ct.operating_point import OperatingPoint, PatientRule, Verdict, VerdictBasis
from jcs_ct.reading.second_look import SecondLook
from jcs_ct.reading.zones import SIDES

_CONTRADICTIONS = {
    "spine": "the spine lies where the breastbone should",
    "windpipe": "the windpipe runs beside the lower half of the lungs",
}
_UNCHECKED = {
    "geometry": "the geometry is not known or not trusted",
    "clipped": "what is denser than soft tissue was clipped away, as where only a lung window was kept",
    "spine": "no spine is seen behind the lungs",
}


def lung_flags(in_view: LungsInView) -> Iterator[QualityFlag]:
    """What a reader must know of the lungs before any volume, percentage or side is believed."""
    yield from _size_flags(in_view)
    yield from _side_flags(in_view)
    yield from _amount_flags(in_view)
    yield from _coverage_flags(in_view)


def _size_flags(in_view: LungsInView) -> Iterator[QualityFlag]:
    """Whether the stated millimetres can be a person's."""
    if in_view.larger_than_any and in_view.extent_mm and in_view.volume_ml:
        high, deep, wide = in_view.extent_mm
        yield QualityFlag(
            "SIZE_DOUBTED",
            f"the lungs found hold {in_view.volume_ml / 1000:.1f} l, {high:.0f} mm high, {deep:.0f} mm deep and "
            f"{wide:.0f} mm wide, more than a person's: pixel size or slice spacing are probably stated wrongly, and "
            "with them every volume and length; correct them at their source",
        )
    if in_view.smaller_than_adults and in_view.extent_mm:
        high, deep, wide = in_view.extent_mm
        yield QualityFlag(
            "SIZE_DOUBTED",
            f"the lungs found are {high:.0f} mm high, {deep:.0f} mm deep and {wide:.0f} mm wide, less than an "
            "adult's: they are a child's, or pixel size or slice spacing are stated wrongly (as when slices were "
            "left out or pictures shrunk), and with them every volume and length; correct them at their source",
        )


def _side_flags(in_view: LungsInView) -> Iterator[QualityFlag]:
    """Whether right and left, front and back are the patient's."""
    unknown = in_view.share[UNKNOWN_SIDE]
    if in_view.contradiction is not None:
        yield QualityFlag(
            "AXES_CONTRADICTED",
            f"{_CONTRADICTIONS[in_view.contradiction]}: the stated axes are not the patient's, so every side is "
            "withheld, upper and lower or front and back may be exchanged, and the networks may have seen the slices "
            "turned; correct the orientation at its source (NIfTI's x grows to the right, y to the front, z to the "
            "head)",
        )
    if in_view.axes_unchecked is not None:
        yield QualityFlag(
            "AXES_NOT_CHECKED",
            f"{_UNCHECKED[in_view.axes_unchecked]}: whether the stated axes are the patient's was not checked, and "
            "right and left, front and back may be exchanged without a sign; check the sides",
        )
    if unknown > 0:
        yield QualityFlag(
            "SIDE_UNKNOWN",
            f"{unknown:.0%} of the lung found has no known side: spine, flanks and the other lung do not tell it; "
            "its lesions have side unknown, and the burden of each lung is withheld",
        )
    if in_view.heart_is_right:
        yield QualityFlag(
            "HEART_RIGHT",
            "the heart lies to the right of the spine and the left lung is the larger one: the picture may be "
            "mirrored, and then right and left are exchanged; or the heart lies there (dextrocardia, a right lung "
            "that lost volume): check the sides",
        )


def _amount_flags(in_view: LungsInView) -> Iterator[QualityFlag]:
    """Whether what was found is all of both lungs, and lung alone."""
    if in_view.only is not None:
        found, other = SIDES[in_view.only], SIDES[RIGHT + LEFT - in_view.only]
        yield QualityFlag(
            "ONE_LUNG",
            f"only the {found} lung was found: the {other} one is outside the field of view, missing, or without "
            f"air; every lung volume and percentage is of the {found} lung alone",
        )
    if in_view.lesser is not None:
        yield QualityFlag(
            "LUNGS_UNEQUAL",
            f"the {SIDES[in_view.lesser]} lung found holds {in_view.share[in_view.lesser]:.0%} of both, less than "
            "usual (right 53 to 55%): it may have lost volume, or a part without air (consolidation, collapse, "
            "effusion) was not found; every lung volume and percentage is of lung with air alone: look at that side",
        )
    if in_view.holds_little_air and in_view.ribcage is not None:
        ribs = in_view.ribcage
        yield QualityFlag(
            "LITTLE_AIR",
            f"at their middle height {ribs.lung:.0%} of what the ribs enclose is lung with air (usually 41 to 66%), "
            f"and {ribs.behind:.0%} of its depth lies behind it (usually 3 to 22%): much lung without air "
            "(consolidation, collapse) or an effusion was probably not found; every lung volume and percentage is of "
            "lung with air alone, percentages may be far too small, and the verdict may rest on too few slices",
        )
    if in_view.holds_gas_alone:
        yield QualityFlag(
            "GAS_IN_LUNG",
            f"{in_view.gas_ml:.0f} ml that hang together in what was taken for lung are gas alone: air in the "
            "pleural space (pneumothorax), a bulla or severe emphysema; where it is no lung, lung volumes are too "
            "large and percentages too small: look at it",
        )


def _coverage_flags(in_view: LungsInView) -> Iterator[QualityFlag]:
    """What the field of view and the scan leave out."""
    cut = {side: slices for side, slices in in_view.cut_slices.items() if slices}
    if cut:
        named = " and ".join(
            f"the {SIDES[side]} lung on {slices} slice(s)"
            if side != UNKNOWN_SIDE
            else f"lung of unknown side on {slices} slice(s)"
            for side, slices in cut.items()
        )
        yield QualityFlag(
            "LUNG_CUT",
            f"the field of view cuts {named}: volumes and percentages are of the part in view",
        )
    ends = zip(("first", "last"), in_view.at_ends, strict=True)
    beyond = {name: f"{share:.0%}" for name, share in ends if share > MOST_AT_END}
    if beyond:
        shares = " and ".join(beyond.values())
        yield QualityFlag(
            "LUNG_BEYOND",
            f"lung still shows on the {' and the '.join(beyond)} slice, {shares} of what the fullest one shows: the "
            "scan begins or ends within the lungs; verdict, volumes and percentages are of the part that was scanned",
        )


def request_flags(
    study: Study, point: OperatingPoint, always: bool, rule: PatientRule, verdict: Verdict
) -> Iterator[QualityFlag]:
    """What the geometry withholds, and lesions that were segmented on request."""
    if not study.volume.is_measurable:
        yield QualityFlag(
            "NOT_MEASURED", "the geometry is not known or not trusted: every volume and mm figure is withheld"
        )
        if point.reference_spacing_mm is not None and rule.basis is VerdictBasis.SLICE_COUNT:
            yield QualityFlag(
                "THRESHOLD_NOT_SCALED",
                f"the slice spacing is not known: the threshold of {point.positive_slice_threshold} slices, chosen "
                f"for {point.reference_spacing_mm:g} mm, is not scaled to it",
            )
    if always and verdict is Verdict.NEGATIVE:
        yield QualityFlag("SEGMENTED_ON_REQUEST", "the patient rule is negative; lesions were segmented on request")


def rule_flags(
    point: OperatingPoint, rule: PatientRule, lung_slice_count: int, slice_spacing_mm: float | None
) -> Iterator[QualityFlag]:
    """Why a verdict does not rest on the paper's count of slices."""
    if rule.basis is VerdictBasis.SLICE_COUNT or point.small_study_share is None:
        return
    if rule.basis is VerdictBasis.TOO_FEW_SLICES:
        yield QualityFlag(
            "VERDICT_WITHHELD",
            f"{lung_slice_count} slice(s) with lung are too few for a verdict on the patient: with fewer than "
            f"{point.least_lung_slices()} a single slice would decide",
        )
        return
    count = point.threshold_for(slice_spacing_mm)
    yield QualityFlag(
        "SMALL_STUDY",
        f"{lung_slice_count} slices with lung are fewer than the {point.least_lung_slices(count)} that a threshold "
        f"of {count} infected slices is meant for: the verdict rests on their share, positive above "
        f"{point.small_study_share:.0%} of the slices with lung",
    )


def margin_flags(rule: PatientRule, positive_slice_count: int) -> Iterator[QualityFlag]:
    """A verdict that a few slices would turn."""
    if rule.is_near(positive_slice_count):
        margin = rule.margin(positive_slice_count)
        yield QualityFlag(
            "NEAR_THRESHOLD",
            f"{positive_slice_count} slice(s) are infected, and more than {rule.positive_slice_threshold} make the "
            f"patient positive: with {margin} slice(s) judged otherwise the verdict would be the other",
        )


def agreement_flags(
    rule: PatientRule, infected: NDArray[np.bool_], outlined: NDArray[np.bool_]
) -> Iterator[QualityFlag]:
    """A positive verdict that the slices with an outlined lesion do not bear out, by the patient rule itself.

    Args:
        rule: What the study is judged by.
        infected: (slices,) True where the classifier calls a slice infected.
        outlined: (slices,) True where the segmenter left a lesion.
    """
    called, both = (int(np.count_nonzero(part)) for part in (infected, infected & outlined))
    if rule.verdict(called) is Verdict.POSITIVE and rule.verdict(both) is Verdict.NEGATIVE:
        yield QualityFlag(
            "NETWORKS_DISAGREE",
            f"{called} slice(s) are infected, but a lesion is outlined on {both} of them only; these alone would not "
            "make the patient positive",
        )


def doubt_flags(look: SecondLook, positive_slice_count: int) -> Iterator[QualityFlag]:
    """A negative verdict that the segmenter does not bear out."""
    if look.doubts_negative:
        yield QualityFlag(
            "NETWORKS_DISAGREE",
            f"the verdict is negative, with {positive_slice_count} infected slice(s), but lesions are outlined on "
            f"{look.outlined_share:.1%} of the lung on the {look.slice_count} slice(s) that were looked at: infected "
            "slices may have been missed; check what is outlined",
        )
