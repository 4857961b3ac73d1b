"""How long a study will still take."""

from __future__ import annotations

import pytest

from jcs_ct.jobs import JobKey, Ledger
from jcs_ct.service.waiting import WaitingTime


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "jobs.sqlite") as opened:
        yield opened


def fill(ledger: Ledger, *sizes: int) -> None:
    for number, size in enumerate(sizes):
        ledger.add(JobKey(f"study {number}", "w", "o", "1"), {"bytes": size})


def test_nothing_is_said_before_a_study_was_read(ledger):
    fill(ledger, 1000)
    assert WaitingTime(ledger).left_s(ledger.jobs()[0]) is None


def test_the_queue_is_counted_by_the_size_of_what_waits(ledger):
    fill(ledger, 1000, 2000, 500, 0)
    ledger.finish(ledger.claim(), seconds=40.0)
    waiting = WaitingTime(ledger)
    done, second, third, unknown = ledger.jobs()
    assert waiting.left_s(done) is None, "it is done"
    assert waiting.left_s(second) == 80
    assert waiting.left_s(third) == 100
    assert waiting.left_s(unknown) == 180, "140 s, in whole minutes; of a study without a size a typical one"


def test_what_was_added_since_the_last_look_comes_after_all(ledger):
    fill(ledger, 1000, 1000)
    ledger.finish(ledger.claim(), seconds=40.0)
    waiting = WaitingTime(ledger)
    assert waiting.left_s(ledger.jobs()[1]) == 40
    ledger.add(JobKey("new", "w", "o", "1"), {"bytes": 500})
    assert waiting.left_s(ledger.jobs()[2]) == 60


def test_what_is_read_is_counted_down_and_nothing_is_said_when_it_is_overdue(ledger):
    fill(ledger, 1000, 1500, 1000)
    ledger.finish(ledger.claim(), seconds=40.0)
    running = ledger.claim().job
    waiting = WaitingTime(ledger)
    last = ledger.jobs()[2]
    assert waiting.left_s(running, now=running.changed_at + 15) == 50
    assert waiting.left_s(last, now=running.changed_at + 15) == 90
    assert waiting.left_s(running, now=running.changed_at + 61) is None
    assert waiting.left_s(last, now=running.changed_at + 61) == 40
