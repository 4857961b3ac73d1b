"""A hold: the ledger hears how far the study is, whoever asks first, and the lease does not end."""

from __future__ import annotations

import time

import pytest

from jcs_ct.jobs import Hold, LeaseLostError


@pytest.fixture
def later(monkeypatch):
    """Moves the clock."""
    passed, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + passed[0])
    return lambda seconds: passed.__setitem__(0, passed[0] + seconds)


def test_the_ledger_hears_the_real_stage_though_it_is_asked_first_whether_to_go_on(ledger, key, later):
    ledger.add(key())
    claim, beats = ledger.claim(), []
    hold = Hold(ledger, claim, every_s=5.0, beat=lambda: beats.append(1))

    def heard():
        job = ledger.job(claim.job_id)
        return job.stage, job.done, job.total

    hold.note("classify", 0, 140)
    assert heard() == ("classify", 0, 140), "a new stage is noted at once"
    for done in (20, 70, 140):
        later(6.0)
        assert hold.keep_going()
        assert heard()[0] == "classify"
        hold.note("classify", done, 140)
    assert heard() == ("classify", 70, 140)
    later(6.0)
    hold.note("classify", 140, 140)
    assert heard() == ("classify", 140, 140)
    assert len(beats) == 5


def test_the_lease_is_renewed_without_progress_and_when_the_clock_was_set_back(ledger, key, later):
    ledger.add(key())
    claim = ledger.claim(lease_s=100.0)
    hold = Hold(ledger, claim, every_s=5.0)
    for _ in range(4):
        later(60.0)
        assert hold.keep_going()
        assert ledger.claim() is None
    later(-3600.0)
    assert hold.keep_going()
    later(60.0)
    assert ledger.claim() is None


def test_who_wants_it_stopped_is_known(ledger, key):
    ledger.add(key())
    claim, goes_on = ledger.claim(), [True]
    hold = Hold(ledger, claim, every_s=0.0, keep_going=lambda: goes_on[0])
    ledger.cancel(claim.job_id)
    assert not hold.keep_going()
    assert not hold.stopped
    goes_on[0] = False
    assert not hold.keep_going()
    assert hold.stopped
    ledger.acknowledge_cancel(claim)
    with pytest.raises(LeaseLostError):
        hold.note("read", 0, 1)
