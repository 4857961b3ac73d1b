"""The watcher and its record: each study once, whatever dies in between."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys

import pytest

from jcs_ct.errors import GateCode, OutputError, StudyError
from jcs_ct.pacs.jobs import JobStore, State, only_watcher
from jcs_ct.pacs.watch import Watcher
from jcs_ct.pacs.web import DicomWeb, PacsServer

from .fake_pacs import ct_file

MODELS = "ab" * 32


class Reading:
    """Writes one result a study, or fails as told."""

    def __init__(self):
        self.calls = 0
        self.error = None

    def __call__(self, study, output):
        self.calls += 1
        if self.error is not None:
            raise self.error
        output.mkdir(parents=True, exist_ok=True)
        uid = "1.9." + str(len(list(study.iterdir())))
        for number in (1, 2):
            (output / f"{number}.dcm").write_bytes(ct_file("1.2.3", uid, number, modality="SR"))
        return tuple(output.iterdir())


@pytest.fixture
def reading():
    return Reading()


@pytest.fixture
def start(pacs, reading, tmp_path):
    """A watcher on the same record each time, as after a restart."""
    open_stores = []

    def make():
        store = JobStore(tmp_path / "jobs.sqlite")
        web = DicomWeb(PacsServer(pacs.url, retries=0), sleep=lambda seconds: None)
        open_stores.extend((store, web))
        return Watcher(web, store, tmp_path / "studies", MODELS, reading, outage_wait_s=0.0)

    yield make
    for one in open_stores:
        one.close()


def states(watcher):
    return [job.state for job in watcher.jobs.all_jobs()]


def test_a_study_is_read_once_it_is_stable_and_never_again(start, pacs, fill, reading):
    fill("1.2.3", images=2)
    watcher = start()
    watcher.look()
    assert reading.calls == 0, "one look does not show that it is stable"
    fill("1.2.3", images=4)
    watcher.look()
    assert reading.calls == 0, "it has grown"
    watcher.look()
    assert states(watcher) == [State.STORED]
    assert len(pacs.of_modality("SR")) == 2
    for again in (watcher, start()):
        again.look()
        again.look()
    assert reading.calls == 1
    assert not (watcher.folder / watcher.jobs.all_jobs()[0].identifier / "study").exists()


def test_other_weights_read_a_study_again(start, fill, reading):
    fill("1.2.3")
    watcher = start()
    watcher.look()
    watcher.look()
    watcher.models_sha256 = "cd" * 32
    watcher.look()
    watcher.look()
    assert reading.calls == 2


def test_a_study_that_the_gate_refuses_is_not_tried_again(start, pacs, fill, reading):
    fill("1.2.3")
    reading.error = StudyError(GateCode.GAP, "a slice is missing")
    watcher = start()
    for _ in range(4):
        watcher.look()
    assert [(job.state, job.code) for job in watcher.jobs.all_jobs()] == [(State.REFUSED, "GAP")]
    assert reading.calls == 1
    assert watcher.is_idle()


def test_an_outage_loses_nothing(start, pacs, fill, reading):
    fill("1.2.3")
    watcher = start()
    watcher.look()
    pacs.failures = 1
    assert not watcher.look()
    watcher.look()
    original = watcher.web.store

    def down(paths):
        pacs.failures = 1
        original(paths)

    fill("1.2.4")
    watcher.look()
    watcher.web.store = down
    for _ in range(8):
        watcher.look()
    assert State.READ in states(watcher), "read, not stored yet, and never given up"
    watcher.web.store = original
    assert not watcher.is_idle()
    watcher.look()
    assert states(watcher) == [State.STORED, State.STORED]
    assert reading.calls == 2


@pytest.mark.parametrize("moment", ["fetching", "reading", "storing"])
def test_a_watcher_that_dies_leaves_one_result_set(start, pacs, fill, reading, moment, monkeypatch):
    class Killed(BaseException):
        """What no handler catches, as a kill is."""

    def die(*arguments):
        raise Killed

    fill("1.2.3")
    first = start()
    first.look()
    if moment == "fetching":
        monkeypatch.setattr(first.web, "instance", die)
    elif moment == "reading":
        first.read_study = die
    else:
        monkeypatch.setattr(first.web, "store", die)
    with pytest.raises(Killed):
        first.look()
    second = start()
    second.look()
    assert states(second) == [State.STORED]
    assert len(pacs.of_modality("SR")) == 2
    assert reading.calls == 1


def test_failures_are_postponed_and_given_up_in_the_end(start, fill, reading, monkeypatch):
    monkeypatch.setattr("jcs_ct.pacs.watch._FIRST_WAIT_S", 0.0)
    fill("1.2.3")
    reading.error = OutputError("the disk is full")
    watcher = start()
    for _ in range(9):
        watcher.look()
    assert [(job.state, job.code) for job in watcher.jobs.all_jobs()] == [(State.REFUSED, "OutputError")]
    assert reading.calls == 5


def test_logs_and_names_on_disk_hold_no_identifier(start, fill, caplog):
    caplog.set_level(logging.INFO)
    fill("1.2.840.99")
    watcher = start()
    watcher.look()
    watcher.look()
    assert "results stored" in caplog.text
    assert "1.2.840" not in caplog.text
    assert not [path for path in watcher.folder.rglob("*") if "1.2.840" in path.name]


def test_the_record_is_its_owners_only_and_survives_a_kill(tmp_path):
    path = tmp_path / "jobs.sqlite"
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom jcs_ct.pacs.jobs import JobStore, State\n"
        "store = JobStore(Path(sys.argv[1]))\nstore.add('1.2', 'm')\nstore.add('1.3', 'm')\n"
        "store.set_state(store.all_jobs()[0], State.READ)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], env=os.environ, check=False)
    assert killed.returncode == -9
    store = JobStore(path)
    assert [(job.study_uid, job.state) for job in store.open_jobs("m")] == [("1.2", "read"), ("1.3", "queued")]
    assert not store.add("1.2", "m")
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_watchers_do_not_share_a_record(tmp_path):
    second = only_watcher(tmp_path / "lock")
    with only_watcher(tmp_path / "lock"), pytest.raises(OutputError, match="another watcher"):
        second.__enter__()
