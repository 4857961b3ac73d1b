"""A tiny DICOM CT series in any geometry, and findings put into it by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import config as pydicom_config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from jcs_ct.axes import AxisTurn
from jcs_ct.imaging.study import Study, turned_volume
from jcs_ct.operating_point import OperatingPoint, Verdict
from jcs_ct.reading.burden import Burden
from jcs_ct.reading.diagnosis import Diagnosis, SlicePrediction
from jcs_ct.reading.lesions import Lesion, SliceLesion
from jcs_ct.reading.zones import Zone
from jcs_ct.volume import CTVolume

SHAPE = (8, 24, 32)
THICK_MM = 2.5


def rotation(degrees: float, axis: int) -> np.ndarray:
    """3x3 rotation about one axis."""
    angle = np.deg2rad(degrees)
    matrix = np.eye(3)
    first, second = [index for index in range(3) if index != axis]
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


@dataclass(frozen=True)
class Layout:
    """How the series lies in the patient: row and column spacing (their signs are the direction), table."""

    row_mm: float = 0.75
    column_mm: float = 0.75
    turn: tuple[float, int] = (0.0, 0)

    def affine(self) -> np.ndarray:
        """(slice, row, column, 1) -> LPS mm."""
        turned = rotation(*self.turn)
        affine = np.eye(4)
        affine[:3, 0] = turned @ [0, 0, -THICK_MM]
        affine[:3, 1] = turned @ [0, self.row_mm, 0]
        affine[:3, 2] = turned @ [self.column_mm, 0, 0]
        affine[:3, 3] = [-11.25, -31.5, 123.4567]
        return affine


LAYOUTS = {
    "axial, superior to inferior": Layout(),
    "rows run to the front": Layout(row_mm=-0.75),
    "rows run to the front, columns to the right": Layout(row_mm=-0.8, column_mm=-0.75),
    "non-square pixels": Layout(row_mm=0.6, column_mm=0.9),
    "oblique": Layout(turn=(17.0, 0)),
    "oblique, about z": Layout(row_mm=0.8, turn=(-13.0, 2)),
}


def _patient(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "Hôte^Zoé"
    dataset.PatientID = "ID-4711"
    dataset.PatientBirthDate = "19600102"
    dataset.PatientSex = "F"
    dataset.StudyDate = "20200401"
    dataset.StudyTime = "101112"
    dataset.AccessionNumber = "A1"
    dataset.StudyID = "S1"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "CT chest"
    dataset.Manufacturer = "Scanner maker"
    dataset.Modality = "CT"


def _pixels(dataset: Dataset, stored: np.ndarray) -> None:
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
    dataset.PixelData = stored.astype(np.uint16).tobytes()


def _save(dataset: Dataset, sop_class: str, path: Path) -> None:
    dataset.SOPClassUID = sop_class
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    with pydicom_config.disable_value_validation():
        dataset.save_as(path, enforce_file_format=True)


def ct_slices() -> np.ndarray:
    """Noise in HU, on the source's grid."""
    return np.random.default_rng(5).integers(-1000, 200, SHAPE).astype(np.int16)


def study_of(layout: Layout, identifier: str, paths: tuple[Path, ...]) -> Study:
    """The study that ``open_study`` makes of such a series."""
    turn = AxisTurn.to_patient(layout.affine())
    return Study(turned_volume(ct_slices(), layout.affine(), turn), identifier, "dicom", paths, turn=turn)


def write_series(folder: Path, layout: Layout, **overrides: Any) -> Study:
    """A single-frame series; ``overrides`` are set on every slice as they are, valid or not."""
    folder.mkdir(parents=True, exist_ok=True)
    stored, affine = ct_slices() + 1024, layout.affine()
    study_uid, series_uid, frame_uid = generate_uid(), generate_uid(), generate_uid()
    paths = []
    for index in range(SHAPE[0]):
        dataset = Dataset()
        _patient(dataset)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.FrameOfReferenceUID, dataset.SOPInstanceUID = frame_uid, generate_uid()
        dataset.ImagePositionPatient = [round(v, 6) for v in (affine[:3, 0] * index + affine[:3, 3]).tolist()]
        cosines = [*(affine[:3, 2] / abs(layout.column_mm)), *(affine[:3, 1] / abs(layout.row_mm))]
        dataset.ImageOrientationPatient = [round(float(v), 8) for v in cosines]
        dataset.PixelSpacing = [abs(layout.row_mm), abs(layout.column_mm)]
        dataset.SliceThickness = THICK_MM
        _pixels(dataset, stored[index])
        with pydicom_config.disable_value_validation():
            for keyword, value in overrides.items():
                dataset.pop(keyword, None)  # its element was made to validate
                setattr(dataset, keyword, value)
        paths.append(folder / f"{index}.dcm")
        _save(dataset, CTImageStorage, paths[-1])
    return study_of(layout, "0123456789abcdef", tuple(paths))


def write_multiframe(path: Path, layout: Layout) -> Study:
    """An Enhanced CT whose frames run against the volume's slices."""
    stored, affine = ct_slices() + 1024, layout.affine()
    dataset = Dataset()
    _patient(dataset)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.FrameOfReferenceUID, dataset.SOPInstanceUID = generate_uid(), generate_uid()
    _pixels(dataset, stored[::-1])
    dataset.NumberOfFrames = SHAPE[0]
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [abs(layout.row_mm), abs(layout.column_mm)], THICK_MM
    cosines = [*(affine[:3, 2] / abs(layout.column_mm)), *(affine[:3, 1] / abs(layout.row_mm))]
    orientation.ImageOrientationPatient = [round(float(v), 8) for v in cosines]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in reversed(range(SHAPE[0])):
        groups, plane = Dataset(), Dataset()
        plane.ImagePositionPatient = [round(v, 6) for v in (affine[:3, 0] * index + affine[:3, 3]).tolist()]
        groups.PlanePositionSequence = [plane]
        frames.append(groups)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    _save(dataset, EnhancedCTImageStorage, path)
    return study_of(layout, "fedcba9876543210", (path,))


