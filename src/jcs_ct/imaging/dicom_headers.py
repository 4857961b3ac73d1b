"""DICOM headers: the facts of every slice. Runs in the decoding child; nothing here trusts the file.

Only :func:`read_headers` is meant to be called, through ``sandbox``.
"""

from __future__ import annotations

import hashlib
import re
import struct
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging.elements import (
    DAMAGED_FILE_ERRORS,
    functional_group,
    to_integer,
    to_number,
    to_numbers,
    to_seconds,
    to_text,
)
from jcs_ct.imaging.headers import SliceHeader, identity_hash

#: Ages from here on are one.
OLDEST_AGE = 90.0

_DICOMDIR = "1.2.840.10008.1.3.10"
_LOSSY_SYNTAXES = frozenset(
    f"1.2.840.10008.1.2.4.{suffix}" for suffix in ("50", "51", "53", "55", "81", "91", "93", "203")
)


def _windows(dataset: Dataset) -> dict[str, tuple[float, ...]]:
    """The windows that a data set offers for display (PS3.3 C.11.2.1.2); pairs that are no window are left out."""
    levels, widths = (
        list(value) if isinstance(value, (MultiValue, list, tuple)) else [value]
        for value in (dataset.get("WindowCenter"), dataset.get("WindowWidth"))
    )
    numbers = [(to_number(level), to_number(width)) for level, width in zip(levels, widths, strict=False)]
    usable = [(level, width) for level, width in numbers if level is not None and width is not None and width > 0]
    return {
        "window_levels": tuple(level for level, _ in usable),
        "window_widths": tuple(width for _, width in usable),
    }


def _key(value: Any) -> str:
    text = to_text(value)
    return identity_hash(text) if text else ""


