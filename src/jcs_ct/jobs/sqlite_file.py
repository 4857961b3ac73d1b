"""A SQLite file that outlives kills: opened, brought to its layout and changed in one way, whoever keeps it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from jcs_ct.errors import DamagedFileError, OutputError
from jcs_ct.jobs import schema


class SqliteFile:
    """One file, used by many threads through this object and by many processes through theirs.

    What a call changed is on disk when the call returns.

    Args:
        path: On a local disk; made when missing, readable by its owner only, since it holds identifiers.
        steps: Its layouts, see :func:`~jcs_ct.jobs.schema.bring_up_to_date`.
        name: What a message calls it (``the ledger``).
        folder_mode: Of the folder, where it is made; less the umask.

    Raises:
        DamagedFileError: the file is no database any more, now or in any later call.
        OutputError: the file cannot be used.
    """

    def __init__(self, path: Path, steps: Sequence[str], name: str, *, folder_mode: int = 0o777) -> None:
        self._lock, self._named = threading.RLock(), f"{name} {path}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=folder_mode)
            with suppress(FileExistsError):  # one that is there is never opened beside SQLite: closing it would drop
                # the locks of all this process's connections (sqlite.org/howtocorrupt.html, 2.2)
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            schema.write_ahead(self._connection)
            self._connection.execute("PRAGMA synchronous=FULL")
            schema.bring_up_to_date(self._connection, steps)
        except (OSError, sqlite3.Error, schema.UnknownLayoutError) as error:
            if _is_damage(error):
                raise _damaged(self._named, error) from error
            remedy = "choose another folder"
            if isinstance(error, schema.UnknownLayoutError):
                remedy = "choose another folder, or use the version of jcs-ct that made it"
            raise OutputError(f"{self._named} cannot be used: {error}; {remedy}", remedy=remedy) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def change_mark(self) -> tuple[int, int]:
        """Another value whenever something in the file was changed, by this object or by another program."""
        with self._lock, self._telling_damage():
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            return int(version), self._connection.total_changes

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Statements that take effect together or not at all."""
        with self._lock, self._telling_damage():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite itself takes some back, on a full disk for one
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock, self._telling_damage():
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a query."""
        with self._lock, self._telling_damage():
            found: sqlite3.Row | None = self._connection.execute(sql, values).fetchone()
        return found

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """One statement as a transaction; how many rows it changed."""
        with self.transaction() as run:
            return run.execute(sql, values).rowcount

    @contextmanager
    def _telling_damage(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                raise _damaged(self._named, error) from error
            raise


def _is_damage(error: Exception) -> bool:
    """Whether SQLite found a file that is none of its own, or whose pages contradict one another."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _damaged(named: str, error: Exception) -> DamagedFileError:
    return DamagedFileError(named, str(error), instead="move it away and begin anew in another folder")
