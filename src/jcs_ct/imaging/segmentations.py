"""DICOM Segmentation objects (PS3.3 A.51, A.90) as masks on the grid of their CT. Runs in the decoding child.

A segmentation stores the frames that hold something only, in any order, one a segment and slice. Each is put where
its own Image Position and Orientation (Patient) say, so that nothing has to be known of how the frames were sorted or
how the CT was turned to the patient's axes; nothing is resampled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, SegmentationStorage

from jcs_ct.disk_space import GIB
from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging.elements import DAMAGED_FILE_ERRORS, functional_group, to_integer, to_numbers, to_text
from jcs_ct.imaging.headers import MAXIMUM_DECODED_BYTES, SourceKeys, identity_hash
from jcs_ct.volume import MASK_TOLERANCE_MM

#: Label Map Segmentation Storage (PS3.4 B.5), which pydicom has no name for yet.
LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"


def read_segmentation(
    path: Path,
    fd: int,
    *,
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    lesion_labels: Collection[int] = (),
    source: SourceKeys | None = None,
) -> dict[str, Any]:
    """Read where a segmentation has lesion, and write it to ``fd`` as (slices, rows, columns) uint8.

    BINARY and LABELMAP say so themselves; FRACTIONAL counts from half of its largest value. Several segments are one
    mask when all are of one kind (one a lesion, say), or those that ``lesion_labels`` names.

    Args:
        path: The object.
        fd: Output.
        affine: Of the CT, (slice, row, column, 1) to LPS mm.
        shape: Of the CT, (slices, rows, columns).
        lesion_labels: Numbers of the segments that are lesion; where there are none, every segment is.
        source: Of the CT, where it is known.

    Returns:
        ``shape``, ``dtype`` and ``segments``, their numbers.

    Raises:
        StudyError: UNSUPPORTED (no segmentation, deflated, segments of several kinds and none named, or none of those
            that are), MIXED_SERIES (of another patient, frame of reference or series), NO_POSITION (frames that lie
            off the CT's grid), UNREADABLE.
    """
    try:
        meta = read_file_meta_info(path)
        if to_text(meta.get("TransferSyntaxUID")) == DeflatedExplicitVRLittleEndian:
            message = "the data set is deflated; convert it to Explicit VR Little Endian"
            raise StudyError(GateCode.UNSUPPORTED, message)
        dataset = pydicom.dcmread(path)
        _check(dataset, shape)
        _check_source(dataset, source or SourceKeys())
        segments = segment_kinds(dataset)
        _check_segments(segments, lesion_labels)
        mask = _place(dataset, affine, shape, lesion_labels)
    except DAMAGED_FILE_ERRORS as error:
        message = f"the segmentation cannot be read ({type(error).__name__}); export it again"
        raise StudyError(GateCode.UNREADABLE, message) from error
    with os.fdopen(fd, "r+b", closefd=False) as out:
        out.write(mask.tobytes())
    return {"shape": mask.shape, "dtype": "|u1", "segments": list(segments)}


def _check(dataset: Dataset, shape: tuple[int, int, int]) -> None:
    """Whether the object is a mask of such a CT, by its header."""
    if dataset.get("SOPClassUID") not in (SegmentationStorage, LABEL_MAP_SEGMENTATION_STORAGE):
        stated = to_text(dataset.get("Modality")) or "unknown"
        message = f"a DICOM mask is a Segmentation object (SEG), this is one of modality {stated}"
        raise StudyError(GateCode.UNSUPPORTED, message)
    rows, columns = (to_integer(dataset.get(name)) or 0 for name in ("Rows", "Columns"))
    if rows not in shape or columns not in shape:
        have = f"the frames have {rows}x{columns} pixels"
        raise StudyError(GateCode.NO_POSITION, f"{have}, the slices of the CT {shape[1]}x{shape[2]}")
    frames = to_integer(dataset.get("NumberOfFrames")) or 1
    if frames * rows * columns > MAXIMUM_DECODED_BYTES:
        message = f"the header announces {frames} frames, more than {MAXIMUM_DECODED_BYTES // GIB} GiB"
        raise StudyError(GateCode.UNREADABLE, message)


def _check_source(dataset: Dataset, source: SourceKeys) -> None:
    """Whether the object is of the very slices; what either does not state, as anonymised copies, says nothing."""
    series = [
        identity_hash(to_text(one.get("SeriesInstanceUID"))) for one in dataset.get("ReferencedSeriesSequence") or []
    ]
    said = {
        "patient (Patient ID)": (dataset.get("PatientID"), source.patient),
        "scan (Frame of Reference UID)": (dataset.get("FrameOfReferenceUID"), source.frame_of_reference),
    }
    others = [
        name for name, (value, key) in said.items() if key and to_text(value) and identity_hash(to_text(value)) != key
    ]
    if not set(series) & set(source.series) and set(series) & set(source.beside):
        others.append("series of the same files (Referenced Series)")
    if others:
        message = f"the segmentation is of another {' and another '.join(others)} than its CT; give that one's own"
        raise StudyError(GateCode.MIXED_SERIES, message)


def segment_kinds(header: Dataset) -> dict[int, str]:
    """What each segment is of, by its number; number 0 is a label map's background and left out.

    A kind is the Segmented Property Type (PS3.3 C.8.20.4), with the words of the Segment Label where segments of one
    type have several: ``Lesion 1`` and ``Lesion 2`` are of one kind, ``Lung`` and ``Lesion`` are not, though some
    software calls both of the type Tissue.
    """
    segments = {
        number: one
        for place, one in enumerate(header.get("SegmentSequence") or [], start=1)
        if (number := place if (stated := to_integer(one.get("SegmentNumber"))) is None else stated) != 0
    }
    types = {number: _segment_type(one) for number, one in segments.items()}
    words = {number: _words(to_text(one.get("SegmentLabel"))) for number, one in segments.items()}
    labels = {kind: {words[number] for number in types if types[number] == kind} for kind in types.values()}
    return {
        number: f"{kind} ({words[number] or 'no label'})" if len(labels[kind]) > 1 else kind
        for number, kind in types.items()
    }


def _segment_type(segment: Dataset) -> str:
    """What kind of thing a segment shows, as the code's meaning."""
    kinds = segment.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
    return to_text(kinds[0].get("CodeMeaning")) or to_text(kinds[0].get("CodeValue")) or "no type"


def _words(label: str) -> str:
    """A label without its numbers and marks."""
    return " ".join(re.findall(r"[^\W\d_]+", label.lower()))


def _check_segments(kinds: Mapping[int, str], lesion_labels: Collection[int]) -> None:
    """Whether it is known which segments are lesion."""
    listed = ", ".join(f"{number} {kind}" for number, kind in list(kinds.items())[:6]) + (", ..." * (len(kinds) > 6))
    if lesion_labels and not set(lesion_labels) & set(kinds):
        named = ", ".join(map(str, sorted(lesion_labels)))
        raise StudyError(GateCode.UNSUPPORTED, f"no segment has the number {named}; there are: {listed}")
    several = sorted(set(kinds.values()))
    if not lesion_labels and len(several) > 1:
        message = (
            f"the segments are of {len(several)} kinds: {listed}; give the numbers of those that are lesion in the "
            "column lesion_labels, or export them by themselves"
        )
        raise StudyError(GateCode.UNSUPPORTED, message)


def _place(
    dataset: Dataset, affine: NDArray[np.float64], shape: tuple[int, int, int], lesion_labels: Collection[int]
) -> NDArray[np.uint8]:
    """Every frame on its slice."""
    is_label_map = to_text(dataset.get("SegmentationType")).upper() == "LABELMAP"
    least = _least_level(dataset)
    mask = np.zeros(shape, dtype=np.uint8)
    # Not frame by frame: the bits of a BINARY one need not begin at a byte.
    frames = np.asarray(dataset.pixel_array).reshape(-1, int(dataset.Rows), int(dataset.Columns))
    for number, frame in enumerate(frames):
        if lesion_labels and is_label_map:
            found = np.isin(frame, list(lesion_labels))
        elif lesion_labels and _segment_of(dataset, number) not in lesion_labels:
            continue
        else:
            found = frame >= least
        if found.any():
            axes, plane, steps = _plane_of(dataset, number, affine, shape)
            mask.transpose(axes)[plane][steps] |= found
    return mask


def _segment_of(dataset: Dataset, number: int) -> int:
    """Of which segment a frame is (PS3.3 C.8.20.3.1).

    Raises:
        StudyError: UNSUPPORTED, it does not say.
    """
    group = functional_group(dataset, number, "SegmentIdentificationSequence")
    segment = to_integer(group.get("ReferencedSegmentNumber"))
    if segment is None:
        message = f"frame {number + 1} names no segment; export the lesions' segments by themselves"
        raise StudyError(GateCode.UNSUPPORTED, message)
    return segment


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
