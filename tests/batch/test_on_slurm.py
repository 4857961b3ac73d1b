"""Slurm, with submitit's processes of this machine in its place."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from jcs_ct.batch.batch_results import FolderResults
from jcs_ct.batch.driver import Driver
from jcs_ct.batch.executor import Order
from jcs_ct.batch.on_slurm import SlurmExecutor, SlurmSettings, _outcome_in
from jcs_ct.errors import BackendError, ConfigError
from jcs_ct.jobs import JobKey, Ledger, Limits, RetryPolicy, State

pytest.importorskip("submitit")
# Submitit leaves the processes that stand in for Slurm's jobs to the interpreter's end.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
HERE = SlurmSettings(cluster="local", studies_per_job=3, jobs=2, threads=1)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="at least one study"):
        SlurmSettings(studies_per_job=0)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """An executor whose Slurm takes jobs while ``room`` lasts."""
    from submitit.core.utils import FailedJobError

    executor = SlurmExecutor(tmp_path / "slurm", HERE, memory_bytes=1 << 30)
    executor.room, executor.cancelled = 1, []

    def submit(*given):
        if executor.room == 0:
            raise FailedJobError("sbatch: error: QOSMaxSubmitJobPerUserLimit")
        executor.room -= 1
        job = SimpleNamespace(job_id=str(executor.room), done=lambda: bool(executor.cancelled))
        job.cancel = lambda: executor.cancelled.append(job.job_id)
        return job

    monkeypatch.setattr(executor._submitit, "submit", submit)
    monkeypatch.setattr("jcs_ct.batch.on_slurm._SUBMIT_AGAIN_S", 0.0)
    return executor


def orders(count):
    return [Order(f"o{number}", "played_studies:play", {}, Limits()) for number in range(count)]


def test_a_limit_on_jobs_is_waited_for_while_some_are_out(slurm, caplog):
    for order in orders(8):
        slurm.submit(order)
    assert slurm.collect(0.0) == []
    assert "takes no further job now, 1 are out: sbatch: error: QOSMaxSubmitJobPerUserLimit" in caplog.text
    slurm.room = 5
    slurm.submit(orders(9)[8])
    assert [len(group.orders) for group in slurm._groups] == [3, 3, 3], "in groups of the size that was asked for"
    assert slurm._waiting == []


def test_a_slurm_that_takes_no_job_at_all_is_said_with_what_to_do(slurm):
    slurm.room = 0
    with pytest.raises(BackendError, match=r"QOSMaxSubmit.*--partition .*same command again"):
        for order in orders(3):
            slurm.submit(order)


def test_each_job_is_cancelled_whatever_becomes_of_the_others(slurm, caplog):
    def refuse():
        raise subprocess.CalledProcessError(1, "scancel")

    slurm.room = 3
    for order in orders(9):
        slurm.submit(order)
    slurm._groups[0].job.cancel = refuse
    slurm.close()
    assert slurm.cancelled == ["1", "0"]
    assert "Slurm job 2 could not be cancelled" in caplog.text


@pytest.mark.slow
def test_groups_are_read_and_a_lost_job_comes_back(tmp_path, monkeypatch):
    key, note = JobKey("any", "w", "p", "v"), str(tmp_path / "notes")
    ledger = Ledger(tmp_path / "jobs.sqlite", retries=RetryPolicy(3, first_wait_s=0.0))
    acts = ["", "", "refuse", "", "crash", "", ""]
    ledger.add_many(
        (JobKey(f"s{n}", "w", "p", "v"), {"name": f"s{n}", "act": act, "note": note, "seconds": 0.3})
        for n, act in enumerate(acts)
    )
    executor = SlurmExecutor(tmp_path / "slurm", HERE, memory_bytes=1 << 30)
    killed = []

    collect = executor.collect

    def kill_one_then_collect(timeout_s):
        """The first job that is there, once a study of it or of another has begun."""
        if not killed and executor._groups:
            deadline = time.monotonic() + 60.0
            while not Path(note).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            killed.append(executor._groups[0].job.job_id)
            executor._groups[0].job.cancel()
        return collect(timeout_s)

    monkeypatch.setattr(executor, "collect", kill_one_then_collect)
    results = FolderResults(tmp_path / "results")
    limits = Limits(memory_bytes=400 << 20, seconds=30.0)
    options = {"limits": limits, "least_free_bytes": 0}
    Driver(ledger, results, executor, "played_studies:play", {}, key.reading_id, **options).run()
    counts = ledger.counts()
    assert (counts[State.DONE], counts[State.REFUSED], counts[State.SET_ASIDE]) == (5, 1, 1)
    assert killed
    assert len(dict(results.records())) == 5
    assert list((tmp_path / "slurm" / "endings").glob("*.json")) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"ending": "do', bytes(9), b'{"ending": "nosuch"}'])
def test_an_ending_that_is_damaged_is_a_lost_attempt(tmp_path, content):
    (tmp_path / "one.json").write_bytes(content)
    outcome = _outcome_in(tmp_path / "one.json")
    assert (outcome.code, outcome.message) == ("RUNNER_LOST", "what its Slurm job wrote of its ending is damaged")
