"""What the gate needs to know of one slice: plain facts, hashed identities, no pixels and no patient data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from jcs_ct.disk_space import GIB

#: CT Image, Enhanced CT Image and Legacy Converted Enhanced CT Image Storage (PS3.4 B.5).
CT_SOP_CLASSES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}
)
#: Implicit and Explicit VR Little Endian, Explicit VR Big Endian: pixel bytes can be counted without decoding.
UNCOMPRESSED_SYNTAXES = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
#: RLE, JPEG baseline, extended and lossless, JPEG-LS, JPEG 2000 and HTJ2K: what the permissive decoders read.
DECODED_SYNTAXES = frozenset(
    {"1.2.840.10008.1.2.5", *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203))}
)
#: Deflated Explicit VR Little Endian: refused unless allowed, since it can unpack to a thousand times its size.
DEFLATED_SYNTAX = "1.2.840.10008.1.2.1.99"
#: Largest decoded pixel data of one input, in bytes; a header that asks for more is not believed.
MAXIMUM_DECODED_BYTES = 4 * GIB


def identity_hash(*parts: str) -> str:
    """First 16 hex digits of the SHA-256 of ``parts``; the only form in which identities travel."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class SourceKeys:
    """Whose slices a study was read from, each as :func:`identity_hash`; empty where the headers do not say.

    Args:
        patient: Of the Patient ID.
        frame_of_reference: Of the Frame of Reference UID.
        series: Of the Series Instance UIDs of the slices: several where one scan was joined from them.
        beside: Of those of the other series among the same files.
    """

    patient: str = ""
    frame_of_reference: str = ""
    series: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


#: In Image Type from its third value on: pixels put together from several slices.
PROJECTIONS = ("MIP", "MINIP", "MIN IP", "PROJECTION", "AVERAGE", "MPR")
#: Likewise (PS3.3 C.8.15.2.1.1.5): HU computed from several energies, for a single one or without a material.
VIRTUAL = ("VMI", "VIRTUAL", "MONO_E", "MONOENERGETIC", "MAT_REMOVED", "VNC")


@dataclass(frozen=True)
class SliceHeader:
    """Header facts of one slice (a file, or a frame of a multi-frame file).

    Lengths are in mm, angles in degrees. ``None`` means that the header does not say.

    Args:
        file_index: Which of the scanned files it lies in.
        frame: Frame number from 1 in a multi-frame file, else 0.
        series_key: :func:`identity_hash` of the Series Instance UID; the other keys likewise, empty when absent.
        position: Image Position (Patient), centre of the first pixel, LPS (PS3.3 C.7.6.2.1.1).
        orientation: Image Orientation (Patient): direction of a row, then of a column.
        pixel_spacing: Distance between rows, then between columns.
        slope: Rescale Slope of this very slice.
        intercept: Rescale Intercept of this very slice.
        padding: Pixel Padding Value, in stored values.
        padding_limit: Pixel Padding Range Limit, in stored values.
        window_levels: Window Center of each window the header offers for display, in HU; never used for analysis.
        window_widths: Window Width of each, in HU.
        photometric: Photometric Interpretation (PS3.3 C.7.6.3.1.2), in capitals.
        burned_in: Whether Burned In Annotation says that text identifies the patient or the study in the pixels.
        pixel_bytes: Bytes of pixel data that the file really holds, -1 when not counted (deflated).
        pixel_digest: SHA-256 of all that follows the header, hexadecimal, where it was asked for.
        whole: Whether the pixel data reaches its end in the file.
        high_bit: High Bit; ``bits_stored - 1`` wherever the standard is kept (PS3.3 C.7.6.3.1).
        acquisition_number: Acquisition Number; with the facts below, what tells two scans in one series apart.
        acquisition_time: When the slice was acquired, in seconds of its day.
        content_time: When its pixels were made, likewise.
        trigger_time: Trigger Time in ms, or the nominal percentage of the cardiac phase.
        temporal_position: Temporal Position Identifier or Index.
        contrast: :func:`identity_hash` of Contrast/Bolus Agent.
        concatenation_key: :func:`identity_hash` of the Concatenation UID (PS3.3 C.7.6.16.1.1), empty when whole.
        concatenation_part: In-concatenation Number, from 1.
        concatenation_parts: In-concatenation Total Number.
        frame_offset: Concatenation Frame Offset Number: frames in the parts before this one.
        age_years: The patient's, in years, 90 for all from 90 on; for statistics over many; no report states it.
        sex: ``f``, ``m``, ``o`` or empty; likewise.
    """

    file_index: int = 0
    frame: int = 0
    series_key: str = ""
    study_key: str = ""
    frame_of_reference_key: str = ""
    patient_key: str = ""
    modality: str = ""
    sop_class: str = ""
    transfer_syntax: str = ""
    image_type: tuple[str, ...] = ()
    rows: int = 0
    columns: int = 0
    frames: int = 1
    samples: int = 1
    photometric: str = ""
    bits_allocated: int = 0
    bits_stored: int = 0
    signed: bool = False
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    pixel_spacing: tuple[float, ...] | None = None
    slice_thickness: float | None = None
    slope: float | None = None
    intercept: float | None = None
    rescale_type: str = ""
    has_modality_lut: bool = False
    padding: int | None = None
    padding_limit: int | None = None
    window_levels: tuple[float, ...] = ()
    window_widths: tuple[float, ...] = ()
    gantry_tilt: float | None = None
    instance_number: int | None = None
    kernel: str = ""
    manufacturer: str = ""
    model: str = ""
    kvp: float | None = None
    body_part: str = ""
    patient_position: str = ""
    lossy: bool = False
    burned_in: bool = False
    pixel_bytes: int = -1
    pixel_digest: str = ""
    whole: bool = True
    high_bit: int | None = None
    acquisition_number: int | None = None
    acquisition_time: float | None = None
    content_time: float | None = None
    trigger_time: float | None = None
    temporal_position: int | None = None
    contrast: str = ""
    concatenation_key: str = ""
    concatenation_part: int | None = None
    concatenation_parts: int | None = None
    frame_offset: int | None = None
    age_years: float | None = None
    sex: str = ""

    @property
    def is_derived(self) -> bool:
        """Whether Image Type (PS3.3 C.7.6.1.1.2) says that pixels come from another series, or were computed.

        ``DERIVED`` alone does not: compressing with loss sets it.
        """
        kinds = " ".join(self.image_type[2:])
        return "SECONDARY" in self.image_type[1:2] or any(kind in kinds for kind in (*PROJECTIONS, *VIRTUAL))

    @property
    def decoded_bytes(self) -> int:
        """Bytes that the pixel data of the whole file takes once decoded."""
        return self.rows * self.columns * self.frames * self.samples * ((self.bits_allocated + 7) // 8)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SliceHeader:
        """The inverse of :meth:`to_dict`; lists become tuples.

        Raises:
            TypeError: unknown fields.
        """
        known = {field.name for field in fields(cls)}
        if unknown := set(values) - known:
            raise TypeError(f"unknown header facts: {sorted(unknown)}")
        facts: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        return cls(**facts)
