"""Lesions read back from the SEG by other software lie where they were, to 0.1 mm and 0.1 %."""

from __future__ import annotations

import dataclasses

import highdicom
import nibabel
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread
from pydicom.sr.codedict import codes

from jcs_ct.imaging.nifti_writing import write_label_volume
from jcs_ct.reporting.dicom_results import write_dicom_results


def _write(study, diagnosis, folder):
    (path,) = write_dicom_results(study, diagnosis, folder, kinds=("seg",))
    return path


def _measure(path, lesion_id):
    """Volume in ml and centroid in LPS mm of one segment, by highdicom alone."""
    volume = highdicom.seg.segread(path).get_volume(segment_numbers=[lesion_id], combine_segments=True)
    index = np.argwhere(volume.array > 0)
    centroid = volume.affine @ [*index.mean(axis=0), 1.0]
    return len(index) * volume.voxel_volume / 1000.0, centroid[:3]


def _check_lesions(path, diagnosis):
    for lesion in diagnosis.lesions:
        volume_ml, centroid = _measure(path, lesion.lesion_id)
        assert volume_ml == pytest.approx(lesion.volume_ml, rel=1e-3)
        assert np.abs(centroid - lesion.centroid_lps_mm).max() < 0.1


def test_highdicom_finds_volumes_and_positions_in_every_geometry(make_series, make_findings, layout_name, tmp_path):
    study = make_series(layout_name)
    diagnosis = make_findings(study)
    _check_lesions(_write(study, diagnosis, tmp_path / "out"), diagnosis)


@pytest.mark.parametrize("lesion_id", [1, 2])
def test_simpleitk_finds_one_lesion_in_every_geometry(make_series, make_findings, layout_name, lesion_id, tmp_path):
    """ITK stacks all frames into one grid, so it reads segmentations of a single segment only."""
    study = make_series(layout_name)
    both = make_findings(study)
    labels = (both.lesion_labels == lesion_id).astype(np.uint16)
    lesion = dataclasses.replace(both.lesions[lesion_id - 1], lesion_id=1)
    single = dataclasses.replace(both, lesion_labels=labels, lesions=(lesion,))
    image = SimpleITK.ReadImage(str(_write(study, single, tmp_path / "out")))
    found = np.argwhere(SimpleITK.GetArrayFromImage(image) > 0)
    assert len(found) * np.prod(image.GetSpacing()) / 1000 == pytest.approx(lesion.volume_ml, rel=1e-3)
    frame, row, column = found.mean(axis=0).tolist()
    centroid = image.TransformContinuousIndexToPhysicalPoint((column, row, frame))
    assert np.abs(np.subtract(centroid, lesion.centroid_lps_mm)).max() < 0.1


def test_seg_and_nifti_agree_in_every_geometry(make_series, make_findings, layout_name, tmp_path):
    study = make_series(layout_name)
    diagnosis = make_findings(study)
    segmentation = _write(study, diagnosis, tmp_path / "out")
    nifti = tmp_path / "lesions.nii.gz"
    write_label_volume(nifti, diagnosis.lesion_labels, study.volume.affine, description="lesions")
    image = nibabel.load(nifti)
    for lesion in diagnosis.lesions:
        index = np.argwhere(np.asarray(image.dataobj) == lesion.lesion_id)
        ras = nibabel.affines.apply_affine(image.affine, index.mean(axis=0))
        volume_ml, centroid_lps = _measure(segmentation, lesion.lesion_id)
        assert volume_ml == pytest.approx(len(index) * np.prod(image.header.get_zooms()[:3]) / 1000, rel=1e-3)
        assert np.abs(centroid_lps - ras * [-1, -1, 1]).max() < 0.1


def test_a_multiframe_source_is_referred_to_by_frame(make_multiframe, make_findings, layout_name, tmp_path):
    study = make_multiframe(layout_name)
    diagnosis = make_findings(study)
    path = _write(study, diagnosis, tmp_path / "out")
    _check_lesions(path, diagnosis)
    source = dcmread(study.paths[0])
    for groups in dcmread(path).PerFrameFunctionalGroupsSequence:
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        stated = source.PerFrameFunctionalGroupsSequence[image.ReferencedFrameNumber - 1].PlanePositionSequence[0]
        own = groups.PlanePositionSequence[0]
        assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
        np.testing.assert_allclose(own.ImagePositionPatient, stated.ImagePositionPatient, atol=1e-3)


def test_segments_are_lesions_with_standard_codes(make_series, make_findings, tmp_path):
    study = make_series()
    diagnosis = make_findings(study)
    dataset = dcmread(_write(study, diagnosis, tmp_path / "out"))
    assert dataset.SegmentationType == "BINARY"
    assert dataset.SeriesDescription == "JCS lesions. Research use only, not a medical device."
    assert [segment.SegmentNumber for segment in dataset.SegmentSequence] == [1, 2]
    for segment in dataset.SegmentSequence:
        category, kind = (
            segment.SegmentedPropertyCategoryCodeSequence[0],
            segment.SegmentedPropertyTypeCodeSequence[0],
        )
        assert (category.CodeValue, category.CodingSchemeDesignator) == ("49755003", "SCT")
        assert (kind.CodeValue, kind.CodeMeaning) == (codes.cid6104.Opacity.value, "Opacity")
    sides = [
        segment.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeMeaning
        for segment in dataset.SegmentSequence
    ]
    assert sides == ["Left", "Right"]


def test_only_frames_with_lesions_are_stored_and_each_names_its_source(make_series, make_findings, tmp_path):
    study = make_series()
    dataset = dcmread(_write(study, make_findings(study), tmp_path / "out"))
    source = {dcmread(path).SOPInstanceUID: dcmread(path).ImagePositionPatient for path in study.paths}
    assert dataset.NumberOfFrames == 5
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        uid = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert list(groups.PlanePositionSequence[0].ImagePositionPatient) == list(source[uid])


def test_labels_that_are_no_lesion_are_an_error(make_series, make_findings, tmp_path):
    study = make_series()
    diagnosis = make_findings(study)
    diagnosis.lesion_labels[0, 0, 0] = 3
    with pytest.raises(ValueError, match=r"lesion ids must be 1..2"):
        _write(study, diagnosis, tmp_path / "out")
