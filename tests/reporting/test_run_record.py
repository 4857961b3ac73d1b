from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import pytest

from jcs_ct.reporting import run_record
from jcs_ct.reporting.run_record import redacted_command, write_run_record


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (
            ["/home/doe/bin/jcs", "diagnose", "/data/DOE^JOHN", "-o", "out/DOE", "--segment", "always"],
            ["jcs", "diagnose", "<value>", "-o", "<value>", "--segment", "always"],
        ),
        (["jcs", "diagnose", "12", "--threshold", "25"], ["jcs", "diagnose", "<value>", "--threshold", "25"]),
        (
            ["jcs", "diagnose", "x", "--output=DOE", "--quiet"],
            ["jcs", "diagnose", "<value>", "--output=<value>", "--quiet"],
        ),
        (["jcs", "diagnose", "x", "--output", "12"], ["jcs", "diagnose", "<value>", "--output", "<value>"]),
        (["jcs", "diagnose", "x", "-o", "positive"], ["jcs", "diagnose", "<value>", "-o", "<value>"]),
        (["jcs", "diagnose", "--dicom", "104"], ["jcs", "diagnose", "--dicom", "<value>"]),
        (["jcs", "diagnose", "--series", "104", "x"], ["jcs", "diagnose", "--series", "<value>", "<value>"]),
        (["jcs", "diagnose", "--", "-Doe-John"], ["jcs", "diagnose", "--", "<value>"]),
        (["doe.py", "smith"], ["python", "<value>"]),
        (["jcs", "--DOE^JOHN"], ["jcs", "<value>"]),
        ([], []),
    ],
)
def test_a_command_keeps_options_and_settings_and_no_names(arguments, kept):
    assert redacted_command(arguments) == kept


@pytest.fixture
def record(tmp_path, make_study):
    output = tmp_path / "report.json"
    output.write_text("{}")
    path = tmp_path / "run.json"
    command = ["jcs", "diagnose", str(tmp_path / "DOE_JOHN"), "-o", str(tmp_path)]
    write_run_record(path, make_study(), timings_s={"classify": 1.23456}, outputs=[output], command=command)
    return path


def test_the_record_says_what_ran(record):
    content = json.loads(record.read_text())
    assert content["exit_code"] == 0
    assert content["command"] == ["jcs", "diagnose", "<value>", "-o", "<value>"]
    assert content["timings_s"] == {"classify": 1.235}
    assert content["versions"].keys() >= {"python", "jcs-ct", "torch", "numpy", "pydicom"}
    assert content["host"]["cpu_count"] >= 1
    assert content["outputs"] == [
        {"file": "report.json", "byte_count": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    ]
    (source,) = content["inputs"]
    assert source["identifier"] == "0123456789abcdef"
    assert source["file_count"] == 12
    assert len(source["voxels_sha256"]) == 64


def test_the_peak_of_an_earlier_study_is_not_stated_again(tmp_path, make_study, monkeypatch):
    resource = pytest.importorskip("resource")
    stated = []
    monkeypatch.setattr(run_record, "_peak_stated_mib", 0.0)
    monkeypatch.setattr(run_record.platform, "system", lambda: "Linux")
    for kib in (300 << 10, 300 << 10, 400 << 10):
        monkeypatch.setattr(resource, "getrusage", lambda who, kib=kib: SimpleNamespace(ru_maxrss=kib))
        write_run_record(tmp_path / "run.json", make_study(), timings_s={}, command=[])
        stated.append(json.loads((tmp_path / "run.json").read_text())["host"]["peak_memory_mb"])
    assert stated == [300.0, None, 400.0]


def test_the_record_names_nobody(record, tmp_path):
    text = record.read_text()
    assert "DOE" not in text
    assert str(tmp_path) not in text


def test_the_voxels_hash_sees_voxels_and_geometry(tmp_path, make_study):
    hashes = []
    for affine in (make_study().volume.affine, None):
        write_run_record(tmp_path / "run.json", make_study(affine=affine), timings_s={}, command=[])
        hashes.append(json.loads((tmp_path / "run.json").read_text())["inputs"][0]["voxels_sha256"])
    assert hashes[0] != hashes[1]
