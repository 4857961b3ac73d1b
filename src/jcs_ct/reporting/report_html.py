"""report.html: one self-contained page to check a verdict by, without a network, a server or another file.

Script and style stand inline; a content security policy lets this script run and nothing be loaded, so the page
cannot reach out even if something in it tried. Every text is escaped on its way in.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from jcs_ct.beside import Beside
from jcs_ct.errors import ConfigError
from jcs_ct.progress import CountProgress
from jcs_ct.reporting.charts import histogram_plot, slice_plot
from jcs_ct.reporting.language import Words, marked
from jcs_ct.reporting.lung_views import legend_colours
from jcs_ct.reporting.page_contents import key_slices, lesion_rows, page_data, small_lesions, zone_table
from jcs_ct.reporting.page_pictures import PagePictures
from jcs_ct.reporting.page_templates import limit_names, page_templates
from jcs_ct.reporting.page_words import RESEARCH_USE, VERDICTS, named
from jcs_ct.reporting.report_json import report_dict
from jcs_ct.reporting.slice_images import MAP_COLOURS
from jcs_ct.reporting.window_presets import window_presets

if TYPE_CHECKING:
    from jcs_ct.choices import ReportLanguage
    from jcs_ct.imaging.study import Study
    from jcs_ct.reading.diagnosis import Diagnosis

MOST_LABEL_CHARACTERS = 100


def render_report(
    study: Study,
    diagnosis: Diagnosis,
    *,
    language: ReportLanguage = "en",
    label: str | None = None,
    moment: datetime | None = None,
    pictures: PagePictures | None = None,
    progress: CountProgress | None = None,
) -> str:
    """The page as text.

    Args:
        study: What was read.
        diagnosis: What was found.
        language: What the page is written in; messages of quality flags stay English.
        label: The reader's own name of the study; it stands on this page and nowhere else.
        moment: When the study was read, in UTC; now, where it is not given.
        pictures: Of this study, where someone began to draw them while it was read.
        progress: Called with the slices drawn and those there are to draw.

    Raises:
        ConfigError: a language without a catalogue, or a label that is empty, too long or has control characters.
    """
    words, report = Words.of(language), report_dict(study, diagnosis)
    page_pictures = pictures or PagePictures(study.volume)
    display, shown = page_pictures.display, page_pictures.shown
    with Beside("pictures", os.cpu_count() or 1) as beside:
        page_pictures.begin_rest(diagnosis, beside)
        drawn, views = page_pictures.drawn(progress), page_pictures.views()
    first_looks = key_slices(report, shown, words)
    windows = window_presets(study, words)
    script, style = _source("page.js"), _source("page.css")
    return (
        page_templates(words)
        .get_template("report.html")
        .render(
            language=words.language,
            read_at=(moment or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M"),
            label=None if label is None else checked_label(label),
            notice=words.text(RESEARCH_USE),
            report=report,
            verdict=report["verdict"],
            verdict_name=named(words, VERDICTS, report["verdict"]["result"]),
            **limit_names(report["limits"], words),
            reasons={entry["field"]: words.text(entry["reason"]) for entry in report["withheld"]},
            withheld=[(words.text(reason), fields) for reason, fields in _by_reason(report["withheld"]).items()],
            page_margins=Markup(_page_margins(words, report)),
            directions_are_known=display.directions_are_known and not diagnosis.axes_are_contradicted,
            display=display,
            windows=windows,
            views=views,
            plot=slice_plot(report["slices"], report["operating_point"]["slice_probability"], words),
            histogram=None if report["burden"] is None else histogram_plot(report["burden"], words),
            zones=zone_table(report),
            lesions=lesion_rows(report),
            small_lesions=small_lesions(report),
            key_slices=[(index, why, drawn[shown.index(index)]) for index, why in first_looks],
            data=page_data(report, shown, drawn, first_looks, display, windows, words),
            shown_count=len(shown),
            map_colours=legend_colours(MAP_COLOURS),
            burden_colours=legend_colours(),
            timings_s=dict(diagnosis.timings_s),
            execution=dict(diagnosis.execution),
            script=Markup(script),
            style=Markup(style),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        )
    )


def checked_label(label: str) -> str:
    """A reader's own name of a study, fit for a heading.

    Raises:
        ConfigError: it is empty, longer than ``MOST_LABEL_CHARACTERS`` or has control characters. The label is not
            in the message: errors are logged, labels never are.
    """
    stripped = label.strip()
    if not stripped or len(stripped) > MOST_LABEL_CHARACTERS or not stripped.isprintable():
        raise ConfigError(
            f"the label must have 1 to {MOST_LABEL_CHARACTERS} printable characters, got {len(stripped)} characters"
        )
    return stripped


def _by_reason(withheld: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """The withheld fields of each reason, in the report's order."""
    fields: dict[str, list[str]] = {}
    for entry in withheld:
        fields.setdefault(entry["reason"], []).append(entry["field"])
    return fields


def _page_margins(words: Words, report: Mapping[str, Any]) -> str:
    """What stands on every printed page: the notice, the study's hash, the software and the page's number (CSS)."""
    software = f"{report['software']['name']} {report['software']['version']}"
    before, between, after = re.split(r"\{page\}|\{count\}", words.text(marked("page {page} of {count}")))
    number = f"{_css_string(before)} counter(page) {_css_string(between)} counter(pages) {_css_string(after)}"
    return (
        f"@page {{ margin: 16mm 12mm; @top-center {{ content: {_css_string(words.text(RESEARCH_USE))}; }} "
        f"@bottom-left {{ content: {_css_string(report['study']['identifier'])}; }} "
        f"@bottom-center {{ content: {_css_string(software)}; }} "
        f"@bottom-right {{ content: {number}; }} }}"
    )


def _css_string(text: str) -> str:
    """Any text as a CSS string within ``<style>``, escaped but for letters and digits (CSS Syntax 4.3.7)."""
    return '"' + "".join(c if c.isalnum() or c in " .,-" else f"\\{ord(c):06x} " for c in text) + '"'


def _source(name: str) -> str:
    return files("jcs_ct.reporting").joinpath("page", name).read_text(encoding="utf-8")
