"""The ledger: nothing lost, nothing taken twice, whatever dies in between."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing

import psutil
import pytest

from jcs_ct.errors import OutputError
from jcs_ct.jobs import JobKey, LeaseLostError, Ledger, RetryPolicy, State, owners, schema
from jcs_ct.jobs.job import OPEN_STATES
from jcs_ct.jobs.outcome import FailureCode


def events(ledger, job_id):
    return [(entry.event, entry.attempt, entry.code) for entry in ledger.history(job_id)]


def test_a_key_is_queued_once_and_other_weights_are_another_job(ledger, key):
    assert ledger.add(key(), {"study": "there"})
    assert not ledger.add(key(), {"study": "elsewhere"})
    assert ledger.add(key(weights="v"))
    assert ledger.job(key().job_id).request == {"study": "there"}
    assert ledger.counts()[State.QUEUED] == 2
    assert "1.2.3" not in key().job_id
    with pytest.raises(ValueError, match="needs a study"):
        JobKey("", "w", "p", "v")


def test_many_are_added_in_one_go(ledger, key):
    jobs = [(key(str(number)), {"number": number}) for number in range(1000)]
    assert ledger.add_many(jobs) == 1000
    assert ledger.add_many(jobs) == 0
    assert [job.request["number"] for job in ledger.jobs(limit=2, offset=10)] == [10, 11]


def test_order_is_priority_then_age_and_places_follow(ledger, key):
    for study, priority in (("first", 0), ("second", 0), ("urgent", 5)):
        ledger.add(key(study), priority=priority)
    places = {study: ledger.place_in_queue(key(study).job_id) for study in ("first", "second", "urgent")}
    assert places == {"urgent": 1, "first": 2, "second": 3}
    assert ledger.places_in_queue() == {key(study).job_id: place for study, place in places.items()}
    assert [ledger.claim().job.key.study for _ in range(3)] == ["urgent", "first", "second"]
    assert ledger.claim() is None
    assert ledger.place_in_queue(key("first").job_id) is None
    assert ledger.places_in_queue() == {}


def test_a_job_runs_to_its_end(ledger, key):
    ledger.add(key())
    claim = ledger.claim()
    assert ledger.job(claim.job_id).is_running
    assert ledger.progress(claim, "classify", 3, 10)
    job = ledger.job(claim.job_id)
    assert (job.stage, job.done, job.total) == ("classify", 3, 10)
    ledger.advance(claim, State.READ, result={"verdict": "positive"})
    assert ledger.job(claim.job_id).is_running, "held until it is delivered"
    ledger.finish(claim, seconds=2.5, peak_memory_bytes=7)
    job = ledger.job(claim.job_id)
    assert (job.state, job.is_running, job.result) == (State.DONE, False, {"verdict": "positive"})
    assert (job.seconds, job.peak_memory_bytes) == (2.5, 7)
    assert [event for event, *_ in events(ledger, claim.job_id)] == ["queued", "claimed", "read", "done"]
    with pytest.raises(ValueError, match="open state"):
        ledger.advance(claim, State.DONE)


def test_a_runner_that_was_too_slow_cannot_finish_what_another_took(ledger, key):
    ledger.add(key())
    slow = ledger.claim("slow", lease_s=-1.0)
    quick = ledger.claim("quick")
    assert quick.job_id == slow.job_id
    for act in (
        lambda: ledger.finish(slow),
        lambda: ledger.fail(slow, "X"),
        lambda: ledger.refuse(slow, "X"),
        lambda: ledger.release(slow),
        lambda: ledger.advance(slow, State.READ),
        lambda: ledger.progress(slow, "s", 0, 1),
        lambda: ledger.renew(slow),
        lambda: ledger.acknowledge_cancel(slow),
    ):
        with pytest.raises(LeaseLostError, match="no longer held"):
            act()
    ledger.finish(quick)
    assert ledger.job(quick.job_id).state is State.DONE


def test_failures_are_tried_again_and_set_aside_in_the_end(ledger, key):
    ledger.add(key())
    for expected in (State.QUEUED, State.QUEUED, State.SET_ASIDE):
        assert ledger.fail(ledger.claim(), FailureCode.CRASHED, "again") is expected
    job = ledger.job(key().job_id)
    assert (job.state, job.code, job.attempts) == (State.SET_ASIDE, "CRASHED", 3)
    assert ledger.claim() is None
    assert ledger.requeue(job.job_id, request={"threshold": 3})
    job = ledger.job(job.job_id)
    assert (job.state, job.attempts, job.code, job.request) == (State.QUEUED, 0, "", {"threshold": 3})


def test_waits_grow_and_keep_a_job_back(tmp_path, key):
    policy = RetryPolicy(most_attempts=9, first_wait_s=10.0, longest_wait_s=35.0)
    assert [policy.wait_after(number) for number in (1, 2, 3, 4)] == [10.0, 20.0, 35.0, 35.0]
    with Ledger(tmp_path / "jobs.sqlite", retries=policy) as ledger:
        ledger.add(key("slow"))
        ledger.fail(ledger.claim(), "CRASHED")
        ledger.add(key("next"))
        claim = ledger.claim()
        assert claim.job.key.study == "next", "a job that waits does not hold up the others"
        assert ledger.claim() is None
        assert ledger.claim(now=ledger.job(key("slow").job_id).not_before + 1) is not None


def test_a_waiting_job_is_due_at_once_when_queued_again(tmp_path, key):
    with Ledger(tmp_path / "jobs.sqlite", retries=RetryPolicy(first_wait_s=1000.0)) as ledger:
        ledger.add(key())
        ledger.fail(ledger.claim(), "CRASHED")
        assert ledger.claim() is None
        assert ledger.requeue(key().job_id)
        assert ledger.claim() is not None
        assert not ledger.requeue(key().job_id), "a runner holds it"


def test_an_outage_elsewhere_is_no_attempt(ledger, key):
    ledger.add(key())
    for _ in range(10):
        ledger.release(ledger.claim(), code="PACS_UNAVAILABLE")
    job = ledger.job(key().job_id)
    assert (job.state, job.attempts, job.code) == (State.QUEUED, 0, "PACS_UNAVAILABLE")
    ledger.release(ledger.claim(), wait_s=1000.0)
    assert ledger.claim() is None


def test_a_job_that_takes_its_runners_down_is_set_aside(ledger, key):
    ledger.add(key("poison"))
    ledger.add(key("good"))
    taken = [ledger.claim(lease_s=-1.0).job.key.study for _ in range(3)]
    assert taken == ["poison"] * 3
    assert ledger.claim().job.key.study == "good"
    job = ledger.job(key("poison").job_id)
    assert (job.state, job.code) == (State.SET_ASIDE, "RUNNER_LOST")


def test_cancelling(ledger, key):
    for study in ("waiting", "running"):
        ledger.add(key(study), priority=int(study == "running"))
    claim = ledger.claim()
    assert ledger.cancel(key("waiting").job_id)
    job = ledger.job(key("waiting").job_id)
    assert (job.state, job.code, job.message) == (State.CANCELLED, "CANCELLED", "")
    assert events(ledger, job.job_id)[-1][0] == "cancelled"
    assert ledger.cancel(claim.job_id)
    assert ledger.job(claim.job_id).cancel_requested
    assert not ledger.progress(claim, "classify", 0, 1), "the runner is told to stop"
    assert not ledger.renew(claim)
    ledger.acknowledge_cancel(claim)
    assert ledger.job(claim.job_id).state is State.CANCELLED
    assert not ledger.cancel(claim.job_id)
    assert not ledger.cancel("no such job")


def test_a_cancelled_job_whose_runner_died_stays_cancelled(ledger, key):
    ledger.add(key())
    claim = ledger.claim(lease_s=1000.0)
    ledger.cancel(claim.job_id)
    assert ledger.claim(now=claim.job.changed_at + 2000.0) is None
    job = ledger.job(claim.job_id)
    assert (job.state, job.code, job.message) == (State.CANCELLED, "CANCELLED", "")


def test_a_cancelled_job_does_not_keep_the_code_of_an_earlier_failure(ledger, key):
    ledger.add(key())
    ledger.fail(ledger.claim(), FailureCode.CRASHED, "boom")
    assert ledger.cancel(key().job_id)
    job = ledger.job(key().job_id)
    assert (job.state, job.code, job.message) == (State.CANCELLED, "CANCELLED", "")


@pytest.mark.parametrize("end", ["fail", "fail for the last time", "release"])
def test_a_job_that_is_cancelled_while_it_is_held_is_not_queued_again(ledger, key, end):
    ledger.add(key())
    for _ in range(2 if end == "fail for the last time" else 0):
        ledger.fail(ledger.claim(), FailureCode.CRASHED)
    claim = ledger.claim()
    assert ledger.cancel(claim.job_id)
    ended = ledger.release(claim) if end == "release" else ledger.fail(claim, FailureCode.CRASHED, "x")
    job = ledger.job(claim.job_id)
    assert (ended, job.state, job.code, job.is_running) == (State.CANCELLED, State.CANCELLED, "CANCELLED", False)
    assert ledger.claim() is None
    assert events(ledger, claim.job_id)[-1][0] == "cancelled"


def test_a_clock_that_is_set_back_does_not_make_a_job_wait(tmp_path, key):
    with Ledger(tmp_path / "jobs.sqlite", retries=RetryPolicy(first_wait_s=10.0)) as ledger:
        ledger.add(key())
        ledger.fail(ledger.claim(), "CRASHED")
        failed_at = ledger.job(key().job_id).changed_at
        assert ledger.claim(now=failed_at + 5.0) is None
        assert ledger.claim(now=failed_at - 9 * 365 * 86400.0) is not None


def test_removing_spares_what_is_held(ledger, key):
    ledger.add(key())
    claim = ledger.claim()
    assert not ledger.remove(claim.job_id)
    ledger.finish(claim)
    assert ledger.remove(claim.job_id)
    assert ledger.job(claim.job_id) is None
    assert ledger.history(claim.job_id) == []
    assert ledger.add(key())


def test_a_runner_takes_jobs_of_its_own_weights(ledger, key):
    ledger.add(key(weights="old"))
    assert ledger.claim(reading_id=key(weights="new").reading_id) is None
    assert ledger.claim(reading_id=key(weights="old").reading_id) is not None
    assert ledger.claim(states=(State.READ,)) is None


def test_threads_and_connections_never_take_one_job_twice(tmp_path, key):
    ledgers = [Ledger(tmp_path / "jobs.sqlite") for _ in range(2)]
    ledgers[0].add_many([(key(str(number)), {}) for number in range(60)])
    taken, lock = [], threading.Lock()

    def work(ledger):
        while (claim := ledger.claim()) is not None:
            with lock:
                taken.append(claim.job_id)
            ledger.finish(claim)

    threads = [threading.Thread(target=work, args=(ledgers[number % 2],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 60
    assert ledgers[1].counts()[State.DONE] == 60
    for ledger in ledgers:
        ledger.close()


_HOLDER = """
import os, signal, sys
from pathlib import Path
from jcs_ct.jobs import Ledger, State
ledger = Ledger(Path(sys.argv[1]))
claim = ledger.claim()
for step in sys.argv[2].split(","):
    if step == "progress": ledger.progress(claim, "classify", 1, 2)
    if step == "read": ledger.advance(claim, State.READ, result={"n": 1})
    if step == "done": ledger.finish(claim)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("steps", "state"),
    [("claim", State.QUEUED), ("progress", State.QUEUED), ("read", State.READ), ("read,done", State.DONE)],
)
def test_a_killed_runner_leaves_the_job_where_it_was(ledger, key, tmp_path, steps, state):
    ledger.add(key())
    path = tmp_path / "jobs.sqlite"
    killed = subprocess.run([sys.executable, "-c", _HOLDER, str(path), steps], env=os.environ, check=False)
    assert killed.returncode == -9
    held = state in OPEN_STATES
    assert ledger.claim() is None, "the lease runs, or the job is done"
    assert ledger.running_count() == 0, "its runner is gone"
    assert ledger.release_lost() == int(held)
    job = ledger.job(key().job_id)
    assert (job.state, job.is_running) == (state, False)
    assert (ledger.claim() is not None) is held
    assert ledger.release_lost() == 0, "this process lives"
    assert ledger.running_count() == int(held)


