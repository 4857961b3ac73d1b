"""Phantoms stored in any of the 48 axis orders, as DICOM, enhanced DICOM or NIfTI, by pydicom and nibabel alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

Format = Literal["dicom", "enhanced", "nifti"]


@dataclass(frozen=True)
class Storage:
    """How a scan is stored: the patient axis (0 slices, 1 rows, 2 columns) on each array axis, and which run back."""

    format: Format
    order: tuple[int, ...]
    flips: tuple[bool, ...]

    def __str__(self) -> str:
        axes = "".join("src"[axis].upper() if flip else "src"[axis] for axis, flip in zip(self.order, self.flips))
        return f"{self.format}-{axes}"


@dataclass(frozen=True, eq=False)
class Stored:
    """A stored scan: the array as it lies in the files, with the affine that leads from it to LPS mm."""

    path: Path
    array: NDArray[np.int16]
    affine: NDArray[np.float64]


def reordered(
    array: NDArray[np.generic], affine: NDArray[np.float64], storage: Storage
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """The array as it is stored, and the steps of its axes; written without the package's own turn."""
    out = np.moveaxis(array, storage.order, (0, 1, 2))
    placed = affine.copy()
    for place, (axis, flip) in enumerate(zip(storage.order, storage.flips, strict=True)):
        step = affine[:3, axis]
        placed[:3, place] = -step if flip else step
        if flip:
            out = np.flip(out, place)
            placed[:3, 3] += step * (array.shape[axis] - 1)
    return np.ascontiguousarray(out), placed


def store(hu: NDArray[np.int16], affine: NDArray[np.float64], storage: Storage, folder: Path, seed: int) -> Stored:
    """Write a scan; slices lie in the files in no order but that of their positions."""
    folder.mkdir(parents=True)
    array, placed = reordered(hu, affine, storage)
    if storage.format == "nifti":
        path = folder / "ct.nii.gz"
        to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ placed[:, [2, 1, 0, 3]]
        image = nibabel.Nifti1Image(array.transpose(2, 1, 0), to_ras)
        image.set_sform(to_ras, code=1)
        image.set_qform(to_ras, code=1)
        nibabel.save(image, path)
    else:
        write = _write_slices if storage.format == "dicom" else _write_frames
        path = write(array, placed, folder, np.random.default_rng(seed).permutation(len(array)))
    return Stored(path, array, placed)


def _common(array: NDArray[np.int16], sop_class: str) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop_class
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phantom", "P1", "", ""
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID, ds.ReferringPhysicianName = (
        "20200401",
        "",
        "",
        "1",
        "",
    )
    ds.Modality, ds.ImageType, ds.PatientPosition = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "HFP"
    ds.Rows, ds.Columns = array.shape[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    return ds


def _geometry(affine: NDArray[np.float64]) -> tuple[list[float], list[float], float]:
    """Image Orientation (Patient), Pixel Spacing and the distance of slices, as a header states them."""
    slice_mm, row_mm, column_mm = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = [*(affine[:3, 2] / column_mm), *(affine[:3, 1] / row_mm)]
    return [round(float(one), 8) for one in cosines], [round(float(row_mm), 6), round(float(column_mm), 6)], slice_mm


def _position(affine: NDArray[np.float64], index: int) -> list[float]:
    return [round(float(value), 6) for value in affine[:3] @ [index, 0, 0, 1]]


def _write_slices(
    array: NDArray[np.int16], affine: NDArray[np.float64], folder: Path, numbers: NDArray[np.int64]
) -> Path:
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    orientation, spacing, thickness = _geometry(affine)
    for index, plane in enumerate(array):
        ds = _common(array, CTImageStorage)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.ImageOrientationPatient, ds.PixelSpacing, ds.SliceThickness = orientation, spacing, round(thickness, 6)
        ds.ImagePositionPatient = _position(affine, index)
        ds.InstanceNumber = int(numbers[index]) + 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = (plane + 1024).astype("<i2").tobytes()
        ds.save_as(folder / f"{numbers[index]:03d}.dcm", enforce_file_format=True)
    return folder


def _write_frames(
    array: NDArray[np.int16], affine: NDArray[np.float64], folder: Path, numbers: NDArray[np.int64]
) -> Path:
    ds = _common(array, EnhancedCTImageStorage)
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    measures, turned, rescale, shared = Dataset(), Dataset(), Dataset(), Dataset()
    turned.ImageOrientationPatient, measures.PixelSpacing, thickness = _geometry(affine)
    measures.SliceThickness = round(thickness, 6)
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turned]
    shared.PixelValueTransformationSequence = [rescale]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in numbers:
        plane, groups = Dataset(), Dataset()
        plane.ImagePositionPatient = _position(affine, int(index))
        groups.PlanePositionSequence = [plane]
        frames.append(groups)
    ds.NumberOfFrames, ds.PerFrameFunctionalGroupsSequence = len(frames), frames
    ds.PixelData = (array[numbers] + 1024).astype("<i2").tobytes()
    path = folder / "enhanced.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="session")
def store_scan() -> Callable[..., Stored]:
    """``store_scan(hu, affine, storage, folder, seed)``."""
    return store


@pytest.fixture(scope="session")
def storage_of() -> Callable[..., Storage]:
    """``storage_of(format, order, flips)``."""
    return Storage
