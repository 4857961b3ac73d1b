"""DICOM Segmentation objects (PS3.3 A.51, A.90) as masks on the grid of their CT. Runs in the decoding child.

A segmentation stores the frames that hold something only, in any order, one a segment and slice. Each is put where
its own Image Position and Orientation (Patient) say, so that nothing has to be known of how the frames were sorted or
how the CT was turned to the patient's axes; nothing is resampled.
"""

from __future__ import annotations

import os
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
from jcs_ct.volume import MASK_TOLERANCE_MM

#: Label Map Segmentation Storage (PS3.4 B.5), which pydicom has no name for yet.
LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"


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
    rows, columns = (to_integer(dataset.get(name)) or 0 for name in ("Rows", "Columns"))
    if rows not in shape or columns not in shape:
        have = f"the frames have {rows}x{columns} pixels"
        raise StudyError(GateCode.NO_POSITION, f"{have}, the slices of the CT {shape[1]}x{shape[2]}")
    frames = to_integer(dataset.get("NumberOfFrames")) or 1
    if frames * rows * columns > MAXIMUM_DECODED_BYTES:
        message = f"the header announces {frames} frames, more than {MAXIMUM_DECODED_BYTES // 1024**3} GiB"
        raise StudyError(GateCode.UNREADABLE, message)


def _segment_type(segment: Dataset) -> str:
    """What kind of thing a segment shows, as the code's meaning (PS3.3 C.8.20.4)."""
    kinds = segment.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
    return to_text(kinds[0].get("CodeMeaning")) or to_text(kinds[0].get("CodeValue")) or "no type"


def _place(dataset: Dataset, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Every frame on its slice."""
    least = _least_level(dataset)
    mask = np.zeros(shape, dtype=np.uint8)
    # Not frame by frame: the bits of a BINARY one need not begin at a byte.
    frames = np.asarray(dataset.pixel_array).reshape(-1, int(dataset.Rows), int(dataset.Columns))
    for number, frame in enumerate(frames):
        found = frame >= least
        if found.any():
            axes, plane, steps = _plane_of(dataset, number, affine, shape)
            mask.transpose(axes)[plane][steps] |= found
    return mask


def _least_level(dataset: Dataset) -> float:
    """The lowest stored value that belongs to a segment."""
    if to_text(dataset.get("SegmentationType")).upper() != "FRACTIONAL":
        return 1.0
    return (to_integer(dataset.get("MaximumFractionalValue")) or 255) / 2.0


def _plane_of(
    dataset: Dataset, number: int, affine: NDArray[np.float64], shape: tuple[int, int, int]
) -> tuple[tuple[int, int, int], int, tuple[slice, slice]]:
    """Where a frame lies on the CT's grid: its rows and columns may run along any two of the grid's axes, either way.

    Returns:
        The grid's axes across the frame, along its column and along its row; the frame's place on the first; and the
        steps on the other two.

    Raises:
        StudyError: NO_POSITION, the frame says nothing of its place, or lies on no plane of the grid.
    """
    position, row, column = _stated_place(dataset, number)
    size = (to_integer(dataset.get("Rows")) or 0, to_integer(dataset.get("Columns")) or 0)
    steps = np.linalg.solve(affine[:3, :3], np.stack([row, column], axis=1))
    down, along = (int(np.argmax(np.abs(step))) for step in steps.T)
    across = 3 - down - along
    corners = np.array([[0, 0, size[0] - 1], [0, size[1] - 1, 0]])
    start = np.linalg.solve(affine[:3, :3], position - affine[:3, 3])
    index = start[:, None] + steps @ corners
    if down == along:
        raise StudyError(GateCode.NO_POSITION, _off_the_grid(number))
    if size != (shape[down], shape[along]):
        message = f"the frames have {size[0]}x{size[1]} pixels, the CT has {shape[down]}x{shape[along]} there"
        raise StudyError(GateCode.NO_POSITION, message)
    up, back = bool(steps[down, 0] < 0), bool(steps[along, 1] < 0)
    plane = round(float(index[across, 0]))
    expected = np.empty((3, 3))
    expected[across] = plane
    expected[down] = size[0] - 1 - corners[0] if up else corners[0]
    expected[along] = size[1] - 1 - corners[1] if back else corners[1]
    apart_mm = float(np.linalg.norm(affine[:3, :3] @ (index - expected), axis=0).max())
    if apart_mm > MASK_TOLERANCE_MM or not 0 <= plane < shape[across]:
        raise StudyError(GateCode.NO_POSITION, _off_the_grid(number))
    return (across, down, along), plane, (slice(None, None, -1 if up else 1), slice(None, None, -1 if back else 1))


def _stated_place(
    dataset: Dataset, number: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centre of a frame's first pixel, and the steps to the next row and to the next column, LPS mm."""
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
    cosines = np.asarray(orientation, dtype=np.float64)
    return np.asarray(position, dtype=np.float64), cosines[3:] * spacing[0], cosines[:3] * spacing[1]


def _off_the_grid(number: int) -> str:
    return f"frame {number + 1} lies on no slice of the CT; it is of another series, or was resampled"
