"""Study: what was opened, from where, and what the gate thinks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jcs_ct.axes import AS_STORED, AxisTurn
from jcs_ct.errors import GateCode
from jcs_ct.imaging.headers import SourceKeys
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
        volume: The voxels in HU, in the patient's axes: slices from superior to inferior, rows to the back, columns
            to the patient's left.
        identifier: Hash of the series' identity (first 16 hex digits of a SHA-256); never patient data.
        kind: ``dicom``, ``nifti`` or ``slices``.
        paths: Source file of every slice on the source's grid, in its order (one entry for NIfTI and multi-frame).
        flags: Warnings of the gate.
        acquisition: Non-identifying facts for the report: manufacturer, model, kernel, slice_thickness_mm, kvp...
        header_windows: Grey windows that the header offers for display, the commonest among the slices first.
        frame_numbers: For a multi-frame file, the frame (from 1) of every slice on the source's grid; else empty.
        turn: From the source's grid to the volume's. A source's grid is (slices, rows, columns) as it stores them:
            DICOM slices in the order of their positions, from superior to inferior (from the back, from the left for
            coronal and sagittal ones); a NIfTI's third, second and first axis.
        source: Whose slices they are, as hashes; None for what is no DICOM.

    Raises:
        ValueError: the volume is not in the patient's axes.
    """

    volume: CTVolume
    identifier: str
    kind: str
    paths: tuple[Path, ...]
    flags: tuple[QualityFlag, ...] = ()
    acquisition: Mapping[str, str | float] = field(default_factory=dict)
    header_windows: tuple[HeaderWindow, ...] = ()
    frame_numbers: tuple[int, ...] = ()
    turn: AxisTurn = AS_STORED
    source: SourceKeys | None = None

    def __post_init__(self) -> None:
        if self.volume.affine is not None and not AxisTurn.to_patient(self.volume.affine).is_identity:
            raise ValueError(
                "a study's volume must be in the patient's axes (slices from superior to inferior, rows to the back, "
                f"columns to the left), got the steps {self.volume.affine[:3, :3].T.round(3).tolist()} in LPS mm"
            )

    @property
    def source_shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns) of the source's grid."""
        return self.turn.inverse.turned_shape(self.volume.shape)

    @property
    def source_affine(self) -> NDArray[np.float64] | None:
        """4x4, (slice, row, column, 1) of the source's grid -> LPS mm; None when the geometry is not known."""
        affine = self.volume.affine
        return None if affine is None else self.turn.inverse.turned_affine(affine, self.volume.shape)

    def as_array(self, space: Literal["LPS", "RAS"] = "LPS") -> tuple[NDArray[Any], NDArray[np.float64] | None]:
        """The voxels and where they lie, in one call.

        Args:
            space: Patient coordinates of the affine: DICOM's and SimpleITK's LPS, or nibabel's and NIfTI's RAS.

        Returns:
            (slices, rows, columns) in HU, read-only and in the patient's axes; and 4x4, (slice, row, column, 1) -> mm
            of that space at voxel centres, None when the geometry is not known. ``lesion_labels``, ``lung_labels``
            and ``activation`` of a diagnosis lie on the same grid.

        Raises:
            ValueError: another space.
        """
        if space not in ("LPS", "RAS"):
            raise ValueError(f"space must be LPS or RAS, got {space!r}")
        affine = self.volume.affine
        if affine is None or space == "LPS":
            return self.volume.hu, affine
        return self.volume.hu, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine

    def save_nifti(self, array: NDArray[Any], path: str | Path, *, description: str = "jcs-ct") -> Path:
        """Save a mask, a map or voxels of this study as NIfTI on its source's grid, whole or not at all.

        The turn back to the source's grid and the step from LPS to RAS are done here.

        Args:
            array: (slices, rows, columns) on ``volume``'s grid: bool or integers (labels, HU), or floats (a map).
            path: Ends in ``.nii`` or ``.nii.gz``.
            description: At most 79 bytes of ASCII for the header.

        Returns:
            ``path``.

        Raises:
            ValueError: another shape, or values that no NIfTI type here can hold.
            ConfigError: another suffix.
            OutputError: the file cannot be written.
        """
        from jcs_ct.imaging.nifti_writing import write_array  # loads nibabel, which reading DICOM does not need

        write_array(Path(path), self.on_source_grid(array), self.source_affine, description=description)
        return Path(path)

    def on_source_grid(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of an array on the volume's grid, (slices, rows, columns), as it lies on the source's grid."""
        if array.shape != self.volume.shape:
            raise ValueError(f"the array has shape {array.shape}, the study's volume {self.volume.shape}")
        return self.turn.inverse.turned(array)


#: Said of a study whose source states no orientation.
ASSUMED_AXES = QualityFlag(
    "ASSUMED_AXES",
    "the source states no orientation: slices are taken to be stored as they are usually shown, the patient's right "
    "on the left and the front on top; right and left are an assumption",
)


def turned_volume(hu: NDArray[Any], affine: NDArray[np.float64] | None, turn: AxisTurn | None) -> CTVolume:
    """A CT on its source's grid as a volume in the patient's axes, in memory in its own order.

    Args:
        hu: (slices, rows, columns) of the source's grid, HU.
        affine: Of the source's grid; None when it is not known.
        turn: From the source's grid; None where the source states no orientation.
    """
    if turn is None or turn.is_identity:
        return CTVolume(hu, affine, axes_are_assumed=turn is None)
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    turned = None if affine is None else turn.turned_affine(affine, shape)
    return CTVolume(np.ascontiguousarray(turn.turned(hu)), turned)
