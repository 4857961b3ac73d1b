"""Results of scans that lie in several series or several multi-frame files, or state their numbers with commas."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK
from pydicom import config as pydicom_config
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from jcs_ct.imaging import open_study
from jcs_ct.reporting.dicom_results import require_dicom_source, write_dicom_results

AS_STATED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")


def joined(make_series, make_multiframe, layout: str) -> Path:
    """Slices 0 to 4 in one series, 5 to 7 in another."""
    study = make_series(layout)
    other = generate_uid()
    for path in study.paths[5:]:
        ds = dcmread(path)
        ds.SeriesInstanceUID = other
        ds.save_as(path)
    return study.paths[0].parent


def enhanced(make_multiframe, layout: str) -> tuple[Path, Dataset]:
    """A multi-frame file, with the rescale values that a reader needs."""
    (path,) = make_multiframe(layout).paths
    whole, rescale = dcmread(path), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024, "HU"
    whole.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [rescale]
    return path, whole


def concatenation(make_series, make_multiframe, layout: str) -> Path:
    """The frames in three files: of 4, 3 and 1."""
    (path, whole), uid, first = enhanced(make_multiframe, layout), generate_uid(), 0
    frames, pixels = list(whole.PerFrameFunctionalGroupsSequence), whole.pixel_array
    path.unlink()
    folder = path.parent / "parts"
    folder.mkdir()
    for part, count in enumerate((4, 3, 1), start=1):
        whole.ConcatenationUID, whole.InConcatenationNumber, whole.InConcatenationTotalNumber = uid, part, 3
        whole.ConcatenationFrameOffsetNumber, whole.NumberOfFrames = first, count
        whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        whole.PerFrameFunctionalGroupsSequence = frames[first : first + count]
        whole.PixelData = pixels[first : first + count].tobytes()
        whole.save_as(folder / f"{part}.dcm")
        first += count
    return folder


def with_commas(numbers: Dataset) -> None:
    """Decimal commas, and a backslash too many behind several values, written as they are."""

    def restate(holder: Dataset, element: DataElement) -> None:
        if element.keyword in AS_STATED:
            several = element.VM > 1
            text = "\\".join(str(one) for one in (element.value if several else [element.value])).replace(".", ",")
            value = (text + "\\" * several).encode()
            value += b" " * (len(value) % 2)
            holder[element.tag] = RawDataElement(element.tag, "DS", len(value), value, 0, False, True)

    numbers.walk(restate)


def commas(make_series, make_multiframe, layout: str) -> Path:
    study = make_series(layout)
    for path in study.paths:
        ds = dcmread(path)
        with_commas(ds)
        ds.save_as(path)
    return study.paths[0].parent


def commas_in_frames(make_series, make_multiframe, layout: str) -> Path:
    path, ds = enhanced(make_multiframe, layout)
    with_commas(ds)
    ds.save_as(path)
    return path


STORES: dict[str, Callable[..., Path]] = {
    "joined": joined,
    "concatenation": concatenation,
    "commas": commas,
    "commas in frames": commas_in_frames,
}


@pytest.fixture(params=sorted(STORES))
def scattered(request, make_series, make_multiframe):
    """Such a scan, opened."""
    layout = "rows run to the front, columns to the right" if request.param != "commas" else "oblique"
    study = open_study(STORES[request.param](make_series, make_multiframe, layout))
    require_dicom_source(study)
    return study


@pytest.fixture(autouse=True)
def _unchecked_reading(monkeypatch):
    """The tests read their own invalid files without pydicom's warnings."""
    monkeypatch.setattr(pydicom_config.settings, "_reading_validation_mode", pydicom_config.IGNORE)


def centre(volume, label: int) -> np.ndarray:
    """Centroid in LPS mm of a label, by highdicom."""
    return (volume.affine @ [*np.argwhere(volume.array == label).mean(axis=0), 1.0])[:3]


def places(study) -> dict[tuple[str, int], np.ndarray]:
    """Position of every source image, by its SOP Instance UID and frame number (0: single-frame), from the files."""
    found = {}
    for path in dict.fromkeys(study.paths):
        ds = dcmread(path)
        frames = ds.get("PerFrameFunctionalGroupsSequence")
        planes = [one.PlanePositionSequence[0] for one in frames] if frames else [ds]
        for number, plane in enumerate(planes, start=1 if frames else 0):
            stated = [float(str(one).replace(",", ".")) for one in list(plane.ImagePositionPatient)[:3]]
            found[str(ds.SOPInstanceUID), number] = np.asarray(stated)
    return found


def series_of(study) -> dict[str, str]:
    """SOP Instance UID -> Series Instance UID of the source files."""
    headers = [dcmread(path, stop_before_pixels=True) for path in dict.fromkeys(study.paths)]
    return {str(one.SOPInstanceUID): str(one.SeriesInstanceUID) for one in headers}


