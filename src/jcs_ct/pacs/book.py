"""What the watcher has seen of each study on the server, and which results are current, through kills."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jcs_ct.errors import OutputError
from jcs_ct.imaging.identifiers import ObjectIdentifiers
from jcs_ct.jobs import schema

_SCHEMA = """
CREATE TABLE IF NOT EXISTS studies (
    study_uid TEXT NOT NULL,
    reading_id TEXT NOT NULL,
    instance_count INTEGER,
    patient_key TEXT NOT NULL DEFAULT '',
    fingerprint TEXT NOT NULL DEFAULT '',
    changed_at REAL NOT NULL,
    listed_at REAL NOT NULL,
    settled TEXT NOT NULL DEFAULT '',
    job_id TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (study_uid, reading_id)
);
CREATE TABLE IF NOT EXISTS results (
    study_uid TEXT NOT NULL,
    sop_class TEXT NOT NULL,
    instance TEXT NOT NULL PRIMARY KEY,
    series TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS results_of_study ON results (study_uid);
"""


@dataclass(frozen=True)
class Sighting:
    """A study as it was last seen.

    Args:
        study_uid: Study Instance UID.
        instance_count: Objects that the server counted; None where it does not count.
        patient_key: Hash of the Patient ID.
        fingerprint: Of its CT images; empty while it is not whole.
        changed_at: Seconds since the epoch at which the fingerprint was first seen.
        listed_at: When its images were last listed.
        settled: Fingerprint that was dealt with: queued, left out by the filters, or found to be read already.
        job_id: Job of that fingerprint, or empty.
    """

    study_uid: str
    instance_count: int | None = None
    patient_key: str = ""
    fingerprint: str = ""
    changed_at: float = 0.0
    listed_at: float = 0.0
    settled: str = ""
    job_id: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether what was last seen was dealt with."""
        return bool(self.fingerprint) and self.settled == self.fingerprint


class StudyBook:
    """Sightings of one reading (weights, operating point, version), and the current results of every study.

    Args:
        path: SQLite file; made when missing, readable by its owner only.
        reading_id: Of :class:`~jcs_ct.jobs.JobKey`.

    Raises:
        OutputError: the file cannot be used.
    """

    def __init__(self, path: Path, reading_id: str) -> None:
        self._reading_id = reading_id
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=60)
            self._connection.row_factory = sqlite3.Row
            schema.write_ahead(self._connection)
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f"the study book {path} cannot be used: {error}; choose another folder") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def sightings(self) -> dict[str, Sighting]:
        """All studies, by UID."""
        sql = (
            "SELECT study_uid, instance_count, patient_key, fingerprint, changed_at, listed_at, settled, job_id "
            "FROM studies WHERE reading_id = ?"
        )
        rows = self._connection.execute(sql, (self._reading_id,)).fetchall()
        return {row["study_uid"]: Sighting(**dict(row)) for row in rows}

    def note(self, seen: Sighting) -> None:
        """Write down a sighting."""
        self._connection.execute(
            "INSERT OR REPLACE INTO studies (study_uid, reading_id, instance_count, patient_key, fingerprint, "
            "changed_at, listed_at, settled, job_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (seen.study_uid, self._reading_id, seen.instance_count, seen.patient_key, seen.fingerprint,
             seen.changed_at, seen.listed_at, seen.settled, seen.job_id),
        )  # fmt: skip

    def unsettle(self, study_uid: str, moment: float) -> None:
        """Look at a study anew: it is not what it was when it was queued."""
        self._connection.execute(
            "UPDATE studies SET settled = '', job_id = '', fingerprint = '', changed_at = ? "
            "WHERE study_uid = ? AND reading_id = ?",
            (moment, study_uid, self._reading_id),
        )

    def forget(self, study_uid: str) -> None:
        """A study is gone from the server, and its results with it."""
        with self._transaction():
            self._connection.execute("DELETE FROM studies WHERE study_uid = ?", (study_uid,))
            self._connection.execute("DELETE FROM results WHERE study_uid = ?", (study_uid,))

    def results(self, study_uid: str) -> list[ObjectIdentifiers]:
        """The current results of a study."""
        sql = "SELECT sop_class, instance, series, study_uid AS study FROM results WHERE study_uid = ?"
        return [ObjectIdentifiers(**dict(row)) for row in self._connection.execute(sql, (study_uid,)).fetchall()]

    def replace_results(self, study_uid: str, results: Sequence[ObjectIdentifiers]) -> None:
        """These are the current results of a study, and no others."""
        with self._transaction():
            self._connection.execute("DELETE FROM results WHERE study_uid = ?", (study_uid,))
            self._connection.executemany(
                "INSERT OR REPLACE INTO results (study_uid, sop_class, instance, series) VALUES (?, ?, ?, ?)",
                [(study_uid, one.sop_class, one.instance, one.series) for one in results],
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
