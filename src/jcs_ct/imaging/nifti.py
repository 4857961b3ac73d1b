"""NIfTI volumes: header checks and Hounsfield units. Runs in the decoding child."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from jcs_ct.axes import AS_STORED, AxisTurn
from jcs_ct.disk_space import GIB
from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging.compression import first_unpacked_bytes, open_unpacked
from jcs_ct.imaging.gate_axes import check_axes
from jcs_ct.imaging.gate_finding import Severity
from jcs_ct.imaging.gate_finite import check_finite
from jcs_ct.imaging.gate_geometry import (
    MINIMUM_SLICES,
    PIXEL_SPACING_TOLERANCE,
    TILT_TOLERANCE_DEG,
    check_coverage,
    implausible_spacing,
)
from jcs_ct.imaging.gate_whole_slices import check_overwritten_rows
from jcs_ct.imaging.headers import MAXIMUM_DECODED_BYTES
from jcs_ct.volume import BACKGROUND_HU, PADDING_HU, corners_apart_mm

#: A header's sform and qform may differ by this much at the volume's corners, in mm (quaternions are rounded).
FORMS_TOLERANCE_MM = 0.1
#: Values of a mask that are told; label maps have fewer, and what has more is none.
MOST_VALUES = 4096
#: Spaces that a NIfTI may name: none, scanner, aligned, Talairach, MNI, another template.
LARGEST_FORM_CODE = 5
_DAMAGED = (
    ArithmeticError,
    EOFError,
    HeaderDataError,
    ImageFileError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    WrapStructError,
    zlib.error,
)
#: The header's unit of length (its low three bits) in mm: not stated, metre, millimetre, micrometre.
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


def read_nifti(path: Path, fd: int) -> dict[str, Any]:
    """Read a volume, write it to ``fd`` turned to the patient's axes, (slices, rows, columns), and describe it.

    Returns:
        ``shape``, ``dtype``, ``affine`` (LPS, nested lists), ``order`` and ``flips`` of the turn from the source's
        grid (its third, second and first axis), ``findings`` (code, message) that a lenient reading may pass,
        ``notes`` (code, message), ``identifier``.

    Raises:
        StudyError: UNREADABLE, TRUNCATED, UNSUPPORTED, NOT_AXIAL or NO_HU.
    """
    stored, affine, findings = _load(path)
    turn, notes = _turn(affine)
    for finding in check_finite(turn.turned(stored)):
        if finding.severity is Severity.NOTE:
            notes.append((finding.code, finding.message))
        else:
            findings.append((GateCode(finding.code), finding.message))
    hu: NDArray[Any] = _to_hu(stored)
    every = max(1, hu.shape[2] // 128)
    for finding in check_overwritten_rows(hu[:, :, ::every]):  # along the file's own lines, before these are turned
        raise StudyError(GateCode(finding.code), finding.message)
    hu = np.ascontiguousarray(turn.turned(hu))
    if hu.shape[0] < MINIMUM_SLICES:
        message = f"the volume has {hu.shape[0]} slice(s), at least {MINIMUM_SLICES} are needed"
        findings.append((GateCode.TOO_FEW_SLICES, message))
    placed = turn.turned_affine(affine, _shape(stored))
    if not findings:
        coverage = check_coverage(hu.shape[0], float(np.linalg.norm(placed[:3, 0])))
        notes += [(finding.code, finding.message) for finding in coverage]
    samples = hu.tobytes()
    with os.fdopen(fd, "r+b", closefd=False) as out:
        out.write(samples)
    return {
        "shape": hu.shape,
        "dtype": hu.dtype.str,
        "affine": placed.tolist(),
        "order": turn.order,
        "flips": turn.flips,
        "findings": findings,
        "notes": notes,
        "identifier": hashlib.sha256(samples).hexdigest()[:16],
    }


def read_nifti_labels(path: Path, fd: int, *, lesion_labels: Sequence[int] = ()) -> dict[str, Any]:
    """Read a volume of labels, write where lesion is to ``fd``, turned likewise, as uint8, and describe it.

    Args:
        path: The volume.
        fd: Open file.
        lesion_labels: Values that are lesion; where there are none, every value but 0 is.

    Returns:
        ``shape``, ``dtype``, ``affine`` and ``findings`` as :func:`read_nifti`; ``values``: those in it, up to
        :data:`MOST_VALUES`; ``value_count``, and ``whole``: whether all are whole numbers from 0 on.

    Raises:
        StudyError: UNREADABLE, TRUNCATED, UNSUPPORTED or NOT_AXIAL.
    """
    stored, affine, findings = _load(path)
    turn, _ = _turn(affine)
    marked = np.isin(stored, list(lesion_labels)) if lesion_labels else stored != 0
    labels = np.ascontiguousarray(turn.turned(marked))
    values = np.unique(stored)
    with os.fdopen(fd, "r+b", closefd=False) as out:
        out.write(labels.astype(np.uint8).tobytes())
    return {
        "shape": labels.shape,
        "dtype": "|u1",
        "affine": turn.turned_affine(affine, _shape(stored)).tolist(),
        "findings": findings,
        "values": [float(value) for value in values[:MOST_VALUES]],
        "value_count": int(values.size),
        "whole": bool(values[0] >= 0 and (values == np.rint(values)).all()),
    }


def _load(path: Path) -> tuple[NDArray[Any], NDArray[np.float64], list[tuple[GateCode, str]]]:
    """Samples on the source's grid (its third, second and first axis, as they lie in the file), affine, findings."""
    try:
        with open_unpacked(path) as stream:
            image = _image_class(path).from_stream(stream)
            _check_header(image)
            stored = np.asanyarray(image.dataobj)
            _check_end(image)
            affine, findings = _affine(image)
    except EOFError as error:
        raise StudyError(GateCode.TRUNCATED, "the volume is cut off; copy it again from its source") from error
    except _DAMAGED as error:
        cut = "Expected" in str(error) and "bytes" in str(error)
        code = GateCode.TRUNCATED if cut else GateCode.UNREADABLE
        reason = "is cut off" if cut else f"cannot be read ({type(error).__name__})"
        raise StudyError(code, f"the NIfTI volume {reason}; copy or convert it again") from error
    return stored.reshape(stored.shape[:3]).T, affine, findings