def _age_years(dataset: Dataset) -> float | None:
    """Patient's Age (AS, PS3.5 6.2), else from the dates of birth and study; old ages are told no finer than 90.

    So few live to be older that the exact figure is an identity (45 CFR 164.514).
    """
    stated = re.fullmatch(r"(\d{1,3})([DWMY])", to_text(dataset.get("PatientAge")).upper())
    if stated is not None:
        years = int(stated[1]) / {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[stated[2]]
        return min(round(years, 2), OLDEST_AGE)
    dates = [re.fullmatch(r"\d{8}", to_text(dataset.get(name))) for name in ("PatientBirthDate", "StudyDate")]
    if dates[0] is None or dates[1] is None:
        return None
    born, seen = int(dates[0][0]), int(dates[1][0])
    return min(float((seen - born) // 10_000), OLDEST_AGE) if 0 <= seen - born < 1_300_000 else None


def _pixel_extent(stream: BinaryIO, syntax: UID) -> tuple[int, bool]:
    """Bytes of pixel data from the stream's place on, and whether they reach their end (PS3.5 A.4).

    Returns:
        (0, False) when there is no Pixel Data element at all.
    """
    order = "<" if syntax.is_little_endian else ">"
    start = stream.tell()
    end = stream.seek(0, 2)
    stream.seek(start)
    head = stream.read(8)
    if len(head) < 8 or struct.unpack(order + "HH", head[:4]) != (0x7FE0, 0x0010):
        return 0, False
    if syntax.is_implicit_VR:
        length = struct.unpack(order + "L", head[4:])[0]
    else:
        tail = stream.read(4)
        if len(tail) < 4:
            return 0, False
        length = struct.unpack(order + "L", tail)[0]
    if length != 0xFFFFFFFF:
        held = min(length, end - stream.tell())
        return held, held == length
    held = 0
    while len(item := stream.read(8)) == 8:
        group, element, length = struct.unpack("<HHL", item)
        if (group, element) == (0xFFFE, 0xE0DD):
            return held, True
        if (group, element) != (0xFFFE, 0xE000) or stream.tell() + length > end:
            return held, False
        held += length
        stream.seek(length, 1)
    return held, False


def _rest_digest(stream: BufferedReader, start: int) -> str:
    stream.seek(start)
    return hashlib.file_digest(stream, "sha256").hexdigest()


def read_headers(
    path: Path, file_index: int, *, allow_deflated: bool = False, digest_pixels: bool = False
) -> list[SliceHeader]:
    """Header facts of every slice in one DICOM file, without its pixels; empty for a DICOMDIR.

    Args:
        path: The file.
        file_index: Its place among the files.
        allow_deflated: Read the deflated transfer syntax.
        digest_pixels: Read the pixels, too, for ``pixel_digest``.

    Raises:
        StudyError: UNSUPPORTED (deflated, no transfer syntax), UNREADABLE or TRUNCATED.
    """
    with path.open("rb") as stream:
        try:
            meta = read_file_meta_info(path)
            syntax = UID(to_text(meta.get("TransferSyntaxUID")))
            if to_text(meta.get("MediaStorageSOPClassUID")) == _DICOMDIR:
                return []
            if syntax == DeflatedExplicitVRLittleEndian and not allow_deflated:
                raise StudyError(
                    GateCode.UNSUPPORTED,
                    "the data set is deflated, which can unpack to a thousand times its size; "
                    "convert it to Explicit VR Little Endian, or allow deflated files if you trust their source",
                )
            stream.seek(0)
            dataset = pydicom.dcmread(stream, stop_before_pixels=True)
            pixels_at = stream.tell()
            deflated = syntax == DeflatedExplicitVRLittleEndian
            pixel_bytes, whole = (-1, True) if deflated else _pixel_extent(stream, syntax)
            digest = _rest_digest(stream, 0 if deflated else pixels_at) if digest_pixels else ""
            return _facts(dataset, file_index, meta, pixel_bytes, whole, digest)
        except DAMAGED_FILE_ERRORS as error:
            raise StudyError(
                GateCode.UNREADABLE,
                f"the DICOM header cannot be read ({type(error).__name__}); export the file again",
            ) from error


def _facts(
    dataset: Dataset, file_index: int, meta: Dataset, pixel_bytes: int, whole: bool, digest: str
) -> list[SliceHeader]:
    syntax = UID(to_text(meta.get("TransferSyntaxUID")))
    frames = max(1, to_integer(dataset.get("NumberOfFrames")) or 1)
    common: dict[str, Any] = {
        "file_index": file_index,
        "series_key": _key(dataset.get("SeriesInstanceUID")),
        "study_key": _key(dataset.get("StudyInstanceUID")),
        "frame_of_reference_key": _key(dataset.get("FrameOfReferenceUID")),
        "patient_key": _key(dataset.get("PatientID")),
        "modality": to_text(dataset.get("Modality")).upper(),
        "sop_class": to_text(dataset.get("SOPClassUID")) or to_text(meta.get("MediaStorageSOPClassUID")),
        "transfer_syntax": str(syntax),
        "rows": to_integer(dataset.get("Rows")) or 0,
        "columns": to_integer(dataset.get("Columns")) or 0,
        "frames": frames,
        "samples": to_integer(dataset.get("SamplesPerPixel")) or 1,
        "photometric": to_text(dataset.get("PhotometricInterpretation")).upper(),
        "bits_allocated": to_integer(dataset.get("BitsAllocated")) or 0,
        "bits_stored": to_integer(dataset.get("BitsStored")) or 0,
        "signed": to_integer(dataset.get("PixelRepresentation")) == 1,
        "gantry_tilt": to_number(dataset.get("GantryDetectorTilt")),
        "instance_number": to_integer(dataset.get("InstanceNumber")),
        "manufacturer": to_text(dataset.get("Manufacturer")),
        "model": to_text(dataset.get("ManufacturerModelName")),
        "body_part": to_text(dataset.get("BodyPartExamined")),
        "patient_position": to_text(dataset.get("PatientPosition")),
        "lossy": to_text(dataset.get("LossyImageCompression")) == "01" or str(syntax) in _LOSSY_SYNTAXES,
        "burned_in": to_text(dataset.get("BurnedInAnnotation")).upper() == "YES",
        "padding": _padding(dataset, "PixelPaddingValue"),
        "padding_limit": _padding(dataset, "PixelPaddingRangeLimit"),
        **_windows(dataset),
        "pixel_bytes": pixel_bytes,
        "pixel_digest": digest,
        "whole": whole,
        "age_years": _age_years(dataset),
        "high_bit": to_integer(dataset.get("HighBit")),
        "contrast": _key(dataset.get("ContrastBolusAgent")),
        "concatenation_key": _key(dataset.get("ConcatenationUID")),
        "concatenation_part": to_integer(dataset.get("InConcatenationNumber")),
        "concatenation_parts": to_integer(dataset.get("InConcatenationTotalNumber")),
        "frame_offset": to_integer(dataset.get("ConcatenationFrameOffsetNumber")),
        **_moment(dataset),
        "sex": {"F": "f", "M": "m", "O": "o"}.get(to_text(dataset.get("PatientSex")).upper(), ""),
    }
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return [SliceHeader(**common, **_slice_facts(dataset, dataset, dataset, dataset, dataset, dataset))]
    groups = dataset["PerFrameFunctionalGroupsSequence"].value
    if len(groups) != frames:
        raise StudyError(
            GateCode.UNREADABLE,
            f"the header states {frames} frames and describes {len(groups)}; export the file again",
        )
    return [_frame_header(dataset, common, number) for number in range(frames)]


def _frame_header(dataset: Dataset, common: dict[str, Any], number: int) -> SliceHeader:
    position, orientation, measures, transformation, frame_type, reconstruction = (
        functional_group(dataset, number, f"{name}Sequence")
        for name in (
            "PlanePosition",
            "PlaneOrientation",
            "PixelMeasures",
            "PixelValueTransformation",
            "CTImageFrameType",
            "CTReconstruction",
        )
    )
    facts = _slice_facts(position, orientation, measures, transformation, frame_type, reconstruction)
    facts["image_type"] = facts["image_type"] or _image_type(dataset.get("ImageType"))
    tilt = to_number(functional_group(dataset, number, "CTAcquisitionDetailsSequence").get("GantryDetectorTilt"))
    facts["gantry_tilt"] = common["gantry_tilt"] if tilt is None else tilt
    windows = _windows(functional_group(dataset, number, "FrameVOILUTSequence"))
    moment = {name: value for name, value in _frame_moment(dataset, number).items() if value is not None}
    windows = windows if windows["window_levels"] else {}
    return SliceHeader(**{**common, **facts, **windows, **moment, "frame": number + 1})


def _moment(dataset: Dataset) -> dict[str, float | int | None]:
    """When a slice was acquired and made, and in which of several acquisitions or phases."""
    acquired = to_seconds(dataset.get("AcquisitionTime"))
    return {
        "acquisition_number": to_integer(dataset.get("AcquisitionNumber")),
        "acquisition_time": to_seconds(dataset.get("AcquisitionDateTime")) if acquired is None else acquired,
        "content_time": to_seconds(dataset.get("ContentTime")),
        "trigger_time": to_number(dataset.get("TriggerTime") or dataset.get("NominalPercentageOfCardiacPhase")),
        "temporal_position": to_integer(dataset.get("TemporalPositionIdentifier")),
    }


def _frame_moment(dataset: Dataset, number: int) -> dict[str, float | int | None]:
    """The same facts of one frame (PS3.3 C.7.6.16.2.2 Frame Content, C.7.6.16.2.7 Cardiac Synchronization)."""
    content = functional_group(dataset, number, "FrameContentSequence")
    cardiac = functional_group(dataset, number, "CardiacSynchronizationSequence")
    return {
        "acquisition_number": to_integer(content.get("FrameAcquisitionNumber")),
        "acquisition_time": to_seconds(content.get("FrameAcquisitionDateTime")),
        "trigger_time": to_number(cardiac.get("NominalPercentageOfCardiacPhase")),
        "temporal_position": to_integer(content.get("TemporalPositionIndex")),
    }


def _slice_facts(
    position: Dataset,
    orientation: Dataset,
    measures: Dataset,
    transformation: Dataset,
    frame_type: Dataset,
    reconstruction: Dataset,
) -> dict[str, Any]:
    """The facts that a multi-frame file holds per frame; a single-frame file passes its data set six times."""
    return {
        "position": to_numbers(position.get("ImagePositionPatient"), 3),
        "orientation": to_numbers(orientation.get("ImageOrientationPatient"), 6),
        "pixel_spacing": to_numbers(measures.get("PixelSpacing"), 2),
        "slice_thickness": to_number(measures.get("SliceThickness")),
        "slope": to_number(transformation.get("RescaleSlope")),
        "intercept": to_number(transformation.get("RescaleIntercept")),
        "rescale_type": to_text(transformation.get("RescaleType")),
        "has_modality_lut": bool(transformation.get("ModalityLUTSequence")),
        "image_type": _image_type(frame_type.get("ImageType") or frame_type.get("FrameType")),
        "kernel": to_text(reconstruction.get("ConvolutionKernel")),
        "kvp": to_number(reconstruction.get("KVP")),
    }


def _image_type(value: Any) -> tuple[str, ...]:
    return tuple(part.upper() for part in to_text(value).split("\\") if part)


def _padding(dataset: Dataset, name: str) -> int | None:
    """A padding value as the stored pixels hold it (its VR, US or SS, is often written wrongly)."""
    value = to_integer(dataset.get(name))
    if value is None:
        return None
    bits = to_integer(dataset.get("BitsAllocated")) or 16
    signed = to_integer(dataset.get("PixelRepresentation")) == 1
    value %= 1 << bits
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value
