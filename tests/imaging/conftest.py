"""Tiny DICOM series with known HU, written by pydicom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SIZE = 16


@dataclass(frozen=True)
class TinySeries:
    """A series on disk; ``truth`` is (slices, rows, columns) HU from the top down."""

    folder: Path
    files: tuple[Path, ...]
    truth: np.ndarray


def tiny_slice(truth: np.ndarray, number: int, uid: str, study: str, step_mm: float) -> Dataset:
    """Slice ``number`` from the top as a CT image in Explicit VR Little Endian."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.SeriesInstanceUID, ds.StudyInstanceUID = uid, study
    ds.PatientName, ds.PatientID, ds.StudyDate = "Doe^Jane", "secret-17", "20200402"
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Manufacturer, ds.ConvolutionKernel, ds.KVP = "Tiny", "B60f", "120"
    ds.Rows, ds.Columns = truth.shape[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [-10.0, -20.0, 100.0 - step_mm * number]
    ds.PixelSpacing, ds.SliceThickness = [0.8, 0.7], step_mm
    ds.InstanceNumber = number + 1
    ds.PixelData = (truth[number] + 1024).astype("<i2").tobytes()
    return ds


@pytest.fixture
def write_series(tmp_path: Path) -> Callable[..., TinySeries]:
    """Write a series; ``edit(number, ds)`` may change each slice, and drops it by returning False."""

    def write(
        name: str = "study",
        slices: int = 10,
        *,
        edit: Callable[[int, Dataset], Any] | None = None,
        uid: str | None = None,
        study: str = "1.2.3",
        step_mm: float = 2.0,
        shape: tuple[int, int] = (SIZE, SIZE),
        prefix: str = "IM",
        seed: int = 0,
    ) -> TinySeries:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        truth = np.random.default_rng(seed).integers(-1000, 1000, size=(slices, *shape)).astype(np.int16)
        uid = uid or generate_uid()
        names = np.random.default_rng(seed + 1).permutation(slices)
        files = []
        for number in range(slices):
            ds = tiny_slice(truth, number, uid, study, step_mm)
            if edit is not None and edit(number, ds) is False:
                continue
            path = folder / f"{prefix}{names[number]:04d}"
            ds.save_as(path, enforce_file_format=True)
            files.append(path)
        return TinySeries(folder, tuple(files), truth)

    return write
