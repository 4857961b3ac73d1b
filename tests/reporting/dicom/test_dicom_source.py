"""References to source series as they really come: GUIDs, empty and doubled identifiers, dates that are none."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
from pydicom import config as pydicom_config
from pydicom import dcmread
from pydicom.uid import UID

from jcs_ct.errors import ConfigError, StudyError
from jcs_ct.reporting.dicom_results import write_dicom_results
from jcs_ct.reporting.dicom_source import conforming_uid, read_source_series
from jcs_ct.volume import CTVolume

GUID = "896911bf-1143-4c8d-8f04-f3cd1a7f6204"


@pytest.fixture(autouse=True)
def _unchecked_reading(monkeypatch):
    """The tests read their own invalid files without pydicom's warnings."""
    monkeypatch.setattr(pydicom_config.settings, "_reading_validation_mode", pydicom_config.IGNORE)


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2", "2.25.4", "1.2.276.0.7230010.3.1.4.8323329.5320.1517.0"])
def test_a_uid_stays_as_it_is(uid):
    assert conforming_uid(uid) == uid
    assert conforming_uid(f"{uid}\0 ") == uid


@pytest.mark.parametrize("text", [GUID, "", "1.02.3", "no uid at all", "1." * 40 + "1"])
def test_anything_else_becomes_a_uid_and_always_the_same(text):
    uid = conforming_uid(text, "series", "0")
    assert UID(uid).is_valid
    assert uid == conforming_uid(text, "series", "0")
    assert uid != conforming_uid(f"{text}x", "series", "0")


def test_a_guid_takes_its_decimal_form():
    assert conforming_uid(GUID) == f"2.25.{int(GUID.replace('-', ''), 16)}"


def test_valid_identifiers_and_the_patient_are_kept(make_series):
    study = make_series()
    source = read_source_series(study)
    header = dcmread(study.paths[3])
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID", "PatientID"):
        assert source.images[3][keyword].value == header[keyword].value
    assert str(source.first.PatientName) == "Hôte^Zoé"
    assert source.replaced == {}


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "山田　太郎"),
        ("ISO_IR 192", "نیک\u200cپور^علی"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田　^太郎=やまだ^たろう"),
        ("GBK", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 100", "Hôte\xa0d'Or^Zoé"),
    ],
)
def test_names_are_kept_in_every_script(make_series, character_set, name):
    source = read_source_series(
        make_series(SpecificCharacterSet=character_set, PatientName=name, StudyDescription="CT")
    )
    assert str(source.first.PatientName) == name
    assert source.replaced == {}


def test_letters_that_are_not_of_the_stated_character_set_are_counted(make_series):
    study = make_series()
    for path in study.paths:
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 192"))
    source = read_source_series(study)
    assert str(source.first.PatientName) == "H\ufffdte^Zo\ufffd"
    assert source.replaced == {"PatientName": 1}


def test_text_with_line_ends_is_left_out(make_series):
    source = read_source_series(make_series(StudyDescription="chest\r\nCT"))
    assert "StudyDescription" not in source.first
    assert source.replaced == {"StudyDescription": 1}


def test_identifiers_that_are_none_are_replaced_and_counted(make_series, caplog):
    study = make_series(
        StudyInstanceUID=GUID,
        SOPInstanceUID="",
        FrameOfReferenceUID="",
        StudyDate="",
        PatientBirthDate="2020-13-99",
        PatientSex="female",
        PatientAge="old",
    )
    with caplog.at_level(logging.INFO):
        source = read_source_series(study)
    assert source.replaced == {
        "StudyInstanceUID": 1,
        "SOPInstanceUID": 8,
        "FrameOfReferenceUID": 1,
        "PatientBirthDate": 1,
        "PatientSex": 1,
        "PatientAge": 1,
    }
    assert len({image.SOPInstanceUID for image in source.images}) == 8
    assert all(UID(image.SOPInstanceUID).is_valid for image in source.images)
    assert (source.first.PatientBirthDate, source.first.PatientSex, source.first.StudyDate) == ("", "", "")
    assert "PatientBirthDate x1" in caplog.text
    assert not any(secret in caplog.text for secret in ("Zoé", "4711", GUID, "2020-13-99"))


def test_one_identifier_for_every_image_identifies_none(make_series):
    source = read_source_series(make_series(SOPInstanceUID="1.2.3.4"))
    assert len({image.SOPInstanceUID for image in source.images}) == 8
    assert source.replaced == {"SOPInstanceUID": 8}


def test_a_study_that_is_not_dicom_is_refused(make_series):
    study = dataclasses.replace(make_series(), kind="nifti")
    with pytest.raises(ConfigError, match="DICOM results need a DICOM study"):
        read_source_series(study)


def test_a_volume_off_its_source_grid_is_refused(make_series):
    study = make_series()
    affine = np.array(study.volume.affine)
    affine[:3, 3] += [0.0, 0.0, 2.5]
    moved = dataclasses.replace(study, volume=CTVolume(study.volume.hu, affine))
    with pytest.raises(ConfigError, match=r"2\.50 mm away"):
        read_source_series(moved)


def test_fewer_files_than_slices_are_refused(make_series):
    study = make_series()
    with pytest.raises(ConfigError, match="8 slices and the study 7 images"):
        read_source_series(dataclasses.replace(study, paths=study.paths[:-1]))


def test_a_source_file_that_is_gone_is_named_by_number(make_series):
    study = make_series()
    study.paths[4].unlink()
    with pytest.raises(StudyError, match=r"source file 5 of 8 .*UNREADABLE"):
        read_source_series(study)


def test_source_files_are_parsed_in_the_decoding_child_alone(make_series, make_findings, tmp_path, monkeypatch):
    study = make_series()

    def parse(*arguments, **options):
        raise AssertionError("a source file was parsed in this process")

    monkeypatch.setattr("pydicom.filereader.read_partial", parse)
    with pytest.raises(AssertionError):
        dcmread(study.paths[0])
    written = write_dicom_results(study, make_findings(study), tmp_path / "out")
    assert {"lesions.seg.dcm", "findings.sr.dcm", "report.pdf.dcm"} <= {path.name for path in written}


def test_an_archive_has_to_be_unpacked_first(make_series, tmp_path):
    archive = tmp_path / "study.zip"
    archive.write_bytes(b"PK\3\4" + bytes(400))
    with pytest.raises(ConfigError, match="unpack an archive"):
        read_source_series(dataclasses.replace(make_series(), paths=(archive,)))


def test_images_without_position_are_refused(make_series):
    with pytest.raises(StudyError, match=r"no usable ImagePositionPatient .*NO_POSITION"):
        read_source_series(make_series(ImagePositionPatient=None))
