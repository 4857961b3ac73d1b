"""One scan over several series is joined when it is one by its geometry, and never otherwise."""

from __future__ import annotations

import re

import numpy as np
import pytest
from pydicom.uid import generate_uid

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging import open_study
from jcs_ct.reporting.dicom_source import read_source_series


def part_of(group, *, edit=None):
    """An edit that gives slice ``number`` the series ``group(number)``, and that series its further ``edit``."""
    uids = {}

    def change(number, ds):
        ds.FrameOfReferenceUID = "1.2.826.9"
        ds.SeriesInstanceUID = uids.setdefault(group(number), generate_uid())
        return edit(group(number), ds) if edit is not None else None

    return change


def test_parts_without_a_frame_of_reference_are_joined_within_their_study(write_series):
    def edit(_, ds):
        ds.FrameOfReferenceUID = ""

    series = write_series(slices=12, edit=part_of(lambda n: n >= 7, edit=edit))
    assert np.array_equal(open_study(series.folder).volume.hu, series.truth)


def codes(study):
    return {str(flag.code) for flag in study.flags}


@pytest.mark.parametrize("group", [lambda n: n, lambda n: n >= 7, lambda n: n >= 6, lambda n: n // 4])
def test_parts_that_continue_one_another_are_one_study(write_series, group):
    series = write_series(slices=12, edit=part_of(group))
    study = open_study(series.folder)
    assert np.array_equal(study.volume.hu, series.truth)
    assert study.volume.spacing_mm[0] == pytest.approx(2.0)
    assert "JOINED_SERIES" in codes(study)
    assert len(study.source.series) == len({group(number) for number in range(12)})
    series_uids = [str(image.SeriesInstanceUID) for image in read_source_series(study).images]
    assert [series_uids.index(uid) for uid in series_uids] == [
        min(other for other in range(12) if group(other) == group(n)) for n in range(12)
    ]


def test_every_other_slice_in_two_series_is_not_put_together(write_series):
    series = write_series(slices=12, edit=part_of(lambda n: n % 2))
    with pytest.raises(StudyError, match="2 series are equally good") as error:
        open_study(series.folder)
    assert error.value.code is GateCode.MIXED_SERIES


def kernel(group, ds):
    ds.ConvolutionKernel = "B70f" if group else "B30f"


def patient(group, ds):
    ds.PatientID = f"patient {int(group)}"


def frame(group, ds):
    ds.FrameOfReferenceUID = f"1.2.826.{9 + int(group)}"


@pytest.mark.parametrize("edit", [kernel, frame])
def test_parts_of_other_scans_are_not_joined(write_series, edit):
    study = open_study(write_series(slices=16, edit=part_of(lambda n: n >= 9, edit=edit)).folder)
    assert study.volume.shape[0] == 9
    assert "JOINED_SERIES" not in codes(study)
    assert (len(study.source.series), len(study.source.beside)) == (1, 1)


def test_parts_of_two_patients_are_not_joined(write_series):
    series = write_series(slices=16, edit=part_of(lambda n: n >= 9, edit=patient))
    with pytest.raises(StudyError, match="series of 2 studies lie here"):
        open_study(series.folder)


def test_a_part_behind_a_gap_is_named(write_series):
    split = part_of(lambda n: n >= 10)
    series = write_series(slices=17, edit=lambda number, ds: False if number in (8, 9, 10) else split(number, ds))
    study = open_study(series.folder)
    assert study.volume.shape[0] == 8
    (flag,) = [flag for flag in study.flags if flag.code == "PART_LEFT_ASIDE"]
    assert "(6 slices, " in flag.message
    assert "was left aside: it reaches 18.0 mm beyond what was read, and the two make no regular" in flag.message


def image_type(group, ds):
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "HELIX" if group else "CT"]


def voltage(group, ds):
    ds.KVP = "100" if group else "120"


def contrast(group, ds):
    if group:
        ds.ContrastBolusAgent = "iohexol"


@pytest.mark.parametrize("edit", [kernel, frame, image_type, voltage, contrast])
def test_a_part_that_may_be_of_another_scan_is_named(write_series, edit):
    study = open_study(write_series(slices=16, edit=part_of(lambda n: n >= 9, edit=edit)).folder)
    (flag,) = [flag for flag in study.flags if flag.code == "PART_LEFT_ASIDE"]
    assert "it reaches 14.0 mm beyond what was read, and it is of another scan or reconstruction" in flag.message


def test_slices_between_those_that_were_read_are_named(write_series):
    study = open_study(write_series(slices=13, edit=part_of(lambda n: n % 2)).folder)
    (flag,) = [flag for flag in study.flags if flag.code == "PART_LEFT_ASIDE"]
    assert flag.message.endswith("6 of its slices lie between those that were read")


def unplaced(group, ds):
    if group:
        del ds.ImagePositionPatient


def called_other(group, ds):
    if group:
        ds.Modality = "OT"


def called_secondary(group, ds):
    if group:
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (unplaced, "where its slices lie beside those that were read is not known"),
        (called_other, r"it reaches 14.0 mm beyond what was read, and its header calls it no CT \(NOT_CT\)"),
        (called_secondary, r"it reaches 14.0 mm beyond what was read, and its header calls it no CT \(NOT_CT\)"),
    ],
)
def test_a_part_whose_header_hides_it_is_named(write_series, edit, why):
    study = open_study(write_series(slices=16, edit=part_of(lambda n: n >= 9, edit=edit)).folder)
    (flag,) = [flag for flag in study.flags if flag.code == "PART_LEFT_ASIDE"]
    assert re.search(rf"\(7 slices, .*was left aside: {why}$", flag.message)


@pytest.mark.parametrize("hide", [unplaced, called_other])
def test_pictures_of_another_kind_are_no_part(write_series, hide):
    def edit(group, ds):
        hide(group, ds)
        if group:
            ds.ImageType = ["DERIVED", "SECONDARY", "OTHER"]

    study = open_study(write_series(slices=16, edit=part_of(lambda n: n >= 9, edit=edit)).folder)
    assert "PART_LEFT_ASIDE" not in codes(study)


def test_another_reconstruction_of_the_same_place_is_not_left_aside(write_series):
    first = write_series("study", slices=10)
    write_series("study", slices=9, prefix="b", edit=lambda number, ds: setattr(ds, "ConvolutionKernel", "B30f"))
    assert "PART_LEFT_ASIDE" not in codes(open_study(first.folder))
