"""DICOM series: grouping of files, the rule that chooses one, and reading it.

The rule: among the series that the gate accepts (axial CT, not a localizer), the first by

1. stored as axial slices before coronal and sagittal ones,
2. no geometry fault (matters only when lenient),
3. not derived (reformatted, averaged) before derived,
4. most slices,
5. thinner steps between slices,
6. sharper kernel (lung before soft tissue).

A coronal or sagittal series is read only where no axial one lies beside it, or when it is asked for by name. Two
series that tie on all six, or candidates from different studies, are not chosen between: MIXED_SERIES asks for
``series=``.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jcs_ct.axes import AS_STORED
from jcs_ct.errors import ConfigError, GateCode, JCSError, StudyError
from jcs_ct.imaging.gate import Examination, examine
from jcs_ct.imaging.gate_finding import Finding, Severity
from jcs_ct.imaging.gate_voxels import check_voxels
from jcs_ct.imaging.headers import MAXIMUM_DECODED_BYTES, SliceHeader, identity_hash
from jcs_ct.imaging.sandbox import run_in_child
from jcs_ct.imaging.split_series import beyond_mm, note_joined, split_scans
from jcs_ct.imaging.study import (
    ASSUMED_AXES,
    HeaderWindow,
    QualityFlag,
    SeriesFate,
    SeriesInfo,
    Study,
    turned_volume,
)

logger = logging.getLogger(__name__)

#: Kernel names or parts of them that are reconstructed sharp, for lung and bone.
_SHARP_WORDS = ("LUNG", "BONE", "EDGE", "SHARP", "CHEST")
_MOST_WINDOWS = 4
#: Children that decode a series together, and the files that are worth another one (each imports pydicom first).
_MOST_CHILDREN, _LEAST_FILES_A_CHILD = 2, 48
_SHARP_FROM = 50  # Siemens kernels: B50 and above, Br54, Bl57, D60...


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """The slices of one series and what the gate thinks of them."""

    identifier: str
    headers: tuple[SliceHeader, ...]
    examination: Examination

    @property
    def ordered(self) -> tuple[SliceHeader, ...]:
        """Headers from the most superior slice down."""
        return tuple(self.headers[index] for index in self.examination.order)

    @property
    def is_axial(self) -> bool:
        """Whether the slices are stored as axial ones; taken so where no orientation is stated."""
        turn = self.examination.turn
        return turn is None or turn.order[0] == 0

    @property
    def is_ct(self) -> bool:
        """Whether these are slices of a CT, and no localizer."""
        codes = {finding.code for finding in self.examination.findings}
        return not codes & {GateCode.NOT_CT, GateCode.LOCALIZER}

    def rank(self) -> tuple[bool, bool, bool, int, float, int]:
        """Sorts the better series first (see the module's rule)."""
        first, stack = self.headers[0], self.examination.stack
        faulty = any(finding.severity is Severity.GEOMETRY for finding in self.examination.findings)
        derived = "SECONDARY" in first.image_type[1:2]
        step = round(stack.step_mm, 2) if stack is not None and stack.step_mm else float("inf")
        return not self.is_axial, faulty, derived, -len(self.headers), step, -kernel_sharpness(first.kernel)


@dataclass(frozen=True, eq=False)
class DicomSurvey:
    """Everything DICOM that lies at a path: series by rank, files that could not be read."""

    files: tuple[Path, ...]
    series: tuple[DicomSeries, ...]
    damaged: tuple[Finding, ...] = ()
    notes: tuple[QualityFlag, ...] = field(default=())


def _file(index: int, count: int) -> str:
    """How messages name a file: by its place, since names may hold a patient's."""
    return "the file" if count == 1 else f"file {index + 1} of {count} (in name order)"


def kernel_sharpness(kernel: str) -> int:
    """1 for a lung or bone kernel, else 0; vendors' names only."""
    name = kernel.upper()
    if any(word in name for word in _SHARP_WORDS) or re.fullmatch(r"FC[58]\d|Y[A-D]|[LDE]", name):
        return 1
    number = re.search(r"[A-Z](\d\d)", name)
    return int(number is not None and not name.startswith("FC") and int(number.group(1)) >= _SHARP_FROM)


def survey_dicom(files: Sequence[Path], *, allow_deflated: bool = False) -> DicomSurvey:
    """Read the headers of ``files`` in the decoding child and group them by series.

    Localizers that share the identity of an axial series form a series of their own.
    """
    items = [{"path": str(path.absolute()), "file_index": index} for index, path in enumerate(files)]
    outcomes = run_in_child("headers", items, {"allow_deflated": allow_deflated})
    groups: dict[str, list[SliceHeader]] = {}
    damaged: list[Finding] = []
    for index, outcome in enumerate(outcomes):
        if outcome.code is not None:
            message = f"{_file(index, len(files))}: {outcome.message}"
            damaged.append(Finding(outcome.code, message))
            continue
        for values in outcome.value:
            header = SliceHeader.from_dict(values)
            if _is_fragment(header):
                message = f"{_file(index, len(files))} is cut off within its header; copy it again from its source"
                damaged.append(Finding(GateCode.TRUNCATED, message))
                break
            kind = "localizer" if "LOCALIZER" in header.image_type else ""
            key = identity_hash(header.series_key, kind) if kind else header.series_key or identity_hash("no series")
            groups.setdefault(key, []).append(header)
    series = [*_joined(groups), *(DicomSeries(key, tuple(one), examine(one)) for key, one in groups.items())]
    series.sort(key=lambda one: (*one.rank(), one.identifier))
    logger.info("read %d DICOM files: %d series, %d files unreadable", len(files), len(series), len(damaged))
    return DicomSurvey(tuple(files), tuple(series), tuple(damaged))


def _is_fragment(header: SliceHeader) -> bool:
    """Whether a file ends before its header says which series it is of: anything may have been cut off."""
    return not header.series_key and not header.whole and header.pixel_bytes == 0


def _joined(groups: dict[str, list[SliceHeader]]) -> list[DicomSeries]:
    """The scans that were split over several series, whose parts leave ``groups``."""
    joined = []
    for keys in split_scans(groups):
        parts = [groups.pop(key) for key in keys]
        headers = tuple(header for part in parts for header in part)
        examination = examine(headers).joined_by([note_joined([len(part) for part in parts])])
        joined.append(DicomSeries(identity_hash(*sorted(keys)), headers, examination))
    return joined


def choose_series(survey: DicomSurvey, wanted: str | None, *, lenient: bool) -> DicomSeries:
    """Apply the module's rule, or take the series whose identifier starts with ``wanted``.

    Raises:
        ConfigError: no series, or several, with such an identifier.
        StudyError: every series is refused (with the reason of the best one), or the choice is not obvious.
    """
    if wanted is not None:
        return _named_series(survey, wanted, lenient=lenient)
    usable = [one for one in survey.series if not one.examination.refusals(lenient=lenient)]
    if any(one.is_axial and one.is_ct for one in survey.series):
        usable = [one for one in usable if one.is_axial]
    if not usable:
        raise _refusal(survey, lenient=lenient)
    best = [one for one in usable if one.rank() == usable[0].rank()]
    studies = {(one.headers[0].patient_key, one.headers[0].study_key) for one in usable}
    if len(best) > 1 or len(studies) > 1:
        shown = best if len(best) > 1 else usable
        listed = "; ".join(_describe(one) for one in shown[:6])
        what = (
            f"{len(best)} series are equally good" if len(best) > 1 else f"series of {len(studies)} studies lie here"
        )
        raise StudyError(GateCode.MIXED_SERIES, f"{what}, choose one with --series: {listed}")
    return usable[0]


def _describe(one: DicomSeries) -> str:
    step = one.examination.stack.step_mm if one.examination.stack is not None else None
    facts = [f"{len(one.headers)} slices"]
    if step:
        facts.append(f"every {step:.2f} mm")
    if one.headers[0].kernel:
        facts.append(f"kernel {one.headers[0].kernel}")
    return f"{one.identifier} ({', '.join(facts)})"


def _named_series(survey: DicomSurvey, wanted: str, *, lenient: bool) -> DicomSeries:
    found = [one for one in survey.series if wanted and one.identifier.startswith(wanted.lower())]
    if len(found) != 1:
        listed = "; ".join(_describe(one) for one in survey.series[:12])
        how_many = "no series has" if not found else f"{len(found)} series have"
        raise ConfigError(f"{how_many} an identifier that starts with {wanted!r}; there are: {listed}")
    refusals = found[0].examination.refusals(lenient=lenient)
    if refusals:
        raise refuse(refusals)
    return found[0]


def refuse(findings: Sequence[Finding]) -> StudyError:
    """One error for all findings; the first is named last, where its code becomes the error's."""
    first, *others = findings
    if not others:
        return StudyError(GateCode(first.code), first.message)
    before = "".join(f"{finding.message} ({finding.code}); " for finding in others)
    return StudyError(GateCode(first.code), f"{len(findings)} faults: {before}{first.message}")


def _refusal(survey: DicomSurvey, *, lenient: bool) -> StudyError:
    """Why nothing can be read: the reason of the series with the most slices that comes nearest to an axial CT."""
    if not survey.series:
        if survey.damaged:
            return refuse(survey.damaged[:3])
        return StudyError(
            GateCode.NO_IMAGES, "there are DICOM files but no images; give the folder with the CT series"
        )
    hopeless = {GateCode.NOT_CT: 3, GateCode.LOCALIZER: 2, GateCode.NOT_AXIAL: 1}
    refused = [(one, refusals) for one in survey.series if (refusals := one.examination.refusals(lenient=lenient))]
    refused.sort(key=lambda pair: (min(hopeless.get(GateCode(f.code), 0) for f in pair[1]), -len(pair[0].headers)))
    error = refuse(refused[0][1])
    if len(refused) == 1:
        return error
    message = str(error).removesuffix(f" ({error.code})")
    return StudyError(error.code, f"none of {len(refused)} series can be read; the best: {message}")


def describe_series(survey: DicomSurvey, wanted: str | None, *, lenient: bool) -> tuple[SeriesInfo, ...]:
    """Every series with its fate and why."""
    chosen: DicomSeries | None = None
    undecided = ""
    try:
        chosen = choose_series(survey, wanted, lenient=lenient)
    except StudyError as error:
        undecided = str(error) if error.code is GateCode.MIXED_SERIES else ""
    return tuple(_info(one, chosen, undecided, lenient=lenient) for one in survey.series)


def _info(one: DicomSeries, chosen: DicomSeries | None, undecided: str, *, lenient: bool) -> SeriesInfo:
    first, examination = one.headers[0], one.examination
    refusals = examination.refusals(lenient=lenient)
    code: GateCode | None = None
    if refusals:
        error = refuse(refusals)
        fate, code, message = SeriesFate.REFUSED, error.code, str(error)
    elif one is chosen:
        fate, message = SeriesFate.CHOSEN, "read: the best by the rule"
    else:
        fate, message = SeriesFate.CANDIDATE, undecided or "could be read with --series"
    stack = examination.stack
    spacing = None
    if examination.is_measurable and stack is not None and stack.affine is not None:
        slice_mm, row_mm, column_mm = np.linalg.norm(stack.affine[:3, :3], axis=0)
        spacing = (float(slice_mm), float(row_mm), float(column_mm))
    same_size = len({(header.rows, header.columns) for header in one.headers}) == 1
    return SeriesInfo(
        identifier=one.identifier,
        kind="dicom",
        fate=fate,
        file_count=len({header.file_index for header in one.headers}),
        slice_count=len(one.headers),
        code=code,
        message=message,
        modality=first.modality,
        shape=(first.rows, first.columns) if same_size else None,
        spacing_mm=spacing,
        extent_mm=stack.extent_mm if stack is not None else None,
        kernel=first.kernel,
        flags=_flags(examination, refusals),
    )


def _flags(examination: Examination, refusals: Sequence[Finding]) -> tuple[QualityFlag, ...]:
    return tuple(QualityFlag(f.code, f.message) for f in examination.findings if f not in refusals)


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
    examination = examination.joined_by(check_voxels(hu))
    if refusals := examination.refusals(lenient=lenient):
        raise refuse(refusals)
    stack, turn = examination.stack, examination.turn
    affine = stack.affine if examination.is_measurable and stack is not None else None
    flags = [*_flags(examination, ()), *survey.notes]
    flags += [QualityFlag(finding.code, f"left out: {finding.message}") for finding in survey.damaged]
    if wanted is None:
        flags += _passed_over(survey, chosen)
    if affine is None:
        flags.append(QualityFlag("NOT_MEASURED", "the geometry is not trustworthy: volumes and lengths are withheld"))
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
        beyond = 0.0 if one is chosen else beyond_mm(chosen.examination, chosen.headers, one.headers)
        if beyond > 0:
            message = (
                f"series {one.identifier} of the same scan ({len(one.headers)} slices) was left aside: it reaches "
                f"{beyond:.1f} mm beyond what was read, and the two make no regular series together"
            )
            flags.append(QualityFlag("PART_LEFT_ASIDE", message))
    return flags


def _decode(files: Sequence[Path], ordered: Sequence[SliceHeader]) -> NDArray[np.int16] | NDArray[np.float32]:
    """(slices, rows, columns) in HU: int16 when every rescale value is whole, else float32."""
    whole = all(float(h.slope or 0).is_integer() and float(h.intercept or 0).is_integer() for h in ordered)
    dtype = np.dtype(np.int16 if whole else np.float32)
    shape = (len(ordered), ordered[0].rows, ordered[0].columns)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size > MAXIMUM_DECODED_BYTES:
        limit = MAXIMUM_DECODED_BYTES / 1024**3
        message = f"the series takes {size / 1024**3:.1f} GiB once decoded, the limit is {limit:.0f} GiB"
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
    with tempfile.TemporaryFile() as output:
        output.truncate(size)
        options = {"shape": shape, "dtype": dtype.str}
        children = min(_MOST_CHILDREN, os.cpu_count() or 1, max(1, len(items) // _LEAST_FILES_A_CHILD))
        outcomes = run_in_child("pixels", items, options, output=output, output_bytes=size, children=children)
        bad = [
            Finding(outcome.code, f"{_file(index, len(files))}: {outcome.message}")
            for index, outcome in zip(places, outcomes, strict=True)
            if outcome.code is not None
        ]
        if bad:
            raise refuse(bad[:3])
        output.seek(0)
        hu: NDArray[np.int16] | NDArray[np.float32] = np.fromfile(output, dtype=dtype).reshape(shape)
    if hu.size != np.prod(shape):
        raise JCSError("the decoding child wrote less than a whole volume")
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