def lesion_of(labels: np.ndarray, lesion_id: int, volume: CTVolume, side: str, third: str) -> Lesion:
    """A lesion's record from its label, by the plain definitions."""
    index = np.argwhere(labels == lesion_id)
    centroid = tuple(float(v) for v in index.mean(axis=0))
    return Lesion(
        lesion_id=lesion_id,
        voxel_count=len(index),
        volume_ml=None if volume.voxel_ml is None else len(index) * volume.voxel_ml,
        slice_first=int(index[:, 0].min()),
        slice_last=int(index[:, 0].max()),
        centroid_index=(centroid[0], centroid[1], centroid[2]),
        centroid_lps_mm=volume.to_lps_mm((centroid[0], centroid[1], centroid[2])),
        side=side,
        third=third,
        mean_hu=float(volume.hu[labels == lesion_id].mean()),
        extent_mm=(5.0, 4.0, 3.0),
        slices=tuple(_part(index, number, lesion_id) for number in sorted(set(index[:, 0].tolist()))),
    )


def _part(index: NDArray[np.int64], slice_index: int, lesion_id: int) -> SliceLesion:
    """A lesion's part on a slice, by the plain definitions."""
    on_slice = index[index[:, 0] == slice_index, 1:]
    (y0, x0), (y1, x1) = on_slice.min(axis=0).tolist(), on_slice.max(axis=0).tolist()
    y, x = on_slice.mean(axis=0).tolist()
    return SliceLesion(slice_index, lesion_id, len(on_slice), x, y, x0, y0, x1 - x0 + 1, y1 - y0 + 1)


def findings_in(study: Study, *, positive: bool = True, infected: Sequence[int] = range(1, 6)) -> Any:
    """Two lesions (one with a hole and a corner), infected slices 1 to 5 or some of them; or nothing at all."""
    volume = study.volume
    labels = np.zeros(SHAPE, dtype=np.uint16)
    activation = np.zeros(SHAPE, dtype=np.float16)
    lesions: tuple[Lesion, ...] = ()
    infected = infected if positive else ()
    if positive:
        labels[2:5, 4:12, 18:28] = 1
        labels[3, 7, 20] = 0
        labels[4, 2:6, 26:30] = 1
        labels[5:7, 14:18, 3:8] = 2
        labels[[index for index in range(1, 6) if index not in infected]] = 0
        activation[list(infected)] = np.linspace(0, 0.9, SHAPE[1] * SHAPE[2]).reshape(SHAPE[1:]).astype(np.float16)
        lesions = (
            lesion_of(labels, 1, volume, "left", "upper"),
            lesion_of(labels, 2, volume, "right", "lower"),
        )
    predictions = tuple(
        SlicePrediction(index, 0.9 if index in infected else 0.1, index in infected, True)
        for index in range(SHAPE[0])
    )
    opacity = int((labels > 0).sum())
    ml = volume.voxel_ml
    burden = Burden(
        lung_volume_ml=None if ml is None else 3000 * ml,
        opacification_volume_ml=None if ml is None else opacity * ml,
        percent_opacity=100 * opacity / 3000,
        percent_high_opacity=1.25,
        high_opacity_cut_hu=-200.0,
        percent_ground_glass=0.75,
        percent_consolidation=0.5,
        hu_bin_edges=(-1000.0, 0.0),
        hu_counts=(3000,),
        zones=(Zone("right", "upper", 500, 10, 2.0),),
    )
    return Diagnosis(
        verdict=Verdict.POSITIVE if positive else Verdict.NEGATIVE,
        positive_slice_count=len(infected),
        positive_slice_threshold=3,
        lung_slice_count=SHAPE[0],
        positive_fraction=len(infected) / 8,
        slices=predictions,
        segmented=positive,
        activation=activation,
        lung_labels=np.ones(SHAPE, dtype=np.uint8),
        lesion_labels=labels,
        lesions=lesions,
        burden=burden if positive else None,
        operating_point=OperatingPoint(),
        models={
            "classifier": {"name": "compact-classifier", "preset": "compact", "sha256": "ab" * 32},
            "segmenter": {"name": "compact-joint", "preset": "compact", "sha256": "cd" * 32},
        },
    )


MakeStudy = Callable[..., Study]


@pytest.fixture
def make_series(tmp_path: Path) -> MakeStudy:
    """Write a series into a fresh folder: ``make_series(layout_name, **overrides)``."""

    def make(layout: str = "axial, superior to inferior", **overrides: Any) -> Study:
        return write_series(tmp_path / "source", LAYOUTS[layout], **overrides)

    return make


@pytest.fixture
def make_multiframe(tmp_path: Path) -> MakeStudy:
    """Write an Enhanced CT: ``make_multiframe(layout_name)``."""
    return lambda layout: write_multiframe(tmp_path / "enhanced.dcm", LAYOUTS[layout])


@pytest.fixture
def make_findings() -> Callable[..., Any]:
    """``make_findings(study, positive=True, infected=range(1, 6))``."""
    return findings_in


@pytest.fixture(params=sorted(LAYOUTS))
def layout_name(request: pytest.FixtureRequest) -> str:
    """Every geometry."""
    return str(request.param)
