"""`jcs export` and the backend of `jcs diagnose`, on small random networks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.data.manifest.manifest_problems import LeakError
from jcs_ct.engine.execution import is_installed
from jcs_ct.errors import ConfigError

needs_openvino = pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed (optional)")
needs_onnxruntime = pytest.mark.skipif(
    not is_installed("onnxruntime"), reason="onnxruntime is not installed (optional)"
)


@needs_onnxruntime
def test_a_network_becomes_onnx_with_its_facts(jcs, random_models, tmp_path):
    done = jcs("export", "onnx", random_models / "classifier.safetensors", "-o", tmp_path / "net.onnx", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["output"] == [str(tmp_path / "net.onnx"), str(tmp_path / "net.json")]
    content = json.loads((tmp_path / "net.json").read_text())
    assert content["operating_point"]["positive_slice_threshold"] == 1
    assert content["notice"] == "Research use only, not a medical device."
    assert {
        "schema_version": "1.0",
        "outcome": "done",
        "exit_code": 0,
        **content,
        "output": answer["output"],
    } == answer


@needs_openvino
def test_people_read_the_difference_and_the_notice(jcs, random_models, tmp_path):
    done = jcs("export", "openvino", random_models / "classifier.safetensors", "-o", tmp_path / "net.xml")
    assert done.exit_code == 0, done.output
    assert "probability differs from torch by at most" in done.stdout
    assert done.stdout.splitlines()[-1] == "Research use only, not a medical device."
    assert {path.name for path in tmp_path.iterdir()} == {"net.xml", "net.bin", "net.json"}


def test_int8_needs_training_slices(jcs, random_models, tmp_path):
    weights = random_models / "classifier.safetensors"
    done = jcs("export", "openvino", weights, "-o", tmp_path / "net.xml", "--precision", "int8")
    assert isinstance(done.exception, ConfigError)
    assert "--precision int8 and --manifest go together" in str(done.exception)


def export_to_int8(jcs, models, rows, folder):
    """The command on the classifier, calibrated on these rows."""
    Manifest(tuple(rows)).write(folder / "slices.csv")
    return jcs(
        "export", "openvino", models / "classifier.safetensors", "-o", folder / "net.xml", "--precision", "int8",
        "-m", folder / "slices.csv",
    )  # fmt: skip


@pytest.mark.skipif(not is_installed("int8"), reason="nncf is not installed (optional)")
def test_int8_looks_at_the_training_split_only(jcs, random_models, tmp_path):
    rows = (ManifestRow(tmp_path / "held-out.png", "p", 1, None, "test"),)
    done = export_to_int8(jcs, random_models, rows, tmp_path)
    assert isinstance(done.exception, ConfigError)
    assert "int8 is calibrated on training slices, and there are none" in str(done.exception)


@needs_openvino
def test_int8_is_not_judged_on_what_it_was_calibrated_on(jcs, random_models, tmp_path):
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 255, (16, 16), dtype=np.uint8)).resize((64, 64)).save(tmp_path / "a.png")
    Image.open(tmp_path / "a.png").save(tmp_path / "b.jpg", quality=95)
    rows = [
        ManifestRow(tmp_path / name, patient, 0, split=split)
        for name, patient, split in (("a.png", "p", "train"), ("b.jpg", "q", "val"))
    ]
    done = export_to_int8(jcs, random_models, rows, tmp_path)
    assert isinstance(done.exception, LeakError)
    assert not (tmp_path / "net.xml").exists()


@pytest.mark.parametrize("backend", ["torch", pytest.param("openvino", marks=needs_openvino)])
def test_what_the_networks_ran_on_is_said_everywhere(backend, jcs, phantom_study, random_models, tmp_path):
    common = ("diagnose", phantom_study, "-o", tmp_path, "--models", random_models, "--backend", backend, "-q")
    done = jcs(*common, "--json")
    assert done.exit_code == 0, done.output
    ran = json.loads(done.stdout)["execution"]
    assert ran["backend"].startswith(f"{backend} ")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["execution"] == ran
    assert ran["backend"] in (tmp_path / "report.html").read_text()
    said = jcs(*common).stdout.splitlines()
    assert f"computed with {ran['backend']}, cpu, {ran['precision']}" in said


def test_an_unknown_backend_is_a_usage_error(jcs, phantom_study, tmp_path):
    done = jcs("diagnose", phantom_study, "-o", tmp_path, "--backend", "tpu")
    assert done.exit_code == 2
    assert "'tpu' is not one of 'auto'" in done.output


def test_the_doctor_says_what_auto_takes_and_where_compiled_networks_are(jcs, model_cache):
    checks = {item["name"]: item["detail"] for item in json.loads(jcs("doctor", "--json").stdout)["checks"]}
    assert "cpu" in checks["compute"]
    assert checks["model cache"] == str(model_cache)
    assert {"openvino", "onnxruntime"} <= checks.keys()
