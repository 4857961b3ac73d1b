"""Every backend gives torch's answers, is prepared once, and says so where it cannot do what was asked."""

from __future__ import annotations

import json
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from jcs_ct.checkpoints import load_checkpoint
from jcs_ct.engine import (
    Execution,
    ReadySegmenter,
    choose,
    classify_slices,
    execution_facts,
    runner_for,
    segment_slices,
)
from jcs_ct.engine import cache as cache_module
from jcs_ct.engine import execution as execution_module
from jcs_ct.engine import runners as runners_module
from jcs_ct.engine.execution import WITHOUT_OPENVINO, is_installed
from jcs_ct.errors import BackendError, ConfigError
from jcs_ct.models.comparison import build_comparison, comparison_preset
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.preprocessing import SlicePreprocessor

WEIGHTS = Path(str(resources.files("jcs_ct"))) / "weights"
TORCH = Execution(device="cpu", precision="fp32", backend="torch")
OTHERS = [
    pytest.param(name, marks=pytest.mark.skipif(not is_installed(name), reason=f"{name} is not installed (optional)"))
    for name in ("openvino", "onnxruntime")
]


def on(backend, **more):
    return Execution(device="cpu", precision="fp32", backend=backend, batch_size=2, **more)


def differences(ready, hu, execution):
    """Largest differences from torch: of the one output, or of probability and map."""
    if ready.task == "segmenter":
        pairs = zip(
            segment_slices(ready, hu, range(len(hu)), execution=TORCH),
            segment_slices(ready, hu, range(len(hu)), execution=execution),
            strict=True,
        )
        return max(float(np.abs(one - other).max()) for (_, one), (_, other) in pairs)
    pairs = zip(
        classify_slices(ready, hu, range(len(hu)), execution=TORCH),
        classify_slices(ready, hu, range(len(hu)), execution=execution),
        strict=True,
    )
    return max(
        max(abs(one.probability - other.probability), float(np.abs(one.activation - other.activation).max()))
        for one, other in pairs
    )


@pytest.mark.parametrize("task", ["classifier", "segmenter"])
@pytest.mark.parametrize("backend", OTHERS)
def test_answers_are_torchs(backend, task, tiny, hu, cache):
    ready = tiny(task)
    assert differences(ready, hu, on(backend)) < 1e-4
    assert runner_for(ready, on(backend)).choice.backend == backend


def comparison(preset):
    torch.manual_seed(3)
    network = build_comparison(replace(comparison_preset(preset), in_channels=1, width=1 / 32)).eval()
    return ReadySegmenter(network, SlicePreprocessor(128, channels=1, mean=(0.45,), std=(0.3,)), preset, "", preset)


@pytest.mark.parametrize("preset", ["unet", "unet-bilinear", "dss-vgg16", "egnet-vgg16"])
@pytest.mark.parametrize("backend", OTHERS)
def test_comparison_networks_give_torchs_answers(backend, preset, hu, cache, one_thread):
    """DSS's mean of probabilities was one number for a whole batch on OpenVINO."""
    assert differences(comparison(preset), hu[:2], on(backend)) < 1e-4


def test_poolnet_runs_on_torch_where_its_pools_cannot_be_written_as_onnx(hu, cache, one_thread):
    assert runner_for(comparison("poolnet-vgg16"), Execution(device="cpu")).choice.backend == "torch"


@pytest.mark.parametrize("task", ["classifier", pytest.param("segmenter", marks=pytest.mark.slow)])
@pytest.mark.parametrize("backend", OTHERS)
def test_the_shipped_networks_give_torchs_answers(backend, task):
    hu = make_phantom(PhantomConfig(slices=8, lesions=5, seed=2, size=128)).volume.hu[2:5]
    assert differences(load_checkpoint(WEIGHTS / f"compact-{task}.safetensors"), hu, on(backend)) < 1e-4


