"""Reading a study in its own process gives what reading it in this one gives."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from jcs_ct.checkpoints import load_models
from jcs_ct.jobs import READ_STUDY, Ending, ReadingRequest, StudyWorker, reading_key


def test_keys_tell_weights_and_thresholds_apart(random_models):
    models = load_models(str(random_models))
    key = reading_key("1.2.3", models)
    assert key == reading_key("1.2.3", models)
    assert key != reading_key("1.2.3", models, threshold=7)
    point = replace(models.operating_point, lesion_probability=0.4)
    assert key.weights == reading_key("1.2.3", replace(models, operating_point=point)).weights
    assert key != reading_key("1.2.3", replace(models, operating_point=point))
    swapped = replace(models, classifier=models.segmenter)
    assert key.weights != reading_key("1.2.3", swapped).weights


def test_a_request_survives_json():
    request = ReadingRequest("in", "out", threshold=3, formats=("json",))
    assert ReadingRequest.from_arguments(json.loads(json.dumps(request.to_arguments()))) == request


@pytest.mark.slow
def test_the_process_reports_what_the_command_reports(small_study, random_models, tmp_path, jcs):
    plain = tmp_path / "plain"
    assert jcs("diagnose", small_study, "-o", plain, "--models", random_models, "--dicom").exit_code == 0
    seen = []
    with StudyWorker(threads=1) as worker:
        for name in ("first", "second"):
            request = ReadingRequest(str(small_study), str(tmp_path / name), models=str(random_models), dicom=True)
            outcome = worker.run(READ_STUDY, request.to_arguments(), on_progress=lambda *stage: seen.append(stage[0]))
            assert outcome.ending is Ending.DONE, outcome.message
            for file in ("report.json", "lesions.nii.gz", "findings.sr.dcm", "lesions.seg.dcm"):
                assert file in outcome.value["files"]
            assert (tmp_path / name / "report.json").read_bytes() == (plain / "report.json").read_bytes()
        refused = worker.run(READ_STUDY, ReadingRequest(str(plain), str(tmp_path / "r")).to_arguments())
    assert list(dict.fromkeys(seen)) == ["read", "classify", "lungs", "map", "segment", "findings", "report"]
    assert (refused.ending, refused.code) == (Ending.REFUSED, "NO_IMAGES"), (
        "results of an earlier reading are no study"
    )
