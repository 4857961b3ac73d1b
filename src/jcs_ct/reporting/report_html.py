"""report.html: one self-contained page to check a verdict by, without a network, a server or another file.

Script and style stand inline; a content security policy lets this script run and nothing be loaded, so the page
cannot reach out even if something in it tried. Every text is escaped on its way in.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
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
from jcs_ct.reporting.lung_views import SIGHTS, legend_colours, lung_views
from jcs_ct.reporting.model_limits import model_limits
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
    script_words,
)
from jcs_ct.reporting.report_json import report_dict
from jcs_ct.reporting.slice_images import (
    MAP_COLOURS,
    Display,
)
from jcs_ct.reporting.window_presets import WindowPreset, window_presets

if TYPE_CHECKING:
    from jcs_ct.choices import ReportLanguage
    from jcs_ct.imaging.study import Study
    from jcs_ct.reading.diagnosis import Diagnosis

MOST_KEY_SLICES = 6
#: Lesions under this are left out of the table until a reader wants them.
SMALL_LESION_ML = 0.1
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
        views = lung_views(study, diagnosis) if report["burden"] is not None else ()
        drawn = page_pictures.drawn(progress)
    key_slices = _key_slices(report, shown, words)
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
            display=display,
            windows=windows,
            views=views,
            plot=slice_plot(report["slices"], report["operating_point"]["slice_probability"], words),
            histogram=None if report["burden"] is None else histogram_plot(report["burden"], words),
            zones=_zone_table(report),
            lesions=_lesion_rows(report),
            small_lesions=_small_lesions(report),
            key_slices=[(index, why, drawn[shown.index(index)]) for index, why in key_slices],
            data=_page_data(report, shown, drawn, key_slices, display, windows, words),
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


def _listed(words: Words, names: Mapping[str, str], keys: Sequence[str]) -> str:
    return ", ".join(named(words, names, key) for key in keys)


def _source(name: str) -> str:
    return files("jcs_ct.reporting").joinpath("page", name).read_text(encoding="utf-8")


def _key_slices(report: Mapping[str, Any], shown: list[int], words: Words) -> list[tuple[int, str]]:
    """(slice index, why) of the slices to look at first: the largest lesions, then the highest probabilities."""
    chosen: dict[int, str] = {}
    apart = max(2, len(report["slices"]) // 30)
    for lesion in report["lesions"] or ():
        largest = max(lesion["slices"], key=lambda part: part["area_pixel"])
        index = min(shown, key=lambda candidate: abs(candidate - largest["slice_index"]))
        if all(abs(index - other) >= apart for other in chosen):
            chosen[index] = words.text(
                marked("lesion %(lesion)s: %(side)s, %(third)s third"),
                lesion=lesion["lesion_id"],
                side=named(words, SIDES, lesion["side"]),
                third=named(words, THIRDS, lesion["third"]),
            )
        if len(chosen) == MOST_KEY_SLICES:
            break
    in_lung = [entry for entry in report["slices"] if entry["has_lung"]]
    for entry in sorted(in_lung, key=lambda entry: -float(entry["infection_probability"])):
        if len(chosen) >= (MOST_KEY_SLICES if report["verdict"]["result"] == "positive" else 3):
            break
        index = entry["slice_index"]
        if index in shown and all(abs(index - other) >= apart for other in chosen):
            probability = words.figure(entry["infection_probability"], 2)
            chosen[index] = words.text(marked("probability %(probability)s"), probability=probability)
    return sorted(chosen.items())


def _zone_table(report: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    zones = (report["burden"] or {}).get("zones") or ()
    return {(zone["side"], zone["third"]): zone for zone in zones}


def _lesion_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the lesion table: the report's fields, largest lesion first, and where a click leads."""
    rows = []
    for lesion in report["lesions"] or ():
        parts = lesion["slices"]
        largest = max(parts, key=lambda part: part["area_pixel"])
        columns = max(part["x0"] + part["width"] for part in parts) - min(part["x0"] for part in parts)
        height = max(part["y0"] + part["height"] for part in parts) - min(part["y0"] for part in parts)
        rows.append(
            {
                **lesion,
                "largest_slice": largest["slice_index"],
                "extent_pixel": (lesion["slice_last"] - lesion["slice_first"] + 1, height, columns),
                "is_small": _is_small(lesion),
            }
        )
    return sorted(rows, key=lambda row: -int(row["voxel_count"]))


def _is_small(lesion: Mapping[str, Any]) -> bool:
    return lesion["volume_ml"] is not None and lesion["volume_ml"] < SMALL_LESION_ML


def _small_lesions(report: Mapping[str, Any]) -> dict[str, float]:
    """How many lesions the filter leaves out, and how much they take together."""
    small = [lesion["volume_ml"] for lesion in report["lesions"] or () if _is_small(lesion)]
    return {"count": len(small), "volume_ml": sum(small), "cut_ml": SMALL_LESION_ML}


def _page_data(
    report: Mapping[str, Any],
    shown: list[int],
    pictures: list[dict[str, Any]],
    key_slices: list[tuple[int, str]],
    display: Display,
    windows: Sequence[WindowPreset],
    words: Words,
) -> dict[str, Any]:
    """What the script needs: words, windows, and of each shown slice pictures, outlines and Fig. 6's fields."""
    fields = _fields_by_slice(report)
    slices = [
        {
            "index": index,
            "probability": report["slices"][index]["infection_probability"],
            "infected": report["slices"][index]["infected"],
            "lung": report["slices"][index]["has_lung"],
            "fields": fields.get(index, []),
            **picture,
        }
        for index, picture in zip(shown, pictures, strict=True)
    ]
    return {
        "count": report["study"]["slice_count"],
        "first": _first_slice(report, key_slices),
        "slices": slices,
        "width": display.width,
        "windows": {window.key: {"picture": window.picture, "filter": window.filter} for window in windows},
        "small": [row["lesion_id"] for row in report["lesions"] or () if _is_small(row)],
        "words": script_words(words),
    }


def _fields_by_slice(report: Mapping[str, Any]) -> dict[int, list[list[Any]]]:
    """Fig. 6's fields of every lesion on a slice: lesion, area in mm² (None: unknown) and pixels, centre, box."""
    study = report["study"]
    pixel_mm2 = study["row_spacing_mm"] * study["column_spacing_mm"] if study["geometry_is_known"] else None
    fields: dict[int, list[list[Any]]] = {}
    for lesion_id, part in _parts(report):
        fields.setdefault(part["slice_index"], []).append(
            [
                lesion_id,
                None if pixel_mm2 is None else round(part["area_pixel"] * pixel_mm2),
                part["area_pixel"],
                round(part["position_x"], 1),
                round(part["position_y"], 1),
                part["x0"],
                part["y0"],
                part["width"],
                part["height"],
            ]
        )
    return fields


def _parts(report: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for lesion in report["lesions"] or ():
        for part in lesion["slices"]:
            yield lesion["lesion_id"], part


def _first_slice(report: Mapping[str, Any], key_slices: list[tuple[int, str]]) -> int:
    """The slice the page opens on: where the largest lesion is largest, else the most suspicious one."""
    if report["lesions"]:
        return int(max(report["lesions"][0]["slices"], key=lambda part: part["area_pixel"])["slice_index"])
    if key_slices:
        return max(key_slices, key=lambda entry: report["slices"][entry[0]]["infection_probability"])[0]
    return int(report["study"]["slice_count"]) // 2