@pytest.mark.parametrize("backend", OTHERS)
def test_a_network_is_compiled_once_and_then_read_from_the_cache(backend, tiny, hu, cache):
    assert runner_for(tiny("classifier"), on(backend)).origin == "compiled"
    again = tiny("classifier")
    assert runner_for(again, on(backend)).origin == "cache"
    assert differences(again, hu, on(backend)) < 1e-4
    assert runner_for(again, on(backend)) is runner_for(again, on(backend))
    assert runner_for(tiny("classifier", seed=1), on(backend)).origin == "compiled", "other weights, another entry"
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("backend", ["torch", *OTHERS])
@pytest.mark.parametrize("threads_beside", [0, 1])
def test_two_threads_read_two_volumes_with_one_network(backend, threads_beside, tiny, hu, cache):
    ready, execution = tiny("classifier"), on(backend)
    volumes = [np.tile(hu, (6, 1, 1)), np.tile(hu[::-1] - 200, (6, 1, 1))]

    def read(volume, begin=lambda: None):
        begin()
        found = classify_slices(ready, volume, range(len(volume)), execution=execution, threads_beside=threads_beside)
        return [(item.probability, item.activation.tobytes()) for item in found]

    alone = [read(volume) for volume in volumes]
    both = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda volume: read(volume, both.wait), volumes)) == alone


@pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed (optional)")
def test_what_leaves_threads_to_others_waits_for_the_same_requests(tiny, cache):
    model = runner_for(tiny("classifier"), on("openvino")).model
    answers = []
    images = model.place(np.zeros((2, 1, 64, 64), np.float32))
    beside = threading.Thread(target=lambda: answers.append(model.leaving(1)(images)))
    with model._batch_lock:
        beside.start()
        beside.join(0.1)
        assert beside.is_alive()
    beside.join(10)
    assert len(answers) == 1


