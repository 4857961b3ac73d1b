"""Runner and result folders: results in place once, whatever is killed and when."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from jcs_ct.errors import OutputError
from jcs_ct.jobs import JOB_RECORD, Limits, ResultFolders, Runner, State, StudyWorker


@pytest.fixture
def results(tmp_path):
    return ResultFolders(tmp_path / "results")


@pytest.fixture
def start(ledger, results):
    workers = []

    def make(name: str = "write", **options) -> Runner:
        workers.append(StudyWorker())
        return Runner(
            ledger,
            results,
            f"played_tasks:{name}",
            lambda job, staged: {"output": str(staged), **job.request},
            worker=workers[-1],
            **options,
        )

    yield make
    for worker in workers:
        worker.close()


def test_jobs_are_worked_off_and_results_lie_in_place(start, ledger, results, key):
    ledger.add(key("a"), {"text": "first"})
    ledger.add(key("b"), {"text": "second"})
    runner = start()
    assert [runner.work_once() for _ in range(3)] == [key("a").job_id, key("b").job_id, None]
    assert (results.find(key("b").job_id) / "answer.txt").read_text() == "second"
    job = ledger.job(key("a").job_id)
    assert (job.state, job.result["calls"], job.stage) == (State.DONE, 1, "read")
    assert job.seconds > 0
    assert results.record(job.job_id)["value"] == job.result
    assert list(results.root.glob(".staging/*")) == []


@pytest.mark.parametrize(
    ("name", "limits", "state", "code"),
    [
        ("refuse", Limits(), State.REFUSED, "GAP"),
        ("hang", Limits(seconds=1.0), State.SET_ASIDE, "TIMED_OUT"),
        ("leave", Limits(), State.SET_ASIDE, "CRASHED"),
    ],
)
def test_a_bad_study_is_refused_or_set_aside_and_leaves_nothing(
    start, ledger, results, key, name, limits, state, code
):
    ledger.add(key())
    runner = start(name, limits=limits)
    while runner.work_once() is not None:
        pass
    job = ledger.job(key().job_id)
    assert (job.state, job.code) == (state, code)
    assert results.find(job.job_id) is None
    assert list(results.root.glob(".staging/*")) == []


def test_a_cancelled_study_stops(start, ledger, key):
    ledger.add(key())
    runner = start("hang")
    asked = []

    def cancel_once():
        if not asked and ledger.job(key().job_id).stage == "hang":
            asked.append(ledger.cancel(key().job_id))
        return True

    runner.keep_going = cancel_once
    runner.work_once()
    assert ledger.job(key().job_id).state is State.CANCELLED


def test_a_runner_that_stops_gives_its_job_back(start, ledger, key):
    ledger.add(key())
    runner = start("hang")
    runner.keep_going = lambda: ledger.job(key().job_id).stage != "hang"
    runner.work_once()
    job = ledger.job(key().job_id)
    assert (job.state, job.attempts, job.is_running) == (State.QUEUED, 0, False)


def test_results_that_are_there_are_not_made_again(start, ledger, results, key):
    ledger.add(key())
    staged = results.stage(key().job_id)
    (staged / "answer.txt").write_text("of the killed attempt")
    record = {"value": {"calls": 9}, "seconds": 1.0, "peak_memory_bytes": 5}
    assert results.publish(key().job_id, staged, record)
    start("leave").work_once()
    job = ledger.job(key().job_id)
    assert (job.state, job.result) == (State.DONE, {"calls": 9})


def test_a_result_folder_without_its_record_is_replaced(start, ledger, results, key):
    ledger.add(key(), {"text": "new"})
    place = results.root / key().job_id
    place.mkdir()
    (place / "answer.txt").write_text("of nobody knows what")
    start().work_once()
    job = ledger.job(key().job_id)
    assert (job.state, job.attempts) == (State.DONE, 1)
    assert (results.find(job.job_id) / "answer.txt").read_text() == "new"
    assert list(results.root.glob(".staging/*")) == []


@pytest.mark.parametrize(
    ("wrong", "code"), [("arguments", "CRASHED"), ("worker", "CRASHED"), ("results", "RUNNER_LOST")]
)
def test_a_fault_beside_the_study_is_an_attempt_and_the_next_job_is_run(
    start, ledger, results, key, monkeypatch, wrong, code
):
    def fail(*given, **named):
        raise KeyError("DOE^JANE")

    ledger.add(key("a"), {})
    ledger.add(key("b"), {})
    runner = start()
    ran = runner.worker.run
    if wrong == "arguments":
        monkeypatch.setattr(runner, "arguments", fail)
    elif wrong == "worker":
        monkeypatch.setattr(runner.worker, "run", fail)
    else:
        monkeypatch.setattr(runner.worker, "run", lambda *given, **named: (ran(*given, **named), results.sweep())[0])
    assert runner.work_once() == key("a").job_id
    job = ledger.job(key("a").job_id)
    assert (job.state, job.code, job.is_running, job.attempts) == (State.QUEUED, code, False, 1)
    assert "DOE" not in job.message
    assert results.find(job.job_id) is None
    monkeypatch.undo()


def test_a_full_disk_costs_no_attempt_and_nothing_else_is_taken_meanwhile(start, ledger, key):
    ledger.add(key("a"))
    ledger.add(key("b"))
    runner = start("fill_the_disk", outage_wait_s=60.0)
    assert runner.work_once() == key("a").job_id
    job = ledger.job(key("a").job_id)
    assert (job.state, job.code, job.attempts, job.is_running) == (State.QUEUED, "DISK_FULL", 0, False)
    assert runner.work_once() is None
    assert ledger.job(key("b").job_id).code == ""


@pytest.mark.parametrize("wrong", ["stage", "arguments", "publish"])
def test_a_study_that_needs_more_room_than_there_is_does_not_hold_up_the_others(
    start, ledger, results, key, monkeypatch, wrong
):
    ledger.add(key("a"))
    ledger.add(key("b"))
    runner = start(outage_wait_s=0.2)
    holder = runner if wrong == "arguments" else results
    real = getattr(holder, wrong)

    def refuse_a(first, *given):
        if key("a").job_id in (first, getattr(first, "job_id", "")):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(first, *given)

    monkeypatch.setattr(holder, wrong, refuse_a)
    assert runner.work_once() == key("a").job_id
    deadline = time.monotonic() + 10.0
    while (taken := runner.work_once()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert taken == key("b").job_id
    assert [(job.state, job.attempts) for job in ledger.jobs()] == [(State.QUEUED, 0), (State.DONE, 1)]
    assert list(results.root.glob(".staging/*")) == []


def test_what_an_attempt_left_and_nobody_can_remove_now_stops_nothing(start, ledger, results, key, monkeypatch):
    def refuse(staged):
        raise OutputError("cannot remove it: it is in use")

    ledger.add(key())
    monkeypatch.setattr(results, "discard", refuse)
    start().work_once()
    assert ledger.job(key().job_id).state is State.DONE


def test_the_first_of_two_results_stays(results):
    for text, expected in (("one", True), ("two", False)):
        staged = results.stage("j")
        (staged / "answer.txt").write_text(text)
        assert results.publish("j", staged, {"value": {}}) is expected
    assert (results.find("j") / "answer.txt").read_text() == "one"
    assert list(results.root.glob(".staging/*")) == []
    results.remove("j")
    results.remove("j")
    assert results.find("j") is None
    results.stage("k")
    assert results.sweep() == 1
    assert list(results.root.iterdir()) == [results.root / ".staging"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        ResultFolders(tmp_path / "file" / "results")


_PROGRAM = """
import sys
from pathlib import Path
from jcs_ct.jobs import Ledger, ResultFolders, RetryPolicy, Runner
folder = Path(sys.argv[1])
ledger = Ledger(folder / "jobs.sqlite", retries=RetryPolicy(most_attempts=9))
ledger.release_lost()
results = ResultFolders(folder / "results")
results.sweep()
arguments = lambda job, staged: {"output": str(staged), "seconds": float(sys.argv[2])}
runner = Runner(ledger, results, "played_tasks:write_slowly", arguments)
while runner.work_once() is not None:
    pass
