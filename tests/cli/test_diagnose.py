"""`jcs diagnose` from a study on disk to its report, with networks that call every lung slice infected."""

import json
import pickle

import pytest

from jcs_ct.errors import CheckpointError


@pytest.fixture
def diagnose(jcs, phantom_study, random_models):
    def run(out, *more):
        common = ("diagnose", phantom_study, "-o", out, "--models", random_models, "--precision", "fp32", "--quiet")
        result = jcs(*common, *more)
        assert result.exit_code == 0, result.output
        return result

    return run


def test_a_study_becomes_a_report(diagnose, tmp_path):
    answer = json.loads(diagnose(tmp_path, "--json").stdout)
    assert answer["verdict"] == "positive"
    assert answer["positive_slice_threshold"] == 1
    assert answer["positive_slice_count"] == answer["lung_slice_count"] > 2
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "report.html",
        "report.json",
        "lesions.nii.gz",
        "densities.nii.gz",
        "activation.nii.gz",
        "run.json",
    }
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"]["positive_slice_count"] == answer["positive_slice_count"]
    assert report["segmentation"]["lesion_count"] == answer["lesion_count"]


def test_lesions_of_a_study_that_is_called_negative_are_outlined_and_flagged(diagnose, tmp_path):
    answer = json.loads(diagnose(tmp_path, "--threshold", "100", "--json").stdout)
    assert answer["verdict"] == "negative"
    codes = [flag["code"] for flag in answer["flags"]]
    assert "NETWORKS_DISAGREE" in codes
    assert "SEGMENTED_ON_REQUEST" not in codes
    assert answer["lesion_count"] > 0


def test_a_negative_study_is_not_segmented_where_that_is_switched_off(diagnose, tmp_path):
    answer = json.loads(diagnose(tmp_path, "--threshold", "100", "--segment", "never", "--json").stdout)
    assert answer["verdict"] == "negative"
    assert answer["lesion_count"] is None
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["segmentation"]["performed"] is False
    assert report["burden"] is None


def test_segmentation_on_request_leaves_the_verdict(diagnose, tmp_path):
    answer = json.loads(diagnose(tmp_path, "--threshold", "100", "--segment", "always", "--json").stdout)
    assert answer["verdict"] == "negative"
    assert answer["lesion_count"] is not None
    assert "SEGMENTED_ON_REQUEST" in [flag["code"] for flag in answer["flags"]]


def test_the_summary_for_people_ends_with_the_notice(diagnose, tmp_path):
    lines = diagnose(tmp_path).stdout.splitlines()
    assert lines[0].startswith("POSITIVE: ")
    assert lines[-2] == f"report: {tmp_path / 'report.html'}"
    assert lines[-1] == "Research use only, not a medical device."


def test_the_same_study_gives_the_same_data(diagnose, tmp_path):
    for name in ("first", "second"):
        diagnose(tmp_path / name)
    first, second = (tmp_path / name / "report.json" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_as_model_is_refused_and_never_run(jcs, phantom_study, tmp_path):
    models, sprung = tmp_path / "models", tmp_path / "sprung"
    models.mkdir()
    for name in ("classifier", "segmenter"):
        (models / f"{name}.safetensors").write_bytes(pickle.dumps(Trap(sprung)))
    result = jcs("diagnose", phantom_study, "-o", tmp_path / "out", "--models", models, "-q")
    assert isinstance(result.exception, CheckpointError)
    assert "not a readable safetensors file" in str(result.exception)
    assert not sprung.exists()
