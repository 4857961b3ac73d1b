"""A chosen DICOM series becomes a Study: decoded in the child, judged once more, turned to the patient's axes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jcs_ct.axes import AS_STORED
from jcs_ct.disk_space import GIB
from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging.gate_fill import take_out_fill
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.gate_voxels import check_voxels
from jcs_ct.imaging.headers import MAXIMUM_DECODED_BYTES, SliceHeader, SourceKeys
from jcs_ct.imaging.sandbox import decoded_pixels, run_in_child
from jcs_ct.imaging.series import DicomSeries, DicomSurvey, named_by_place
from jcs_ct.imaging.series_choice import choose_series, quality_flags, refuse, series_in_words
from jcs_ct.imaging.split_series import shown_by_another
from jcs_ct.imaging.study import (
    ASSUMED_AXES,
    HeaderWindow,
    QualityFlag,
    Study,
    turned_volume,
)

_MOST_WINDOWS = 4

#: Children that decode a series together, and the files that are worth another one (each imports pydicom first).
_MOST_CHILDREN, _LEAST_FILES_A_CHILD = 2, 48


def read_dicom(survey: DicomSurvey, wanted: str | None, *, lenient: bool) -> Study:
    """Choose a series and decode it in the child.

    Raises:
        ConfigError: ``wanted`` names no series.
        StudyError: the gate refuses, or a file cannot be decoded.
    """
    chosen = choose_series(survey, wanted, lenient=lenient)
    if survey.damaged and not lenient:
        raise refuse(survey.damaged[:3])
    examination, ordered = chosen.examination, chosen.ordered
    hu = _decode(survey.files, ordered)
    fill = take_out_fill(hu)
    examination = examination.joined_by([*fill, *check_voxels(hu, axial=chosen.is_axial)])
    if refusals := examination.refusals(lenient=lenient):
        raise refuse(refusals)
    stack, turn = examination.stack, examination.turn
    affine = stack.affine if examination.is_measurable and stack is not None else None
    flags = [*quality_flags(examination, ()), *survey.notes]
    flags += [QualityFlag(finding.code, f"left out: {finding.message}") for finding in survey.damaged]
    if wanted is None:
        flags += _passed_over(survey, chosen)
    if stack is None:
        flags.append(
            QualityFlag("ASSUMED_ORDER", "slices were ordered by their number, the first taken as the topmost")
        )
    if turn is None:
        flags.append(ASSUMED_AXES)
    frames = tuple(header.frame for header in ordered)
    files = tuple(survey.files[header.file_index] for header in ordered)
    return Study(
        volume=turned_volume(hu, affine, turn),
        turn=turn or AS_STORED,
        identifier=chosen.identifier,
        kind="dicom",
        paths=files[:1] if all(frames) and len(set(files)) == 1 else files,
        flags=tuple(flags),
        acquisition=_acquisition(ordered),
        header_windows=_header_windows(ordered),
        frame_numbers=frames if any(frames) else (),
        source=_source_keys(survey, chosen),
    )


def _passed_over(survey: DicomSurvey, chosen: DicomSeries) -> list[QualityFlag]:
    """Say when a larger axial CT series beside the chosen one was refused, or a part of its scan left aside."""
    hopeless = {GateCode.NOT_CT, GateCode.LOCALIZER, GateCode.NOT_AXIAL}
    flags = []
    for one in survey.series:
        codes = [f.code for f in one.examination.findings if f.severity is not Severity.NOTE]
        if codes and not hopeless & set(codes) and len(one.headers) > len(chosen.headers):
            message = f"a series of {len(one.headers)} slices was refused ({codes[0]}); a smaller one was read"
            flags.append(QualityFlag("LARGER_SERIES_REFUSED", message))
        if one is chosen or (hopeless - {GateCode.NOT_CT}) & set(codes):
            continue
        is_ct = GateCode.NOT_CT not in codes
        shown = shown_by_another(chosen.examination, chosen.headers, one.headers, is_ct=is_ct)
        if shown:
            message = f"series {series_in_words(one)} of the same study was left aside: {shown}"
            flags.append(QualityFlag("PART_LEFT_ASIDE", message))
    return flags


def _source_keys(survey: DicomSurvey, chosen: DicomSeries) -> SourceKeys:
    first = chosen.headers[0]
    mine = {header.series_key for header in chosen.headers}
    every = {header.series_key for one in survey.series for header in one.headers}
    return SourceKeys(
        patient=first.patient_key,
        frame_of_reference=first.frame_of_reference_key,
        series=tuple(sorted(mine - {""})),
        beside=tuple(sorted(every - mine - {""})),
    )


def _decode(files: Sequence[Path], ordered: Sequence[SliceHeader]) -> NDArray[np.int16] | NDArray[np.float32]:
    """(slices, rows, columns) in HU: int16 when every rescale value is whole, else float32."""
    whole = all(float(h.slope or 0).is_integer() and float(h.intercept or 0).is_integer() for h in ordered)
    dtype = np.dtype(np.int16 if whole else np.float32)
    shape = (len(ordered), ordered[0].rows, ordered[0].columns)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size > MAXIMUM_DECODED_BYTES:
        limit = MAXIMUM_DECODED_BYTES / GIB
        message = f"the series takes {size / GIB:.1f} GiB once decoded, the limit is {limit:.0f} GiB"
        raise StudyError(GateCode.UNSUPPORTED, message)
    places: dict[int, list[int]] = {}
    for place, header in enumerate(ordered):
        places.setdefault(header.file_index, []).append(place)
    items = [
        {
            "path": str(files[index].absolute()),
            "places": where,
            "headers": [ordered[place].to_dict() for place in where],
        }
        for index, where in places.items()
    ]
    with decoded_pixels(size) as output:
        options = {"shape": shape, "dtype": dtype.str}
        children = min(_MOST_CHILDREN, os.cpu_count() or 1, max(1, len(items) // _LEAST_FILES_A_CHILD))
        outcomes = run_in_child("pixels", items, options, output=output, output_bytes=size, children=children)
        bad = [
            Finding(outcome.code, f"{named_by_place(index, len(files))}: {outcome.message}")
            for index, outcome in zip(places, outcomes, strict=True)
            if outcome.code is not None
        ]
        if bad:
            raise refuse(bad[:3])
        output.seek(0)
        hu: NDArray[np.int16] | NDArray[np.float32] = np.fromfile(output, dtype=dtype).reshape(shape)
    return hu


def _header_windows(ordered: Sequence[SliceHeader]) -> tuple[HeaderWindow, ...]:
    """The few windows that most slices offer; some scanners state another one on every slice."""
    offered = Counter(
        HeaderWindow(level, width)
        for header in ordered
        for level, width in zip(header.window_levels, header.window_widths, strict=True)
    )
    return tuple(window for window, _ in offered.most_common(_MOST_WINDOWS))


def _acquisition(ordered: Sequence[SliceHeader]) -> dict[str, str | float]:
    """Facts for the report; nothing that names or dates a patient."""
    first = ordered[0]
    facts: dict[str, str | float | None] = {
        "manufacturer": first.manufacturer,
        "model": first.model,
        "kernel": first.kernel,
        "body_part": first.body_part,
        "patient_position": first.patient_position,
        "slice_thickness_mm": first.slice_thickness,
        "kvp": first.kvp,
        "transfer_syntax": first.transfer_syntax,
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}
