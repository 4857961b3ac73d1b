"""Study: what was opened, from where, and what the gate thinks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from jcs_ct.errors import GateCode
from jcs_ct.volume import CTVolume


@dataclass(frozen=True)
class QualityFlag:
    """Something a reader of the report should know about the input; not a reason to refuse it."""

    code: GateCode | str
    message: str


@dataclass(frozen=True)
class HeaderWindow:
    """A grey window that the input's header offers for display; analysis never uses it.

    Args:
        level_hu: Its centre.
        width_hu: Its width, greater than 0.
    """

    level_hu: float
    width_hu: float


class SeriesFate(StrEnum):
    """What becomes of a series: read, could have been read, or refused by the gate."""

    CHOSEN = "chosen"
    CANDIDATE = "candidate"
    REFUSED = "refused"


@dataclass(frozen=True)
class SeriesInfo:
    """One series of an input and its fate, without anything that identifies a patient.

    Args:
        identifier: First 16 hex digits of the SHA-256 of the series' identity; what ``series=`` takes.
        kind: ``dicom``, ``nifti`` or ``slices``.
        fate: Whether the series is read.
        file_count: Files the series is made of.
        slice_count: Slices (frames, for multi-frame files).
        code: The gate's code when refused.
        message: Why it has this fate.
        modality: The header's modality, or an empty string.
        shape: (rows, columns), or None when they are missing or differ.
        spacing_mm: (slices, rows, columns) in mm, or None when not known.
        extent_mm: Distance between the centres of the first and the last slice in mm, or None.
        kernel: Reconstruction kernel, or an empty string.
        flags: Warnings of the gate.
    """

    identifier: str
    kind: str
    fate: SeriesFate
    file_count: int
    slice_count: int
    code: GateCode | None = None
    message: str = ""
    modality: str = ""
    shape: tuple[int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    extent_mm: float | None = None
    kernel: str = ""
    flags: tuple[QualityFlag, ...] = ()


@dataclass(frozen=True, eq=False)
class Study:
    """One chest CT series, ready to be read.

    Args:
        volume: The voxels in HU, slice 0 most superior.
        identifier: Hash of the series' identity (first 16 hex digits of a SHA-256); never patient data.
        kind: ``dicom``, ``nifti`` or ``slices``.
        paths: Source file of every slice, in the volume's order (one entry for NIfTI and multi-frame).
        flags: Warnings of the gate.
        acquisition: Non-identifying facts for the report: manufacturer, model, kernel, slice_thickness_mm, kvp...
        header_windows: Grey windows that the header offers for display, the commonest among the slices first.
        frame_numbers: For a multi-frame file, the frame (from 1) of every slice in the volume's order; else empty.
    """

    volume: CTVolume
    identifier: str
    kind: str
    paths: tuple[Path, ...]
    flags: tuple[QualityFlag, ...] = ()
    acquisition: Mapping[str, str | float] = field(default_factory=dict)
    header_windows: tuple[HeaderWindow, ...] = ()
    frame_numbers: tuple[int, ...] = ()
