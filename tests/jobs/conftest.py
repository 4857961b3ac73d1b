from __future__ import annotations

from pathlib import Path

import pytest

from jcs_ct.jobs import JobKey, Ledger, RetryPolicy
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def tasks_for_children(monkeypatch):
    """Children find the tasks of ``played_tasks``."""
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=":")


@pytest.fixture
def key():
    def make(study: str = "1.2.3", weights: str = "w") -> JobKey:
        return JobKey(study, weights, "point", "0.1.0")

    return make


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "jobs.sqlite", retries=RetryPolicy(most_attempts=3, first_wait_s=0.0)) as opened:
        yield opened


@pytest.fixture(scope="session")
def small_study(tmp_path_factory):
    """DICOM folder of a phantom of 8 slices."""
    folder = tmp_path_factory.mktemp("phantom")
    write_dicom(make_phantom(PhantomConfig(slices=8, size=64, lesions=3, seed=5)), folder)
    return folder / "dicom"
