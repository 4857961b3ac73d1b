"""The limits of the networks as sentences, for outputs that are no page: the structured report and the PDF."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jcs_ct.operating_point import Verdict
from jcs_ct.reporting.model_limits import SliceFigures, model_limits
from jcs_ct.reporting.page_words import HELD_OUT, LOOK_ALIKES, NEVER_SEEN

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis


def limit_sentences(diagnosis: Diagnosis) -> Iterator[str]:
    """What the verdict means, how accurate slices are called, and in what the networks were not evaluated."""
    limits = model_limits(diagnosis)
    rule = "The verdict is the output of a fixed rule, not a diagnosis. "
    if diagnosis.verdict is Verdict.NEGATIVE:
        yield f"{rule}COVID-19 can be present without visible opacifications, and the networks miss some."
    else:
        causes = ", ".join(LOOK_ALIKES[kind] for kind in limits.not_told_apart)
        yield (
            f"{rule}Positive means opacifications as of COVID-19 or another pneumonia. "
            f"These can look the same as COVID-19: {causes}."
        )
    if limits.slices:
        cut, figures = diagnosis.operating_point.slice_probability, "; ".join(map(_slice_figures, limits.slices))
        yield f"Slice-level accuracy at the {cut:.2f} cut-off: {figures}."
    else:
        yield "The accuracy of these networks at this cut-off was not measured, or is not known to this software."
    if diagnosis.burden is not None and diagnosis.burden.percent_opacity is not None:
        for row in limits.burden:
            yield (
                f"Expected error of PO (found minus reference): {row.mean_percent:.1f} percentage points on average, "
                f"95 % limits of agreement {row.lowest_percent:.1f} to {row.highest_percent:.1f} ({row.volumes} "
                f"volumes of {row.source}, networks trained in the same way without these volumes)."
            )
    if limits.never_seen:
        yield f"Not evaluated in: {', '.join(NEVER_SEEN[kind] for kind in limits.never_seen)}."


def _slice_figures(row: SliceFigures) -> str:
    shares = [
        f"{name} {100 * share:.0f} % of {number} slices"
        for name, share, number in (
            ("sensitivity", row.sensitivity, row.infected),
            ("specificity", row.specificity, row.not_infected),
        )
        if share is not None
    ]
    patients = f"{row.patients} patient" if row.patients == 1 else f"{row.patients} patients"
    return f"{row.source} ({HELD_OUT[row.held_out]}, {patients}) {', '.join(shares)}"
