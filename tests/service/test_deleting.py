"""A study that is deleted while somebody works on it stays deleted, with all that was written meanwhile."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from jcs_ct.errors import ConfigError
from jcs_ct.jobs import Ending, JobKey, Ledger, Limits, Outcome, ResultFolders
from jcs_ct.service import api
from jcs_ct.service.audit import AuditLog
from jcs_ct.service.corrections import Corrections
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.packages import Packages
from jcs_ct.service.problems import Problem
from jcs_ct.service.studies import Studies, StudyRecord
from jcs_ct.service.training_export import export_corrected
from jcs_ct.service.users import Role, User

JANE, JOE = User("jane", Role.READER), User("joe", Role.READER)


def key(study_id: str, weights: str = "w") -> JobKey:
    return JobKey(study_id, weights, "o", "1")


@pytest.fixture
def database(tmp_path):
    with ServiceDatabase(tmp_path / "service.sqlite") as opened:
        yield opened


@pytest.fixture
def studies(database, tmp_path):
    with Ledger(tmp_path / "jobs.sqlite") as ledger:
        yield Studies(database, ledger, ResultFolders(tmp_path / "results"), tmp_path)


@pytest.fixture
def record(studies) -> StudyRecord:
    """A study of jane's that was read."""
    added = studies.queue(studies.record(JANE, studies.new_id(), "Study", files=1, size=1, key=key), key)
    (studies.sent(added.study_id)).mkdir(parents=True)
    claim = studies.ledger.claim()
    studies.results.publish(added.job_id, studies.results.stage(added.job_id), {})
    studies.ledger.finish(claim, result={"kind": "dicom", "identifier": "1"})
    return added


class Measuring:
    """In place of the process that measures: does ``meanwhile`` first."""

    def __init__(self, meanwhile=lambda: None, ending: Ending = Ending.DONE) -> None:
        self._meanwhile, self._ending = meanwhile, ending

    def run(self, task, arguments, *, limits):
        self._meanwhile()
        output = Path(arguments["output"])
        output.mkdir(parents=True, exist_ok=True)
        (output / "lesions.nii.gz").write_bytes(b"x")
        return Outcome(self._ending, value={"lesion_count": 0})


def corrections_by(worker: Measuring, database, studies) -> Corrections:
    made = Corrections(database, studies, Limits())
    made._worker = worker
    return made


def left_of(record: StudyRecord, database, folder: Path) -> list:
    rows = [
        (table, dict(row))
        for table in ("studies", "shares", "opinions", "corrections")
        for row in database.rows(f"SELECT * FROM {table}")
    ]
    return [*rows, *folder.rglob(f"*{record.study_id}*"), *folder.rglob(f"*{record.job_id}*")]


@pytest.mark.parametrize("ending", [Ending.DONE, Ending.REFUSED, Ending.FAILED])
def test_a_correction_that_is_measured_meanwhile(database, studies, record, tmp_path, ending):
    corrections = corrections_by(Measuring(lambda: studies.delete(record, by="jane"), ending), database, studies)
    with pytest.raises(Problem, match="UNKNOWN_STUDY"):
        corrections.save(JANE, record, parent=0, mask=b"", note="")
    assert left_of(record, database, tmp_path) == []


def test_drafts_shares_and_opinions(database, studies, record, tmp_path, monkeypatch):
    corrections = corrections_by(Measuring(), database, studies)
    known = corrections.folder(record, 0)
    monkeypatch.setattr(Corrections, "folder", lambda *_: known)  # was asked for before the study was deleted
    studies.delete(record, by="jane")
    for act in (
        lambda: corrections.keep_draft(JANE, record, 0, b"mask"),
        lambda: studies.share(record, JOE),
        lambda: studies.add_opinion(JANE, record, agrees=True, reason=""),
    ):
        with pytest.raises(Problem, match="UNKNOWN_STUDY"):
            act()
    assert left_of(record, database, tmp_path) == []


def test_a_correction_of_a_study_that_is_there(database, studies, record):
    saved = corrections_by(Measuring(), database, studies).save(JANE, record, parent=0, mask=b"", note="")
    assert saved.version == 1
    assert sorted(path.name for path in studies.corrections(record.study_id).iterdir()) == ["0001"]


def test_rows_and_jobs_of_no_study_are_removed_at_the_start(database, studies, record):
    database.change("INSERT INTO corrections VALUES ('gone', 1, 0, 'jane', 0, '', '{}')")
    database.change("INSERT INTO shares VALUES ('gone', 'joe')")
    studies.ledger.add(key("gone"), {})
    studies.remove_orphans()
    assert database.rows("SELECT * FROM corrections") == database.rows("SELECT * FROM shares") == []
    assert [job.job_id for job in studies.ledger.jobs()] == [record.job_id]
    assert studies.require_done(record).is_dir()


