"""How attempts end: an outage of the machine is charged to no study, and is not met again at once."""

from __future__ import annotations

import errno
import logging
import sqlite3

import pytest

from jcs_ct.jobs import Attempts, Ending, Outcome, State
from jcs_ct.jobs.outcome import explain

FULL = Outcome(Ending.FAILED, "DISK_FULL", "the disk is full (DISK_FULL)")


def never(record):
    raise AssertionError("nothing is put in place")


@pytest.mark.parametrize("code", ["DISK_FULL", "OUTPUT_UNWRITABLE"])
def test_an_outage_of_the_machine_counts_no_attempt_and_is_seen(ledger, key, caplog, code):
    ledger.add(key())
    attempts = Attempts(ledger, outage_wait_s=60.0)
    assert attempts.may_claim()
    claim = ledger.claim()
    state = attempts.settle(claim, Outcome(Ending.FAILED, code, "it cannot be written"), never)
    job = ledger.job(claim.job_id)
    assert (state, job.state, job.attempts, job.is_running) == (State.QUEUED, State.QUEUED, 0, False)
    assert (job.code, job.message) == (code, "it cannot be written")
    assert job.not_before > job.changed_at + 100, "after others, and not at once"
    assert not attempts.may_claim()
    assert "no attempt is counted" in caplog.text
    assert claim.job_id in caplog.text


@pytest.mark.parametrize(
    ("outcome", "stopped", "state", "attempts"),
    [
        (Outcome(Ending.FAILED, "CRASHED", "x"), False, State.QUEUED, 1),
        (Outcome(Ending.REFUSED, "GAP", "x"), False, State.REFUSED, 1),
        (Outcome(Ending.CANCELLED, "CANCELLED"), False, State.CANCELLED, 1),
        (Outcome(Ending.CANCELLED, "CANCELLED"), True, State.QUEUED, 0),
    ],
)
def test_other_endings_hold_up_nobody(ledger, key, caplog, outcome, stopped, state, attempts):
    caplog.set_level(logging.INFO)
    ledger.add(key())
    ending = Attempts(ledger, outage_wait_s=60.0)
    claim = ledger.claim()
    assert ending.settle(claim, outcome, never, stopped=stopped) is state
    job = ledger.job(claim.job_id)
    assert (job.state, job.attempts, job.is_running) == (state, attempts, False)
    assert ending.may_claim()
    assert stopped or claim.job_id in caplog.text


def test_what_the_ledger_cannot_take_back_now_it_takes_before_the_next_job(ledger, key, monkeypatch):
    ledger.add(key())
    attempts = Attempts(ledger, outage_wait_s=0.0)
    real, is_full = ledger.release, [False]

    def release(*given, **named):
        if is_full[0]:
            raise sqlite3.OperationalError("database or disk is full")
        return real(*given, **named)

    monkeypatch.setattr(ledger, "release", release)
    for _ in range(5):
        claim = ledger.claim(lease_s=-1.0)  # the disk stays full for longer than the lease
        is_full[0] = True
        assert attempts.settle(claim, FULL, never) is State.QUEUED
        with pytest.raises(sqlite3.OperationalError):
            attempts.may_claim()
        assert ledger.job(claim.job_id).is_running
        is_full[0] = False
        assert attempts.may_claim()
        job = ledger.job(claim.job_id)
        assert (job.state, job.code, job.attempts, job.is_running) == (State.QUEUED, "DISK_FULL", 0, False)


def sqlite_error(path, *statements, mode="rwc"):
    connection = sqlite3.connect(f"file:{path}?mode={mode}", uri=True)
    try:
        for statement in statements:
            connection.execute(statement)
    except sqlite3.OperationalError as error:
        return error
    finally:
        connection.close()
    raise AssertionError("a statement should fail")


def test_exceptions_that_mean_an_outage_are_told_from_a_studys(tmp_path):
    path = tmp_path / "jobs.sqlite"
    full = sqlite_error(path, "PRAGMA max_page_count=2", "CREATE TABLE a (b)", "CREATE TABLE c (d)")
    readonly = sqlite_error(path, "CREATE TABLE e (f)", mode="ro")
    wrong = sqlite_error(path, "SELECT * FROM nothing")
    found = [
        explain(error)[:2]
        for error in (
            OSError(errno.ENOSPC, "No space left on device", "DOE^JANE"),
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            full,
            readonly,
        )
    ]
    assert found == [(Ending.FAILED, code) for code in ["DISK_FULL"] * 3 + ["OUTPUT_UNWRITABLE"]]
    assert "DOE" not in explain(OSError(errno.ENOSPC, "x", "DOE^JANE"))[2]
    for error in (wrong, OSError(errno.EACCES, "Permission denied")):
        with pytest.raises(type(error)) as caught:
            raise error
        assert explain(caught.value)[1] == "CRASHED"
