"""`jcs diagnose` from a study on disk to its report, with networks of random weights."""

import json

import pytest
import torch
from typer.testing import CliRunner

from jcs_ct.checkpoints import CheckpointInfo, save_checkpoint
from jcs_ct.cli import app
from jcs_ct.models.presets import build_classifier, build_segmenter, classifier_preset, segmenter_preset
from jcs_ct.operating_point import OperatingPoint
from jcs_ct.preprocessing import SlicePreprocessor

runner = CliRunner()
PREPROCESSOR = SlicePreprocessor(size=64, body_crop=True, channels=1, mean=(0.45,), std=(0.3,))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    settings = ["--slices", "6", "--lesions", "3", "--seed", "1", "--size", "96", "--format", "dicom"]
    assert runner.invoke(app, ["phantom", str(folder), *settings]).exit_code == 0
    return folder / "dicom"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Networks that call every slice infected (cut 0) and segment whatever their random weights say."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    point = OperatingPoint(slice_probability=0.0, positive_slice_threshold=2, lesion_probability=0.5)
    for task, network in (
        ("classifier", build_classifier(classifier_preset("compact"))),
        ("segmenter", build_segmenter(segmenter_preset("compact-joint"))),
    ):
        info = CheckpointInfo(task, "compact", network.config.to_dict(), PREPROCESSOR, point)
        save_checkpoint(folder / f"{task}.safetensors", network, info)
    return folder


def diagnose(study, models, out, *more):
    return runner.invoke(
        app, ["diagnose", str(study), "-o", str(out), "--models", str(models), "--precision", "fp32", *more]
    )


def test_a_study_becomes_a_report(study, models, tmp_path):
    result = diagnose(study, models, tmp_path, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["verdict"] == "positive"
    assert answer["positive_slice_threshold"] == 2
    assert answer["positive_slice_count"] == answer["lung_slice_count"] > 2
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"report.html", "report.json", "lesions.nii.gz", "activation.nii.gz", "run.json"}
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"]["positive_slice_count"] == answer["positive_slice_count"]
    assert report["segmentation"]["lesion_count"] == answer["lesion_count"]


def test_a_negative_study_is_not_segmented(study, models, tmp_path):
    result = diagnose(study, models, tmp_path, "--threshold", "100", "--json", "--quiet")
    answer = json.loads(result.stdout)
    assert answer["verdict"] == "negative"
    assert answer["lesion_count"] is None
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["segmentation"]["performed"] is False
    assert report["burden"] is None


def test_segmentation_on_request_leaves_the_verdict(study, models, tmp_path):
    result = diagnose(study, models, tmp_path, "--threshold", "100", "--segment", "always", "--json", "--quiet")
    answer = json.loads(result.stdout)
    assert answer["verdict"] == "negative"
    assert answer["lesion_count"] is not None
    assert "SEGMENTED_ON_REQUEST" in [flag["code"] for flag in answer["flags"]]


def test_the_summary_for_people_ends_with_the_notice(study, models, tmp_path):
    lines = diagnose(study, models, tmp_path, "--quiet").stdout.splitlines()
    assert lines[0].startswith("POSITIVE: ")
    assert lines[-2] == f"report: {tmp_path / 'report.html'}"
    assert lines[-1] == "Research use only, not a medical device."


def test_the_same_study_gives_the_same_data(study, models, tmp_path):
    for name in ("first", "second"):
        assert diagnose(study, models, tmp_path / name, "--quiet").exit_code == 0
    first, second = (tmp_path / name / "report.json" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
