"""Phantoms and their truth as NIfTI, RAS+ as the format wants it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from jcs_ct.files import prepare_output_folder, write_bytes, write_text
from jcs_ct.phantom.config import Phantom
from jcs_ct.phantom.truth import NOTICE, truth_record

_SCANNER_ANATOMICAL = 1


def write_nifti(phantom: Phantom, folder: Path) -> None:
    """Write ``ct.nii.gz`` (int16 HU) and ``truth/``.

    Args:
        phantom: What to write.
        folder: Made when missing; files of the same names are replaced.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    prepare_output_folder(folder)
    write_bytes(folder / "ct.nii.gz", nifti_bytes(phantom.volume.hu, _affine_of(phantom)))
    write_truth(phantom, folder / "truth")


def write_truth(phantom: Phantom, folder: Path) -> None:
    """Write ``lesions.nii.gz`` (lesion ids), ``lungs.nii.gz`` (1 right, 2 left) and ``truth.json``.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    prepare_output_folder(folder)
    affine = _affine_of(phantom)
    write_bytes(folder / "lesions.nii.gz", nifti_bytes(phantom.lesions.labels, affine))
    write_bytes(folder / "lungs.nii.gz", nifti_bytes(phantom.lungs.labels, affine))
    write_text(folder / "truth.json", json.dumps(truth_record(phantom), indent=2, allow_nan=False) + "\n")


def drop_earlier_slices(folder: Path, suffix: str, count: int, *, first: int) -> None:
    """Remove the slices of a larger phantom that was written there before: two phantoms would lie in one series.

    Args:
        folder: Holds slices named by four digits.
        suffix: Of their names, with its dot.
        count, first: Slices of the phantom that is there now, and the number of its first.
    """
    for path in folder.glob(f"[0-9][0-9][0-9][0-9]{suffix}"):
        if not first <= int(path.stem) < first + count:
            path.unlink()


def nifti_bytes(voxels: NDArray[Any], affine: NDArray[np.float64]) -> bytes:
    """A gzipped NIfTI file, the same bytes for the same voxels (no time stamp).

    Args:
        voxels: (slices, rows, columns).
        affine: 4x4, (slice, row, column, 1) -> LPS mm.
    """
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
    new_image: Any = nibabel.Nifti1Image  # nibabel's own annotations are partial
    image = new_image(voxels.transpose(2, 1, 0), ras)
    image.header.set_xyzt_units(xyz="mm")
    image.set_sform(ras, code=_SCANNER_ANATOMICAL)
    image.set_qform(ras, code=_SCANNER_ANATOMICAL)
    image.header["descrip"] = NOTICE.encode("ascii")[:79]
    packed: bytes = gzip.compress(image.to_bytes(), compresslevel=3, mtime=0)
    return packed


def _affine_of(phantom: Phantom) -> NDArray[np.float64]:
    if phantom.volume.affine is None:  # a phantom always knows its geometry
        raise ValueError("the phantom's volume has no affine")
    return phantom.volume.affine
