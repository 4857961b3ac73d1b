"""Studies on the page: whose they are, who may see them, what readers think of them, and how they go."""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from jcs_ct.files import STAGING
from jcs_ct.jobs import Job, JobKey, Ledger, ResultFolders, State
from jcs_ct.service.audit import note
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.problems import Problem, unknown_study
from jcs_ct.service.users import User

LONGEST_LABEL, LONGEST_REASON = 120, 2000
#: Tables whose rows go with their study.
_OF_A_STUDY = ("shares", "opinions", "corrections")
_COLUMNS = "study_id, owner, label, added_at, file_count, byte_count, job_id"


@dataclass(frozen=True)
class StudyRecord:
    """A study that was sent.

    Args:
        study_id: Random; its name in addresses and on disk.
        owner: Who sent it.
        label: What the reader calls it.
        added_at: Seconds since the epoch.
        file_count, byte_count: As sent.
        job_id: Its job in the ledger.
    """

    study_id: str
    owner: str
    label: str
    added_at: float
    file_count: int
    byte_count: int
    job_id: str


@dataclass(frozen=True)
class Opinion:
    """What a reader thinks of the automatic verdict."""

    user: str
    moment: float
    agrees: bool
    reason: str


class Studies:
    """The table of studies, with their files, jobs and results.

    Args:
        database: Where it is.
        ledger: Of the jobs.
        results: Of the jobs.
        folder: Holds a folder ``sent``, named by study, and one of corrections.
    """

    def __init__(self, database: ServiceDatabase, ledger: Ledger, results: ResultFolders, folder: Path) -> None:
        self._database, self.ledger, self.results, self._folder = database, ledger, results, folder
        self._deleting = threading.Lock()

    def new_id(self) -> str:
        """Name for a study that is about to be added."""
        return secrets.token_hex(12)

    def sent(self, study_id: str) -> Path:
        """Folder of what was sent."""
        return self._folder / "sent" / study_id

    def corrections(self, study_id: str) -> Path:
        """Folder of its corrections."""
        return self._folder / "corrections" / study_id

    def record(
        self,
        user: User,
        study_id: str,
        label: str,
        *,
        files: int,
        size: int,
        key: Callable[[str], JobKey],
        source: Mapping[str, Any] | None = None,
        upload_id: str = "",
        action: str = "upload",
    ) -> StudyRecord:
        """Record a study, which then has to be queued, and note in the log who brought it.

        Args:
            user: Who sent it.
            study_id: From :meth:`new_id`.
            label: What the reader calls it.
            files, size: Number of files and bytes, as sent.
            key: Makes the job's key.
            source: Where its process gets the files (see :mod:`~jcs_ct.service.bringing`); None: they lie in
                :meth:`sent`.
            upload_id: The upload that it was sent by, if any; no upload becomes two studies.
            action: What the log calls it.
        """
        job = key(study_id)
        record = StudyRecord(study_id, user.name, label[:LONGEST_LABEL], time.time(), files, size, job.job_id)
        with self._database.transaction() as run:
            run.execute(
                f"INSERT INTO studies ({_COLUMNS}, source, upload_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*astuple(record), json.dumps(source if source is None else dict(source)), upload_id),
            )
            note(run, user.name, action, study_id, {"files": files, "bytes": size} if source is None else {})
        return record

    def queue(self, record: StudyRecord, key: Callable[[str], JobKey]) -> StudyRecord:
        """Queue a study that was recorded, with the networks of now, unless it is queued already."""
        row = self._database.row("SELECT source FROM studies WHERE study_id = ?", (record.study_id,))
        if row is None or self.ledger.job(record.job_id) is not None:
            return record
        job = key(record.study_id)
        sql = "UPDATE studies SET job_id = ? WHERE study_id = ? AND deleted_by = ''"
        if not self._database.change(sql, (job.job_id, record.study_id)):
            return record
        request = {"study_id": record.study_id, "source": json.loads(row["source"]), "bytes": record.byte_count}
        self.ledger.add(job, request)
        return replace(record, job_id=job.job_id)

    def of_upload(self, user: User, upload_id: str) -> StudyRecord | None:
        """The study that an upload of the user became."""
        row = self._database.row(
            f"SELECT {_COLUMNS} FROM studies WHERE upload_id = ? AND owner = ? AND deleted_by = ''",
            (upload_id, user.name),
        )
        return None if row is None else StudyRecord(**dict(row))

    def queue_forgotten(self, key: Callable[[str], JobKey]) -> int:
        """Queue studies that were recorded and then, by a kill or a full disk, not queued; how many."""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM studies WHERE deleted_by = ''")
        forgotten = [record for row in rows if self.ledger.job((record := StudyRecord(**dict(row))).job_id) is None]
        for record in forgotten:
            self.queue(record, key)
        return len(forgotten)

    def remove_orphans(self) -> int:
        """Remove what a killed server left: rows, jobs and files of no study, results of no job, half corrections.

        How many files and folders; rows and jobs are not counted.

        Only while nothing is sent or read.
        """
        for table in _OF_A_STUDY:
            self._database.change(f"DELETE FROM {table} WHERE study_id NOT IN (SELECT study_id FROM studies)")
        wanted = {record.job_id for record in self._all()}
        for job in self.ledger.jobs():
            if job.job_id not in wanted:
                self.ledger.remove(job.job_id)
        known = {record.study_id for record in self._all()}
        orphans = [
            place
            for folder in ("sent", "corrections")
            if (self._folder / folder).is_dir()
            for place in (self._folder / folder).iterdir()
            if place.name.partition("-")[0].partition(".")[0] not in known
        ]
        # What was being kept: corrections (0001.part), and drafts (below a hidden name). A draft itself bears the
        # name of its reader, who may be called "a.partner".
        for begun in ("*/[0-9]*.part", "*/.*"):
            orphans += (self._folder / "corrections").glob(begun)
        for place in orphans:
            if place.is_file():
                place.unlink()
            else:
                shutil.rmtree(place, ignore_errors=True)
        jobs = {job.job_id for job in self.ledger.jobs()}
        stray = [
            place.name for place in self.results.root.iterdir() if place.name not in jobs and place.name != STAGING
        ]
        for job_id in stray:
            self.results.remove(job_id)
        return len(orphans) + len(stray)

    def find(self, study_id: str) -> StudyRecord | None:
        """A study, whoever may see it; not one that is being deleted."""
        row = self._database.row(
            f"SELECT {_COLUMNS} FROM studies WHERE study_id = ? AND deleted_by = ''", (study_id,)
        )
        return None if row is None else StudyRecord(**dict(row))

    def get(self, user: User, study_id: str) -> StudyRecord:
        """A study that the user may see.

        Raises:
            Problem: UNKNOWN_STUDY, for studies of others as for those that do not exist.
        """
        record = self.find(study_id)
        if record is None:
            raise unknown_study()
        if not user.is_admin and user.name != record.owner and user.name not in self.shared_with(study_id):
            raise unknown_study()
        return record

    def require_owner(self, user: User, record: StudyRecord, act: str) -> None:
        """Refuse what only the study's owner and administrators may do.

        Raises:
            Problem: NOT_YOURS.
        """
        if not user.is_admin and user.name != record.owner:
            raise Problem(403, "NOT_YOURS", f"only who sent the study or an administrator may {act} it")

    def visible(self, user: User, *, study_id: str | None = None) -> list[StudyRecord]:
        """Every study that the user may see, the newest first; or the one that is asked for, if they may."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM studies WHERE deleted_by = '' AND (? OR owner = ? "
            "OR study_id IN (SELECT study_id FROM shares WHERE user = ?)) "
            "AND (?4 IS NULL OR study_id = ?4) ORDER BY added_at DESC",
            (user.is_admin, user.name, user.name, study_id),
        )
        return [StudyRecord(**dict(row)) for row in rows]

    def job(self, record: StudyRecord) -> Job:
        """Its job.

        Raises:
            Problem: NOT_QUEUED, when it was recorded and could not be queued; see :meth:`queue_forgotten`.
        """
        job = self.ledger.job(record.job_id)
        if job is None:
            raise Problem(409, "NOT_QUEUED", "the study is not queued yet; it will be in some minutes")
        return job

    def require_done(self, record: StudyRecord) -> Path:
        """Folder of its results.

        Raises:
            Problem: NOT_READ.
        """
        folder = self.results.find(record.job_id)
        if folder is None or self.job(record).state is not State.DONE:
            raise Problem(409, "NOT_READ", "the study has no results yet")
        return folder

    def share(self, record: StudyRecord, with_user: User) -> None:
        """Let another user see a study.

        Raises:
            Problem: UNKNOWN_STUDY, of one that was deleted meanwhile.
        """
        with self.holding(record) as run:
            run.execute("INSERT OR IGNORE INTO shares VALUES (?, ?)", (record.study_id, with_user.name))

    def stop_sharing(self, record: StudyRecord, with_user: str) -> bool:
        """Take a share back; whether there was one."""
        with self._database.transaction() as run:
            gone = run.execute("DELETE FROM shares WHERE study_id = ? AND user = ?", (record.study_id, with_user))
            return gone.rowcount == 1

    def shared_with(self, study_id: str) -> list[str]:
        """Who may see it beside its owner and administrators."""
        rows = self._database.rows("SELECT user FROM shares WHERE study_id = ? ORDER BY user", (study_id,))
        return [row["user"] for row in rows]

    def add_opinion(self, user: User, record: StudyRecord, *, agrees: bool, reason: str) -> None:
        """Keep a reader's view; earlier ones stay.

        Raises:
            Problem: NO_REASON, where a reader disagrees and does not say why; UNKNOWN_STUDY, of one that was
                deleted meanwhile.
        """
        if not agrees and not reason.strip():
            raise Problem(422, "NO_REASON", "say in a few words why you disagree")
        with self.holding(record) as run:
            run.execute(
                "INSERT INTO opinions (study_id, user, moment, agrees, reason) VALUES (?, ?, ?, ?, ?)",
                (record.study_id, user.name, time.time(), int(agrees), reason.strip()[:LONGEST_REASON]),
            )

    def opinions(self, study_id: str) -> list[Opinion]:
        """Every view of a study, the newest first."""
        rows = self._database.rows(
            "SELECT user, moment, agrees, reason FROM opinions WHERE study_id = ? ORDER BY number DESC", (study_id,)
        )
        return [Opinion(row["user"], row["moment"], bool(row["agrees"]), row["reason"]) for row in rows]

    def latest_opinions(self, study_ids: Sequence[str]) -> dict[str, Opinion]:
        """The newest view of each study that has one, by study_id."""
        rows = self._database.rows(
            "SELECT study_id, user, moment, agrees, reason FROM opinions WHERE number IN (SELECT max(number) "
            "FROM opinions WHERE study_id IN (SELECT value FROM json_each(?)) GROUP BY study_id)",
            (json.dumps(study_ids),),
        )
        return {
            row["study_id"]: Opinion(row["user"], row["moment"], bool(row["agrees"]), row["reason"]) for row in rows
        }

    def delete(self, record: StudyRecord, *, by: str, **detail: Any) -> None:
        """Remove a study and all that belongs to it; only the audit log keeps its random name, and who deleted it.

        Rows and job lie in two files: the row says first that the study goes, so that a kill or a full disk in
        between leaves one that :meth:`finish_deleting` takes away, never one that is queued again.

        Raises:
            Problem: RUNNING, while it is read; UNKNOWN_STUDY, of one that was deleted meanwhile.
        """
        with self._deleting:
            if not self._mark_deleted(record, by):
                raise unknown_study()
            if not self._forget_job(record):
                self._mark_deleted(record, "")
                raise Problem(409, "RUNNING", "the study is being read; cancel it first")
            self._remove(record, by, detail)

    def finish_deleting(self) -> int:
        """Remove what is left of studies whose deletion was cut off; how many. One that is still read goes later."""
        finished = 0
        with self._deleting:
            for row in self._database.rows(f"SELECT {_COLUMNS}, deleted_by FROM studies WHERE deleted_by != ''"):
                record = StudyRecord(**{name: row[name] for name in _COLUMNS.split(", ")})
                if self._forget_job(record):
                    self._remove(record, row["deleted_by"], {})
                    finished += 1
        return finished

    def _mark_deleted(self, record: StudyRecord, by: str) -> bool:
        """Whether there still is such a study."""
        sql = "UPDATE studies SET deleted_by = ? WHERE study_id = ?"
        return self._database.change(sql, (by, record.study_id)) == 1

    def _forget_job(self, record: StudyRecord) -> bool:
        """Whether a study has no job any more: it is not read, nor will be."""
        return self.ledger.remove(record.job_id) or self.ledger.job(record.job_id) is None

    def _remove(self, record: StudyRecord, by: str, detail: Mapping[str, Any]) -> None:
        with self._database.transaction() as run:
            for table in ("studies", *_OF_A_STUDY):
                run.execute(f"DELETE FROM {table} WHERE study_id = ?", (record.study_id,))
            note(run, by, "delete", record.study_id, detail)
        self._remove_files(record)

    @contextmanager
    def holding(self, record: StudyRecord) -> Iterator[sqlite3.Connection]:
        """A transaction in which a study is still there: its deletion comes before it, or takes what it adds along.

        What long work wrote for a study that was deleted meanwhile is removed.

        Raises:
            Problem: UNKNOWN_STUDY, of one that was deleted meanwhile.
        """
        with self._database.transaction() as run:
            found = run.execute("SELECT 1 FROM studies WHERE study_id = ?", (record.study_id,)).fetchone()
            if found is not None:
                yield run
        if found is None:
            self._remove_files(record)
            raise unknown_study()

    def require_kept(self, record: StudyRecord) -> None:
        """Remove what was written for a study that was deleted meanwhile, and say so; see :meth:`holding`.

        Raises:
            Problem: UNKNOWN_STUDY.
        """
        with self.holding(record):
            pass

    def _remove_files(self, record: StudyRecord) -> None:
        self.results.remove(record.job_id)
        sent = self.sent(record.study_id)
        beside = (f"{sent.name}-unpacked", f"{sent.name}-unpacked.part", f"{sent.name}.part")
        for folder in (sent, *map(sent.with_name, beside), self.corrections(record.study_id)):
            shutil.rmtree(folder, ignore_errors=True)

    def older_than(self, seconds: float) -> Sequence[StudyRecord]:
        """Studies that were sent longer ago."""
        sql = f"SELECT {_COLUMNS} FROM studies WHERE added_at < ? AND deleted_by = ''"
        return [StudyRecord(**dict(row)) for row in self._database.rows(sql, (time.time() - seconds,))]

    def _all(self) -> list[StudyRecord]:
        return [StudyRecord(**dict(row)) for row in self._database.rows(f"SELECT {_COLUMNS} FROM studies")]
