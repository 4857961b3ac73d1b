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
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup

from jcs_ct.beside import Beside
from jcs_ct.errors import ConfigError
from jcs_ct.progress import CountProgress
from jcs_ct.reporting.charts import histogram_plot, slice_plot
from jcs_ct.reporting.language import Words, marked, template_functions
from jcs_ct.reporting.lung_views import SIGHTS, legend_colours
from jcs_ct.reporting.model_limits import model_limits
from jcs_ct.reporting.page_contents import key_slices, lesion_rows, page_data, small_lesions, zone_table
from jcs_ct.reporting.page_pictures import PagePictures
from jcs_ct.reporting.page_words import (
    ACQUISITION,
    FLAGS,
    HELD_OUT,
    LOOK_ALIKES,
    NEVER_SEEN,
    RESEARCH_USE,
    ROLES,
    SIDES,
    SOURCE_KINDS,
    STAGES,
    THIRDS,
    VERDICTS,
    WITHHELD_FIELDS,
    named,
)
from jcs_ct.reporting.report_json import report_dict
from jcs_ct.reporting.slice_images import (
    MAP_COLOURS,
)
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
    pictures: PagePictures | None = None,
    progress: CountProgress | None = None,
) -> str:
    """The page as text.

    Args:
        study: What was read.
        diagnosis: What was found.
        language: What the page is written in; messages of quality flags stay English.
        label: The reader's own name of the study; it stands on this page and nowhere else.
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
    limits = model_limits(diagnosis)
    script, style = _source("page.js"), _source("page.css")
    return (
        _environment(words)
        .get_template("report.html")
        .render(
            language=words.language,
            label=None if label is None else checked_label(label),
            notice=words.text(RESEARCH_USE),
            report=report,
            verdict=report["verdict"],
            verdict_name=named(words, VERDICTS, report["verdict"]["result"]),
            limits=limits,
            look_alikes=_listed(words, LOOK_ALIKES, limits.not_told_apart),
            never_seen=_listed(words, NEVER_SEEN, limits.never_seen),
            reasons={entry["field"]: words.text(entry["reason"]) for entry in report["withheld"]},
            withheld=[(words.text(reason), fields) for reason, fields in _by_reason(report["withheld"]).items()],
            page_margins=Markup(_page_margins(words, report)),
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


class _CompiledPages(BytecodeCache):
    """Compiled templates, kept for as long as the program lives: compiling takes longer than a small study's page."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _CompiledPages()


def _environment(words: Words) -> Environment:
    environment = Environment(
        bytecode_cache=_COMPILED,
        loader=PackageLoader("jcs_ct.reporting", "page"),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(**template_functions(words))  # type: ignore[attr-defined]
    environment.filters["figure"] = words.figure
    environment.filters["amount"] = words.amount
    environment.filters["percent"] = words.percent
    environment.filters["plain"] = words.plain
    environment.filters["sentence"] = lambda text: f"{text[:1].upper()}{text[1:]}."
    for name, names in (
        ("acquisition_name", ACQUISITION),
        ("field_name", WITHHELD_FIELDS),
        ("flag_name", FLAGS),
        ("held_out_name", HELD_OUT),
        ("role_name", ROLES),
        ("side_name", SIDES),
        ("sight_name", SIGHTS),
        ("source_name", SOURCE_KINDS),
        ("stage_name", STAGES),
        ("third_name", THIRDS),
    ):
        environment.filters[name] = partial(named, words, names)
    return environment


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


def _listed(words: Words, names: Mapping[str, str], keys: Sequence[str]) -> str:
    return ", ".join(named(words, names, key) for key in keys)


def _source(name: str) -> str:
    return files("jcs_ct.reporting").joinpath("page", name).read_text(encoding="utf-8")
