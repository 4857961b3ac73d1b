"""What became of each study: a record in SQLite that survives a kill at any moment."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from jcs_ct.errors import OutputError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    study_uid TEXT NOT NULL,
    models_sha256 TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    code TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (study_uid, models_sha256)
)
"""


class State(StrEnum):
    """Where a job stands; the last two are final."""

    QUEUED = "queued"  #: to be fetched and read; a kill leaves it so
    READ = "read"  #: results lie on disk, whole; to be stored
    STORED = "stored"  #: the PACS has the results
    REFUSED = "refused"  #: the gate, or too many failures; ``code`` says why


@dataclass(frozen=True)
class Job:
    """One study under one set of weights."""

    study_uid: str
    models_sha256: str
    state: State
    attempts: int
    not_before: float
    code: str

    @property
    def identifier(self) -> str:
        """What the job is called on disk and in logs: a hash."""
        return hashlib.sha256(f"{self.study_uid}|{self.models_sha256}".encode()).hexdigest()[:16]


class JobStore:
    """The record. Each change is one transaction, on disk before the call returns.

    Args:
        path: SQLite file; made when missing, readable by its owner only, since it holds identifiers of studies.

    Raises:
        OutputError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f"the job record {path} cannot be used: {error}; choose another folder") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, study_uid: str, models_sha256: str) -> bool:
        """Queue a study unless it is known under these weights; whether it was new."""
        sql = "INSERT OR IGNORE INTO jobs (study_uid, models_sha256, state) VALUES (?, ?, ?)"
        return self._connection.execute(sql, (study_uid, models_sha256, State.QUEUED)).rowcount == 1

    def open_jobs(self, models_sha256: str, *, now: float | None = None) -> list[Job]:
        """Jobs that can be worked on now, the oldest first."""
        sql = (
            "SELECT study_uid, models_sha256, state, attempts, not_before, code FROM jobs "
            "WHERE models_sha256 = ? AND state IN (?, ?) AND not_before <= ? ORDER BY rowid"
        )
        moment = time.time() if now is None else now
        return [_job(row) for row in self._connection.execute(sql, (models_sha256, State.QUEUED, State.READ, moment))]

    def all_jobs(self) -> list[Job]:
        """Every job, the oldest first."""
        sql = "SELECT study_uid, models_sha256, state, attempts, not_before, code FROM jobs ORDER BY rowid"
        return [_job(row) for row in self._connection.execute(sql)]

    def set_state(self, job: Job, state: State, code: str = "") -> None:
        """Move a job on."""
        sql = "UPDATE jobs SET state = ?, code = ?, attempts = 0 WHERE study_uid = ? AND models_sha256 = ?"
        self._connection.execute(sql, (state, code, job.study_uid, job.models_sha256))

    def postpone(self, job: Job, seconds: float, *, failed: bool) -> None:
        """Try again after ``seconds``; ``failed`` counts an attempt (an outage of the PACS is none)."""
        sql = "UPDATE jobs SET attempts = attempts + ?, not_before = ? WHERE study_uid = ? AND models_sha256 = ?"
        self._connection.execute(sql, (int(failed), time.time() + seconds, job.study_uid, job.models_sha256))


def _job(row: tuple[str, str, str, int, float, str]) -> Job:
    study_uid, models_sha256, state, attempts, not_before, code = row
    return Job(study_uid, models_sha256, State(state), attempts, not_before, code)


@contextmanager
def only_watcher(path: Path) -> Iterator[None]:
    """Hold ``path`` as a lock for the life of this process, so that two watchers never share a record.

    Raises:
        OutputError: another watcher holds it.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"another watcher works in {path.parent}; choose another folder or stop it") from error
        yield
