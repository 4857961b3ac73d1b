"""Who did what and when: rows that are only ever added, each sealed with the hash of the one before.

The seals have no key. They show a row that was changed, taken out or put in by hand. They do not show it when whoever
can write the file cuts off the newest rows, or changes one and seals the rest anew. Both show by a row's number and
seal that were noted elsewhere before: the log must still hold that seal at that number.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jcs_ct.service.database import ServiceDatabase

#: For so long a user who looked at a study is taken to look at it still.
_VIEWED_FOR_S = 3600.0


@dataclass(frozen=True)
class AuditEntry:
    """One line of the log; ``seal`` stands for this line and all before it."""

    number: int
    moment: float
    user: str
    action: str
    study_id: str
    detail: Mapping[str, Any]
    seal: str


@dataclass(frozen=True)
class _Sound:
    """How far the log was found whole.

    Args:
        version: SQLite's data version, another one when another program changed the file.
        before: Number up to which, itself left out; SQLite's lowest where nothing was looked at.
        seal: Of the last line before it.
    """

    version: int = -1
    before: int = -(1 << 63)
    seal: str = ""


class AuditLog:
    """The log. The file's own rules refuse changes to its rows; what the seals show beyond them, the module says."""

    def __init__(self, database: ServiceDatabase) -> None:
        self._database = database
        self._looking = threading.Lock()
        self._viewed: dict[tuple[str, str, int], float] = {}
        self._sound = _Sound()

    def note(self, user: str, action: str, study_id: str = "", **detail: Any) -> None:
        """Add a line; ``detail`` holds no patient data."""
        with self._database.transaction() as run:
            note(run, user, action, study_id, detail)

    def note_view(self, user: str, study_id: str, version: int, *, opened: bool = False) -> None:
        """Add a line that a user looked at a version of a study: one an hour, whatever of it is asked for meanwhile.

        Args:
            user: Who.
            study_id, version: Of what.
            opened: Its page was opened, which is noted each time.
        """
        key, moment = (user, study_id, version), time.monotonic()
        with self._looking:
            self._viewed = {known: at for known, at in self._viewed.items() if moment - at < _VIEWED_FOR_S}
            if opened or key not in self._viewed:
                self.note(user, "view", study_id, version=version)
                self._viewed[key] = moment

    def entries(self, *, study_id: str | None = None, limit: int = 200) -> list[AuditEntry]:
        """The newest lines first."""
        rows = self._database.rows(
            "SELECT number, moment, user, action, study_id, detail, hash FROM audit "
            "WHERE (? IS NULL OR study_id = ?) ORDER BY number DESC LIMIT ?",
            (study_id, study_id, limit),
        )
        return [
            AuditEntry(
                row["number"],
                row["moment"],
                row["user"],
                row["action"],
                row["study_id"],
                json.loads(row["detail"]),
                row["hash"],
            )
            for row in rows
        ]

    def first_broken(self) -> int | None:
        """Number of the first line whose seal does not follow from it and the line before, or None.

        Lines that were checked are not checked again as long as nobody but this program, whose own lines only follow
        them, changed the file.
        """
        version, _ = self._database.change_mark()
        sound = self._sound if self._sound.version == version else _Sound(version)
        for row in self._database.rows("SELECT * FROM audit WHERE number >= ? ORDER BY number", (sound.before,)):
            content = (row[name] for name in ("moment", "user", "action", "study_id", "detail"))
            if row["hash"] != _seal(sound.seal, *content):
                return int(row["number"])
            sound = _Sound(version, row["number"] + 1, row["hash"])
        self._sound = sound
        return None


def note(run: sqlite3.Connection, user: str, action: str, study_id: str, detail: Mapping[str, Any]) -> None:
    """Add a line in the transaction that does what it tells of; see :meth:`AuditLog.note`."""
    last = run.execute("SELECT hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    text = json.dumps(dict(detail), sort_keys=True)
    moment = time.time()
    seal = _seal("" if last is None else last["hash"], moment, user, action, study_id, text)
    run.execute(
        "INSERT INTO audit (moment, user, action, study_id, detail, hash) VALUES (?, ?, ?, ?, ?, ?)",
        (moment, user, action, study_id, text, seal),
    )


def _seal(before: str, moment: float, user: str, action: str, study_id: str, detail: str) -> str:
    return hashlib.sha256(json.dumps([before, moment, user, action, study_id, detail]).encode()).hexdigest()
