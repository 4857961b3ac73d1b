"""report.html: one self-contained page to check a verdict by, without a network, a server or another file.

Script and style stand inline; a content security policy lets this script run and nothing be loaded, so the page
cannot reach out even if something in it tried. Every text is escaped on its way in.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jcs_ct.reporting.charts import histogram_plot, slice_plot
from jcs_ct.reporting.outlines import lesion_outlines
from jcs_ct.reporting.report_json import report_dict
from jcs_ct.reporting.slice_images import (
    LUNG_WINDOW,
    MAP_COLOURS,
    MEDIASTINAL_WINDOW,
    Display,
    ct_picture,
    map_picture,
)

if TYPE_CHECKING:
    from jcs_ct.imaging.study import Study
    from jcs_ct.reading.diagnosis import Diagnosis

#: A page shows at most this many slices; longer studies are thinned evenly (tables and plots stay whole).
MOST_SLICES_SHOWN = 320
MOST_KEY_SLICES = 6

_DASH = "\N{EN DASH}"


def render_report(study: Study, diagnosis: Diagnosis, *, progress: Callable[[int, int], None] | None = None) -> str:
    """The page as text.

    Args:
        study: What was read.
        diagnosis: What was found.
        progress: Called with the slices drawn and those there are to draw.
    """
    report = report_dict(study, diagnosis)
    display = Display.of(study.volume)
    shown = shown_slices(study.volume.shape[0])
    pictures = []
    # Shrinking and encoding, most of the time, run outside the interpreter's lock.
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pictures") as pool:
        for picture in pool.map(lambda index: _pictures(study, diagnosis, display, index), shown):
            pictures.append(picture)
            if progress is not None:
                progress(len(pictures), len(shown))
    key_slices = _key_slices(report, shown)
    script, style = _source("page.js"), _source("page.css")
    environment = Environment(
        loader=PackageLoader("jcs_ct.reporting", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["figure"] = _figure
    environment.filters["percent"] = _percent
    template = environment.get_template("report.html")
    return template.render(
        report=report,
        verdict=report["verdict"],
        reasons={entry["field"]: entry["reason"] for entry in report["withheld"]},
        display=display,
        windows=(LUNG_WINDOW, MEDIASTINAL_WINDOW),
        plot=slice_plot(report["slices"], report["operating_point"]["slice_probability"]),
        histogram=None if report["burden"] is None else histogram_plot(report["burden"]),
        zones=_zone_table(report),
        lesions=_lesion_rows(report, display),
        key_slices=[(index, why, pictures[shown.index(index)]) for index, why in key_slices],
        data=_page_data(report, shown, pictures, key_slices, display),
        shown_count=len(shown),
        map_colours=["#{:02x}{:02x}{:02x}".format(*colour) for colour in MAP_COLOURS],
        timings_s=dict(diagnosis.timings_s),
        execution=dict(diagnosis.execution),
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def shown_slices(slice_count: int) -> list[int]:
    """Indices of the slices the page shows: all, or an even selection of ``MOST_SLICES_SHOWN``."""
    if slice_count <= MOST_SLICES_SHOWN:
        return list(range(slice_count))
    return [int(index) for index in np.linspace(0, slice_count - 1, MOST_SLICES_SHOWN).round()]


def _source(name: str) -> str:
    return files("jcs_ct.reporting").joinpath("page", name).read_text(encoding="utf-8")


def _pictures(study: Study, diagnosis: Diagnosis, display: Display, index: int) -> dict[str, Any]:
    hu = study.volume.hu[index]
    labels = diagnosis.lesion_labels[index]
    return {
        LUNG_WINDOW.key: ct_picture(hu, LUNG_WINDOW),
        MEDIASTINAL_WINDOW.key: ct_picture(hu, MEDIASTINAL_WINDOW),
        "map": map_picture(diagnosis.activation[index]),
        "outlines": lesion_outlines(labels, display) if labels.any() else [],
    }


def _key_slices(report: Mapping[str, Any], shown: list[int]) -> list[tuple[int, str]]:
    """(slice index, why) of the slices to look at first: the largest lesions, then the highest probabilities."""
    chosen: dict[int, str] = {}
    apart = max(2, len(report["slices"]) // 30)
    for lesion in report["lesions"] or ():
        largest = max(lesion["slices"], key=lambda part: part["area_pixel"])
        index = min(shown, key=lambda candidate: abs(candidate - largest["slice_index"]))
        if all(abs(index - other) >= apart for other in chosen):
            chosen[index] = f"lesion {lesion['lesion_id']}: {lesion['side']} {lesion['third']} third"
        if len(chosen) == MOST_KEY_SLICES:
            break
    in_lung = [entry for entry in report["slices"] if entry["has_lung"]]
    for entry in sorted(in_lung, key=lambda entry: -float(entry["infection_probability"])):
        if len(chosen) >= (MOST_KEY_SLICES if report["verdict"]["result"] == "positive" else 3):
            break
        index = entry["slice_index"]
        if index in shown and all(abs(index - other) >= apart for other in chosen):
            chosen[index] = f"probability {entry['infection_probability']:.2f}"
    return sorted(chosen.items())


def _zone_table(report: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    zones = (report["burden"] or {}).get("zones") or ()
    return {(zone["side"], zone["third"]): zone for zone in zones}


def _lesion_rows(report: Mapping[str, Any], display: Display) -> list[dict[str, Any]]:
    """Rows of the lesion table: the report's fields and where a click leads."""
    rows = []
    for lesion in report["lesions"] or ():
        largest = max(lesion["slices"], key=lambda part: part["area_pixel"])
        columns = max(part["x0"] + part["width"] for part in lesion["slices"]) - min(
            part["x0"] for part in lesion["slices"]
        )
        height = max(part["y0"] + part["height"] for part in lesion["slices"]) - min(
            part["y0"] for part in lesion["slices"]
        )
        slices = lesion["slice_last"] - lesion["slice_first"] + 1
        rows.append(
            {
                **lesion,
                "largest_slice": largest["slice_index"],
                "largest_area_pixel": largest["area_pixel"],
                "extent_pixel": (slices, height, columns),
            }
        )
    return rows


def _page_data(
    report: Mapping[str, Any],
    shown: list[int],
    pictures: list[dict[str, Any]],
    key_slices: list[tuple[int, str]],
    display: Display,
) -> dict[str, Any]:
    """What the script needs: pictures and outlines of the shown slices, and Fig. 6's fields of each."""
    fields: dict[int, list[list[Any]]] = {}
    for lesion_id, part in _parts(report):
        fields.setdefault(part["slice_index"], []).append(
            [
                lesion_id,
                part["area_pixel"],
                round(part["position_x"], 1),
                round(part["position_y"], 1),
                part["x0"],
                part["y0"],
                part["width"],
                part["height"],
            ]
        )
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
    first = _first_slice(report, key_slices)
    return {"count": report["study"]["slice_count"], "first": first, "slices": slices, "width": display.width}


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


def _figure(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A number for a reader, or a dash when it is withheld."""
    if value is None:
        return _DASH
    return f"{value:,.{digits}f}{unit}".replace(",", "\N{THIN SPACE}").replace("-", "\N{MINUS SIGN}")


def _percent(value: float | None, digits: int = 1) -> str:
    return _figure(value, digits, "\N{NO-BREAK SPACE}%")
