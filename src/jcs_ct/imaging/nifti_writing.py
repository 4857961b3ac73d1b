"""Label and map volumes as NIfTI on the grid of the study's source (LPS -> RAS done once, here).

Arrays travel here as (slices, rows, columns) of that grid with an affine to LPS mm; NIfTI wants (columns, rows,
slices) and RAS+ (NIfTI-1.1, "orientation information"). A study without geometry is written with both form codes 0
("unknown"), unit voxel sizes and a description that says so: the voxels can be used, no position or length can.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
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
    stored = labels.astype(np.uint8 if int(labels.max(initial=0)) <= 255 else np.uint16, copy=False)
    _write(path, stored, affine, description, slope=1.0, highest=float(stored.max(initial=0)))


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
    stored = np.empty(activation.shape, dtype=np.uint8)
    for index, plane in enumerate(activation):
        stored[index] = np.rint(np.clip(plane.astype(np.float32), 0.0, 1.0) * ACTIVATION_LEVELS)
    _write(path, stored, affine, description, slope=1.0 / ACTIVATION_LEVELS, highest=1.0)


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
    if np.issubdtype(array.dtype, np.floating):
        stored: NDArray[Any] = array.astype(np.float32)
    elif array.dtype == bool or np.issubdtype(array.dtype, np.integer):
        low, high = int(array.min(initial=0)), int(array.max(initial=0))
        kinds = (kind for kind in (np.uint8, np.uint16, np.int16) if _holds(kind, low, high))
        kind = next(kinds, None)
        if kind is None:
            raise ValueError(f"values from {low} to {high} fit neither uint16 nor int16")
        stored = array.astype(kind)
    else:
        raise ValueError(f"an array of {array.dtype} cannot be saved; give bool, integers or floats")
    _write(path, stored, affine, description, slope=1.0, highest=float(stored.max(initial=0)))


def _holds(kind: type[np.integer[Any]], low: int, high: int) -> bool:
    limits = np.iinfo(kind)
    return bool(limits.min <= low and high <= limits.max)


def _write(
    path: Path,
    stored: NDArray[Any],
    affine: NDArray[np.float64] | None,
    description: str,
    *,
    slope: float,
    highest: float,
) -> None:
    new_image: Any = nibabel.Nifti1Image  # nibabel's own annotations are partial
    image = new_image(stored.transpose(2, 1, 0), None if affine is None else ras_affine(affine))
    code = _UNKNOWN if affine is None else _SCANNER_ANATOMICAL
    image.header.set_xyzt_units(xyz="unknown" if affine is None else "mm")
    image.set_sform(None if affine is None else image.affine, code=code)
    image.set_qform(None if affine is None else image.affine, code=code)
    # With a slope in the header nibabel writes the array's bytes as they are.
    image.header.set_slope_inter(slope, 0.0)
    image.header["cal_max"] = highest
    image.header["descrip"] = description.encode("ascii", errors="replace")[:79]
    with replacing(path) as temporary:
        nibabel.save(image, temporary)
