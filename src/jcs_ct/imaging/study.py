"""Study: what was opened, from where, and what the gate thinks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jcs_ct.errors import GateCode
from jcs_ct.volume import CTVolume


@dataclass(frozen=True)
class QualityFlag:
    """Something a reader of the report should know about the input; not a reason to refuse it."""

    code: GateCode | str
    message: str


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
    """

    volume: CTVolume
    identifier: str
    kind: str
    paths: tuple[Path, ...]
    flags: tuple[QualityFlag, ...] = ()
    acquisition: Mapping[str, str | float] = field(default_factory=dict)
