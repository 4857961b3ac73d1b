"""Inputs that are one series by themselves: a NIfTI volume, a folder of pictures, one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.axes import AxisTurn
from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging.gate_fill import take_out_fill
from jcs_ct.imaging.gate_finding import Finding, Severity, refusing
from jcs_ct.imaging.gate_geometry import MINIMUM_SLICES
from jcs_ct.imaging.gate_inverted import check_inverted
from jcs_ct.imaging.gate_voxels import check_voxels
from jcs_ct.imaging.headers import MAXIMUM_DECODED_BYTES
from jcs_ct.imaging.nifti_heads import read_nifti_head
from jcs_ct.imaging.sandbox import decoded_pixels, run_in_child
from jcs_ct.imaging.series_choice import refuse
from jcs_ct.imaging.study import ASSUMED_AXES, QualityFlag, SeriesFate, SeriesInfo, Study
from jcs_ct.volume import CTVolume

#: Samples are decoded at up to four times the size of the volume kept.
_MOST_HEADROOM = 2 * MAXIMUM_DECODED_BYTES
#: Of a NIfTI file, of which the size is known before: its numbers as they are stored, scaled, turned and written.
_HEADROOM_BYTES_A_VOXEL = 16


def nifti_headroom(path: Path) -> int:
    """Bytes that decoding a NIfTI file may take, by the size its head states."""
    try:
        head = read_nifti_head(path)
    except OSError:  # the child says so
        head = None
    return _MOST_HEADROOM if head is None else min(_MOST_HEADROOM, _HEADROOM_BYTES_A_VOXEL * math.prod(head.shape))


def decode_volume(
    task: str, item: Mapping[str, Any], headroom: int = _MOST_HEADROOM
) -> tuple[Mapping[str, Any], NDArray[Any]]:
    """Do a one-item job; its answer and the volume it wrote.

    Args:
        task: As of ``run_in_child``.
        item: Its one item.
        headroom: Bytes that what is decoded may take.

    Raises:
        StudyError: the item was refused.
        OutputError: there is no room for what is decoded.
    """
    with decoded_pixels() as output:
        (outcome,) = run_in_child(task, [item], output=output, output_bytes=headroom)
        if outcome.code is not None:
            raise StudyError(outcome.code, outcome.message)
        return outcome.value, _volume(output, outcome.value)


def _volume(output: IO[bytes], answer: Mapping[str, Any]) -> NDArray[Any]:
    output.seek(0)
    shape, dtype = tuple(answer["shape"]), np.dtype(answer["dtype"])
    return np.fromfile(output, dtype=dtype, count=int(np.prod(shape))).reshape(shape)


def open_nifti(path: Path, *, lenient: bool) -> Study:
    """Read a NIfTI volume in the decoding child.

    Raises:
        StudyError: the gate refuses.
    """
    answer, hu = decode_volume("nifti", {"path": str(path.absolute())}, nifti_headroom(path))
    findings = [Finding(GateCode(code), message) for code, message in answer["findings"]]
    findings += [Finding(code, message, Severity.NOTE) for code, message in answer["notes"]]
    findings += take_out_fill(hu)
    findings += check_voxels(hu, blank_ends=True)
    if refusals := refusing(findings, lenient=lenient):
        raise refuse(refusals)
    flags = [QualityFlag(finding.code, finding.message) for finding in findings]
    untrusted = any(finding.severity is Severity.GEOMETRY for finding in findings)
    unplaced = any(finding.code is GateCode.NO_POSITION for finding in findings)
    if unplaced:
        flags.append(ASSUMED_AXES)
    affine = None if untrusted else np.asarray(answer["affine"], dtype=np.float64)
    return Study(
        volume=CTVolume(hu, affine, axes_are_assumed=unplaced),
        identifier=answer["identifier"],
        kind="nifti",
        paths=(path,),
        flags=tuple(flags),
        turn=AxisTurn(tuple(answer["order"]), tuple(answer["flips"])),
    )


def open_pictures(paths: Sequence[Path], findings: Sequence[Finding] = (), *, lenient: bool = False) -> Study:
    """Read PNG, JPEG or TIFF slices, in name order from superior to inferior, in the decoding child.

    A picture's grid is the one it is shown on: turned as its EXIF orientation says.

    Args:
        paths: In the order of the slices.
        findings: What their names say, as ``gate_pictures`` gives it.
        lenient: Turn what can be passed into flags.

    Raises:
        StudyError: a picture cannot be read, is coloured, inverted, or differs in size; or they are not one study.
    """
    if refusals := refusing(findings, lenient=lenient):
        raise refuse(refusals)
    answer, hu = decode_volume("pictures", {"paths": [str(path.absolute()) for path in paths]})
    found = [Finding(GateCode(code), message) for code, message in answer["findings"]]
    found += [] if found else check_inverted(hu) or check_voxels(hu, blank_ends=True, assumed_hu=True)
    if refusals := refusing(found, lenient=lenient):
        raise refuse(refusals)
    levels = f"{answer['bits']}-bit grey levels were taken as {answer['meaning']}"
    flags = [
        *(QualityFlag(finding.code, finding.message) for finding in (*findings, *found)),
        QualityFlag("ASSUMED_HU", f"{levels}: every HU is an assumption"),
        QualityFlag(GateCode.NO_POSITION, "pictures have no geometry: volumes and lengths are withheld"),
        ASSUMED_AXES,
    ]
    if len(paths) > 1:
        flags.append(QualityFlag("ASSUMED_ORDER", "slices were ordered by file name, the first taken as the topmost"))
    if len(paths) < MINIMUM_SLICES:
        message = f"{len(paths)} slice(s) are no whole chest: the slice verdicts count, not the patient's"
        flags.append(QualityFlag(GateCode.TOO_FEW_SLICES, message))
    return Study(
        volume=CTVolume(hu, None, hu_is_assumed=True, axes_are_assumed=True),
        identifier=answer["identifier"],
        kind="slices",
        paths=tuple(paths),
        flags=tuple(flags),
    )


def describe_single(kind: str, file_count: int, result: Study | StudyError) -> SeriesInfo:
    """The only series of such an input, and its fate."""
    if isinstance(result, StudyError):
        return SeriesInfo("", kind, SeriesFate.REFUSED, file_count, 0, code=result.code, message=str(result))
    slices, rows, columns = result.volume.shape
    spacing = result.volume.spacing_mm
    return SeriesInfo(
        identifier=result.identifier,
        kind=kind,
        fate=SeriesFate.CHOSEN,
        file_count=file_count,
        slice_count=slices,
        message="chosen: the only series",
        shape=(rows, columns),
        spacing_mm=spacing,
        extent_mm=None if spacing is None else spacing[0] * (slices - 1),
        flags=result.flags,
    )
