"""How long a study will still take."""

from __future__ import annotations

import pytest

from jcs_ct.jobs import JobKey, Ledger
from jcs_ct.service.waiting import WaitingTime


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "jobs.sqlite") as opened:
        for number in range(4):
            opened.add(JobKey(f"study {number}", "w", "o", "1"))
        yield opened


def finish_first(ledger: Ledger, seconds: float) -> None:
    ledger.finish(ledger.claim(), seconds=seconds)


def test_nothing_is_said_before_a_study_was_read(ledger):
    job = ledger.jobs()[0]
    assert WaitingTime(ledger).left_s(job, 1) is None


def test_the_queue_is_counted_in_typical_readings(ledger):
    finish_first(ledger, 40.0)
    waiting = WaitingTime(ledger)
    second, third = ledger.jobs()[1:3]
    assert waiting.left_s(second, 1) == 40
    assert waiting.left_s(third, 2) == 80
    assert waiting.left_s(ledger.jobs()[0], None) is None, "it is done"


def test_what_runs_is_counted_down_and_never_to_nothing(ledger):
    finish_first(ledger, 60.0)
    running = ledger.claim().job
    waiting = WaitingTime(ledger)
    begun = running.changed_at
    assert waiting.left_s(running, None, now=begun + 15) == 50
    assert waiting.left_s(running, None, now=begun + 500) == 10
    assert waiting.left_s(ledger.jobs()[2], 1, now=begun + 30.0) == 90, "30 s of it, then the study's own 60"


def test_long_waits_are_said_in_minutes(ledger):
    finish_first(ledger, 100.0)
    assert WaitingTime(ledger).left_s(ledger.jobs()[3], 3) == 300