"""


@pytest.mark.parametrize("stage", ["", "read", "classify", "report"])
def test_a_kill_in_each_stage_loses_nothing_and_doubles_nothing(ledger, results, key, tmp_path, stage):
    ledger.add(key("a"))
    ledger.add(key("b"))
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path)]
    program = subprocess.Popen([*command, "1.0"], env=os.environ)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        job = ledger.job(key("a").job_id)
        if job.is_running and job.stage == stage:
            break
        time.sleep(0.01)
    else:
        pytest.fail(f"stage {stage!r} was never seen")
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    assert results.find(key("a").job_id) is None, "not half a result"
    subprocess.run([*command, "0.0"], env=os.environ, check=True, timeout=60)
    for study in ("a", "b"):
        job = ledger.job(key(study).job_id)
        assert (job.state, job.result) == (State.DONE, {"stages": 3})
        assert sorted(path.name for path in results.find(job.job_id).iterdir()) == sorted(
            ["classify.txt", JOB_RECORD, "read.txt", "report.txt"]
        )
    assert ledger.job(key("a").job_id).attempts == 2
    assert list(results.root.glob(".staging/*")) == []


def test_results_whose_record_is_damaged_are_a_fault_of_their_own(start, ledger, results, key):
    ledger.add(key(), {"text": "x"})
    runner = start()
    job_id = runner.work_once()
    (results.root / job_id / "job.json").write_text('{"value": {"calls"')
    ledger.requeue(job_id)
    runner.work_once()
    job = ledger.job(job_id)
    assert (job.code, "is damaged: it is not JSON; put it back from a copy" in job.message) == ("DAMAGED", True)
    assert (results.root / job_id / "answer.txt").read_text() == "x", "nothing is taken away"
