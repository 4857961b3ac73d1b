"""Exported networks: what is beside them, that they agree with torch, and that nothing half-made is left."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from jcs_ct.engine import Choice, Execution, runner_for, segment_slices
from jcs_ct.engine import exporting as exporting_module
from jcs_ct.engine.execution import is_installed
from jcs_ct.engine.exporting import export_network
from jcs_ct.engine.graphs import graph_of
from jcs_ct.engine.onnxruntime_backend import ONNXRuntimeModel
from jcs_ct.errors import BackendError, ConfigError

ONNX, IR = pytest.param("onnx", "net.onnx", id="onnx"), pytest.param("openvino", "net.xml", id="openvino")
pytestmark = [
    pytest.mark.skipif(not is_installed(name), reason=f"{name} is not installed (optional)")
    for name in ("openvino", "onnxruntime")
]


@pytest.mark.parametrize("task", ["classifier", "segmenter"])
@pytest.mark.parametrize(("format", "name"), [ONNX, IR])
def test_the_json_says_what_another_program_needs(format, name, task, tiny, tmp_path):
    exported = export_network(tiny(task), tmp_path / name, format, described={"operating_point": None})
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in exported.paths}
    assert exported.paths[-1].name == "net.json"
    content = json.loads(exported.paths[-1].read_text())
    assert content == json.loads(json.dumps(exported.facts))
    assert (content["task"], content["preset"], content["precision"]) == (task, "tiny", "fp32")
    assert content["preprocessing"]["size"] == 64
    assert content["inputs"][0]["shape"] == ["batch", 1, 64, 64]
    shapes = {value["name"]: value["shape"] for value in content["outputs"]}
    assert shapes == (
        {"probability": ["batch"], "activation_map": ["batch", 1, 2, 2], "logits": ["batch", 2]}
        if task == "classifier"
        else {"probability": ["batch", 1, 64, 64]}
    )
    assert max(content["agreement_with_torch"]["max_abs_difference"].values()) < 1e-4
    for file in content["files"]:
        assert hashlib.sha256((tmp_path / file["file"]).read_bytes()).hexdigest() == file["sha256"]


@pytest.mark.parametrize("variant", ["paper", "grad_cam"])
def test_the_exported_map_is_the_classifiers(variant, tiny, tmp_path):
    ready = tiny("classifier")
    export_network(ready, tmp_path / "net.onnx", "onnx", variant=variant)
    images = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(3))
    probability, found, _ = ONNXRuntimeModel((tmp_path / "net.onnx").read_bytes())(images.numpy())
    with torch.inference_mode():
        raw = ready.network.activation_map(images, 1, variant=variant)
        expected = torch.softmax(ready.network(images), dim=1)[:, 1]
    low, high = raw.amin((2, 3), keepdim=True), raw.amax((2, 3), keepdim=True)
    np.testing.assert_allclose(found, ((raw - low) / (high - low).clamp(min=1e-12)).numpy(), atol=1e-4)
    np.testing.assert_allclose(probability, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(("format", "name"), [ONNX, IR])
def test_a_network_that_differs_is_not_written(format, name, tiny, tmp_path, monkeypatch):
    before = tmp_path / name
    before.write_bytes(b"an earlier export")
    other = tiny("segmenter", seed=1)
    write = exporting_module.onnx_bytes
    monkeypatch.setattr(exporting_module, "onnx_bytes", lambda graph, shape: write(graph_of(other), shape))
    with pytest.raises(BackendError, match=r"exported segmenter differs from torch by .*, more than 0.0001"):
        export_network(tiny("segmenter"), before, format)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert before.read_bytes() == b"an earlier export"


def test_a_kill_while_files_are_moved_leaves_no_old_graph_beside_new_files(tiny, tmp_path, monkeypatch):
    class Killed(BaseException):
        """Stands for SIGKILL between two moves."""

    out = tmp_path / "out"
    export_network(tiny("segmenter"), out / "net.onnx", "onnx")
    replace = Path.replace

    def killed_after_one(self, target):
        moved = replace(self, target)
        if target.parent == out:
            raise Killed
        return moved

    monkeypatch.setattr(Path, "replace", killed_after_one)
    with pytest.raises(Killed):
        export_network(tiny("segmenter", seed=1), out / "net.onnx", "onnx")
    assert [path.name for path in out.iterdir()] == ["net.json"]


def test_what_a_killed_export_had_begun_is_swept(tiny, tmp_path):
    begun = tmp_path / ".0123abcd.part"
    begun.mkdir()
    os.utime(begun, (0, 0))
    export_network(tiny("segmenter"), tmp_path / "net.onnx", "onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx", "net.json"}


def test_what_cannot_be_exported_is_refused(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"--output must end in .onnx, got 'net.xml'"):
        export_network(tiny("classifier"), tmp_path / "net.xml", "onnx")
    with pytest.raises(ConfigError, match="int8 is written for OpenVINO only"):
        export_network(tiny("classifier"), tmp_path / "a.onnx", "onnx", calibration=np.zeros((1, 1, 64, 64), "f4"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not is_installed("int8"), reason="nncf is not installed (optional)")
def test_int8_is_calibrated_once_and_then_found_in_the_cache(tiny, hu, cache, tmp_path, capfd):
    ready = tiny("segmenter")
    images = np.stack([ready.preprocessor(plane)[0] for plane in hu])
    exported = export_network(ready, tmp_path / "net.xml", "openvino", calibration=images)
    assert exported.facts["precision"] == "int8"
    assert exported.facts["calibration_slices"] == 5
    assert "i8" in (tmp_path / "net.xml").read_text()
    execution = Execution(device="cpu", backend="openvino", precision="int8")
    again = tiny("segmenter")
    runner = runner_for(again, execution)
    assert (runner.choice, runner.origin) == (Choice("openvino", "cpu", "int8"), "cache")
    pairs = zip(
        segment_slices(again, hu, range(5), execution=execution),
        segment_slices(again, hu, range(5), execution=Execution(device="cpu", backend="torch")),
        strict=True,
    )
    largest = max(float(np.abs(one - other).max()) for (_, one), (_, other) in pairs)
    assert 0 < largest < 0.1
    assert capfd.readouterr().out == ""