@pytest.mark.parametrize("backend", ["torch", *OTHERS])
def test_one_network_behind_two_input_sizes_is_prepared_for_each(backend, tiny, hu, cache):
    ready = tiny("classifier")
    smaller = replace(ready, preprocessor=replace(ready.preprocessor, size=ready.preprocessor.size // 2))
    first = runner_for(ready, on(backend))
    assert runner_for(smaller, on(backend)) is not first
    assert runner_for(ready, on(backend)) is first
    assert differences(smaller, hu, on(backend)) < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed (optional)")
def test_machines_that_share_a_cache_keep_an_entry_each(precision, tiny, cache, monkeypatch):
    choice = replace(choose(on("openvino")), precision=precision)
    ready = tiny("segmenter")
    smaller = replace(ready, preprocessor=replace(ready.preprocessor, size=ready.preprocessor.size // 2))
    entries = {}
    for processor in ("Xeon (FP32, INT8)", "EPYC (FP32)"):
        monkeypatch.setattr(runners_module.openvino_backend, "processor", lambda named=processor: named)
        for network in (ready, smaller):
            entry = runners_module.cache_entry(network, choice)
            entries[processor, network.input_shape] = entry
            entry.write(f"{processor} {network.input_shape}".encode())
    for (processor, shape), entry in entries.items():
        assert entry.read() == f"{processor} {shape}".encode()


def damage_model(content: bytes) -> bytes:
    return content[:-40] + bytes(40)


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def lose_header(content: bytes) -> bytes:
    return b"\xff" + content


def age(content: bytes) -> bytes:
    first, _, model = content.partition(b"\n")
    header = json.loads(first)
    header["made_of"]["backend_version"] = "0.1"
    return json.dumps(header).encode() + b"\n" + model


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (damage_model, "is damaged (its SHA-256 differs): made anew"),
        (truncate, "is damaged (its SHA-256 differs): made anew"),
        (lose_header, "cannot be read (UnicodeDecodeError): made anew"),
        (age, "was made by another version: made anew"),
    ],
)
@pytest.mark.parametrize("backend", OTHERS[:1])
def test_an_old_or_damaged_entry_is_made_anew_and_said(backend, change, said, tiny, hu, cache, caplog):
    runner_for(tiny("classifier"), on(backend))
    (entry,) = cache.iterdir()
    entry.write_bytes(change(entry.read_bytes()))
    ready = tiny("classifier")
    with caplog.at_level(logging.INFO):
        assert runner_for(ready, on(backend)).origin == "compiled"
    assert said in caplog.text
    assert differences(ready, hu, on(backend)) < 1e-4
    assert runner_for(tiny("classifier"), on(backend)).origin == "cache", "it was kept again"


@pytest.mark.parametrize("backend", OTHERS)
def test_an_entry_that_the_backend_does_not_take_is_made_anew(backend, tiny, cache, caplog):
    ready = tiny("classifier")
    choice = choose(on(backend))
    runners_module.cache_entry(ready, choice).write(b"intact, and no network")
    assert runner_for(ready, on(backend)).origin == "compiled"
    assert "is not taken" in caplog.text


@pytest.mark.parametrize("backend", OTHERS[:1])
def test_a_folder_that_cannot_be_written_is_said_once(backend, tiny, hu, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("JCS_CT_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(cache_module, "_unwritable_said", False)
    for task in ("classifier", "segmenter"):
        assert differences(tiny(task), hu, on(backend)) < 1e-4
    assert caplog.text.count("compiled networks cannot be kept") == 1
    assert "name a folder that can be written in JCS_CT_CACHE" in caplog.text


@pytest.mark.parametrize("backend", OTHERS[:1])
def test_an_empty_variable_switches_the_cache_off(backend, tiny, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("JCS_CT_CACHE", "")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert runner_for(tiny("classifier"), on(backend)).origin == "compiled"
    assert list(tmp_path.iterdir()) == []
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HOME": "/home/jane"}, "/home/jane/.cache/jcs-ct"),
        ({"HOME": "/home/jane", "XDG_CACHE_HOME": "/elsewhere"}, "/elsewhere/jcs-ct"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the folder's name is Linux's")
def test_the_cache_lies_where_the_platform_keeps_such_files(variables, expected, monkeypatch):
    for name in ("JCS_CT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_module.cache_folder() == Path(expected)


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    monkeypatch.delenv("JCS_CT_CACHE", raising=False)
    monkeypatch.setattr(cache_module, "user_cache_path", lambda *_, **__: Path("~/.cache/jcs-ct"))
    assert cache_module.cache_folder() is None


@pytest.fixture
def installed(monkeypatch):
    """``installed("openvino")``: as if only these optional packages were there; on a CPU without bf16."""

    def only(*names, bf16=False):
        monkeypatch.setattr(execution_module, "is_installed", lambda backend: backend in ("torch", *names))
        monkeypatch.setattr(execution_module, "multiplies_bf16", lambda device: bf16)
        monkeypatch.setattr(execution_module, "version", lambda package: "1.2.3")

    return only


def test_auto_takes_the_first_that_is_there(installed):
    execution = Execution(device="cpu")
    installed("openvino", "onnxruntime")
    assert (choose(execution).backend, choose(execution).precision) == ("openvino", "fp32")
    assert str(choose(execution)) == "openvino 1.2.3, cpu, fp32"
    installed("onnxruntime")
    assert choose(execution).backend == "onnxruntime"
    installed("onnxruntime", bf16=True)
    assert (choose(execution).backend, choose(execution).precision) == ("torch", "bf16")
    installed("openvino", bf16=True)
    assert (choose(execution).backend, choose(execution).precision) == ("openvino", "bf16")


def test_auto_without_a_backend_is_torch_and_says_what_would_be_faster(installed):
    installed()
    choice = choose(Execution(device="cpu"))
    assert choice.backend == "torch"
    assert choice.notes == (WITHOUT_OPENVINO,)


@pytest.mark.parametrize(("backend", "extra"), [("openvino", "openvino"), ("onnxruntime", "onnx")])
def test_a_backend_asked_for_and_not_there_is_an_error_with_its_extra(backend, extra, installed, tiny):
    installed()
    with pytest.raises(ConfigError, match=rf"{backend} .*needs an extra: pip install 'jcs-ct\[{extra}\]'"):
        runner_for(tiny("classifier"), on(backend))


def test_a_gpu_is_torchs(installed, monkeypatch):
    installed("openvino", "onnxruntime")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(ConfigError, match=r"cuda:1 was asked for and torch finds 1 GPU\(s\) here"):
        choose(Execution(device="cuda:1"))
    assert choose(Execution(device="cuda:0")).backend == "torch"
    with pytest.raises(ConfigError, match="openvino runs on the CPU here, not on 'cuda:0'; use --device cpu"):
        choose(Execution(device="cuda:0", backend="openvino"))


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnxruntime"])
def test_bf16_that_the_hardware_lacks_becomes_fp32_and_is_said(backend, installed):
    installed("openvino", "onnxruntime")
    choice = choose(Execution(device="cpu", backend=backend, precision="bf16"))
    assert choice.precision == "fp32"
    (note,) = choice.notes
    assert "bf16" in note
    assert "fp32" in note
    assert choose(Execution(device="cpu", backend=backend)).notes == (), "nothing was asked for, nothing is said"


def test_the_fallback_from_bf16_is_logged_and_recorded(installed, tiny, caplog):
    installed()
    execution = Execution(device="cpu", backend="torch", precision="bf16")
    ready = tiny("classifier")
    runner_for(ready, execution)
    note = "bf16 was asked for and this CPU does not multiply it natively: fp32 is used"
    assert [record.levelname for record in caplog.records if record.message == note] == ["WARNING"]
    facts = execution_facts([ready], execution)
    assert (facts["precision"], facts["notes"]) == ("fp32", [note])
    assert not execution.uses_bf16


def fail(*arguments):
    raise RuntimeError("an operation it does not know\nand more")


@pytest.mark.parametrize("backend", OTHERS)
def test_a_network_that_a_backend_cannot_run_falls_back_only_under_auto(
    backend, tiny, hu, cache, monkeypatch, caplog
):
    monkeypatch.setattr(runners_module, "compile_onnx", fail)
    ready = tiny("segmenter")
    with pytest.raises(BackendError, match=rf"{backend} cannot run the segmenter tiny-segmenter \(an operation"):
        runner_for(ready, on(backend))
    monkeypatch.setattr(execution_module, "_FASTEST_ON_CPU", (backend, "torch"))
    assert differences(ready, hu, on("auto")) < 1e-6  # other batches, the same torch
    assert f"{backend} cannot run the segmenter tiny-segmenter (an operation it does not know): torch is used" in (
        caplog.text
    )
    facts = execution_facts([ready], on("auto"))
    assert facts["backend"] == f"torch {torch.__version__}"
    assert facts["notes"][0].endswith("torch is used")


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnxruntime"])
def test_int8_that_was_never_calibrated_becomes_fp32_and_says_how_to_make_it(backend, tiny, hu, cache, caplog):
    if not is_installed(backend):
        pytest.skip(f"{backend} is not installed (optional)")
    execution = Execution(device="cpu", backend=backend, precision="int8")
    ready = tiny("classifier")
    assert runner_for(ready, execution).choice.precision == "fp32"
    assert differences(ready, hu, execution) < 1e-4
    if backend == "openvino":
        assert "jcs export openvino WEIGHTS -o OUT --precision int8 -m slices.csv" in caplog.text
    else:
        assert f"int8 needs the openvino backend: {backend} runs in fp32" in caplog.text


def test_auto_never_takes_int8(installed):
    for bf16 in (False, True):
        installed("openvino", "onnxruntime", bf16=bf16)
        assert choose(Execution(device="cpu")).precision != "int8"
