"""One scan whose slices a store split over several series: joined when the geometry proves that it is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate import Examination, examine
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.headers import SliceHeader

#: What slices of one scan and reconstruction have in common.
_COMMON = (
    "patient_key",
    "study_key",
    "frame_of_reference_key",
    "modality",
    "sop_class",
    "image_type",
    "rows",
    "columns",
    "pixel_spacing",
    "orientation",
    "slice_thickness",
    "kernel",
    "kvp",
    "contrast",
)


#: Of those, what an object is called.
_CALLED = ("modality", "sop_class")
#: What says that slices are pictures of one kind; every image states it.
_KIND = ("rows", "columns", "image_type")
#: A slice lies between others that are further away than this share of their step.
_BETWEEN = 0.1


def scan_of(headers: Sequence[SliceHeader]) -> tuple[object, ...] | None:
    """What the slices have in common with others of their scan; None when they differ or state too little."""
    facts = {tuple(getattr(header, name) for name in _COMMON) for header in headers}
    stated = all(one.study_key and one.position and one.orientation for one in headers)
    return next(iter(facts)) if stated and len(facts) == 1 else None


def split_scans(groups: Mapping[str, Sequence[SliceHeader]]) -> list[tuple[str, ...]]:
    """Keys of the groups that are parts of one scan, scan by scan.

    Parts share every fact of their reconstruction, follow one another along the body without overlap, and make one
    series without fault together.
    """
    scans: dict[tuple[object, ...], list[str]] = {}
    for key, headers in groups.items():
        scan = scan_of(headers)
        if scan is not None:
            scans.setdefault(scan, []).append(key)
    return [tuple(keys) for keys in scans.values() if len(keys) > 1 and _continue_each_other(keys, groups)]


def _continue_each_other(keys: Sequence[str], groups: Mapping[str, Sequence[SliceHeader]]) -> bool:
    owners = [key for key in keys for _ in groups[key]]
    examination = examine([header for key in keys for header in groups[key]])
    if examination.stack is None or examination.refusals(lenient=False):
        return False
    along = [owners[index] for index in examination.order]
    return sum(before != after for before, after in zip([None, *along], along, strict=False)) == len(keys)


def note_joined(slice_counts: Sequence[int]) -> Finding:
    """JOINED_SERIES: from how many series a study was put together."""
    counts = " + ".join(str(count) for count in sorted(slice_counts, reverse=True)[:6])
    more = "" if len(slice_counts) <= 6 else " + ..."
    message = (
        f"the slices come from {len(slice_counts)} series ({counts}{more}) of one scan, which continue one another "
        "on one grid: they were joined"
    )
    return Finding("JOINED_SERIES", message, Severity.NOTE)


def shown_by_another(
    chosen: Examination, chosen_headers: Sequence[SliceHeader], other: Sequence[SliceHeader], *, is_ct: bool
) -> str:
    """What another series of the same study shows that the chosen one does not, in words; empty where it is nothing.

    Parts of one scan count wherever they lie, those of other scans and reconstructions where they reach beyond the
    chosen one by more than its step. Slices that state no place count where they are pictures of the same kind:
    nobody can say that they lie elsewhere.

    Args:
        chosen, chosen_headers: The series that is read.
        other: The other one.
        is_ct: Whether its headers call it a CT; where they do not, it counts only as a part of the scan.
    """
    first, step = chosen_headers[0], chosen.stack.step_mm if chosen.stack is not None else None
    if (first.patient_key, first.study_key) != (other[0].patient_key, other[0].study_key):
        return ""
    if not is_ct and not _may_be_part(first, other[0]):
        return ""
    if step is None or any(one.position is None for one in other):
        return "where its slices lie beside those that were read is not known" if _is_alike(first, other[0]) else ""
    row, column = np.split(np.asarray(first.orientation, dtype=np.float64), 2)
    normal = np.cross(row, column)
    heights, others = (
        np.array([normal @ np.asarray(one.position) for one in headers]) for headers in (chosen_headers, other)
    )
    beyond = max(0.0, float(others.max() - heights.max()), float(heights.min() - others.min()))
    scan = scan_of(chosen_headers)
    is_part = not is_ct or (scan is not None and scan == scan_of(other))
    if beyond > (0.0 if is_part else step):
        why = "the two make no regular series together" if is_part else "it is of another scan or reconstruction"
        why = why if is_ct else f"its header calls it no CT ({GateCode.NOT_CT})"
        return f"it reaches {beyond:.1f} mm beyond what was read, and {why}"
    apart = np.abs(others[:, None] - heights).min(axis=1)
    between = int(np.count_nonzero(apart > _BETWEEN * step))
    return f"{between} of its slices lie between those that were read" if is_part and between else ""


def _is_alike(first: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices are pictures of one kind."""
    return all(getattr(first, name) == getattr(other, name) for name in _KIND)


def _may_be_part(first: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices are alike, and differ in no fact of their scan that both state but what they are called."""
    facts = [(getattr(first, name), getattr(other, name)) for name in _COMMON if name not in _CALLED]
    return _is_alike(first, other) and all(one == two for one, two in facts if one and two)
