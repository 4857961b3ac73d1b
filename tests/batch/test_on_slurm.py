"""Slurm, with submitit's processes of this machine in its place."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from jcs_ct.batch.batch_results import FolderResults
from jcs_ct.batch.driver import Driver
from jcs_ct.batch.on_slurm import SlurmExecutor, SlurmSettings
from jcs_ct.errors import ConfigError
from jcs_ct.jobs import JobKey, Ledger, Limits, RetryPolicy, State

pytest.importorskip("submitit")
# Submitit leaves the processes that stand in for Slurm's jobs to the interpreter's end.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
HERE = SlurmSettings(cluster="local", studies_per_job=3, jobs=2, threads=1)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="at least one study"):
        SlurmSettings(studies_per_job=0)


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
