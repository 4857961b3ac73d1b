"""report.json: a diagnosis as data, with a published schema, stable names and units in the names.

Its grid is that of axial slices from superior to inferior whose rows and columns are the source's own, so that one
finds a pixel on the stored slice; ``slice_row_column_to_lps_mm`` leads from there into the patient.

A number that cannot be stated is ``null``, and ``withheld`` says which field and why.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from jcs_ct import NOTICE, __version__
from jcs_ct.axes import AxisTurn
from jcs_ct.operating_point import Verdict, VerdictBasis
from jcs_ct.reading.second_look import DOUBTED_SHARE, SecondLook
from jcs_ct.reporting.language import marked
from jcs_ct.reporting.model_limits import model_limits

if TYPE_CHECKING:  # these modules import torch; a report does not need it
    from jcs_ct.imaging.study import Study
    from jcs_ct.reading.burden import Burden
    from jcs_ct.reading.diagnosis import Diagnosis
    from jcs_ct.reading.lesions import Lesion, SliceLesion
    from jcs_ct.reading.zones import Zone

#: Changes in its first number break readers; in its second, fields were added.
SCHEMA_VERSION = "2.4"

RULES = {
    VerdictBasis.SLICE_COUNT: "positive when positive_slice_count is larger than positive_slice_threshold",
    VerdictBasis.SLICE_SHARE: (
        "small study: positive when positive_slice_count is larger than positive_slice_threshold, which is the share "
        "small_study_share of lung_slice_count, rounded down"
    ),
    VerdictBasis.TOO_FEW_SLICES: "withheld: fewer slices with lung than 1 / small_study_share",
}
TOO_FEW_SLICES = marked("too few slices with lung for a verdict on the patient")

GEOMETRY_UNKNOWN = marked("the study's geometry is not known, so no position, length or volume can be stated")
HU_ASSUMED = marked("HU were assumed from grey levels, so no density can be stated")
NO_LUNG_IN_ZONE = marked("no lung voxel in this zone")
DENSITY_UNKNOWN = marked("too little lung or soft tissue is seen to measure density between them")
NO_LUNG = marked("no lung was found")
SIDE_UNKNOWN = marked("the side of some lung or lesion cannot be known from what the field of view shows")
LEFT_TO_READER = marked("left to the reader; it is never assigned by software")
SWITCHED_OFF = marked("lesions were not segmented: switched off for this reading")
NONE_INFECTED = marked("lesions were not segmented: no slice is infected")
RULE_IS_NEGATIVE = marked("lesions were not segmented: the patient rule is negative")


def report_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every ``report.json`` of this version satisfies."""
    text = files("jcs_ct.reporting").joinpath("report.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def report_dict(study: Study, diagnosis: Diagnosis) -> dict[str, Any]:
    """One diagnosis as plain data, ready for ``json.dumps``.

    Args:
        study: What was read.
        diagnosis: What was found.

    Returns:
        A dict that satisfies :func:`report_schema`; the same input gives the same dict.
    """
    lesions = [_lesion(lesion, study) for lesion in diagnosis.lesions] if diagnosis.segmented else None
    return {
        "schema_version": SCHEMA_VERSION,
        "notice": NOTICE,
        "software": {"name": "jcs-ct", "version": __version__},
        "study": _study(study),
        "verdict": {
            "result": str(diagnosis.verdict),
            "basis": str(diagnosis.basis),
            "rule": RULES[diagnosis.basis],
            "positive_slice_count": diagnosis.positive_slice_count,
            "positive_slice_threshold": diagnosis.positive_slice_threshold,
            "lung_slice_count": diagnosis.lung_slice_count,
            "positive_fraction": diagnosis.positive_fraction,
            **({} if diagnosis.second_look is None else {"second_look": _second_look(diagnosis.second_look)}),
        },
        "limits": _limits(diagnosis),
        "slices": _slices(diagnosis),
        "segmentation": {
            "performed": diagnosis.segmented,
            "lesion_count": len(diagnosis.lesions) if diagnosis.segmented else None,
        },
        "lesions": lesions,
        "burden": None if diagnosis.burden is None else _burden(diagnosis.burden),
        "withheld": [{"field": field, "reason": reason} for field, reason in _withheld(study, diagnosis)],
        "quality_flags": [{"code": str(flag.code), "message": flag.message} for flag in diagnosis.flags],
        "models": {role: _model(facts) for role, facts in sorted(diagnosis.models.items())},
        "operating_point": asdict(diagnosis.operating_point),
        "reader": {"co_rads": None},
    }


def _number(value: float | None) -> float | None:
    """``value`` as a plain float, None when it is not finite: JSON has no NaN."""
    return float(value) if value is not None and math.isfinite(value) else None


def _study(study: Study) -> dict[str, Any]:
    volume, back = study.volume, study.turn.in_plane.inverse
    slices, rows, columns = back.turned_shape(volume.shape)
    affine = None if volume.affine is None else back.turned_affine(volume.affine, volume.shape)
    spacing = (None, None, None) if affine is None else tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    return {
        "identifier": study.identifier,
        "source_kind": study.kind,
        "slice_count": slices,
        "row_count": rows,
        "column_count": columns,
        "slice_spacing_mm": spacing[0],
        "row_spacing_mm": spacing[1],
        "column_spacing_mm": spacing[2],
        "slice_row_column_to_lps_mm": None if affine is None else affine.tolist(),
        "geometry_is_known": volume.is_measurable,
        "hu_is_assumed": volume.hu_is_assumed,
        "header_windows": [asdict(window) for window in study.header_windows],
        "acquisition": {
            str(name): value if isinstance(value, str) else _number(value)
            for name, value in sorted(study.acquisition.items())
        },
    }


def _second_look(look: SecondLook) -> dict[str, Any]:
    """On how many slices a negative verdict was held against the segmenter, and what was outlined."""
    return {
        "slice_count": look.slice_count,
        "outlined_percent": 100.0 * look.outlined_share,
        "doubted_percent": 100.0 * DOUBTED_SHARE,
    }


def _limits(diagnosis: Diagnosis) -> dict[str, Any]:
    """What the networks are known to get right, and what they cannot tell or were never shown."""
    known = model_limits(diagnosis)
    return {
        "slice_figures": [
            {
                "source": row.source,
                "held_out": row.held_out,
                "patient_count": row.patients,
                "infected_slice_count": row.infected,
                "uninfected_slice_count": row.not_infected,
                "sensitivity": row.sensitivity,
                "specificity": row.specificity,
            }
            for row in known.slices
        ],
        "lesion_figures": [
            {
                "source": row.source,
                "held_out": row.held_out,
                "image_count": row.images,
                "patient_count": row.patients,
                "mean_dice_percent": row.dice_percent,
            }
            for row in known.lesions
        ],
        "burden_figures": [
            {
                "source": row.source,
                "volume_count": row.volumes,
                "mean_difference_percent": row.mean_percent,
                "limits_of_agreement_percent": [row.lowest_percent, row.highest_percent],
            }
            for row in known.burden
        ],
        "not_told_apart": list(known.not_told_apart),
        "never_seen": list(known.never_seen),
    }


def _slices(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    counts = [0] * len(diagnosis.slices)
    for lesion in diagnosis.lesions:
        for part in lesion.slices:
            counts[part.slice_index] += 1
    return [
        {
            "slice_index": prediction.slice_index,
            "infection_probability": float(prediction.infection_probability),
            "infected": prediction.infected,
            "has_lung": prediction.has_lung,
            "lesion_count": counts[prediction.slice_index] if diagnosis.segmented else None,
        }
        for prediction in diagnosis.slices
    ]


def _lesion(lesion: Lesion, study: Study) -> dict[str, Any]:
    back, shape = study.turn.in_plane.inverse, study.volume.shape
    extent_mm = None if lesion.extent_mm is None else [lesion.extent_mm[axis] for axis in back.order]
    return {
        "lesion_id": lesion.lesion_id,
        "voxel_count": lesion.voxel_count,
        "volume_ml": _number(lesion.volume_ml),
        "slice_first": lesion.slice_first,
        "slice_last": lesion.slice_last,
        "centroid_slice_row_column": [float(value) for value in back.turned_index(lesion.centroid_index, shape)],
        "centroid_lps_mm": None if lesion.centroid_lps_mm is None else [float(v) for v in lesion.centroid_lps_mm],
        "extent_slice_row_column_mm": None if extent_mm is None else [float(v) for v in extent_mm],
        "side": lesion.side,
        "third": lesion.third,
        "mean_hu": _number(lesion.mean_hu),
        "slices": [_slice_lesion(part, back, shape) for part in lesion.slices],
    }


def _slice_lesion(part: SliceLesion, back: AxisTurn, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Fig. 6's fields in the source's rows and columns."""
    _, row, column = back.turned_index((0.0, part.position_y, part.position_x), shape)
    first = back.turned_index((0, part.y0, part.x0), shape)
    last = back.turned_index((0, part.y0 + part.height - 1, part.x0 + part.width - 1), shape)
    _, height, width = back.turned_shape((1, part.height, part.width))
    return {
        "slice_index": part.slice_index,
        "area_pixel": int(part.area_pixel),
        "position_x": float(column),
        "position_y": float(row),
        "x0": int(min(first[2], last[2])),
        "y0": int(min(first[1], last[1])),
        "width": int(width),
        "height": int(height),
    }


def _burden(burden: Burden) -> dict[str, Any]:
    return {
        "lung_volume_ml": _number(burden.lung_volume_ml),
        "opacification_volume_ml": _number(burden.opacification_volume_ml),
        "percent_opacity": _number(burden.percent_opacity),
        "percent_high_opacity": _number(burden.percent_high_opacity),
        "high_opacity_cut_hu": float(burden.high_opacity_cut_hu),
        "percent_ground_glass": _number(burden.percent_ground_glass),
        "percent_consolidation": _number(burden.percent_consolidation),
        "hu_histogram": {
            "bin_edges_hu": [float(edge) for edge in burden.hu_bin_edges],
            "voxel_counts": [int(count) for count in burden.hu_counts],
        },
        "zones_are": "zonal, not lobar",
        "zones": None if burden.zones is None else [_zone(zone) for zone in burden.zones],
    }


def _zone(zone: Zone) -> dict[str, Any]:
    return {
        "side": zone.side,
        "third": zone.third,
        "lung_voxel_count": int(zone.lung_voxels),
        "opacity_voxel_count": int(zone.opacity_voxels),
        "percent_opacity": _number(zone.percent_opacity),
    }


def _model(facts: Any) -> dict[str, Any]:
    return {
        "name": str(facts.get("name", "unknown")),
        "preset": str(facts.get("preset", "unknown")),
        "weights_sha256": None if facts.get("sha256") is None else str(facts["sha256"]),
    }


def _withheld(study: Study, diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    """(field, reason) of every figure that is null on purpose; ``[]`` in a field stands for each entry of a list."""
    yield "reader.co_rads", LEFT_TO_READER
    if not study.volume.is_measurable:
        for name in ("slice_spacing_mm", "row_spacing_mm", "column_spacing_mm", "slice_row_column_to_lps_mm"):
            yield f"study.{name}", GEOMETRY_UNKNOWN
    if diagnosis.positive_slice_threshold is None:
        yield "verdict.positive_slice_threshold", TOO_FEW_SLICES
    if not diagnosis.segmented:
        reason = not_segmented_reason(diagnosis)
        for name in ("slices[].lesion_count", "segmentation.lesion_count", "lesions", "burden"):
            yield name, reason
        return
    if diagnosis.lesions:
        yield from _withheld_of_lesions(study, diagnosis)
    if diagnosis.burden is None:
        yield "burden", NO_LUNG
    else:
        yield from _withheld_of_burden(study, diagnosis.burden)


def not_segmented_reason(diagnosis: Diagnosis) -> str:
    """Why the segmentation branch did not run, in words."""
    if diagnosis.positive:
        return SWITCHED_OFF
    if diagnosis.verdict is Verdict.WITHHELD and not diagnosis.positive_slice_count:
        return NONE_INFECTED
    if diagnosis.verdict is Verdict.WITHHELD:
        return SWITCHED_OFF
    return RULE_IS_NEGATIVE


def _withheld_of_lesions(study: Study, diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    if not study.volume.is_measurable:
        for name in ("volume_ml", "centroid_lps_mm", "extent_slice_row_column_mm"):
            yield f"lesions[].{name}", GEOMETRY_UNKNOWN
    if any(lesion.mean_hu is None for lesion in diagnosis.lesions):
        yield "lesions[].mean_hu", HU_ASSUMED


def _withheld_of_burden(study: Study, burden: Burden) -> Iterator[tuple[str, str]]:
    if not study.volume.is_measurable:
        yield "burden.lung_volume_ml", GEOMETRY_UNKNOWN
        yield "burden.opacification_volume_ml", GEOMETRY_UNKNOWN
    if burden.percent_opacity is None:
        yield "burden.percent_opacity", NO_LUNG
    if burden.percent_high_opacity is None:
        yield "burden.percent_high_opacity", HU_ASSUMED if study.volume.hu_is_assumed else NO_LUNG
    if burden.percent_ground_glass is None:
        reason = NO_LUNG if burden.percent_opacity is None else DENSITY_UNKNOWN
        yield "burden.percent_ground_glass", reason
        yield "burden.percent_consolidation", reason
    if burden.zones is None:
        yield "burden.zones", SIDE_UNKNOWN
    elif any(zone.percent_opacity is None for zone in burden.zones):
        yield "burden.zones[].percent_opacity", NO_LUNG_IN_ZONE
