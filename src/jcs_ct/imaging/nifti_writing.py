"""Label and map volumes as NIfTI on the grid of the study's source (LPS -> RAS done once, here).

Arrays travel here as (slices, rows, columns) of that grid with an affine to LPS mm; NIfTI wants (columns, rows,
slices) and RAS+ (NIfTI-1.1, "orientation information"). A study without geometry is written with both form codes 0
("unknown"), unit voxel sizes and a description that says so: the voxels can be used, no position or length can.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import ConfigError
from jcs_ct.files import replacing

#: Stored value of an activation of 1; the header's scl_slope is its inverse, so readers see [0, 1].
ACTIVATION_LEVELS = 255

_SCANNER_ANATOMICAL = 1
_UNKNOWN = 0
#: Columns of an affine in (column, row, slice) order, from one in (slice, row, column) order.
_COLUMN_ROW_SLICE = [2, 1, 0, 3]


def ras_affine(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """4x4 (slice, row, column, 1) -> LPS mm, as (column, row, slice, 1) -> RAS mm."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, _COLUMN_ROW_SLICE]


def write_label_volume(
    path: Path, labels: NDArray[np.integer[Any]], affine: NDArray[np.float64] | None, *, description: str
) -> None:
    """Write integer labels, whole or not at all.

    Args:
        path: Ends in ``.nii`` or ``.nii.gz``.
        labels: (slices, rows, columns), 0 to 65535; stored as uint8 when they fit, else uint16.
        affine: (slice, row, column, 1) -> LPS mm, or None when the geometry is not known.
        description: At most 79 bytes of ASCII for the header.
    """
    highest = int(labels.max(initial=0))
    kind = np.dtype(np.uint8 if highest <= 255 else np.uint16)
    planes = (plane.astype(kind) for plane in labels)
    _write(path, planes, labels.shape, kind, affine, description, slope=1.0, highest=float(highest))


def write_activation_volume(
    path: Path, activation: NDArray[np.floating[Any]], affine: NDArray[np.float64] | None, *, description: str
) -> None:
    """Write an activation map in [0, 1], whole or not at all.

    Stored as uint8 with scl_slope 1/255, so every reader gives values in [0, 1] that differ from ``activation``
    by at most 1/510; a study of 300 slices stays a few megabytes.

    Args:
        path: Ends in ``.nii`` or ``.nii.gz``.
        activation: (slices, rows, columns) in [0, 1].
        affine: (slice, row, column, 1) -> LPS mm, or None when the geometry is not known.
        description: At most 79 bytes of ASCII for the header.
    """
    planes, kind = (_levels(plane) for plane in activation), np.dtype(np.uint8)
    _write(path, planes, activation.shape, kind, affine, description, slope=1.0 / ACTIVATION_LEVELS, highest=1.0)


def _levels(plane: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    if not plane.any():  # most slices of most studies
        return np.zeros(plane.shape, dtype=np.uint8)
    levels: NDArray[np.uint8] = np.rint(np.clip(plane.astype(np.float32), 0.0, 1.0) * ACTIVATION_LEVELS).astype(
        np.uint8
    )
    return levels


def write_array(path: Path, array: NDArray[Any], affine: NDArray[np.float64] | None, *, description: str) -> None:
    """Write labels, HU or a map, in the smallest of uint8, uint16, int16 and float32 that holds it.

    Args:
        path: Ends in ``.nii`` or ``.nii.gz``.
        array: (slices, rows, columns), bool, integers or floats.
        affine: (slice, row, column, 1) -> LPS mm, or None when the geometry is not known.
        description: At most 79 bytes of ASCII for the header.

    Raises:
        ConfigError: another suffix.
        ValueError: integers outside -32 768 to 65 535, or values that are no numbers.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ConfigError(f"{path.name!r} must end in .nii or .nii.gz")
    kind = np.dtype(_kind(array))
    planes = (plane.astype(kind) for plane in array)
    highest = float(array.max(initial=0))
    _write(path, planes, array.shape, kind, affine, description, slope=1.0, highest=highest)


def _kind(array: NDArray[Any]) -> type[np.generic]:
    """The smallest of the types that :func:`write_array` writes that holds the values."""
    if np.issubdtype(array.dtype, np.floating):
        return np.float32
    if array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"an array of {array.dtype} cannot be saved; give bool, integers or floats")
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    kind = next((kind for kind in (np.uint8, np.uint16, np.int16) if _holds(kind, low, high)), None)
    if kind is None:
        raise ValueError(f"values from {low} to {high} fit neither uint16 nor int16")
    return kind


def _holds(kind: type[np.integer[Any]], low: int, high: int) -> bool:
    limits = np.iinfo(kind)
    return bool(limits.min <= low and high <= limits.max)


def nifti_library() -> ModuleType:
    """nibabel; with pydicom, which it loads, a fifth of all that a reading imports: best done beside other work."""
    import nibabel

    library: ModuleType = nibabel
    return library


def _write(
    path: Path,
    planes: Iterable[NDArray[Any]],
    shape: tuple[int, ...],
    kind: np.dtype[Any],
    affine: NDArray[np.float64] | None,
    description: str,
    *,
    slope: float,
    highest: float,
) -> None:
    """Header and voxels plane by plane: (slices, rows, columns) in memory order is the file's, columns fastest."""
    nibabel = nifti_library()
    new_image: Any = nibabel.Nifti1Image  # nibabel's own annotations are partial
    nothing = np.broadcast_to(np.zeros((), kind), shape[::-1])  # of one voxel: the header asks for shape and type
    image = new_image(nothing, None if affine is None else ras_affine(affine))
    code = _UNKNOWN if affine is None else _SCANNER_ANATOMICAL
    header = image.header
    header.set_xyzt_units(xyz="unknown" if affine is None else "mm")
    image.set_sform(None if affine is None else image.affine, code=code)
    image.set_qform(None if affine is None else image.affine, code=code)
    header.set_slope_inter(slope, 0.0)
    header["cal_max"] = highest
    header["descrip"] = description.encode("ascii", errors="replace")[:79]
    image.update_header()
    header.set_data_offset(header.single_vox_offset)
    stored = kind.newbyteorder(header.endianness)
    with replacing(path) as temporary, nibabel.openers.ImageOpener(str(temporary), "wb") as file:
        header.write_to(file)
        file.write(bytes(header.single_vox_offset - file.tell()))
        for plane in planes:
            file.write(np.ascontiguousarray(plane, dtype=stored).tobytes())
