"""Activation maps as a DICOM Parametric Map, float32 (PS3.3 A.75): a frame a slice, first to last infected one."""

from __future__ import annotations

from collections.abc import Sequence
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from jcs_ct.errors import OutputError
from jcs_ct.reporting.dicom_common import LUNG, equipment, series_description, write_dataset
from jcs_ct.reporting.dicom_identity import ResultIdentity
from jcs_ct.reporting.dicom_source import SourceSeries

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis

SERIES_NUMBER = 9102
_FLOAT = np.dtype("<f4")
#: The longest value of an element with a 32-bit length: an even number below the undefined length.
_MOST_BYTES = 2**32 - 2


def write_parametric_map(
    source: SourceSeries, diagnosis: Diagnosis, identity: ResultIdentity, path: Path
) -> Path | None:
    """The activation maps from the first infected slice to the last, on the source's slices, in [0, 1] without unit.

    Frames are made as they are written, one at a time: a long study's map is larger than its CT.

    Returns:
        None when no slice is infected: every map is 0 then.

    Raises:
        OutputError: the folder cannot be written or the disk is full, or the frames are more than one element of
            DICOM holds.
    """
    slices = source.mapped_slices(diagnosis)
    if not slices:
        return None
    parametric_map = _map_of_single_pixels(source, diagnosis, identity, slices)
    source.restore_references(parametric_map, slices)
    _order_along_normal(parametric_map)
    parametric_map.BodyPartExamined = "CHEST"
    parametric_map.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_both_lungs()]
    numbers = np.frombuffer(parametric_map.FloatPixelData, dtype=_FLOAT).astype(int)
    activation = source.on_grid(diagnosis.activation)
    parametric_map.Rows, parametric_map.Columns = activation.shape[1:]
    frames = _FloatFrames(activation, numbers.tolist())
    if frames.size > _MOST_BYTES:
        remedy = "leave DICOM results out"
        raise OutputError(
            f"{path.name}: {len(numbers)} frames of {parametric_map.Rows}x{parametric_map.Columns} pixels take "
            f"{frames.size} bytes and one DICOM object holds {_MOST_BYTES} (PS3.5 7.1.1); {remedy}",
            remedy=remedy,
        )
    parametric_map.FloatPixelData = BufferedReader(frames)
    return write_dataset(parametric_map, path)


def _map_of_single_pixels(
    source: SourceSeries, diagnosis: Diagnosis, identity: ResultIdentity, slices: list[int]
) -> ParametricMap:
    """The map as highdicom describes it, of frames of one pixel: the number of the source's slice that it stands for.

    Given the frames themselves, highdicom would hold them three times.
    """
    mapping = RealWorldValueMapping(
        lut_label="ACTIVATION",
        lut_explanation="Class activation times probability of infection",
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.DCM.ClassActivation,
    )
    return ParametricMap(
        source_images=[_of_one_pixel(image) for image in source.images_of(slices)],
        pixel_array=np.asarray(slices, dtype=np.float32)[:, None, None],
        series_instance_uid=identity.uid("series", "pm"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("instance", "pm"),
        instance_number=1,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
        plane_positions=source.plane_positions(slices),
        content_label="ACTIVATION",
        content_description="Where the slice classifier sees infection",
        series_description=series_description("activation"),
        **equipment(diagnosis),
    )


def _of_one_pixel(image: Dataset) -> Dataset:
    small = Dataset()
    small.update(image)
    small.file_meta = image.file_meta
    for keyword in ("Rows", "Columns"):  # as new elements: both data sets share the others
        small.add_new(keyword, "US", 1)
    return small


class _FloatFrames(RawIOBase):
    """Float Pixel Data (PS3.3 C.7.6.24) as a file that is read: each frame is made when its bytes are asked for.

    Args:
        planes: (slices, rows, columns).
        numbers: Which of them the frames are, in their order.
    """

    def __init__(self, planes: NDArray[np.floating[Any]], numbers: Sequence[int]) -> None:
        self._planes, self._numbers = planes, numbers
        self._frame_size = planes.shape[1] * planes.shape[2] * _FLOAT.itemsize
        self._at = 0
        self._made: tuple[int, bytes] = (-1, b"")
        self.size = self._frame_size * len(numbers)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        self._at = offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        if self._at >= self.size:
            return 0
        frame, start = divmod(self._at, self._frame_size)
        if self._made[0] != frame:
            self._made = (frame, np.ascontiguousarray(self._planes[self._numbers[frame]], dtype=_FLOAT).tobytes())
        piece = self._made[1][start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _order_along_normal(parametric_map: ParametricMap) -> None:
    """Let frames, and their dimension index, run along the normal: the cross product of row and column direction.

    highdicom orders them against it. dcmqi 1.5.7, which 3D Slicer reads maps with, takes each frame for the next one
    along the normal, whatever its position: it would show the map upside down, and without the slices left out.
    """
    frames = list(parametric_map.PerFrameFunctionalGroupsSequence)
    cosines = parametric_map.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    normal = np.cross(np.asarray(cosines[:3], dtype=np.float64), np.asarray(cosines[3:], dtype=np.float64))
    positions = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames]
    order = np.argsort(np.asarray(positions, dtype=np.float64) @ normal)
    parametric_map.FloatPixelData = np.frombuffer(parametric_map.FloatPixelData, dtype=_FLOAT)[order].tobytes()
    parametric_map.PerFrameFunctionalGroupsSequence = [frames[index] for index in order]
    for number, index in enumerate(order, start=1):
        frames[index].FrameContentSequence[0].DimensionIndexValues = [number]


def _both_lungs() -> Dataset:
    """Frame Anatomy (PS3.3 C.7.6.16.2.8): optional for derived images, and dcmqi 1.5 reads no map without it."""
    anatomy = Dataset()
    anatomy.FrameLaterality = "B"
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(LUNG)]
    return anatomy
