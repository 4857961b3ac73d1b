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
    """What the verdict cannot tell, how often slices are called rightly, and what the networks never looked at."""
    limits = model_limits(diagnosis)
    rule = "The verdict is a fixed rule and no diagnosis: "
    if diagnosis.verdict is Verdict.NEGATIVE:
        yield f"{rule}COVID-19 can be present without an opacification, and the networks miss some."
    else:
        causes = ", ".join(LOOK_ALIKES[kind] for kind in limits.not_told_apart)
        yield (
            f"{rule}read it as opacifications as of COVID-19 or another pneumonia. "
            f"Not told apart from COVID-19: {causes}."
        )
    if limits.slices:
        cut, figures = diagnosis.operating_point.slice_probability, "; ".join(map(_slice_figures, limits.slices))
        yield f"Slices called rightly at probability {cut:.2f}: {figures}."
    else:
        yield "How often these networks are right at this cut was not measured, or is not known to this software."
    if diagnosis.burden is not None and diagnosis.burden.percent_opacity is not None:
        for row in limits.burden:
            yield (
                f"Burden found minus true: {row.mean_percent:.1f} % of the lungs on average, 95 % limits of "
                f"agreement {row.lowest_percent:.1f} to {row.highest_percent:.1f} % ({row.volumes} volumes of "
                f"{row.source}, networks trained alike without them)."
            )
    if limits.never_seen:
        yield f"Never looked at: {', '.join(NEVER_SEEN[kind] for kind in limits.never_seen)}."


def _slice_figures(row: SliceFigures) -> str:
    shares = [
        f"{100 * share:.0f} % of {number} {kind}"
        for share, number, kind in (
            (row.sensitivity, row.infected, "infected"),
            (row.specificity, row.not_infected, "not infected"),
        )
        if share is not None
    ]
    return f"{row.source} ({HELD_OUT[row.held_out]}) {', '.join(shares)}"
