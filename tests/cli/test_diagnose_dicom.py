"""`jcs diagnose --dicom`: the DICOM results beside the report, with networks of random weights."""

from __future__ import annotations

import hashlib
import json

import pytest
from pydicom import dcmread

from jcs_ct import NOTICE
from jcs_ct.errors import ConfigError

REPORT = {"report.html", "report.json", "lesions.nii.gz", "densities.nii.gz", "activation.nii.gz"}


@pytest.fixture(scope="module")
def with_dicom(tmp_path_factory, phantom_study, random_models):
    """(folder, result) of ``jcs diagnose --dicom --json``."""
    from typer.testing import CliRunner

    from jcs_ct.cli import app

    folder = tmp_path_factory.mktemp("report")
    arguments = ["diagnose", phantom_study, "-o", folder, "--models", random_models, "--dicom", "--json", "-q"]
    return folder, CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_dicom_results_lie_beside_the_report_and_in_the_record(with_dicom):
    folder, result = with_dicom
    assert result.exit_code == 0, result.output
    overlays = {f"overlay/{path.name}" for path in (folder / "overlay").iterdir()}
    assert overlays
    dicom = {"lesions.seg.dcm", "activation.pm.dcm", "findings.sr.dcm", "report.pdf.dcm"} | overlays
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written == REPORT | dicom | {"run.json"}
    record = json.loads((folder / "run.json").read_text())
    assert {entry["file"] for entry in record["outputs"]} == REPORT | dicom
    for entry in record["outputs"]:
        assert hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]


def test_the_result_on_stdout_names_every_object(with_dicom):
    folder, result = with_dicom
    facts = json.loads(result.stdout)
    assert facts["verdict"] == "positive"
    assert facts["notice"] == NOTICE
    assert [path for path in facts["dicom"] if not (folder / path).is_file()] == []
    assert f"{folder / 'lesions.seg.dcm'}" in facts["dicom"]


def test_the_objects_belong_to_the_study_and_to_each_other(with_dicom, phantom_study):
    folder, _ = with_dicom
    source = dcmread(phantom_study / "0001.dcm")
    segmentation = dcmread(folder / "lesions.seg.dcm")
    report = dcmread(folder / "findings.sr.dcm")
    for path in folder.rglob("*.dcm"):
        dataset = dcmread(path)
        assert dataset.StudyInstanceUID == source.StudyInstanceUID
        assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
    assert segmentation.FrameOfReferenceUID == source.FrameOfReferenceUID
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    cited = {
        item.ReferencedSOPInstanceUID
        for series in evidence.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert segmentation.SOPInstanceUID in cited
    assert source.SOPInstanceUID in cited


def test_a_run_without_dicom_takes_the_earlier_dicom_results_away(jcs, phantom_study, random_models, tmp_path):
    common = ("diagnose", phantom_study, "-o", tmp_path, "--models", random_models, "-q")
    assert jcs(*common, "--dicom").exit_code == 0
    result = jcs(*common)
    assert result.exit_code == 0
    assert "DICOM results" not in result.stdout
    assert list(tmp_path.rglob("*.dcm")) == []


def test_dicom_results_of_what_is_no_dicom_are_refused_before_any_network_runs(
    jcs, phantom_study, random_models, tmp_path, monkeypatch
):
    import shutil

    monkeypatch.setattr("jcs_ct.reading.diagnosis.diagnose", lambda *a, **k: pytest.fail("a network ran"))
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", phantom_study)
    result = jcs("diagnose", archive, "-o", tmp_path / "out", "--models", random_models, "--dicom", "-q")
    assert isinstance(result.exception, ConfigError)
    assert "unpack an archive" in str(result.exception)
    assert not (tmp_path / "out").exists()
