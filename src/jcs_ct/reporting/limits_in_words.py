"""The limits of the networks as sentences, for outputs that are no page: the structured report and the PDF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from jcs_ct.operating_point import Verdict
from jcs_ct.reporting.language import Words, marked
from jcs_ct.reporting.model_limits import SliceFigures, model_limits
from jcs_ct.reporting.page_words import HELD_OUT, LOOK_ALIKES, NEVER_SEEN, named

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis


def limit_sentences(diagnosis: Diagnosis, words: Words) -> Iterator[str]:
    """What the verdict cannot tell, how often slices are called rightly, and what the networks never looked at."""
    limits = model_limits(diagnosis)
    if diagnosis.verdict is Verdict.NEGATIVE:
        yield words.text(
            marked(
                "The verdict is a fixed rule and no diagnosis: COVID-19 can be present without an opacification, and "
                "the networks miss some."
            )
        )
    else:
        causes = _listed(words, LOOK_ALIKES, limits.not_told_apart)
        yield words.text(
            marked(
                "The verdict is a fixed rule and no diagnosis: read it as opacifications as of COVID-19 or another "
                "pneumonia. Not told apart from COVID-19: %(causes)s."
            ),
            causes=causes,
        )
    if limits.slices:
        yield words.text(
            marked("Slices called rightly at probability %(cut)s: %(figures)s."),
            cut=words.figure(diagnosis.operating_point.slice_probability, 2),
            figures="; ".join(_slice_figures(words, row) for row in limits.slices),
        )
    else:
        yield words.text(
            marked(
                "How often these networks are right at this cut was not measured, or is not known to this software."
            )
        )
    if limits.never_seen:
        kinds = _listed(words, NEVER_SEEN, limits.never_seen)
        yield words.text(marked("Never looked at: %(kinds)s."), kinds=kinds)


def _slice_figures(words: Words, row: SliceFigures) -> str:
    shares = [
        words.text(text, share=words.percent(100 * share, 0), number=number)
        for text, share, number in (
            (marked("%(share)s of %(number)s infected"), row.sensitivity, row.infected),
            (marked("%(share)s of %(number)s not infected"), row.specificity, row.not_infected),
        )
        if share is not None
    ]
    return f"{row.source} ({named(words, HELD_OUT, row.held_out)}) {', '.join(shares)}"


def _listed(words: Words, names: Mapping[str, str], keys: Iterable[str]) -> str:
    return ", ".join(named(words, names, key) for key in keys)
