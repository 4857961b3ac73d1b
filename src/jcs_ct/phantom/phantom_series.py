"""Phantoms as a DICOM series (CT Image Storage, PS3.3 A.3), the same bytes for the same settings."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from jcs_ct.files import prepare_output_folder, write_bytes
from jcs_ct.phantom.config import Phantom
from jcs_ct.phantom.phantom_volumes import drop_earlier_slices, write_truth

#: Stored for pixels outside the reconstruction circle, and declared as PixelPaddingValue.
PADDING_HU = -2000
_INTERCEPT = -1024
_DATE, _TIME = "20200401", "120000"


def write_dicom(phantom: Phantom, folder: Path) -> None:
    """Write ``dicom/0001.dcm`` ... and, beside the series, ``truth/``.

    Explicit VR little endian, 16 bits signed, rescale intercept -1024. UIDs follow from the settings alone.

    Args:
        phantom: What to write.
        folder: Made when missing; a phantom that is there is replaced.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    prepare_output_folder(folder)
    common = _common(phantom)
    for index in range(phantom.volume.shape[0]):
        dataset = _slice(phantom, common, index)
        stream = io.BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
        write_bytes(folder / "dicom" / f"{index + 1:04d}.dcm", stream.getvalue())
    drop_earlier_slices(folder / "dicom", ".dcm", phantom.volume.shape[0], first=1)
    write_truth(phantom, folder / "truth")


def _uid(phantom: Phantom, *path: object) -> UID:
    settings = json.dumps(asdict(phantom.config), sort_keys=True)
    return generate_uid(entropy_srcs=["jcs-ct phantom", settings, *(str(part) for part in path)])


def _common(phantom: Phantom) -> Dataset:
    """What every slice of the series says."""
    acquisition, config = phantom.acquisition, phantom.config
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName, ds.PatientID = "Phantom^JCS", f"PHANTOM-{config.seed}"
    ds.PatientBirthDate, ds.PatientSex = "", ""
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "Procedural phantom, no patient"
    ds.StudyInstanceUID = _uid(phantom, "study")
    ds.SeriesInstanceUID = _uid(phantom, "series")
    ds.FrameOfReferenceUID = _uid(phantom, "frame of reference")
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", 1, 1
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = _DATE
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = _TIME
    ds.AccessionNumber, ds.ReferringPhysicianName = "", ""
    ds.Modality, ds.Manufacturer = "CT", "jcs-ct"
    ds.ManufacturerModelName = "Procedural chest phantom"
    ds.StudyDescription = "Procedural chest CT phantom"
    # LO holds 64 characters (PS3.5 6.2).
    ds.SeriesDescription = "Phantom. Research use only, not a medical device"
    ds.ImageComments = "Procedural phantom, no patient. Research use only, not a medical device."
    ds.BodyPartExamined, ds.PatientPosition = "CHEST", "HFS"
    ds.PositionReferenceIndicator = ""
    ds.KVP = "120"
    ds.ConvolutionKernel = acquisition.kernel
    ds.SliceThickness = _decimal(acquisition.slice_thickness_mm)
    ds.SpacingBetweenSlices = _decimal(acquisition.slice_spacing_mm)
    ds.PixelSpacing = [_decimal(acquisition.pixel_mm)] * 2
    ds.ReconstructionDiameter = _decimal(acquisition.pixel_mm * config.size)
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = config.size
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(_INTERCEPT), "1", "HU"
    ds.WindowCenter, ds.WindowWidth = ["-600", "40"], ["1500", "400"]
    if acquisition.padded:
        ds.add_new("PixelPaddingValue", "SS", PADDING_HU - _INTERCEPT)
    return ds


def _slice(phantom: Phantom, common: Dataset, index: int) -> Dataset:
    ds = Dataset()
    ds.update(common)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPInstanceUID = _uid(phantom, "slice", index)
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta = meta
    ds.InstanceNumber = index + 1
    position = phantom.volume.to_lps_mm((index, 0, 0))
    if position is None:  # a phantom always knows its geometry
        raise ValueError("the phantom's volume has no affine")
    ds.ImagePositionPatient = [_decimal(value) for value in position]
    ds.SliceLocation = _decimal(position[2])
    stored: Any = phantom.volume.hu[index].astype(np.int16) - np.int16(_INTERCEPT)
    if phantom.acquisition.padded:
        stored = np.where(phantom.acquisition.padding(phantom.config.size), PADDING_HU - _INTERCEPT, stored)
    ds.PixelData = stored.astype("<i2").tobytes()
    return ds


def _decimal(value: float) -> str:
    """A DS value of at most 16 characters (PS3.5 6.2)."""
    return f"{value:.10g}"[:16]
