from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.reporting import report_parts, write_report

EVERYTHING = {"report.html", "report.json", "lesions.nii.gz", "densities.nii.gz", "activation.nii.gz", "run.json"}


@pytest.fixture
def read(make_study, make_diagnosis):
    study = make_study()
    return study, make_diagnosis(study)


def _names(folder):
    return {path.name for path in folder.iterdir()}


def test_all_outputs_are_written_and_recorded(tmp_path, read):
    paths = write_report(*read, tmp_path / "deep" / "out", command=["jcs"])
    assert _names(paths.folder) == EVERYTHING
    record = json.loads(paths.run.read_text())
    assert {entry["file"] for entry in record["outputs"]} == EVERYTHING - {"run.json"}
    assert record["timings_s"].keys() == {"lungs", "classify", "report"}
    assert paths.html is not None
    assert paths.html.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_report_json_is_the_same_for_the_same_input(tmp_path, read):
    texts = [write_report(*read, tmp_path / name, formats=["json"]).json.read_bytes() for name in "ab"]
    assert texts[0] == texts[1]


def test_only_the_formats_asked_for(tmp_path, read):
    paths = write_report(*read, tmp_path, formats=["json"])
    assert _names(tmp_path) == {"report.json", "run.json"}
    assert paths.html is None
    assert paths.lesions is None


def test_outputs_of_an_earlier_run_do_not_stay_beside_new_ones(tmp_path, read):
    write_report(*read, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    write_report(*read, tmp_path, formats=["json"])
    assert _names(tmp_path) == {"report.json", "run.json", "notes.txt"}


def test_files_of_the_same_name_that_no_run_left_are_kept(tmp_path, read):
    (tmp_path / "lesions.nii.gz").write_text("mine")
    write_report(*read, tmp_path, formats=["json"])
    assert (tmp_path / "lesions.nii.gz").read_text() == "mine"


def _content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_fails_leaves_the_earlier_report_as_it_was(tmp_path, read, monkeypatch):
    write_report(*read, tmp_path)
    before = _content(tmp_path)

    def full_disk(path, mode):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nibabel.openers.ImageOpener", full_disk)
    with pytest.raises(OutputError, match=r"the disk is full.*DISK_FULL"):
        write_report(*read, tmp_path, label="new")
    assert _content(tmp_path) == before
    with pytest.raises(OutputError, match=r"DISK_FULL"):
        write_report(*read, tmp_path / "fresh")
    assert _content(tmp_path / "fresh") == {}


def test_a_folder_that_is_a_file(tmp_path, read):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        write_report(*read, tmp_path / "out")


def test_an_output_that_cannot_be_replaced(tmp_path, read):
    (tmp_path / "report.json").mkdir()
    with pytest.raises(OutputError, match=r"report\.json: it is a folder"):
        write_report(*read, tmp_path)
    assert _names(tmp_path) == {"report.json"}


def test_unknown_formats_are_named(tmp_path, read):
    with pytest.raises(ConfigError, match="unknown report format docx, pdf; choose from json, nifti, html"):
        write_report(*read, tmp_path, formats=["pdf", "json", "docx"])
    assert list(tmp_path.iterdir()) == []


def test_a_diagnosis_of_another_study_is_refused(tmp_path, read, make_study):
    other = make_study(shape=(9, 40, 48))
    with pytest.raises(ValueError, match="not the same study"):
        write_report(other, read[1], tmp_path)
    shorter = replace(read[1], slices=read[1].slices[:-1])
    with pytest.raises(ValueError, match="11 slice predictions for a study of 12 slices"):
        write_report(read[0], shorter, tmp_path)


def test_progress_rises_to_the_end(tmp_path, read):
    seen = []
    write_report(*read, tmp_path, progress=lambda stage, done, total: seen.append((stage, done, total)))
    done = [entry[1] for entry in seen]
    assert done == sorted(done)
    assert (seen[0], seen[-1]) == (("report", 0, 100), ("report", 100, 100))


def test_lesions_of_a_study_that_was_not_segmented_say_so(tmp_path, make_study, make_diagnosis):
    import nibabel

    study = make_study(affine=None)
    paths = write_report(study, make_diagnosis(study, positive=False), tmp_path, formats=["nifti"])
    image = nibabel.load(paths.lesions)
    assert not np.asarray(image.dataobj).any()
    assert image.header["descrip"].item() == b"jcs-ct lesions: not segmented, all 0; geometry unknown: voxel units"


def test_the_formats_are_those_of_the_type():
    assert set(report_parts.FORMATS) == {"json", "nifti", "html"}
