"""The driver: every study once, whatever the others do, whatever dies, and whatever the disk says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jcs_ct.batch.batch_results import FolderResults
from jcs_ct.batch.driver import Driver, Failure
from jcs_ct.batch.executor import Executor, Order, lost
from jcs_ct.batch.local import LocalExecutor
from jcs_ct.errors import BackendError, DamagedFileError, OutputError
from jcs_ct.jobs import Ending, JobKey, Ledger, Limits, Outcome, RetryPolicy, State, StudyWorker

PLAY = "played_studies:play"
HERE = Path(__file__).parent


class Played(Executor):
    """Answers orders at once, as it is told to."""

    def __init__(self, *endings, window=2):
        self.orders, self.endings, self.most, self.closed = [], list(endings), 0, False
        self._window = window

    @property
    def window(self):
        return self._window

    @property
    def workers(self):
        return 1

    def submit(self, order: Order):
        self.orders.append(order)
        self.most = max(self.most, len(self.orders))

    def collect(self, timeout_s):
        orders, self.orders = self.orders, []
        return [(order.token, self._answer(order)) for order in orders]

    def _answer(self, order):
        ending = self.endings.pop(0) if self.endings else "done"
        if callable(ending):
            return ending(order)
        if ending == "done":
            Path(order.arguments["output"], "report.json").write_text("{}")
            return Outcome(Ending.DONE, value={"n": 1}, seconds=2.0, peak_memory_bytes=3)
        return lost("gone") if ending == "lost" else Outcome(Ending.FAILED, ending, "x")

    def close(self):
        self.closed = True


@pytest.fixture
def batch(tmp_path):
    def make(studies, executor, **options):
        ledger = Ledger(tmp_path / "jobs.sqlite", retries=RetryPolicy(3, first_wait_s=0.0))
        key = JobKey("any", "w", "p", "v")
        ledger.add_many((JobKey(str(study["name"]), "w", "p", "v"), study) for study in studies)
        results = FolderResults(tmp_path / "results")
        options = {"least_free_bytes": 0, "room": (tmp_path,), "outage_wait_s": 0.0, **options}
        driver = Driver(ledger, results, executor, PLAY, {}, key.reading_id, **options)
        return driver, ledger, results

    return make


def named(count, **facts):
    return [{"name": f"s{number}", **facts} for number in range(count)]


def left(tmp_path):
    return list((tmp_path / "results" / ".staging").iterdir())


def test_all_are_done_within_the_window(batch, tmp_path):
    executor = Played(window=3)
    driver, ledger, results = batch(named(10), executor)
    standing = driver.run()
    assert (standing.counts[State.DONE], standing.open, executor.most, executor.closed) == (10, 0, 3, True)
    records = dict(results.records())
    assert len(records) == 10
    assert all(record["value"] == {"n": 1} and record["weights"] == "w" for record in records.values())
    assert {job.seconds for job in ledger.jobs()} == {2.0}
    assert left(tmp_path) == []


def test_lost_and_failed_ones_are_tried_three_times_and_hold_up_nobody(batch):
    executor = Played("lost", "CRASHED", "lost", "lost", "lost", window=1)
    driver, ledger, _ = batch(named(3), executor)
    standing = driver.run()
    assert (standing.counts[State.DONE], standing.counts[State.SET_ASIDE]) == (2, 1)
    assert standing.ended_here == 3
    assert sum(job.attempts for job in ledger.jobs()) == 3 + 2 + 3 - 1


def test_failures_are_told_as_they_happen_and_verdicts_are_counted_over_all_runs(batch):
    def read(order):
        Path(order.arguments["output"], "report.json").write_text("{}")
        return Outcome(Ending.DONE, value={"verdict": "positive"})

    def refuse(order):
        return Outcome(Ending.REFUSED, "NO_LUNG", "no lung is seen")

    failures = []
    executor = Played(read, "CRASHED", refuse, read, window=1)
    driver, ledger, _ = batch(named(3), executor, on_failure=failures.append)
    standing = driver.run()
    failed = next(job.job_id for job in ledger.jobs() if job.key.study == "s1")
    assert failures == [
        Failure(failed, 1, State.QUEUED, "CRASHED", "x"),
        Failure(failed, 2, State.REFUSED, "NO_LUNG", "no lung is seen"),
    ]
    assert standing.verdicts == {"positive": 2}
    again, _, _ = batch([{"name": "s9"}], Played(read))
    assert again.run().verdicts == {"positive": 3}


def test_results_that_lie_there_are_not_made_again(batch):
    driver, _, results = batch(named(1), Played())
    driver.run()
    (job_id, first), *_ = results.records()
    executor = Played("CRASHED")
    again, ledger, _ = batch(named(1), executor)
    ledger.requeue(job_id)
    standing = again.run()
    assert (standing.counts[State.DONE], executor.endings) == (1, ["CRASHED"])
    assert results.find(job_id) == first


@pytest.mark.parametrize("content", [b"", b"[]", b'{"value": {"n"', bytes(20), b"{}"])
def test_a_record_that_is_damaged_holds_up_its_study_alone_and_says_what_to_do(batch, tmp_path, content):
    driver, _, results = batch(named(2), Played())
    driver.run()
    (job_id, _), *_ = results.records()
    place = tmp_path / "results" / job_id
    (place / "job.json").write_bytes(content)
    again, ledger, _ = batch(named(2), Played())
    ledger.requeue(job_id)
    standing = again.run()
    assert (standing.counts[State.DONE], standing.counts[State.SET_ASIDE]) == (1, 1)
    job = ledger.job(job_id)
    assert (job.code, f"put it back from a copy, or remove {place} and have" in job.message) == ("DAMAGED", True)
    with pytest.raises(DamagedFileError, match=r"job\.json is damaged"):
        list(results.records())
    shutil.rmtree(place)
    ledger.requeue(job_id)
    assert again.run().counts[State.DONE] == 2


def test_results_that_another_put_in_place_damaged_are_said(batch, tmp_path):
    def twice(order):
        job = ledger.jobs()[0]
        staged = results.stage(job.job_id)
        results.publish(job.job_id, staged, {"value": {"n": 7}, "seconds": 1.0, "peak_memory_bytes": 1})
        (tmp_path / "results" / job.job_id / "job.json").write_bytes(b"")
        return Outcome(Ending.DONE, value={"n": 1})

    driver, ledger, results = batch(named(1), Played(twice))
    assert driver.run().counts[State.SET_ASIDE] == 1
    assert ledger.jobs()[0].code == "DAMAGED"


def test_the_first_results_stay(batch):
    def twice(order):
        """Another driver was faster."""
        job = ledger.jobs()[0]
        staged = results.stage(job.job_id)
        Path(staged["output"], "report.json").write_text("first")
        results.publish(job.job_id, staged, {"value": {"n": 7}, "seconds": 1.0, "peak_memory_bytes": 1})
        Path(order.arguments["output"], "report.json").write_text("second")
        return Outcome(Ending.DONE, value={"n": 1})

    driver, ledger, results = batch(named(1), Played(twice))
    driver.run()
    assert ledger.jobs()[0].result == {"n": 7}


def test_a_full_disk_is_waited_for_and_costs_no_attempt(batch, monkeypatch, tmp_path):
    import jcs_ct.batch.driver as module

    free = [0, 0, 0, 1 << 40]
    real = module.shutil.disk_usage

    class Usage:
        def __init__(self):
            self.free = free[0] if len(free) == 1 else free.pop(0)

    monkeypatch.setattr(module, "_LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage())
    driver, *_ = batch(named(2), Played("DISK_FULL", window=1), least_free_bytes=1)
    told = []
    driver.on_change = told.append
    assert driver.run().counts[State.DONE] == 2
    assert [one.waiting_for for one in told][:1] == ["disk"]
    free[:] = [0]
    late, _, _ = batch(named(3), Played(), least_free_bytes=1, disk_patience_s=0.05)
    with pytest.raises(OutputError, match=r"free space .*nothing is lost \(DISK_FULL\)") as caught:
        late.run()
    assert (caught.value.code, caught.value.remedy) == ("DISK_FULL", "free space and give the same command again")
    assert real(tmp_path).free > 0


def test_a_quota_that_the_free_space_does_not_show_costs_no_attempt(batch, monkeypatch):
    monkeypatch.setattr("jcs_ct.batch.driver._LOOK_AGAIN_S", 0.01)
    # Long enough that the driver looks round before one of the five pauses is over, on a busy machine, too.
    driver, ledger, _ = batch(named(2), Played(*["DISK_FULL"] * 5, window=1), outage_wait_s=0.05)
    told = []
    driver.on_change = told.append
    assert driver.run().counts[State.DONE] == 2
    assert {job.attempts for job in ledger.jobs()} == {1}
    assert {one.waiting_for for one in told} == {"disk", ""}


@pytest.mark.parametrize("wrong", ["study", "results"])
def test_a_disk_that_stays_full_is_not_tried_without_a_pause(batch, monkeypatch, wrong):
    def refuse(*given):
        tries.append(given)
        raise OutputError("the disk is full (DISK_FULL)", code="DISK_FULL")

    tries = []
    executor = Played(*["DISK_FULL"] * 1000 if wrong == "study" else [], window=1)
    driver, ledger, results = batch(named(3), executor, outage_wait_s=0.1, disk_patience_s=0.45)
    monkeypatch.setattr("jcs_ct.batch.driver._LOOK_AGAIN_S", 0.1)
    if wrong == "results":
        monkeypatch.setattr(results, "publish", refuse)
    with pytest.raises(OutputError, match=r"free space .*nothing is lost \(DISK_FULL\)"):
        driver.run()
    assert len(tries) + 1000 - len(executor.endings) * (wrong == "study") - 1000 * (wrong == "results") < 12
    assert {(job.state, job.attempts, job.is_running) for job in ledger.jobs()} == {(State.QUEUED, 0, False)}


def test_an_executor_that_cannot_be_closed_hides_no_error_and_keeps_no_job(batch, monkeypatch, caplog):
    def fail(*given):
        raise BackendError("the cluster went away")

    def refuse():
        raise subprocess.CalledProcessError(1, "scancel")

    executor = Played()
    monkeypatch.setattr(executor, "collect", fail)
    monkeypatch.setattr(executor, "close", refuse)
    driver, ledger, _ = batch(named(2), executor)
    with pytest.raises(BackendError, match="went away"):
        driver.run()
    assert {(job.state, job.attempts, job.is_running) for job in ledger.jobs()} == {(State.QUEUED, 0, False)}
    assert "could not be ended" in caplog.text


def test_results_that_the_disk_cannot_take_wait_for_it(batch, monkeypatch):
    driver, ledger, results = batch(named(2), Played(window=2))
    real, refusals = results.publish, [1, 1]

    def publish(*arguments):
        if refusals:
            refusals.pop()
            raise OutputError("the disk is full (DISK_FULL)")
        return real(*arguments)

    monkeypatch.setattr(results, "publish", publish)
    standing = driver.run()
    assert standing.counts[State.DONE] == 2
    assert {job.attempts for job in ledger.jobs()} == {1}


def test_a_folder_that_stays_unwritable_is_no_full_disk(batch, monkeypatch):
    def refuse(*arguments):
        raise OutputError("it is another user's")

    driver, ledger, results = batch(named(1), Played(), disk_patience_s=0.25)
    monkeypatch.setattr(results, "stage", refuse)
    monkeypatch.setattr("jcs_ct.batch.driver._LOOK_AGAIN_S", 0.1)
    with pytest.raises(OutputError, match="can be written") as caught:
        driver.run()
    assert caught.value.code == "OUTPUT_UNWRITABLE"
    assert len(ledger.history(ledger.jobs()[0].job_id)) < 12, "it waits between its tries"


@pytest.mark.parametrize("call", ["find", "stage"])
def test_a_place_of_results_that_fails_once_leaves_no_job_held(batch, monkeypatch, call):
    driver, ledger, results = batch(named(1), Played())
    real, failures = getattr(results, call), ["once"]

    def fail_once(*arguments):
        if failures:
            failures.pop()
            raise OutputError("it does not answer")
        return real(*arguments)

    monkeypatch.setattr("jcs_ct.batch.driver._LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr(results, call, fail_once)
    assert driver.run().counts[State.DONE] == 1
    assert {job.attempts for job in ledger.jobs()} == {1}


@pytest.mark.parametrize("ending", ["done", "CRASHED"])
def test_what_an_attempt_left_and_nobody_can_remove_now_stops_nothing(batch, monkeypatch, ending):
    def refuse(*arguments):
        raise OutputError("cannot remove it: it is in use")

    driver, _, results = batch(named(2), Played(ending, window=1))
    monkeypatch.setattr(results, "discard", refuse)
    assert driver.run().counts[State.DONE] == 2


def test_a_machine_that_slept_does_not_take_its_jobs_from_itself(batch, monkeypatch):
    real, slept = time.time, []
    monkeypatch.setattr(time, "time", lambda: real() + 7200.0 * len(slept))
    executor = Played(window=4)
    collect = executor.collect
    executor.collect = lambda timeout_s: collect(timeout_s) if slept else slept.append(1) or []
    driver, ledger, _ = batch(named(2), executor)
    assert driver.run().counts[State.DONE] == 2
    assert {job.attempts for job in ledger.jobs()} == {1}
    assert {entry.event for job in ledger.jobs() for entry in ledger.history(job.job_id)} == {
        "queued", "claimed", "done"
    }  # fmt: skip


def test_a_second_batch_leaves_the_first_ones_attempts_in_the_same_results_alone(batch, tmp_path):
    def begin_another(order):
        """Another batch, in a folder of its own, begins and ends while a study of the first is read."""
        with Ledger(tmp_path / "other.sqlite") as other:
            Driver(other, FolderResults(tmp_path / "results"), Played(), PLAY, {}, "r", least_free_bytes=0).run()
        Path(order.arguments["output"], "report.json").write_text("{}")
        return Outcome(Ending.DONE, value={"n": 1})

    (tmp_path / "results" / ".staging" / "killed").mkdir(parents=True)
    driver, ledger, _ = batch(named(1), Played(begin_another))
    assert driver.run().counts[State.DONE] == 1
    assert (tmp_path / "results" / ledger.jobs()[0].job_id / "report.json").exists()
    assert left(tmp_path) == []


def test_results_that_are_gone_before_they_are_in_place_are_read_again(batch, tmp_path):
    def lose(order):
        Path(order.arguments["output"]).rmdir()
        return Outcome(Ending.DONE, value={"n": 1})

    driver, ledger, _ = batch(named(1), Played(lose))
    assert driver.run().counts[State.DONE] == 1
    assert ledger.jobs()[0].attempts == 2


def test_a_study_that_is_cancelled_while_it_is_read_is_not_read_again(batch):
    def cancel(order):
        assert ledger.cancel(ledger.jobs()[0].job_id)
        return lost("gone")

    driver, ledger, _ = batch(named(1), Played(cancel))
    assert driver.run().counts[State.CANCELLED] == 1


def test_a_driver_that_is_told_to_stop_gives_back_what_runs(batch, tmp_path):
    executor = LocalExecutor(1)
    driver, ledger, _ = batch(named(3, seconds=60.0, note=str(tmp_path / "notes")), executor)
    driver.keep_going = lambda: not (tmp_path / "notes").exists()
    began = time.monotonic()
    driver.run()
    assert time.monotonic() - began < 40
    assert ledger.counts()[State.QUEUED] == 3
    assert {(job.attempts, job.owner) for job in ledger.jobs()} == {(0, "")}
    assert left(tmp_path) == []


def test_a_process_that_cannot_be_started_is_one_failed_attempt(batch, monkeypatch):
    real, refusals = StudyWorker.run, [1]

    def run(worker, *arguments, **options):
        if refusals:
            refusals.pop()
            raise BlockingIOError("fork: no more processes")
        return real(worker, *arguments, **options)

    monkeypatch.setattr(StudyWorker, "run", run)
    driver, ledger, _ = batch(named(2), LocalExecutor(1))
    assert driver.run().counts[State.DONE] == 2
    assert sorted(job.attempts for job in ledger.jobs()) == [1, 2]


def test_drivers_that_are_killed_cost_no_study_an_attempt(batch):
    driver, ledger, _ = batch(named(2), Played())
    gone = f"{socket.gethostname()}/4194305/1.00"
    for _ in range(5):
        assert ledger.claim(gone) is not None
        assert ledger.release_lost(counts=False) == 1
    assert ledger.claim(gone) is not None
    assert driver.run().counts[State.DONE] == 2
    assert {job.attempts for job in ledger.jobs()} == {1}


@pytest.mark.slow
def test_poison_studies_beside_good_ones(batch, tmp_path):
    note = str(tmp_path / "notes")
    acts = ["crash", "", "hang", "", "eat", "", "refuse", "", "once"]
    studies = [{"name": f"s{number}", "act": act, "note": note} for number, act in enumerate(acts)]
    limits = Limits(memory_bytes=400 << 20, seconds=4.0)
    driver, ledger, _ = batch(studies, LocalExecutor(2), limits=limits)
    driver.run()
    found = {job.request["act"] or job.request["name"]: (job.state, job.code, job.attempts) for job in ledger.jobs()}
    assert found == {
        "crash": (State.SET_ASIDE, "CRASHED", 3),
        "hang": (State.SET_ASIDE, "TIMED_OUT", 3),
        "eat": (State.SET_ASIDE, "OUT_OF_MEMORY", 3),
        "refuse": (State.REFUSED, "NO_LUNG", 1),
        "once": (State.DONE, "", 2),
        **{f"s{number}": (State.DONE, "", 1) for number in (1, 3, 5, 7)},
    }
    begun = (tmp_path / "notes").read_text().split()
    assert len(begun) == 3 * 3 + 4 + 1 + 2


DRIVE = """
import sys
from pathlib import Path
from jcs_ct.batch.driver import Driver
from jcs_ct.batch.local import LocalExecutor
from jcs_ct.batch.batch_results import FolderResults
from jcs_ct.jobs import JobKey, Ledger, RetryPolicy
folder = Path(sys.argv[1])
ledger = Ledger(folder / "jobs.sqlite", retries=RetryPolicy(3, first_wait_s=0.0))
key = JobKey("any", "w", "p", "v")
results = FolderResults(folder / "results")
Driver(ledger, results, LocalExecutor(2), "played_studies:play", {}, key.reading_id, least_free_bytes=0).run()
"""


@pytest.mark.slow
def test_a_killed_driver_is_started_again_and_loses_nothing(batch, tmp_path):
    note = tmp_path / "notes"
    _, ledger, results = batch(named(12, seconds=0.2, note=str(note)), Played())

    def begun():
        return len(note.read_text().split()) if note.exists() else 0

    kills = 0
    for more in (2, 2, 2, None):
        before = begun()
        process = subprocess.Popen([sys.executable, "-c", DRIVE, str(tmp_path)], env={**os.environ})
        if more is None:
            assert process.wait(120) == 0
            break
        while process.poll() is None and begun() < before + more:
            time.sleep(0.02)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills, "a kill has to meet the driver at work"
    assert ledger.counts()[State.DONE] == 12
    records = dict(results.records())
    assert len(records) == 12
    texts = {(tmp_path / "results" / job_id / "answer.txt").read_text() for job_id in records}
    assert {json.loads(text)["name"] for text in texts} == {f"s{number}" for number in range(12)}
    assert 12 <= begun() <= 12 + 4 * kills, "what ran at a kill runs again, nothing else"