def _image_class(path: Path) -> Any:
    """NIfTI-1 or NIfTI-2 by the first bytes, whatever the file is called."""
    head = first_unpacked_bytes(path, 348)
    if head[344:348] == b"ni1\0":
        message = "a NIfTI header without its image (.hdr and .img) is not read; convert the pair to NIfTI (.nii.gz)"
        raise StudyError(GateCode.UNSUPPORTED, message)
    return nib.Nifti2Image if head[4:8] == b"n+2\0" else nib.Nifti1Image


def _shape(stored: NDArray[Any]) -> tuple[int, int, int]:
    slices, rows, columns = stored.shape
    return slices, rows, columns


def _turn(affine: NDArray[np.float64]) -> tuple[AxisTurn, list[tuple[str, str]]]:
    """The turn to the patient's axes, and notes on it.

    Raises:
        StudyError: NOT_AXIAL.
    """
    turn, findings = check_axes(affine[:3, :3], tilt_may_be_lost=True)
    for finding in findings:
        if finding.severity is Severity.REFUSED or turn is None:
            raise StudyError(GateCode(finding.code), finding.message)
    return turn or AS_STORED, [(finding.code, finding.message) for finding in findings]


def _check_header(image: Any) -> None:
    """Dimensions, sample type and announced size, before the samples are read."""
    if not isinstance(image, (nib.Nifti1Image, nib.Nifti2Image)):
        raise StudyError(GateCode.UNSUPPORTED, f"{type(image).__name__} is not read; convert it to NIfTI (.nii.gz)")
    shape = image.shape
    if len(shape) < 3 or any(length != 1 for length in shape[3:]) or min(shape) < 1:
        message = f"a volume has 3 dimensions, this one has {len(shape)}: {'x'.join(map(str, shape))}"
        raise StudyError(GateCode.UNSUPPORTED, f"{message}; give one CT volume")
    header: Any = image.header
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise StudyError(GateCode.UNSUPPORTED, f"samples of type {dtype} are not HU; give a scalar volume")
    size = int(np.prod(shape, dtype=np.float64)) * max(4, dtype.itemsize)
    if size > MAXIMUM_DECODED_BYTES:
        limit = MAXIMUM_DECODED_BYTES / GIB
        message = f"the header announces {size / GIB:.1f} GiB of samples, the limit is {limit:.0f} GiB"
        raise StudyError(GateCode.UNREADABLE, message)


def _check_end(image: Any) -> None:
    """Refuse a file with samples beyond those its header announces: shape, type or offset is stated wrongly."""
    end = int(image.dataobj.offset) + int(np.prod(image.shape)) * int(image.get_data_dtype().itemsize)
    with image.file_map["image"].get_prepare_fileobj("rb") as stream:
        stream.seek(end)
        if not stream.read(1):
            return
    message = f"the file goes on behind the {end} bytes that its header announces; convert the volume again"
    raise StudyError(GateCode.UNREADABLE, message)