def test_a_clock_that_is_set_does_not_make_a_runner_that_lives_look_gone(monkeypatch):
    name = owners.this_process()
    began = psutil.Process().create_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began + 3600.0)
    assert owners.this_process() == name
    assert not owners.is_gone(name)


def test_the_file_is_its_owners_only_and_foreign_files_are_refused(tmp_path, key):
    path = tmp_path / "folder" / "jobs.sqlite"
    with Ledger(path) as ledger:
        ledger.add(key())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OutputError, match="layout 99"):
        Ledger(path)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE things (name)")
    connection.close()
    with pytest.raises(OutputError, match="something else"):
        Ledger(other)
    with pytest.raises(OutputError, match="choose another folder"):
        Ledger(tmp_path / "other.sqlite" / "below.sqlite")


def test_a_new_file_may_be_opened_by_many_at_the_same_moment(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    def open_and_close(number):
        with Ledger(tmp_path / f"{number // 8}.sqlite") as ledger:
            return sum(ledger.counts().values())

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(open_and_close, range(80))) == {0}


def test_layouts_may_hold_triggers():
    steps = (
        "CREATE TABLE a (x); CREATE TRIGGER t BEFORE DELETE ON a BEGIN SELECT raise(ABORT, 'kept'); SELECT 1; END;\n",
        "CREATE TABLE b (y);",
    )
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for upto in (1, 2):
            schema.bring_up_to_date(connection, steps[:upto])
        connection.execute("INSERT INTO a VALUES (1)")
        with pytest.raises(sqlite3.IntegrityError, match="kept"):
            connection.execute("DELETE FROM a")
        assert connection.execute("SELECT count(*) FROM b").fetchone() == (0,)
