"""Readers and administrators, their passwords (Argon2id) and the tokens of their programs."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from dataclasses import dataclass
from enum import StrEnum

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from jcs_ct.errors import ConfigError
from jcs_ct.service.database import ServiceDatabase

LEAST_PASSWORD_LENGTH = 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
#: Failures of one name or address before it has to wait, and the wait after the first one too many.
_FREE_FAILURES, _FIRST_WAIT_S, _LONGEST_WAIT_S, _FORGOTTEN_AFTER_S = 5, 2.0, 900.0, 3600.0


class Role(StrEnum):
    """What a user may do: an administrator also sees every study, deletes, and reads the audit log."""

    READER = "reader"
    ADMIN = "admin"


@dataclass(frozen=True)
class User:
    """Someone who may use the page."""

    name: str
    role: Role

    @property
    def is_admin(self) -> bool:
        """Whether the role is admin."""
        return self.role is Role.ADMIN


#: Who works on a page that only this machine can reach and that has no users.
LOCAL_USER = User("local", Role.ADMIN)


class TooManyFailuresError(Exception):
    """A login must wait.

    Args:
        wait_s: Seconds.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many failed logins; wait {wait_s:.0f} s")
        self.wait_s = wait_s


class Users:
    """The table of users."""

    def __init__(self, database: ServiceDatabase, *, hasher: PasswordHasher | None = None) -> None:
        self._database = database
        self._hasher = hasher or PasswordHasher()
        self._unknown = self._hasher.hash(secrets.token_hex(16))
        self._hashing = threading.BoundedSemaphore(2)  # each hash takes 64 MiB and a processor

    def add(self, name: str, role: Role, password: str) -> None:
        """Add a user, or give a known one a new role and password; sessions and tokens of before end.

        Raises:
            ConfigError: a name that cannot be used, or a password that is too short.
        """
        if not _NAME.fullmatch(name) or name == LOCAL_USER.name:
            raise ConfigError(
                f"a user's name has 1 to 40 letters, digits, dots, dashes or underscores and is not "
                f"{LOCAL_USER.name!r}, got {name!r}"
            )
        if len(password) < LEAST_PASSWORD_LENGTH:
            raise ConfigError(f"a password has at least {LEAST_PASSWORD_LENGTH} characters, got {len(password)}")
        hashed = self._hasher.hash(password)  # takes long: nobody waits for the record meanwhile
        with self._database.transaction() as run:
            run.execute(
                "INSERT OR REPLACE INTO users (name, role, password_hash, created_at) VALUES (?, ?, ?, ?)",
                (name, role, hashed, time.time()),
            )
            run.execute("DELETE FROM sessions WHERE user = ?", (name,))
            run.execute("DELETE FROM tokens WHERE user = ?", (name,))

    def remove(self, name: str) -> bool:
        """Remove a user with sessions and tokens; whether there was one. Studies stay."""
        with self._database.transaction() as run:
            run.execute("DELETE FROM sessions WHERE user = ?", (name,))
            run.execute("DELETE FROM tokens WHERE user = ?", (name,))
            return run.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount == 1

    def all(self) -> list[User]:
        """Every user by name."""
        rows = self._database.rows("SELECT name, role FROM users ORDER BY name")
        return [User(row["name"], Role(row["role"])) for row in rows]

    def get(self, name: str) -> User | None:
        """One user."""
        row = self._database.row("SELECT name, role FROM users WHERE name = ?", (name,))
        return None if row is None else User(row["name"], Role(row["role"]))

    def check(self, name: str, password: str, address: str) -> User | None:
        """The user when name and password belong together; unknown names take as long as wrong passwords.

        An attempt counts as failed until it succeeds, so that of many at the same time no more are free than of
        as many one after the other. A success forgives what this name failed, to the address too, and nothing else:
        else whoever has a login of their own could guess at others' without a wait.

        Args:
            name: Of the user.
            password: As typed.
            address: Where the request came from; it is slowed down too.

        Raises:
            TooManyFailuresError: the name or the address failed too often lately; nothing was checked.
        """
        subjects = (f"name {name}", f"address {address}")
        row = self._database.row("SELECT name, role, password_hash FROM users WHERE name = ?", (name,))
        with self._hashing:
            self._begin_attempt(subjects)
            matches = self._matches(self._unknown if row is None else row["password_hash"], password)
        if row is None or not matches:
            return None
        self._forgive(*subjects)
        return User(row["name"], Role(row["role"]))

    def add_token(self, name: str) -> str:
        """A new token for programs of a user; only its hash is kept.

        Raises:
            ConfigError: no such user.
        """
        if self.get(name) is None:
            raise ConfigError(f"there is no user {name!r}; see jcs serve users list")
        token = secrets.token_urlsafe(32)
        self._database.change("INSERT INTO tokens VALUES (?, ?, ?)", (hash_token(token), name, time.time()))
        return token

    def of_token(self, token: str) -> User | None:
        """Whose token it is."""
        row = self._database.row("SELECT user FROM tokens WHERE token_hash = ?", (hash_token(token),))
        return None if row is None else self.get(row["user"])

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerifyMismatchError, InvalidHashError):
            return False

    def _begin_attempt(self, subjects: tuple[str, str]) -> None:
        """Refuse the attempt, or count it; both in one transaction."""
        moment = time.time()
        with self._database.transaction() as run:
            until = run.execute(
                "SELECT max(not_before) FROM login_failures WHERE subject IN (?, ?)", subjects
            ).fetchone()[0]
            if until is not None and until > moment:
                raise TooManyFailuresError(until - moment)
            run.execute("DELETE FROM login_failures WHERE changed_at < ?", (moment - _FORGOTTEN_AFTER_S,))
            for subject in subjects:
                row = run.execute("SELECT failures FROM login_failures WHERE subject = ?", (subject,)).fetchone()
                failures = 1 + (0 if row is None else row["failures"])
                over = failures - _FREE_FAILURES
                wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**over) if over >= 0 else 0.0
                run.execute(
                    "INSERT OR REPLACE INTO login_failures VALUES (?, ?, ?, ?)",
                    (subject, failures, moment + wait if wait else 0.0, moment),
                )

    def _forgive(self, of_name: str, of_address: str) -> None:
        """Take back the failures of a name, this attempt among them, wherever they were counted."""
        with self._database.transaction() as run:
            row = run.execute("SELECT failures FROM login_failures WHERE subject = ?", (of_name,)).fetchone()
            forgiven = 1 if row is None else row["failures"]
            run.execute("DELETE FROM login_failures WHERE subject = ?", (of_name,))
            run.execute(
                "UPDATE login_failures SET failures = max(0, failures - ?), not_before = 0 WHERE subject = ?",
                (forgiven, of_address),
            )


def hash_token(token: str) -> str:
    """What is kept of a session's or a program's token: it is long and random, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