def _affine(image: Any) -> tuple[NDArray[np.float64], list[tuple[GateCode, str]]]:
    """Affine from the source's grid (third, second and first axis) to LPS mm, and what is wrong with it."""
    findings: list[tuple[GateCode, str]] = []
    header, stated = image.header, _stated_header(image)
    affine = np.array(image.affine, dtype=np.float64)
    codes = int(stated["sform_code"]), int(stated["qform_code"])
    if invalid := [code for code in codes if not 0 <= code <= LARGEST_FORM_CODE]:
        message = f"a form code is {invalid[0]}, 0 to {LARGEST_FORM_CODE} are known; convert the volume again"
        findings.append((GateCode.NO_POSITION, message))
    elif int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        message = "the header states no position or orientation (sform and qform code 0); convert the volume again"
        findings.append((GateCode.NO_POSITION, message))
    elif int(header["sform_code"]) <= 0 and (unusable := _unusable_sizes(stated)):
        findings.append((GateCode.NO_POSITION, unusable))
    axes = affine[:3, :3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(axes)) < 1e-9:
        message = "the header's affine is singular or not finite; convert the volume again"
        return np.eye(4)[:, [2, 1, 0, 3]], [(GateCode.NO_POSITION, message)]
    findings += _contradictions(image, stated)
    unit = int(header["xyzt_units"]) & 7
    if unit not in _UNIT_MM:
        message = f"the header states lengths in a unit of code {unit}, 0 to 3 are known; convert the volume again"
        findings.append((GateCode.NO_POSITION, message))
    affine[:3] *= _UNIT_MM.get(unit, 1.0)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if unbelieved := implausible_spacing(*spacing_mm[::-1].tolist()):
        findings.append((GateCode.NO_POSITION, unbelieved))
    shear = shear_deg(affine)
    if shear > TILT_TOLERANCE_DEG:
        message = f"the volume is sheared by {shear:.1f} degrees (gantry tilt); have it reconstructed without tilt"
        findings.append((GateCode.TILT, message))
    return affine, findings


def _stated_header(image: Any) -> Any:
    """The header as it is in the file: nibabel turns unknown form codes into 0, and voxel sizes of 0 into 1 mm."""
    header = image.header
    with image.file_map["image"].get_prepare_fileobj("rb") as stream:
        block = stream.read(header.sizeof_hdr)
    return type(header)(block, endianness=header.endianness, check=False)


def _unusable_sizes(stated: Any) -> str | None:
    """Why the voxel sizes and the turn of the third axis (pixdim, nifti1.h), which a qform needs, place nothing."""
    turn, *sizes = (float(value) for value in stated["pixdim"][:4])
    if not all(0 < size < np.inf for size in sizes):
        listed = " x ".join(f"{size:g}" for size in sizes)
        return f"the qform has voxels of {listed} (pixdim), each must be above 0; convert the volume again"
    if turn not in (-1.0, 0.0, 1.0):
        return f"the qform turns its third axis by {turn:g} (pixdim[0]), -1 or 1 is needed; convert the volume again"
    return None


def shear_deg(affine: NDArray[np.float64]) -> float:
    """Largest departure of two axes of an affine from a right angle, in degrees."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = max(abs(unit[:, i] @ unit[:, j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    return float(np.degrees(np.arcsin(min(1.0, cosine))))


def _contradictions(image: Any, stated: Any) -> list[tuple[GateCode, str]]:
    """Where a header states the geometry twice and differently: voxel sizes against sform, qform against sform.

    NIfTI lets the two be of different spaces (a scanner's and a template's): lesions have one place all the same.
    """
    header, findings = image.header, []
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform <= 0:
        return []
    by_sform = np.linalg.norm(image.affine[:3, :3], axis=0)
    by_sizes = np.abs(
        np.asarray(stated["pixdim"][1:4], dtype=np.float64)
    )  # a sign is no size: some state flips by it
    agree = np.isfinite(by_sizes) & (np.abs(by_sform - by_sizes) <= PIXEL_SPACING_TOLERANCE * by_sizes)
    if not agree.all():
        listed = [" x ".join(f"{size:.3f}" for size in sizes) for sizes in (by_sform, by_sizes)]
        message = f"the header states two voxel sizes, {listed[0]} and {listed[1]} mm; convert the volume again"
        findings.append((GateCode.MIXED_SPACING, message))
    elif qform > 0 and shear_deg(image.affine) <= TILT_TOLERANCE_DEG:  # a qform knows no shear
        apart = _placements_apart_mm(image)
        if apart is None:
            findings.append((GateCode.NO_POSITION, "the qform is no rotation; convert the volume again"))
        elif not apart <= FORMS_TOLERANCE_MM:
            message = (
                f"sform (code {sform}) and qform (code {qform}) place the volume {apart:.1f} mm apart, nobody says "
                "which of them is the patient's; set one of the two codes to 0, or convert the volume again"
            )
            findings.append((GateCode.NO_POSITION, message))
    return findings


def _placements_apart_mm(image: Any) -> float | None:
    """Largest distance between a corner placed by sform and by qform; None when the qform is no rotation."""
    try:
        by_qform = image.header.get_qform()
    except ValueError:
        return None
    return corners_apart_mm(by_qform, image.affine, image.shape[:3])


def _to_hu(stored: NDArray[Any]) -> NDArray[np.int16] | NDArray[np.float32]:
    """Padding becomes background; int16 where all values are whole numbers that fit, whatever they are stored as: an
    intercept alone (scl_inter) makes floats of whole numbers, which take twice the memory.
    """
    hu = stored.astype(np.float32)
    padding = ~np.isfinite(hu) | (hu <= PADDING_HU)
    hu[padding] = BACKGROUND_HU
    fit = float(hu.max()) <= np.iinfo(np.int16).max
    if fit and (stored.dtype.kind in "iu" or all((plane == np.rint(plane)).all() for plane in hu)):
        return hu.astype(np.int16)
    return hu
