"""Sessions of browsers: a random cookie whose hash is kept, with a token against forged requests."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.users import LOCAL_USER, User, Users, hash_token


@dataclass(frozen=True)
class Session:
    """A browser that is logged in.

    Args:
        user: Who.
        csrf: What every request that changes something must show.
    """

    user: User
    csrf: str


class Sessions:
    """The table of sessions.

    Args:
        database: Where it is.
        users: A session of a user who was removed is none.
        hours: A session ends after so long, and after a quarter of it without a request.
    """

    def __init__(self, database: ServiceDatabase, users: Users, *, hours: float) -> None:
        self._database, self._users = database, users
        self._longest_s, self._idle_s = hours * 3600.0, hours * 900.0

    def start(self, user: User) -> tuple[str, Session]:
        """A new session and its cookie's value."""
        token, csrf, moment = secrets.token_urlsafe(32), secrets.token_urlsafe(24), time.time()
        with self._database.transaction() as run:
            run.execute(
                "DELETE FROM sessions WHERE created_at < ? OR seen_at < ?",
                (moment - self._longest_s, moment - self._idle_s),
            )
            run.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", (hash_token(token), user.name, csrf, moment, moment)
            )
        return token, Session(user, csrf)

    def find(self, token: str, *, is_request: bool = True) -> Session | None:
        """The session of a cookie, unless it has ended.

        Args:
            token: The cookie's value.
            is_request: Whether this is a request, with which the time without one begins anew.
        """
        moment = time.time()
        row = self._database.row("SELECT * FROM sessions WHERE token_hash = ?", (hash_token(token),))
        if row is None or row["created_at"] < moment - self._longest_s or row["seen_at"] < moment - self._idle_s:
            return None
        if is_request and moment - row["seen_at"] > 30.0:
            self._database.change("UPDATE sessions SET seen_at = ? WHERE token_hash = ?", (moment, row["token_hash"]))
        user = LOCAL_USER if row["user"] == LOCAL_USER.name else self._users.get(row["user"])
        return None if user is None else Session(user, row["csrf"])

    def end(self, token: str) -> None:
        """Log out."""
        self._database.change("DELETE FROM sessions WHERE token_hash = ?", (hash_token(token),))
