"""Checks of the gate on what slices are: their kind, whether they are whole, one series, and have a way to HU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jcs_ct.disk_space import GIB
from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_finding import Finding, Severity, count_of
from jcs_ct.imaging.headers import (
    CT_SOP_CLASSES,
    DECODED_SYNTAXES,
    DEFLATED_SYNTAX,
    MAXIMUM_DECODED_BYTES,
    UNCOMPRESSED_SYNTAXES,
    SliceHeader,
)

#: Photometric Interpretations (PS3.3 C.7.6.3.1.2) whose values are levels of grey; empty where none is stated.
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2", ""})
#: Rescale types (PS3.3 C.11.1.1.2) of Hounsfield units, or that leave open what the values are.
_HOUNSFIELD = frozenset({"HU", "HOUNSFIELD", "HOUNSFIELD UNITS", "US", "UNSPECIFIED", ""})
#: In Image Type from its third value on: values that are no attenuation (PS3.3 C.8.15.2.1.1.5, and older names).
_PARAMETRIC = frozenset(
    {
        "PERFUSION",
        "MATERIAL",
        "MAT_SPECIFIC",
        "MAT_FRACTIONAL",
        "MAT_MODIFIED",
        "MAT_VALUE_BASED",
        "EFF_ATOMIC_NUM",
        "ELECTRON_DENSITY",
        "IODINE",
        "SUBTRACTION",
    }
)

#: Patients below this age are children; an age of 0 is mostly what takes the place of one that was removed.
ADULT_YEARS = 16

_ALL_PARTS = "give all parts, the files with one Concatenation UID"


def check_modality(headers: Sequence[SliceHeader]) -> list[Finding]:
    """NOT_CT: a slice of another modality, with colour pixels, or in an object that is no CT image."""
    for header in headers:
        if header.modality != "CT" and not (header.modality == "" and header.sop_class in CT_SOP_CLASSES):
            came = f"modality {header.modality}" if header.modality else "no modality and no CT image class"
            message = f"a CT series is needed, the header has {came}"
        elif header.samples != 1:
            message = f"CT slices have 1 value a pixel, these have {header.samples}: a screenshot or a fused picture"
        elif header.photometric not in _GREY:
            message = f"CT slices have grey levels, the values of these are colours ({header.photometric})"
        elif header.sop_class not in CT_SOP_CLASSES:
            message = "the modality is CT, the object is not a CT image (secondary capture, report, structure set)"
        else:
            continue
        return [Finding(GateCode.NOT_CT, message, Severity.REFUSED)]
    return []


def check_localizer(headers: Sequence[SliceHeader]) -> list[Finding]:
    """LOCALIZER: a scout view, not a slice."""
    if any("LOCALIZER" in header.image_type for header in headers):
        message = "the series is a localizer (scout view); give the axial series of the same study"
        return [Finding(GateCode.LOCALIZER, message, Severity.REFUSED)]
    return []


def check_whole(headers: Sequence[SliceHeader]) -> list[Finding]:
    """TRUNCATED and UNREADABLE by arithmetic: what the header announces against what the file holds."""
    for number, header in enumerate(headers, start=1):
        where = f"file {header.file_index + 1} (in name order)"
        if min(header.rows, header.columns) < 1 or header.bits_allocated not in (8, 16, 32):
            message = (
                f"{where} states {header.rows}x{header.columns} pixels of {header.bits_allocated} bits; "
                "slices of 8, 16 or 32 bits are read"
            )
            return [Finding(GateCode.UNREADABLE, message, Severity.REFUSED)]
        if not 0 < header.bits_stored <= header.bits_allocated:
            message = f"{where} stores {header.bits_stored} of {header.bits_allocated} bits a pixel"
            return [Finding(GateCode.UNREADABLE, message, Severity.REFUSED)]
        if header.decoded_bytes > MAXIMUM_DECODED_BYTES:
            message = (
                f"{where} announces {header.decoded_bytes / GIB:.1f} GiB of pixels, "
                f"the limit is {MAXIMUM_DECODED_BYTES / GIB:.0f} GiB"
            )
            return [Finding(GateCode.UNREADABLE, message, Severity.REFUSED)]
        plain = header.transfer_syntax in UNCOMPRESSED_SYNTAXES
        short = plain and 0 <= header.pixel_bytes < header.decoded_bytes
        row_bytes = header.columns * header.samples * ((header.bits_allocated + 7) // 8)
        if plain and header.pixel_bytes >= header.decoded_bytes + row_bytes:
            message = (
                f"{where} holds {header.pixel_bytes} bytes of pixels, its header announces {header.decoded_bytes}; "
                "rows, columns or bits are stated wrongly, export the file again"
            )
            return [Finding(GateCode.UNREADABLE, message, Severity.REFUSED)]
        if not header.whole or short or header.pixel_bytes == 0:
            expected = f"{header.decoded_bytes} bytes of pixels" if plain else "compressed pixels to their end"
            message = (
                f"{where} is cut off: expected {expected}, found {max(header.pixel_bytes, 0)} bytes; "
                f"copy it again from its source ({len(headers) - number} slices not checked)"
            )
            return [Finding(GateCode.TRUNCATED, message.replace(" (0 slices not checked)", ""), Severity.REFUSED)]
    return []


def check_frames(headers: Sequence[SliceHeader]) -> list[Finding]:
    """UNSUPPORTED: several frames in a file whose functional groups place none of them (PS3.3 A.3, A.38)."""
    unplaced = [header for header in headers if header.frames > 1 and header.frame == 0]
    if not unplaced:
        return []
    first = unplaced[0]
    message = (
        f"file {first.file_index + 1} (in name order) holds {first.frames} frames and does not say where each of "
        "them lies (Per-Frame Functional Groups); export one slice a file, or an Enhanced CT image"
    )
    return [Finding(GateCode.UNSUPPORTED, message, Severity.REFUSED)]


def check_concatenation(headers: Sequence[SliceHeader]) -> list[Finding]:
    """TRUNCATED: a multi-frame image that was split into parts (PS3.3 C.7.6.16.1.1), of which some are not here.

    A note where nothing says how many parts there are (In-concatenation Total Number may be left out).
    """
    findings = []
    for key in sorted({header.concatenation_key for header in headers} - {""}):
        files = {one.file_index: one for one in headers if one.concatenation_key == key}
        numbers = {one.concatenation_part for one in files.values() if one.concatenation_part is not None}
        total = max([*numbers, *(one.concatenation_parts or 0 for one in files.values())])
        missing = sorted(set(range(1, total + 1)) - numbers)
        offset = 0
        for one in sorted(files.values(), key=lambda one: one.frame_offset or 0):
            lost = (one.frame_offset or offset) - offset
            if lost and not missing:
                message = f"an image in parts lacks {abs(lost)} frame(s) before its frame {one.frame_offset}"
                findings.append(Finding(GateCode.TRUNCATED, f"{message}; {_ALL_PARTS}"))
                break
            offset += one.frames
        if missing:
            named = ", ".join(str(number) for number in missing[:6])
            message = f"an image in {total} parts lacks part {named}"
            findings.append(Finding(GateCode.TRUNCATED, f"{message}; {_ALL_PARTS}"))
        elif not any(one.concatenation_parts for one in files.values()):
            message = f"an image in parts does not say how many: {len(files)} are here, and the last may be missing"
            findings.append(Finding(GateCode.TRUNCATED, message, Severity.NOTE))
    return findings


def check_syntax(headers: Sequence[SliceHeader]) -> list[Finding]:
    """UNSUPPORTED: a transfer syntax that none of the permissive decoders reads."""
    known = UNCOMPRESSED_SYNTAXES | DECODED_SYNTAXES | {DEFLATED_SYNTAX}
    unknown = sorted({header.transfer_syntax for header in headers} - known)
    if not unknown:
        return []
    message = (
        f"no decoder for the transfer syntax {unknown[0] or '(none stated)'}; convert the series to Explicit VR "
        "Little Endian"
    )
    return [Finding(GateCode.UNSUPPORTED, message, Severity.REFUSED)]


def check_size(ordered: Sequence[SliceHeader]) -> list[Finding]:
    """MIXED_SIZE: slices of different numbers of rows or columns."""
    sizes = Counter((header.rows, header.columns) for header in ordered)
    if len(sizes) == 1:
        return []
    listed = ", ".join(f"{number} of {rows}x{columns}" for (rows, columns), number in sizes.most_common(4))
    message = f"slices differ in size: {listed} pixels; export one reconstruction"
    return [Finding(GateCode.MIXED_SIZE, message, Severity.REFUSED)]


def check_rescale(ordered: Sequence[SliceHeader]) -> list[Finding]:
    """NO_HU: no way to Hounsfield units; HU_VARIES: the way differs from slice to slice."""
    lacking = [
        number
        for number, header in enumerate(ordered, start=1)
        if header.slope is None or header.intercept is None or header.slope == 0 or header.has_modality_lut
    ]
    if lacking:
        message = (
            f"{count_of(len(lacking), len(ordered))} have no usable rescale slope and intercept, the first is slice "
            f"{lacking[0]}; grey levels cannot become HU, export the series again"
        )
        return [Finding(GateCode.NO_HU, message, Severity.REFUSED)]
    types = {header.rescale_type.upper() for header in ordered} - _HOUNSFIELD
    parametric = _PARAMETRIC & {part for header in ordered for part in header.image_type[2:]}
    if types or parametric:
        kind = ", ".join(sorted(types | parametric))
        message = f"the values are {kind}, not Hounsfield units; give the CT itself"
        return [Finding(GateCode.NO_HU, message, Severity.REFUSED)]
    rescales = Counter((header.slope, header.intercept) for header in ordered)
    if len(rescales) == 1:
        return []
    (slope, intercept), number = rescales.most_common(1)[0]
    message = (
        f"{len(ordered) - number} of {len(ordered)} slices have another rescale than slope {slope:g}, intercept "
        f"{intercept:g}; every slice was read with its own values"
    )
    return [Finding(GateCode.HU_VARIES, message, Severity.NOTE)]


def check_one_series(ordered: Sequence[SliceHeader]) -> list[Finding]:
    """MIXED_SERIES: one Series Instance UID over slices of different patients, studies, frames or kernels."""
    findings = []
    names = {
        "patient_key": "patients",
        "study_key": "studies",
        "frame_of_reference_key": "frames of reference",
        "kernel": "kernels",
    }
    for name, plural in names.items():
        values = Counter(getattr(header, name) for header in ordered)
        if len(values) > 1:
            message = f"slices of {len(values)} {plural} carry one series identity; export one series"
            findings.append(Finding(GateCode.MIXED_SERIES, message))
    return findings


def check_origin(ordered: Sequence[SliceHeader]) -> list[Finding]:
    """Notes on how the pixels came about, and of whom: lossy, derived, a doubtful header, text, a child."""
    findings = []
    if any(header.lossy for header in ordered):
        message = "the pixels were compressed with loss: HU are approximate"
        findings.append(Finding("LOSSY_COMPRESSION", message, Severity.NOTE))
    if any(header.is_derived for header in ordered):
        message = (
            "the series was derived from another one (reformatted, projected, averaged, or computed for one energy "
            "or without a material): volumes and HU may differ"
        )
        findings.append(Finding("DERIVED_SERIES", message, Severity.NOTE))
    if any(header.modality == "" for header in ordered):
        message = "the header names no modality; read as CT because of its object class"
        findings.append(Finding("NO_MODALITY", message, Severity.NOTE))
    if any(header.burned_in for header in ordered):
        message = (
            "the header says that text is burned into the pixels: it may name the patient wherever slices are shown, "
            "and be taken for tissue"
        )
        findings.append(Finding("BURNED_IN", message, Severity.NOTE))
    if any(0.0 < header.age_years < ADULT_YEARS for header in ordered if header.age_years is not None):
        message = (
            f"the header states a patient younger than {ADULT_YEARS}: the networks have learnt from adults nearly "
            "alone, and what is usual for lungs was measured on adults; verdict, sides and volumes may be wrong "
            "without another sign"
        )
        findings.append(Finding("CHILD", message, Severity.NOTE))
    return findings