def check_references(result: Dataset, study) -> None:
    """Every frame refers to the image, and frame, at its own position; the whole to each file in its own series."""
    known = places(study)
    for groups in result.PerFrameFunctionalGroupsSequence:
        (item,) = groups.DerivationImageSequence[0].SourceImageSequence
        source = known[str(item.ReferencedSOPInstanceUID), int(item.get("ReferencedFrameNumber") or 0)]
        assert np.abs(np.asarray(groups.PlanePositionSequence[0].ImagePositionPatient) - source).max() < 1e-3
    stated = {
        str(item.ReferencedSOPInstanceUID): str(series.SeriesInstanceUID)
        for series in result.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert stated.items() <= series_of(study).items()
    assert len(stated) == sum(len(one.ReferencedInstanceSequence) for one in result.ReferencedSeriesSequence)


def test_lesions_and_maps_lie_where_they_were_found(scattered, make_findings, tmp_path):
    diagnosis = make_findings(scattered)
    seg, pm = write_dicom_results(scattered, diagnosis, tmp_path / "out", kinds=("seg", "pm"))
    for lesion in diagnosis.lesions:
        volume = highdicom.seg.segread(seg).get_volume(segment_numbers=[lesion.lesion_id], combine_segments=True)
        found = centre(volume, int(volume.array.max()))
        assert np.abs(found - lesion.centroid_lps_mm).max() < 0.1
        assert np.count_nonzero(volume.array) * volume.voxel_volume / 1000 == pytest.approx(
            lesion.volume_ml, rel=1e-3
        )
    for path in (seg, pm):
        check_references(dcmread(path), scattered)
    maps = dcmread(pm)
    array = np.frombuffer(maps.FloatPixelData, "<f4").reshape(-1, maps.Rows, maps.Columns)
    frame, row, column = np.argwhere(array == array.max())[0]
    shared = maps.SharedFunctionalGroupsSequence[0]
    row_mm, column_mm = shared.PixelMeasuresSequence[0].PixelSpacing
    along = np.asarray(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=np.float64)
    origin = maps.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0].ImagePositionPatient
    place = np.asarray(origin, dtype=np.float64) + column * column_mm * along[:3] + row * row_mm * along[3:]
    brightest = np.argwhere(diagnosis.activation == diagnosis.activation.max())
    known = brightest @ scattered.volume.affine[:3, :3].T + scattered.volume.affine[:3, 3]
    assert np.linalg.norm(known - place, axis=1).min() < 0.1


def test_two_lesions_in_one_slice_refer_to_the_same_image(scattered, make_findings, tmp_path):
    diagnosis = make_findings(scattered)
    labels = diagnosis.lesion_labels.copy()
    labels[4, 14:18, 3:8] = 2  # the first lesion has pixels in this slice, too
    (seg,) = write_dicom_results(
        scattered, replace(diagnosis, lesion_labels=labels), tmp_path / "out", kinds=("seg",)
    )
    found = dcmread(seg)
    check_references(found, scattered)
    places_of_frames = [str(one.PlanePositionSequence) for one in found.PerFrameFunctionalGroupsSequence]
    assert len(set(places_of_frames)) < len(places_of_frames)


def test_report_and_overlays_refer_to_the_images(make_series, make_multiframe, make_findings, tmp_path):
    for name, store in STORES.items():
        if name.startswith("commas"):
            continue
        study = open_study(store(make_series, make_multiframe, "non-square pixels"))
        sr, *overlays = write_dicom_results(study, make_findings(study), tmp_path / name, kinds=("sr", "sc"))
        known, owners = places(study), series_of(study)
        evidence = {
            str(item.ReferencedSOPInstanceUID): str(series.SeriesInstanceUID)
            for one in dcmread(sr).CurrentRequestedProcedureEvidenceSequence
            for series in one.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        assert owners.items() <= evidence.items()
        images = [
            (str(item.ReferencedSOPInstanceUID), item.get("ReferencedFrameNumber"))
            for one in dcmread(sr).iterall()
            if one.keyword == "ReferencedSOPSequence"
            for item in one.value
            if str(item.ReferencedSOPInstanceUID) in owners
        ]
        assert len(images) > 8 if name == "joined" else images
        assert len(overlays) == 6
        for path in overlays:
            (item,) = dcmread(path).SourceImageSequence
            assert (str(item.ReferencedSOPInstanceUID), int(item.get("ReferencedFrameNumber") or 0)) in known


def test_a_single_lesion_is_read_alike_by_simpleitk(scattered, make_findings, tmp_path):
    both = make_findings(scattered)
    labels = (both.lesion_labels == 2).astype(np.uint16)
    lesion = dataclasses.replace(both.lesions[1], lesion_id=1)
    (path,) = write_dicom_results(
        scattered, dataclasses.replace(both, lesion_labels=labels, lesions=(lesion,)), tmp_path, kinds=("seg",)
    )
    image = SimpleITK.ReadImage(str(path))
    frame, row, column = np.argwhere(SimpleITK.GetArrayFromImage(image) > 0).mean(axis=0).tolist()
    found = image.TransformContinuousIndexToPhysicalPoint((column, row, frame))
    assert np.abs(np.subtract(found, lesion.centroid_lps_mm)).max() < 0.1