def test_a_study_that_was_never_queued_is_read_with_the_networks_of_now(studies):
    record = studies.queue(studies.record(JANE, studies.new_id(), "Study", files=1, size=1, key=key), key)
    studies.ledger.remove(record.job_id)  # as if the server had been killed before it was queued
    assert studies.queue_forgotten(lambda study_id: key(study_id, "newer")) == 1
    queued = studies.job(studies.get(JANE, record.study_id))
    assert queued.key.weights == "newer"
    assert queued.request == {"study_id": record.study_id, "source": None, "bytes": 1}
    assert studies.queue_forgotten(key) == 0


@pytest.mark.parametrize("cut_off", ["_forget_job", "_remove", "_remove_files"])
def test_a_deletion_that_is_cut_off_is_finished_and_never_taken_back(
    database, studies, record, tmp_path, monkeypatch, cut_off
):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    studies.share(record, JOE)
    with monkeypatch.context() as patch:
        patch.setattr(studies, cut_off, full)
        with pytest.raises(sqlite3.OperationalError):
            studies.delete(record, by="jane")
    assert studies.visible(JANE) == [] == studies.older_than(-1.0), "gone from the moment it was deleted"
    with pytest.raises(Problem, match="UNKNOWN_STUDY"):
        studies.get(JANE, record.study_id)
    assert studies.queue_forgotten(key) == 0
    studies.finish_deleting()
    studies.remove_orphans()
    assert left_of(record, database, tmp_path) == studies.ledger.jobs() == []
    newest = AuditLog(database).entries(limit=1)[0]
    assert (newest.user, newest.action, newest.study_id) == ("jane", "delete", record.study_id)


def test_a_study_that_is_read_is_not_deleted(database, studies):
    record = studies.queue(studies.record(JANE, studies.new_id(), "Study", files=1, size=1, key=key), key)
    claim = studies.ledger.claim()
    with pytest.raises(Problem, match="RUNNING"):
        studies.delete(record, by="jane")
    assert studies.visible(JANE) == [record]
    assert [entry.action for entry in AuditLog(database).entries()] == ["upload"]
    studies.ledger.release(claim)
    studies.delete(record, by="jane")
    with pytest.raises(Problem, match="UNKNOWN_STUDY"):
        studies.delete(record, by="jane")


def test_corrections_of_no_study_do_not_stop_the_export(database, studies, record, tmp_path):
    database.change("INSERT INTO corrections VALUES ('gone', 1, 0, 'jane', 0, '', '{}')")
    with pytest.raises(ConfigError, match="no DICOM study"):
        export_corrected(tmp_path, tmp_path / "exported")


@pytest.mark.parametrize("version", [0, 1])
def test_results_that_are_packed_meanwhile(database, studies, record, tmp_path, monkeypatch, version):
    """Gone before the first file, or between two: not an empty archive, and not a disk that cannot be written."""
    corrections = Corrections(database, studies, Limits())
    place = studies.results.find(record.job_id)
    if version:
        place = studies.corrections(record.study_id) / "0001"
        database.change("INSERT INTO corrections VALUES (?, 1, 0, 'jane', 0, '', '{}')", (record.study_id,))
    for name in ("one.dcm", "two.dcm"):
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x")
    packages = Packages(tmp_path / "downloads", free_bytes=0)
    service = SimpleNamespace(studies=studies, corrections=corrections, packages=packages)
    listed = api.result_files

    def listed_before_it_is_deleted(folder):
        names = listed(folder)
        studies.delete(record, by="jane")
        return names

    def listed_after_it_was_deleted(folder):
        studies.delete(record, by="jane")
        return listed(folder)

    monkeypatch.setattr(api, "result_files", [listed_after_it_was_deleted, listed_before_it_is_deleted][version])
    with pytest.raises(Problem) as caught:
        api.results_zip(record.study_id, JANE, service, version)
    corrections.close()
    assert (caught.value.status, caught.value.code) == (404, "UNKNOWN_STUDY")
    assert not packages.folder.is_dir() or list(packages.folder.iterdir()) == []


def test_answers_are_not_shared_between_requests(studies):
    raised = []
    for _ in range(2):
        with pytest.raises(Problem) as caught:
            studies.get(JANE, "0" * 24)
        raised.append(caught.value)
    assert raised[0] is not raised[1]
