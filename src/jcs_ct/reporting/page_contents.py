"""What report.html shows of report.json: key slices, rows of its tables, and the script's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jcs_ct.reporting.language import Words, marked
from jcs_ct.reporting.page_words import SIDES, THIRDS, named, script_words
from jcs_ct.reporting.slice_images import Display
from jcs_ct.reporting.window_presets import WindowPreset

MOST_KEY_SLICES = 6
#: Lesions under this are left out of the table until a reader wants them.
SMALL_LESION_ML = 0.1


def key_slices(report: Mapping[str, Any], shown: list[int], words: Words) -> list[tuple[int, str]]:
    """(slice index, why) of the slices to look at first: the largest lesions, then the highest probabilities."""
    chosen: dict[int, str] = {}
    cut = report["operating_point"]["slice_probability"]
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
            probability = words.probability(entry["infection_probability"], cut)
            chosen[index] = words.text(marked("probability %(probability)s"), probability=probability)
    return sorted(chosen.items())


def zone_table(report: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(side, third) -> its zone; empty where there is no burden."""
    zones = (report["burden"] or {}).get("zones") or ()
    return {(zone["side"], zone["third"]): zone for zone in zones}


def lesion_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
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


def small_lesions(report: Mapping[str, Any]) -> dict[str, float]:
    """How many lesions the filter leaves out, and how much they take together."""
    small = [lesion["volume_ml"] for lesion in report["lesions"] or () if _is_small(lesion)]
    return {"count": len(small), "volume_ml": sum(small), "cut_ml": SMALL_LESION_ML}


def page_data(
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
    cut = report["operating_point"]["slice_probability"]
    slices = [
        {
            "index": index,
            "probability": words.probability(report["slices"][index]["infection_probability"], cut),
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
    """The slice the page opens on: where the largest lesion is largest, else the most suspicious one.

    Of the lesion's slices an infected one, where there is any: what the verdict rests on is seen first.
    """
    if report["lesions"]:
        parts = report["lesions"][0]["slices"]
        infected = [part for part in parts if report["slices"][part["slice_index"]]["infected"]]
        return int(max(infected or parts, key=lambda part: part["area_pixel"])["slice_index"])
    if key_slices:
        return max(key_slices, key=lambda entry: report["slices"][entry[0]]["infection_probability"])[0]
    return int(report["study"]["slice_count"]) // 2
