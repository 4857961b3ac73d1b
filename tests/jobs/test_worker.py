"""The study's process: whatever a study does to it comes back as a code, and the next study is read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from jcs_ct.jobs import Ending, Limits, StudyWorker, run_study
from jcs_ct.jobs import worker as worker_module


def task(name: str) -> str:
    return f"played_tasks:{name}"


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def eventually(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_one_process_reads_many_studies_and_is_renewed(tmp_path):
    seen = []
    with StudyWorker(studies_per_process=2, threads=3) as worker:
        outcomes = [
            worker.run(task("write"), {"output": str(tmp_path)}, on_progress=lambda *stage: seen.append(stage))
            for _ in range(3)
        ]
    assert [outcome.ending for outcome in outcomes] == [Ending.DONE] * 3
    assert [outcome.value["calls"] for outcome in outcomes] == [1, 2, 1]
    assert outcomes[0].value["pid"] == outcomes[1].value["pid"] != outcomes[2].value["pid"]
    assert outcomes[0].value["threads"] == "3"
    assert seen[:2] == [("read", 0, 2), ("read", 2, 2)]
    assert outcomes[0].peak_memory_bytes > 1 << 20
    assert worker.pid is None


@pytest.mark.parametrize(
    ("name", "arguments", "ending", "code", "words"),
    [
        ("refuse", {}, Ending.REFUSED, "GAP", "a slice is missing"),
        ("cannot_write", {}, Ending.FAILED, "OUTPUT_UNWRITABLE", "a file is in the way"),
        ("fill_the_disk", {}, Ending.FAILED, "DISK_FULL", "disk is full"),
        ("no_memory", {}, Ending.FAILED, "OUT_OF_MEMORY", "more memory than there is"),
        ("fail_with_a_name", {}, Ending.FAILED, "CRASHED", "ValueError at played_tasks.py:"),
        ("die", {"signal": "SIGSEGV"}, Ending.FAILED, "CRASHED", "signal SIGSEGV"),
        ("die", {"signal": "SIGKILL"}, Ending.FAILED, "KILLED", "killed"),
        ("leave", {}, Ending.FAILED, "CRASHED", "exit status 7"),
    ],
)
def test_endings_have_codes_and_the_next_study_is_read(tmp_path, name, arguments, ending, code, words):
    with StudyWorker() as worker:
        outcome = worker.run(task(name), arguments)
        assert (outcome.ending, outcome.code) == (ending, code)
        assert words in outcome.message
        assert "DOE" not in outcome.message
        assert worker.run(task("write"), {"output": str(tmp_path)}).ending is Ending.DONE


@pytest.mark.parametrize("name", ["eat_memory", "eat_memory_in_a_grandchild"])
def test_memory_is_limited_with_all_children(name):
    outcome = run_study(task(name), {}, limits=Limits(memory_bytes=250 << 20, seconds=60))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "OUT_OF_MEMORY")
    assert "250 MiB are allowed" in outcome.message


def test_a_child_that_ends_while_it_is_looked_at_hides_no_other(monkeypatch):
    class Played:
        def __init__(self, number=0):
            self.rss = {2: None}.get(number, 100)

        def memory_info(self):
            if self.rss is None:
                raise psutil.NoSuchProcess(2)
            return self

        def children(self, recursive):
            return [Played(number) for number in (1, 2, 3)]

    monkeypatch.setattr(psutil, "Process", Played)
    watch = worker_module._Watch(SimpleNamespace(pid=0), Limits(memory_bytes=250))
    code, _ = watch.exceeded()
    assert (code, watch.peak_memory_bytes) == ("OUT_OF_MEMORY", 300)


@pytest.mark.parametrize(
    ("name", "limits", "words"),
    [
        ("hang", Limits(seconds=1.5), "longer than 1.5 s"),
        ("fall_silent", Limits(silent_seconds=1.5), "no progress for 1.5 s"),
    ],
)
def test_time_and_silence_are_limited(name, limits, words):
    started = time.monotonic()
    outcome = run_study(task(name), {}, limits=limits)
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "TIMED_OUT")
    assert words in outcome.message
    assert time.monotonic() - started < 10
    with pytest.raises(ValueError, match="greater than 0"):
        Limits(seconds=0)


def test_a_person_can_stop_a_study_and_nothing_of_it_lives_on(tmp_path):
    note = tmp_path / "note"
    outcome = run_study(task("wait_for"), {"note": str(note)}, keep_going=lambda: not note.exists())
    assert (outcome.ending, outcome.code) == (Ending.CANCELLED, "CANCELLED")
    pids = [int(pid) for pid in note.read_text().split()]
    assert eventually(lambda: all(ended(pid) for pid in pids))


def test_an_error_of_the_caller_passes_and_ends_the_process(tmp_path):
    note = tmp_path / "note"

    def fail(*stage):
        raise ZeroDivisionError

    with StudyWorker() as worker:
        with pytest.raises(ZeroDivisionError):
            worker.run(task("wait_for"), {"note": str(note)}, on_progress=fail)
        assert worker.pid is None
    assert eventually(lambda: ended(int(note.read_text().split()[0])))


def test_a_killed_program_takes_its_study_along(tmp_path):
    note = tmp_path / "note"
    code = "import sys\nfrom jcs_ct.jobs import run_study\nrun_study('played_tasks:wait_for', {'note': sys.argv[1]})"
    program = subprocess.Popen([sys.executable, "-c", code, str(note)], env=os.environ)
    assert eventually(note.exists, 30)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    pids = [int(pid) for pid in note.read_text().split()]
    assert eventually(lambda: all(ended(pid) for pid in pids))
