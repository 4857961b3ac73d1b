from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator

from jcs_ct.imaging.study import QualityFlag
from jcs_ct.operating_point import Verdict, VerdictBasis
from jcs_ct.reporting import SCHEMA_VERSION, report_dict, report_schema

#: Fields that may be null without being withheld: their absence is a fact of the input.
OPTIONAL_FACTS = {"operating_point.reference_spacing_mm", "models.classifier.weights_sha256"}


@pytest.fixture(scope="module")
def validator():
    return Draft202012Validator(report_schema())


@pytest.fixture(params=["positive", "negative", "no geometry", "assumed HU", "not segmented", "no lesions"])
def report(request, make_study, make_diagnosis):
    case = request.param
    study = make_study(affine=None) if case == "no geometry" else make_study(hu_is_assumed=case == "assumed HU")
    options = {
        "negative": {"positive": False},
        "not segmented": {"segmented": False},
        "no lesions": {"boxes": ()},
    }.get(case, {})
    return report_dict(study, make_diagnosis(study, flags=[QualityFlag("GAP", "a gap")], **options))


def _nulls(value, path=""):
    if value is None:
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _nulls(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _nulls(inner, f"{path}[]")


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(report_schema())
    assert report_schema()["properties"]["schema_version"]["const"] == SCHEMA_VERSION


def test_every_kind_of_report_satisfies_the_schema(report, validator):
    errors = [error.message for error in validator.iter_errors(json.loads(json.dumps(report, allow_nan=False)))]
    assert errors == []


def test_every_null_is_explained_and_every_explanation_is_of_a_null(report):
    withheld = {entry["field"]: entry["reason"] for entry in report["withheld"]}
    assert set(_nulls(report)) - OPTIONAL_FACTS == set(withheld)
    assert all(withheld.values())


def test_objects_are_closed(report, validator):
    def objects(schema):
        if isinstance(schema, dict):
            if "properties" in schema:
                yield schema
            for inner in schema.values():
                yield from objects(inner)

    assert all(entry["additionalProperties"] is False for entry in objects(report_schema()))
    report["study"]["patient_name"] = "DOE^JOHN"
    assert not validator.is_valid(report)


def test_the_software_never_assigns_co_rads(report):
    assert report["reader"] == {"co_rads": None}


def test_figures_of_a_positive_study(make_study, make_diagnosis):
    study = make_study()
    report = report_dict(study, make_diagnosis(study))
    assert report["verdict"] == {
        "result": "positive",
        "basis": "slice_count",
        "rule": "positive when positive_slice_count is larger than positive_slice_threshold",
        "positive_slice_count": 8,
        "positive_slice_threshold": 3,
        "lung_slice_count": 11,
        "positive_fraction": pytest.approx(8 / 11),
    }
    assert [entry["lesion_count"] for entry in report["slices"]] == [0, 0, 0, 1, 1, 2, 2, 1, 0, 0, 0, 0]
    first = report["lesions"][0]
    assert first["volume_ml"] == pytest.approx(5 * 8 * 12 * 2.0 * 0.7 * 0.8 / 1000)
    assert first["slices"][0] == {
        "slice_index": 3,
        "area_pixel": 96,
        "position_x": 13.5,
        "position_y": 13.5,
        "x0": 8,
        "y0": 10,
        "width": 12,
        "height": 8,
    }
    assert report["study"]["slice_spacing_mm"] == 2.0
    assert report["segmentation"] == {"performed": True, "lesion_count": 2}


def test_a_negative_study_states_no_lesion_figures(make_study, make_diagnosis):
    study = make_study()
    report = report_dict(study, make_diagnosis(study, positive=False))
    assert report["lesions"] is None
    assert report["burden"] is None
    assert {entry["lesion_count"] for entry in report["slices"]} == {None}
    reasons = {entry["field"]: entry["reason"] for entry in report["withheld"]}
    assert reasons["lesions"] == "lesions were not segmented: the patient rule is negative"


def test_a_verdict_and_zones_that_are_withheld_are_null_with_their_reason(make_study, make_diagnosis, validator):
    study = make_study()
    found = make_diagnosis(study)
    report = report_dict(
        study,
        replace(
            found,
            verdict=Verdict.WITHHELD,
            basis=VerdictBasis.TOO_FEW_SLICES,
            positive_slice_threshold=None,
            lesions=(replace(found.lesions[0], side="unknown"), *found.lesions[1:]),
            burden=replace(found.burden, zones=None),
        ),
    )
    assert list(validator.iter_errors(report)) == []
    assert (report["verdict"]["result"], report["verdict"]["basis"]) == ("withheld", "too_few_slices")
    assert report["verdict"]["positive_slice_threshold"] is report["burden"]["zones"] is None
    reasons = {entry["field"]: entry["reason"] for entry in report["withheld"]}
    assert "too few slices" in reasons["verdict.positive_slice_threshold"]
    assert "side of some lung" in reasons["burden.zones"]


def test_acquisition_values_that_are_no_numbers_become_null(make_study, make_diagnosis, validator):
    study = make_study(acquisition={"kvp": math.nan, "kernel": "B31f"})
    report = report_dict(study, make_diagnosis(study))
    assert report["study"]["acquisition"] == {"kernel": "B31f", "kvp": None}
    assert validator.is_valid(report)


def test_reporting_does_not_load_torch():
    code = "import sys, jcs_ct.reporting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
