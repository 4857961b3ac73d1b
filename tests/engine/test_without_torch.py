"""A compiled network is opened, told by its hash and run without torch, and never mistaken for another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from jcs_ct import installation
from jcs_ct.checkpoints import CheckpointInfo, load_checkpoint, open_checkpoint, save_checkpoint
from jcs_ct.engine import Execution, classify_slices, processor, runner_for
from jcs_ct.engine.execution import is_installed
from jcs_ct.errors import CheckpointError

OPENVINO = Execution(device="cpu", precision="fp32", backend="openvino")
needs_openvino = pytest.mark.skipif(not is_installed("openvino"), reason="openvino is not installed (optional)")

CHILD = """
import sys
from pathlib import Path
import numpy as np
from jcs_ct.checkpoints import open_checkpoint
from jcs_ct.reading.diagnosis import diagnose
from jcs_ct.engine import Execution, classify_slices
from jcs_ct.imaging import open_study
from jcs_ct.reporting import write_report
hu = np.random.default_rng(1).normal(-600, 300, (2, 70, 80)).astype(np.float32)
ready = open_checkpoint(Path(sys.argv[1]))
execution = Execution(device="cpu", precision="fp32", backend="openvino")
found = classify_slices(ready, hu, [0, 1], execution=execution)
print(*(repr(item.probability) for item in found), "torch" in sys.modules)
"""


@pytest.fixture
def stored(tiny, tmp_path) -> Path:
    """A tiny classifier on disk."""
    ready = tiny("classifier")
    info = CheckpointInfo("classifier", "tiny", ready.network.config.to_dict(), ready.preprocessor)
    save_checkpoint(tmp_path / "c.safetensors", ready.network, info)
    return tmp_path / "c.safetensors"


@needs_openvino
def test_a_compiled_network_is_run_without_torch(stored, cache):
    hu = np.random.default_rng(1).normal(-600, 300, (2, 70, 80)).astype(np.float32)
    here = [item.probability for item in classify_slices(open_checkpoint(stored), hu, [0, 1], execution=OPENVINO)]
    said = subprocess.run([sys.executable, "-c", CHILD, str(stored)], capture_output=True, text=True, check=True)
    *there, torch_is_there = said.stdout.split()
    assert [float(value) for value in there] == pytest.approx(here, abs=1e-6)
    assert torch_is_there == "False"


@needs_openvino
def test_a_stored_network_that_was_changed_in_memory_is_not_taken_from_the_cache(stored, cache):
    hu = np.random.default_rng(1).normal(-600, 300, (1, 70, 80)).astype(np.float32)
    ready = open_checkpoint(stored)
    before = classify_slices(ready, hu, [0], execution=OPENVINO)[0].probability
    assert ready.weights_digest == ready.sha256
    assert ready.weights_version == 0
    with torch.no_grad():
        ready.network.head.weight.mul_(-1.0)
        ready.network.head.bias.mul_(-1.0)
    assert ready.weights_digest != ready.sha256
    assert runner_for(ready, OPENVINO).origin == "compiled"
    assert classify_slices(ready, hu, [0], execution=OPENVINO)[0].probability == pytest.approx(1 - before, abs=1e-5)
    assert np.array_equal(ready.head_weight(), ready.network.head.weight.detach().numpy())


def test_the_head_is_read_without_the_network(stored):
    ready = open_checkpoint(stored)
    weight = ready.head_weight()
    assert "network" not in ready.source.__dict__, "nothing was built"
    assert np.array_equal(weight, load_checkpoint(stored).network.head.weight.detach().numpy())


def test_a_file_that_changes_after_it_was_opened_is_not_built(stored):
    ready = open_checkpoint(stored)
    stored.write_bytes(stored.read_bytes()[:-4] + bytes(4))
    with pytest.raises(CheckpointError, match="changed after it had been opened"):
        _ = ready.network


def test_threads_are_torchs_where_torch_is_in_use(monkeypatch, one_thread):
    assert processor.thread_count() == torch.get_num_threads() == 1
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert processor.thread_count() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert 1 <= processor.thread_count() <= (torch.multiprocessing.cpu_count())


def test_the_processor_is_told_by_the_names_people_know(monkeypatch):
    flags = frozenset({"avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_bf16", "sse4_2"})
    monkeypatch.setattr(processor, "cpu_flags", lambda: flags)
    assert processor.cpu_features() == ("AMX-BF16", "AVX512-VNNI", "AVX512", "AVX2")
    assert processor.cpu_multiplies_bf16()
    said = installation._processor()
    assert (said.name, said.ok) == ("processor", True)
    assert said.detail == "AMX-BF16, AVX512-VNNI, AVX512, AVX2; without AVX512-BF16"
    monkeypatch.setattr(processor, "cpu_flags", lambda: frozenset({"avx2"}))
    assert not processor.cpu_multiplies_bf16()


def test_bf16_is_what_torch_says_of_this_processor():
    expected = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert processor.cpu_multiplies_bf16() == expected
