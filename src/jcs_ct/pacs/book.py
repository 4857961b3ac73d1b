"""What the watcher has seen of each study on the server, and which results are current, through kills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jcs_ct.imaging.identifiers import ObjectIdentifiers
from jcs_ct.jobs.sqlite_file import SqliteFile

_STEPS = (
    """
    CREATE TABLE studies (
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
    CREATE TABLE results (
        study_uid TEXT NOT NULL,
        sop_class TEXT NOT NULL,
        instance TEXT NOT NULL PRIMARY KEY,
        series TEXT NOT NULL,
        is_current INTEGER NOT NULL
    );
    CREATE INDEX results_of_study ON results (study_uid);
    """,
    "ALTER TABLE studies ADD COLUMN missed_at REAL NOT NULL DEFAULT 0;",
)

_ADD_RESULT = (
    "INSERT OR IGNORE INTO results (study_uid, sop_class, instance, series, is_current) VALUES (?, ?, ?, ?, ?)"
)


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
        missed_at: When the server last said that it holds it, though it lists it no more; 0 while it lists it.
    """

    study_uid: str
    instance_count: int | None = None
    patient_key: str = ""
    fingerprint: str = ""
    changed_at: float = 0.0
    listed_at: float = 0.0
    settled: str = ""
    job_id: str = ""
    missed_at: float = 0.0

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
        self._file = SqliteFile(path, _STEPS, "the study book")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def sightings(self) -> dict[str, Sighting]:
        """All studies, by UID."""
        sql = (
            "SELECT study_uid, instance_count, patient_key, fingerprint, changed_at, listed_at, settled, job_id, "
            "missed_at FROM studies WHERE reading_id = ?"
        )
        rows = self._file.rows(sql, (self._reading_id,))
        return {row["study_uid"]: Sighting(**dict(row)) for row in rows}

    def note(self, seen: Sighting) -> None:
        """Write down a sighting."""
        self._file.change(
            "INSERT OR REPLACE INTO studies (study_uid, reading_id, instance_count, patient_key, fingerprint, "
            "changed_at, listed_at, settled, job_id, missed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (seen.study_uid, self._reading_id, seen.instance_count, seen.patient_key, seen.fingerprint,
             seen.changed_at, seen.listed_at, seen.settled, seen.job_id, seen.missed_at),
        )  # fmt: skip

    def unsettle(self, study_uid: str, moment: float) -> None:
        """Look at a study anew: it is not what it was when it was queued."""
        self._file.change(
            "UPDATE studies SET settled = '', job_id = '', fingerprint = '', changed_at = ? "
            "WHERE study_uid = ? AND reading_id = ?",
            (moment, study_uid, self._reading_id),
        )

    def forget(self, study_uid: str) -> None:
        """A study is gone from the server, and its results with it."""
        with self._file.transaction() as run:
            run.execute("DELETE FROM studies WHERE study_uid = ?", (study_uid,))
            run.execute("DELETE FROM results WHERE study_uid = ?", (study_uid,))

    def results(self, study_uid: str) -> list[ObjectIdentifiers]:
        """The current results of a study."""
        return self._results(study_uid, is_current=True)

    def begun_results(self, study_uid: str) -> list[ObjectIdentifiers]:
        """Results whose storing began and did not end; the server holds some of them, or none."""
        return self._results(study_uid, is_current=False)

    def _results(self, study_uid: str, *, is_current: bool) -> list[ObjectIdentifiers]:
        sql = (
            "SELECT sop_class, instance, series, study_uid AS study FROM results "
            "WHERE study_uid = ? AND is_current = ? ORDER BY instance"
        )
        return [ObjectIdentifiers(**dict(row)) for row in self._file.rows(sql, (study_uid, int(is_current)))]

    def begin_results(self, study_uid: str, results: Sequence[ObjectIdentifiers]) -> None:
        """These are going to be stored; those that are current stay it."""
        with self._file.transaction() as run:
            run.executemany(_ADD_RESULT, [_row(study_uid, one, is_current=False) for one in results])

    def replace_results(self, study_uid: str, results: Sequence[ObjectIdentifiers]) -> None:
        """These are the current results of a study, and no others."""
        with self._file.transaction() as run:
            run.execute("DELETE FROM results WHERE study_uid = ?", (study_uid,))
            run.executemany(_ADD_RESULT, [_row(study_uid, one, is_current=True) for one in results])


def _row(study_uid: str, one: ObjectIdentifiers, *, is_current: bool) -> tuple[str, str, str, str, int]:
    return study_uid, one.sop_class, one.instance, one.series, int(is_current)
