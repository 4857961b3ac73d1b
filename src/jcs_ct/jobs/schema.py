"""Layouts of SQLite files by version (``user_version``), each step leading one further; and the ledger's."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence

LEDGER_STEPS = (
    """
    CREATE TABLE jobs (
        sequence INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL UNIQUE,
        study TEXT NOT NULL,
        weights TEXT NOT NULL,
        operating_point TEXT NOT NULL,
        version TEXT NOT NULL,
        reading_id TEXT NOT NULL,
        request TEXT NOT NULL,
        priority INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        not_before REAL NOT NULL DEFAULT 0,
        code TEXT NOT NULL DEFAULT '',
        message TEXT NOT NULL DEFAULT '',
        stage TEXT NOT NULL DEFAULT '',
        done INTEGER NOT NULL DEFAULT 0,
        total INTEGER NOT NULL DEFAULT 0,
        owner TEXT NOT NULL DEFAULT '',
        lease_token TEXT NOT NULL DEFAULT '',
        lease_until REAL NOT NULL DEFAULT 0,
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        result TEXT NOT NULL DEFAULT '{}',
        added_at REAL NOT NULL,
        changed_at REAL NOT NULL,
        seconds REAL NOT NULL DEFAULT 0,
        peak_memory_bytes INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX jobs_in_order ON jobs (state, priority DESC, sequence);
    CREATE TABLE history (
        number INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL,
        moment REAL NOT NULL,
        event TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        code TEXT NOT NULL,
        message TEXT NOT NULL
    );
    CREATE INDEX history_of_job ON history (job_id, number);
    """,
    # Every claim looks for leases that ran out; without it each reads all jobs, a million in a large cohort.
    "CREATE INDEX jobs_held ON jobs (lease_until, owner) WHERE owner != '';",
)

#: Waits between tries to switch a file that another program has locked.
_PAUSES_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class UnknownLayoutError(Exception):
    """The file was laid out by a newer version, or is of another kind."""


def bring_up_to_date(connection: sqlite3.Connection, steps: Sequence[str]) -> None:
    """Take the steps that the file has not seen, all or none.

    Args:
        connection: An open file.
        steps: From nothing to the layout of today; steps that were released are never changed.

    Raises:
        UnknownLayoutError: the file is newer than this version, or holds tables that no step made.
    """
    connection.execute("BEGIN IMMEDIATE")  # before looking: two programs may open a new file at the same moment
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(steps):
            raise UnknownLayoutError(f"it has layout {version}, this version of jcs-ct knows up to {len(steps)}")
        if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise UnknownLayoutError("it holds tables of something else, or of a version before this layout")
        for step in steps[version:]:
            for statement in _statements(step):
                connection.execute(statement)
        if version < len(steps):
            connection.execute(f"PRAGMA user_version = {len(steps)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _statements(step: str) -> Iterator[str]:
    """The statements of a step; a trigger is one, with the semicolons in its body."""
    statement = ""
    for part in step.split(";"):
        statement += part
        if not statement.strip():
            statement = ""
        elif sqlite3.complete_statement(f"{statement};"):
            yield statement
            statement = ""
        else:
            statement += ";"


def write_ahead(connection: sqlite3.Connection) -> None:
    """Switch a file to write-ahead logging; SQLite's own time-out does not wait for another that switches it too.

    Raises:
        sqlite3.OperationalError: the file stays locked.
    """
    for pause in (*_PAUSES_S, None):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if pause is None or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(pause)
