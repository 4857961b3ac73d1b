"""DICOM Segmentation objects (PS3.3 A.51, A.90) as masks on the grid of their CT. Runs in the decoding child.

A segmentation stores the frames that hold something only, in any order, one a segment and slice. Each is put where
its own Image Position (Patient) says, so that nothing has to be known of how the frames were sorted; nothing is
resampled.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, SegmentationStorage

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging.elements import DAMAGED_FILE_ERRORS, functional_group, to_integer, to_numbers, to_text
from jcs_ct.imaging.headers import MAXIMUM_DECODED_BYTES

#: Label Map Segmentation Storage (PS3.4 B.5), which pydicom has no name for yet.
LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
#: A frame's corners may lie this far from the corners of its slice, in mm (positions are rounded when written).
PLACEMENT_TOLERANCE_MM = 0.5


def read_segmentation(
    path: Path, fd: int, *, affine: NDArray[np.float64], shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Read where a segmentation has any segment, and write it to ``fd`` as (slices, rows, columns) uint8.

    BINARY and LABELMAP say so themselves; FRACTIONAL counts from half of its largest value. Several segments are one
    mask when all are of one type (one a lesion, say).

    Args:
        path: The object.
        fd: Output.
        affine: Of the CT, (slice, row, column, 1) to LPS mm.
        shape: Of the CT, (slices, rows, columns).

    Returns:
        ``shape`` and ``dtype``.

    Raises:
        StudyError: UNSUPPORTED (no segmentation, deflated, segments of several types), NO_POSITION (frames that lie
            off the CT's grid), UNREADABLE.
    """
    try:
        meta = read_file_meta_info(path)
        if to_text(meta.get("TransferSyntaxUID")) == DeflatedExplicitVRLittleEndian:
            message = "the data set is deflated; convert it to Explicit VR Little Endian"
            raise StudyError(GateCode.UNSUPPORTED, message)
        dataset = pydicom.dcmread(path)
        _check(dataset, shape)
        mask = _place(dataset, affine, shape)
    except DAMAGED_FILE_ERRORS as error:
        message = f"the segmentation cannot be read ({type(error).__name__}); export it again"
        raise StudyError(GateCode.UNREADABLE, message) from error
    with os.fdopen(fd, "r+b", closefd=False) as out:
        out.write(mask.tobytes())
    return {"shape": mask.shape, "dtype": "|u1"}


def _check(dataset: Dataset, shape: tuple[int, int, int]) -> None:
    """Whether the object is a mask of such a CT, by its header."""
    if dataset.get("SOPClassUID") not in (SegmentationStorage, LABEL_MAP_SEGMENTATION_STORAGE):
        stated = to_text(dataset.get("Modality")) or "unknown"
        message = f"a DICOM mask is a Segmentation object (SEG), this is one of modality {stated}"
        raise StudyError(GateCode.UNSUPPORTED, message)
    segments = [one for one in dataset.get("SegmentSequence") or [] if to_integer(one.get("SegmentNumber")) != 0]
    types = sorted({_segment_type(segment) for segment in segments})  # number 0 is a label map's background
    if len(types) > 1:
        message = (
            f"the segments are of {len(types)} types ({', '.join(types)}); a lesion mask has one: "
            "export the lesions' segments by themselves"
        )
        raise StudyError(GateCode.UNSUPPORTED, message)
    have = (to_integer(dataset.get("Rows")) or 0, to_integer(dataset.get("Columns")) or 0)
    if have != shape[1:]:
        message = f"the frames have {have[0]}x{have[1]} pixels, the slices of the CT {shape[1]}x{shape[2]}"
        raise StudyError(GateCode.NO_POSITION, message)
    frames = to_integer(dataset.get("NumberOfFrames")) or 1
    if frames * have[0] * have[1] > MAXIMUM_DECODED_BYTES:
        message = f"the header announces {frames} frames, more than {MAXIMUM_DECODED_BYTES // 1024**3} GiB"
        raise StudyError(GateCode.UNREADABLE, message)


def _segment_type(segment: Dataset) -> str:
    """What kind of thing a segment shows, as the code's meaning (PS3.3 C.8.20.4)."""
    kinds = segment.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
    return to_text(kinds[0].get("CodeMeaning")) or to_text(kinds[0].get("CodeValue")) or "no type"


def _place(dataset: Dataset, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Every frame on its slice."""
    least = _least_level(dataset)
    inverse = np.asarray(np.linalg.inv(affine), dtype=np.float64)
    mask = np.zeros(shape, dtype=np.uint8)
    # Not frame by frame: the bits of a BINARY one need not begin at a byte.
    frames = np.asarray(dataset.pixel_array).reshape(-1, *shape[1:])
    for number, frame in enumerate(frames):
        found = frame >= least
        if found.any():
            index, steps = _slice_of(dataset, number, affine, inverse, shape)
            mask[index] |= found[steps]
    return mask


def _least_level(dataset: Dataset) -> float:
    """The lowest stored value that belongs to a segment."""
    if to_text(dataset.get("SegmentationType")).upper() != "FRACTIONAL":
        return 1.0
    return (to_integer(dataset.get("MaximumFractionalValue")) or 255) / 2.0


def _slice_of(
    dataset: Dataset,
    number: int,
    affine: NDArray[np.float64],
    inverse: NDArray[np.float64],
    shape: Sequence[int],
) -> tuple[int, tuple[slice, slice]]:
    """The slice that a frame lies on, and the steps that turn its rows and columns to the slice's.

    Raises:
        StudyError: NO_POSITION, the frame says nothing of its place, or lies on no slice.
    """
    position, orientation, spacing = (
        to_numbers(functional_group(dataset, number, f"{name}Sequence").get(keyword), count)
        for name, keyword, count in (
            ("PlanePosition", "ImagePositionPatient", 3),
            ("PlaneOrientation", "ImageOrientationPatient", 6),
            ("PixelMeasures", "PixelSpacing", 2),
        )
    )
    if position is None or orientation is None or spacing is None:
        message = f"frame {number + 1} states no position, orientation or pixel spacing; export it again"
        raise StudyError(GateCode.NO_POSITION, message)
    along_row, along_column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    bottom, right = shape[1] - 1, shape[2] - 1
    corners = np.array(
        [
            np.asarray(position) + row * spacing[0] * along_column + column * spacing[1] * along_row
            for row, column in ((0, 0), (bottom, 0), (0, right))
        ]
    )
    index = (inverse @ np.c_[corners, np.ones(3)].T)[:3]
    nearest = np.rint(index)
    apart_mm = float(np.linalg.norm(affine[:3, :3] @ (index - nearest), axis=0).max())
    plane = int(nearest[0, 0])
    rows_up, columns_left = bool(nearest[1, 0] != 0), bool(nearest[2, 0] != 0)
    top, left = bottom if rows_up else 0, right if columns_left else 0
    expected = np.array([[plane, plane, plane], [top, bottom - top, top], [left, left, right - left]])
    if apart_mm > PLACEMENT_TOLERANCE_MM or not 0 <= plane < shape[0] or (nearest != expected).any():
        message = f"frame {number + 1} lies on no slice of the CT; it is of another series, or was resampled"
        raise StudyError(GateCode.NO_POSITION, message)
    return plane, (slice(None, None, -1 if rows_up else 1), slice(None, None, -1 if columns_left else 1))
