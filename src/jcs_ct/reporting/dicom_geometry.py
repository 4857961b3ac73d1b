"""Where the slices of a DICOM study lie: read from its source files' headers and checked against the study's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from jcs_ct.errors import ConfigError, GateCode, StudyError
from jcs_ct.imaging.elements import to_number, to_numbers
from jcs_ct.imaging.study import Study

#: The source's grid and the volume's must agree to this, in mm, at every slice's corners: more than the unevenness
#: that the geometry gate lets pass, far less than any flip, shift or resampling.
SOURCE_TOLERANCE_MM = 0.5


@dataclass(frozen=True, eq=False)
class SeriesGeometry:
    """Geometry of a series, slice by slice in the order of the study's source grid, as its source files state it.

    Args:
        file_numbers: Which of the source files, from 0, holds each slice.
        frame_numbers: 1-based frame of each slice in its file of a multi-frame source; empty for single-frame ones.
        positions_mm: (slices, 3) LPS position of each slice's first pixel centre (PS3.3 C.7.6.2.1.1).
        orientation: Direction cosines of a row and of a column.
        pixel_spacing_mm: Distance between rows and between columns.
        slice_thickness_mm: As stated by the source, else the slice spacing.
        slice_spacing_mm: Distance between slices; None when the study's geometry is not trusted.
    """

    file_numbers: tuple[int, ...]
    frame_numbers: tuple[int, ...]
    positions_mm: NDArray[np.float64]
    orientation: tuple[float, ...]
    pixel_spacing_mm: tuple[float, float]
    slice_thickness_mm: float
    slice_spacing_mm: float | None

    @property
    def is_multiframe(self) -> bool:
        """Whether the slices are frames of one file, or of the parts of a concatenation."""
        return bool(self.frame_numbers)


def read_geometry(study: Study, headers: Sequence[Dataset]) -> SeriesGeometry:
    """Geometry of a study's source images.

    Args:
        study: What was read from them.
        headers: One header a slice of the study's source grid, in its order, or those of the multi-frame files that
            hold its slices.

    Raises:
        ConfigError: the study's source grid is not that of its source images.
        StudyError: an image states no position, orientation or spacing (NO_POSITION).
    """
    slices, rows, columns = study.source_shape
    affine = study.source_affine
    multiframe = all(_is_multiframe(header) for header in headers)
    frames = [
        (file, number, frame)
        for file, header in enumerate(headers)
        for number, frame in enumerate(_frames_of(header) if multiframe else [header], start=1)
    ]
    if len(frames) != slices or (not multiframe and any(_is_multiframe(header) for header in headers)):
        raise ConfigError(
            f"the volume has {slices} slices and the study {len(frames)} images in {len(headers)} files: DICOM "
            f"results can only refer to single-frame images, one a slice, or to multi-frame ones of no other slices"
        )
    stated = (int(headers[0].Rows), int(headers[0].Columns))
    if stated != (rows, columns):
        raise ConfigError(
            f"the volume's slices are {rows}x{columns} and the source's {stated[0]}x{stated[1]}: DICOM results can "
            f"only refer to a volume on its source's grid"
        )
    positions = np.asarray([_numbers(frame, "ImagePositionPatient", 3) for *_, frame in frames], dtype=np.float64)
    order = _frame_order(affine, positions) if multiframe else list(range(slices))
    first = frames[0][2]
    row_mm, column_mm = _numbers(first, "PixelSpacing", 2)
    geometry = SeriesGeometry(
        file_numbers=tuple(frames[index][0] for index in order),
        frame_numbers=tuple(frames[index][1] for index in order) if multiframe else (),
        positions_mm=positions[order],
        orientation=_numbers(first, "ImageOrientationPatient", 6),
        pixel_spacing_mm=(row_mm, column_mm),
        slice_thickness_mm=_slice_thickness(first, positions[order]),
        slice_spacing_mm=None if affine is None else float(np.linalg.norm(affine[:3, 0])),
    )
    _check_grid(affine, (slices, rows, columns), geometry)
    return geometry


def _is_multiframe(header: Dataset) -> bool:
    return "PerFrameFunctionalGroupsSequence" in header or int(header.get("NumberOfFrames") or 1) > 1


def _frames_of(header: Dataset) -> list[Dataset]:
    """Position, orientation and spacing of each frame, flat: its own, else the shared ones (PS3.3 C.7.6.16)."""
    shared = header.SharedFunctionalGroupsSequence[0] if "SharedFunctionalGroupsSequence" in header else Dataset()
    frames = []
    for groups in header.get("PerFrameFunctionalGroupsSequence", []):
        flat = Dataset()
        for macro in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            holder = groups if macro in groups else shared
            if macro in holder:
                flat.update(holder[macro].value[0])
        frames.append(flat)
    if not frames:
        raise StudyError(GateCode.NO_POSITION, "the multi-frame source states no position of its frames")
    return frames


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    numbers = to_numbers(dataset.get(keyword), count)
    if numbers is None:
        raise StudyError(
            GateCode.NO_POSITION,
            f"a source image has no usable {keyword} ({count} numbers expected): results cannot be placed in the "
            f"patient; leave DICOM results out",
        )
    return numbers


def _frame_order(affine: NDArray[np.float64] | None, positions: NDArray[np.float64]) -> list[int]:
    """0-based frame of each slice of the source grid, by position."""
    if affine is None:
        raise ConfigError("DICOM results of a multi-frame study need its geometry, which is not known here")
    origins = affine[:3, 3] + np.arange(len(positions))[:, None] * affine[:3, 0]
    distances = np.linalg.norm(origins[:, None] - positions[None], axis=2)
    return [int(frame) for frame in distances.argmin(axis=1)]


def _check_grid(affine: NDArray[np.float64] | None, shape: tuple[int, int, int], geometry: SeriesGeometry) -> None:
    if affine is None:
        return
    along_row, along_column = np.asarray(geometry.orientation[:3]), np.asarray(geometry.orientation[3:])
    row_mm, column_mm = geometry.pixel_spacing_mm
    slices, rows, columns = shape
    worst = 0.0
    for row, column in ((0, 0), (rows - 1, 0), (0, columns - 1), (rows - 1, columns - 1)):
        index = np.stack([np.arange(slices), np.full(slices, row), np.full(slices, column)])
        expected = (affine[:3, :3] @ index).T + affine[:3, 3]
        stated = geometry.positions_mm + row * row_mm * along_column + column * column_mm * along_row
        worst = max(worst, float(np.linalg.norm(expected - stated, axis=1).max()))
    if worst > SOURCE_TOLERANCE_MM:
        raise ConfigError(
            f"the volume's grid is {worst:.2f} mm away from its source images' (at most {SOURCE_TOLERANCE_MM} mm "
            f"expected): DICOM results can only refer to a volume that was not resampled"
        )


def _slice_thickness(frame: Dataset, positions: NDArray[np.float64]) -> float:
    stated = to_number(frame.get("SliceThickness"))
    if stated is not None and stated > 0:
        return stated
    if len(positions) < 2:
        return 1.0
    return float(np.median(np.linalg.norm(np.diff(positions, axis=0), axis=1)))
