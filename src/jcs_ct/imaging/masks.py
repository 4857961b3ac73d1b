"""Lesion masks of whole studies, NIfTI or DICOM SEG on the grid of the study's CT, read in the decoding child."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import MaskError, NotFoundError, StudyError
from jcs_ct.imaging.headers import SourceKeys
from jcs_ct.imaging.mask_pictures import MOST_LESION
from jcs_ct.imaging.single import decode_volume, nifti_headroom
from jcs_ct.imaging.study_files import FileKind, file_kind
from jcs_ct.volume import MASK_TOLERANCE_MM, CTVolume, LabelVolume, corners_apart_mm


def is_segmentation(path: Path) -> bool:
    """Whether a mask is a DICOM object, which means something on its CT's grid only."""
    return path.is_file() and file_kind(path) is FileKind.DICOM


@dataclass(frozen=True, eq=False)
class StudyMask:
    """The lesions of a study, read from a file.

    Args:
        lesions: Where lesion is.
        label_count: How many values other than 0, or segments, the file has.
        labels: Those values, or the numbers of the segments.
    """

    lesions: LabelVolume
    label_count: int
    labels: frozenset[float] = frozenset()


def open_mask(path: Path, lesion_labels: Collection[int] = ()) -> StudyMask:
    """Read a NIfTI mask, slices from superior to inferior.

    Args:
        path: 0 for the background, and one other value, or whole numbers as label maps have them.
        lesion_labels: Values that are lesion; where there are none, every value but 0 is.

    Raises:
        ConfigError: no such file.
        MaskError: no NIfTI, damaged, without a trustworthy geometry, or values that no mask has.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file")
    if file_kind(path) is not FileKind.NIFTI:
        raise MaskError(
            f"{path}: the mask of a study is a NIfTI volume (.nii, .nii.gz) or a DICOM Segmentation; convert this one"
        )
    item = {"path": str(path.absolute()), "lesion_labels": list(lesion_labels)}
    try:
        answer, labels = decode_volume("nifti-labels", item, nifti_headroom(path))
    except StudyError as error:
        raise MaskError(f"{path}: {error}") from error
    if answer["findings"]:
        code, message = answer["findings"][0]
        raise MaskError(f"{path}: {message} ({code})")
    _refuse_values(path, answer)
    _refuse_inverted(path, labels)
    lesions = LabelVolume(labels.astype(bool), np.asarray(answer["affine"], dtype=np.float64))
    labels_in_it = frozenset(value for value in answer["values"] if value)
    return StudyMask(lesions, answer["value_count"] - 1, labels_in_it)


def _refuse_inverted(path: Path, labels: NDArray[Any]) -> None:
    share = float(labels.mean())
    if share > MOST_LESION:
        raise MaskError(f"{path}: the mask marks {share:.0%} of the volume; the background seems marked, invert it")


def _refuse_values(path: Path, answer: Mapping[str, Any]) -> None:
    values, count = answer["values"], answer["value_count"]
    one_other = count == 2 and np.isfinite(values).all() and values[1] > 0
    if values[0] != 0 or not (count == 1 or one_other or answer["whole"]):
        shown = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." if count > 6 else "")
        raise MaskError(
            f"{path}: a lesion mask has the value 0 and one other, or whole numbers as labels; this one has {shown}"
        )


def mask_on(
    volume: CTVolume, path: Path, lesion_labels: Collection[int] = (), *, source: SourceKeys | None = None
) -> NDArray[np.bool_]:
    """A mask on the very grid of a CT volume, (slices, rows, columns) bool, as :func:`study_mask` reads it."""
    labels: NDArray[np.bool_] = study_mask(volume, path, lesion_labels, source=source).lesions.labels
    return labels


def study_mask(
    volume: CTVolume, path: Path, lesion_labels: Collection[int] = (), *, source: SourceKeys | None = None
) -> StudyMask:
    """A mask on the very grid of a CT volume; turned as the CT was, never resampled.

    Args:
        volume: The CT.
        path: NIfTI on the CT's grid, or a DICOM Segmentation of its slices.
        lesion_labels: As of :func:`open_mask`; of a segmentation the numbers of the segments.
        source: Of the CT; a segmentation that states another one is refused.

    Raises:
        ConfigError, MaskError: as :func:`open_mask`, or the mask is not on the CT's grid, or a segmentation is of
            another patient, scan or series, or of more than one kind of thing with no ``lesion_labels``.
    """
    if is_segmentation(path):
        return _segmentation_on(volume, path, lesion_labels, source or SourceKeys())
    mask = open_mask(path, lesion_labels)
    shape, affine = mask.lesions.shape, mask.lesions.affine
    if shape != volume.shape:
        have, want = ("x".join(map(str, one)) for one in (shape, volume.shape))
        raise MaskError(f"{path}: the mask has {have} voxels (slices, rows, columns), its CT {want}")
    if volume.affine is not None and affine is not None:
        apart = corners_apart_mm(affine, volume.affine, shape)
        if apart > MASK_TOLERANCE_MM:
            raise MaskError(f"{path}: the mask lies {apart:.1f} mm from its CT; resample it to the CT's grid")
    return mask


def _segmentation_on(volume: CTVolume, path: Path, lesion_labels: Collection[int], source: SourceKeys) -> StudyMask:
    if volume.affine is None:
        raise MaskError(f"{path}: a DICOM Segmentation needs the geometry of its CT, which is not known here")
    item = {
        "path": str(path.absolute()),
        "affine": volume.affine.tolist(),
        "shape": volume.shape,
        "lesion_labels": list(lesion_labels),
        "source": asdict(source),
    }
    try:
        answer, labels = decode_volume("segmentation", item)
    except StudyError as error:
        raise MaskError(f"{path}: {error}") from error
    _refuse_inverted(path, labels)
    numbers = frozenset(answer["segments"])
    return StudyMask(LabelVolume(labels.astype(bool), volume.affine), len(numbers), numbers)
