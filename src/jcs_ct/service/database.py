"""The page's record beside the ledger of jobs: users, sessions, studies, opinions, corrections, and the audit log."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jcs_ct.errors import OutputError
from jcs_ct.jobs import schema

STEPS = (
    """
    CREATE TABLE users (
        name TEXT PRIMARY KEY, role TEXT NOT NULL, password_hash TEXT NOT NULL, created_at REAL NOT NULL
    );
    CREATE TABLE tokens (token_hash TEXT PRIMARY KEY, user TEXT NOT NULL, created_at REAL NOT NULL);
    CREATE TABLE sessions (
        token_hash TEXT PRIMARY KEY, user TEXT NOT NULL, csrf TEXT NOT NULL, created_at REAL NOT NULL,
        seen_at REAL NOT NULL
    );
    CREATE TABLE login_failures (
        subject TEXT PRIMARY KEY, failures INTEGER NOT NULL, not_before REAL NOT NULL, changed_at REAL NOT NULL
    );
    CREATE TABLE uploads (
        upload_id TEXT PRIMARY KEY, user TEXT NOT NULL, label TEXT NOT NULL, files TEXT NOT NULL,
        total_bytes INTEGER NOT NULL, created_at REAL NOT NULL
    );
    CREATE TABLE studies (
        study_id TEXT PRIMARY KEY, owner TEXT NOT NULL, label TEXT NOT NULL, added_at REAL NOT NULL,
        file_count INTEGER NOT NULL, byte_count INTEGER NOT NULL, job_id TEXT NOT NULL
    );
    CREATE INDEX studies_by_age ON studies (added_at);
    CREATE TABLE shares (study_id TEXT NOT NULL, user TEXT NOT NULL, PRIMARY KEY (study_id, user));
    CREATE TABLE opinions (
        number INTEGER PRIMARY KEY, study_id TEXT NOT NULL, user TEXT NOT NULL, moment REAL NOT NULL,
        agrees INTEGER NOT NULL, reason TEXT NOT NULL
    );
    CREATE TABLE corrections (
        study_id TEXT NOT NULL, version INTEGER NOT NULL, parent INTEGER NOT NULL, user TEXT NOT NULL,
        moment REAL NOT NULL, note TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (study_id, version)
    );
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY, moment REAL NOT NULL, user TEXT NOT NULL, action TEXT NOT NULL,
        study_id TEXT NOT NULL, detail TEXT NOT NULL, hash TEXT NOT NULL
    );
    CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'append-only'); END;
    CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'append-only'); END;
    """,
)


class ServiceDatabase:
    """One SQLite file, used by many threads.

    Args:
        path: Made when missing, readable by its owner only.

    Raises:
        OutputError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            schema.write_ahead(self._connection)
            self._connection.execute("PRAGMA synchronous=FULL")
            schema.bring_up_to_date(self._connection, STEPS)
        except (OSError, sqlite3.Error, schema.UnknownLayoutError) as error:
            raise OutputError(f"the page's record {path} cannot be used: {error}; choose another folder") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Statements that take effect together or not at all."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a query."""
        found = self.rows(sql, values)
        return found[0] if found else None

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """One statement as a transaction; how many rows it changed."""
        with self.transaction() as run:
            return run.execute(sql, values).rowcount
