"""Forked decoding children do what started ones do, under the same limits, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from jcs_ct.errors import GateCode, KilledError
from jcs_ct.imaging import forking, open_study, sandbox
from jcs_ct.imaging.sandbox import SandboxLimits, run_in_child
from jcs_ct.phantom import PhantomConfig, make_phantom, write_dicom, write_nifti, write_png


@pytest.fixture
def forked_child(monkeypatch, tmp_path):
    """Children forked from a process whose items are Python statements; those started from nothing do the same."""
    task = (
        "import jcs_ct.imaging.decoding_child as worker, jcs_ct.imaging.forking as forking\n"
        "def task(options):\n"
        "    def run(item):\n"
        "        names = {'options': options}\n"
        "        exec(item['code'], names)\n"
        "        return names.get('value')\n"
        "    return run\n"
        "worker._TASKS['script'] = task\n"
    )
    (tmp_path / "scripted_forking.py").write_text(f"{task}forking.main()\n")
    (tmp_path / "scripted_decoding_child.py").write_text(f"{task}worker.main()\n")
    scripted = {f"jcs_ct.imaging.{name}": f"scripted_{name}" for name in ("forking", "decoding_child")}
    real = forking.subprocess.Popen
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    def popen(command, **options):
        return real([scripted.get(part, part) for part in command], **options)

    monkeypatch.setattr(forking.subprocess, "Popen", popen)
    monkeypatch.setattr(sandbox, "_parent", None)
    sandbox.keep_warm()
    parent = sandbox._parent
    yield parent
    parent.close()


def run(*codes, output=None, output_bytes=0, **limits):
    items = [{"code": code} for code in codes]
    return run_in_child("script", items, output=output, output_bytes=output_bytes, limits=SandboxLimits(**limits))


def test_each_job_has_a_child_of_its_own_and_none_stays(forked_child):
    pids = [run("import os; value = os.getpid()")[0].value for _ in range(2)]
    assert len({*pids, os.getpid(), forked_child._process.pid}) == 4
    time.sleep(0.1)
    assert psutil.Process(forked_child._process.pid).children() == []


def test_children_of_one_job_are_forked_by_several_threads(forked_child):
    items = [{"code": f"import os; value = [{number}, os.getpid()]"} for number in range(8)]
    outcomes = run_in_child("script", items, children=4)
    assert [outcome.value[0] for outcome in outcomes] == list(range(8))
    assert len({outcome.value[1] for outcome in outcomes}) == 4


def test_warmth_for_one_study_ends_with_it(monkeypatch):
    monkeypatch.setattr(sandbox, "_parent", None)
    with sandbox.kept_warm():
        process = sandbox._parent._process
        with sandbox.kept_warm():
            assert sandbox._parent._process is process
        assert sandbox._parent._process is process, "the inner one found it warm and leaves it so"
    assert sandbox._parent is None
    assert process.poll() is not None


def test_a_crash_and_a_stall_cost_one_item(forked_child):
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    outcomes = run("value = 1", crash, "import time; time.sleep(60)", "value = 4", seconds_per_item=0.5)
    assert [one.value for one in outcomes] == [1, None, None, 4]
    assert [one.code for one in outcomes] == [None, GateCode.UNREADABLE, GateCode.UNREADABLE, None]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS])
def test_a_child_that_the_system_ends_is_no_damaged_file(forked_child, number):
    """How a forked child ended is not seen: one that is started from nothing tells."""
    with pytest.raises(KilledError, match=f"the system ended the decoding process .{number.name}."):
        run("value = 1", f"import os; os.kill(os.getpid(), {int(number)})")


def test_what_the_system_ends_once_is_read_all_the_same(forked_child, tmp_path):
    once = f"import os, pathlib; there = pathlib.Path({str(tmp_path / 'mark')!r})"
    outcomes = run("value = 1", f"{once}\nthere.exists() or (there.touch(), os.kill(os.getpid(), 9))\nvalue = 2")
    assert [(one.code, one.value) for one in outcomes] == [(None, 1), (None, 2)]


def test_limits_hold_and_are_the_childs_alone(forked_child):
    outcomes = run("value = len(bytearray(1 << 31))", "value = 2", memory_bytes=1 << 30)
    assert (outcomes[0].code, outcomes[1].value) == (GateCode.UNREADABLE, 2)
    assert run("value = len(bytearray(1 << 30))", memory_bytes=1 << 32)[0].value == 1 << 30


def test_children_that_are_asked_for_at_the_same_time_are_not_mixed_up(forked_child):
    """Each handle must be that of the child at the other end of its pipes: a mixed-up one kills another's work."""

    def ask(number):
        child = forked_child.start_child(None)
        job = {"task": "script", "options": {}, "memory_bytes": 1 << 31, "cpu_seconds": 9, "file_bytes": 0}
        child.stdin.write(json.dumps({**job, "items": [{"code": "import os; value = os.getpid()"}]}).encode())
        child.stdin.close()
        lines = child.stdout.read().splitlines()
        handle = Path(f"/proc/self/fdinfo/{child._handle}").read_text()
        child.wait()
        child.stdout.close()
        return json.loads(lines[-1])["value"], handle

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(40)))
    assert all(f"Pid:\t{pid}\n" in handle or "Pid:\t-1\n" in handle for pid, handle in answers)
    assert len({pid for pid, _ in answers}) == 40


def test_pixels_travel_through_the_output(forked_child, tmp_path):
    with (tmp_path / "out").open("w+b") as output:
        outcome = run("import os; value = os.pwrite(options['fd'], b'abc', 0)", output=output, output_bytes=3)[0]
        assert (outcome.value, output.read()) == (3, b"abc")


def test_what_one_child_leaves_in_memory_the_next_does_not_see(forked_child):
    run("import pydicom; pydicom.changed = 1")
    assert run("import pydicom; value = hasattr(pydicom, 'changed')")[0].value is False


def test_children_are_started_when_their_parent_is_gone(forked_child, caplog):
    os.kill(forked_child._process.pid, signal.SIGKILL)
    forked_child._process.wait()
    outcome = run_in_child(
        "headers", [{"path": "/nowhere", "file_index": 0}], {"allow_deflated": False, "digest_pixels": False}
    )
    assert outcome[0].code is GateCode.UNREADABLE
    assert sandbox._parent is None
    assert "from nothing" in caplog.text


@pytest.mark.parametrize("write", [write_dicom, write_nifti, write_png])
def test_children_that_are_started_read_as_forked_ones_do(write, monkeypatch, tmp_path):
    write(make_phantom(PhantomConfig(slices=6, size=64)), tmp_path)
    path = next(tmp_path / name for name in ("dicom", "ct.nii.gz", "images") if (tmp_path / name).exists())
    forked = open_study(path)
    monkeypatch.setattr(sandbox, "_parent", None)
    started = open_study(path)
    assert np.array_equal(started.volume.hu, forked.volume.hu)
    assert (started.flags, started.acquisition) == (forked.flags, forked.acquisition)


def test_children_are_made_ready_without_waiting_for_numpy():
    code = "import sys, jcs_ct.imaging.sandbox; print('numpy' in sys.modules, 'pydicom' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
    )
