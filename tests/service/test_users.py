"""Users, sessions and the audit log."""

from __future__ import annotations

import sqlite3
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher

from jcs_ct.errors import ConfigError
from jcs_ct.service import audit
from jcs_ct.service.audit import AuditLog
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.sessions import Sessions
from jcs_ct.service.users import LOCAL_USER, Role, TooManyFailuresError, Users


@pytest.fixture
def database(tmp_path):
    opened = ServiceDatabase(tmp_path / "service.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def users(database):
    return Users(database, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def test_passwords_are_kept_as_argon2id_and_checked(users, database, tmp_path):
    users.add("jane", Role.READER, "a long enough one")
    assert users.check("jane", "a long enough one", "1.2.3.4").role is Role.READER
    assert users.check("jane", "another", "1.2.3.4") is None
    assert users.check("nobody", "a long enough one", "1.2.3.4") is None
    (row,) = database.rows("SELECT password_hash FROM users")
    assert row["password_hash"].startswith("$argon2id$")
    assert stat.S_IMODE((tmp_path / "service.sqlite").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["", "../root", "jane doe", "local", "a" * 41, "<b>"])
def test_names_that_cannot_be_used(users, name):
    with pytest.raises(ConfigError, match="a user's name has"):
        users.add(name, Role.READER, "a long enough one")


def test_short_passwords_are_refused(users):
    with pytest.raises(ConfigError, match="at least 10"):
        users.add("jane", Role.READER, "short")


def test_failed_logins_have_to_wait_by_name_and_by_address(users, database):
    users.add("jane", Role.READER, "a long enough one")
    for _ in range(5):
        assert users.check("jane", "wrong", "1.1.1.1") is None
    with pytest.raises(TooManyFailuresError):
        users.check("jane", "a long enough one", "2.2.2.2")
    with pytest.raises(TooManyFailuresError):
        users.check("joe", "whatever", "1.1.1.1")
    database.change("UPDATE login_failures SET not_before = ?", (time.time() - 1,))
    assert users.check("jane", "wrong", "2.2.2.2") is None
    with pytest.raises(TooManyFailuresError) as waits:
        users.check("jane", "a long enough one", "3.3.3.3")
    assert waits.value.wait_s > 2.0, "it doubles"
    database.change("UPDATE login_failures SET not_before = 0")
    assert users.check("jane", "a long enough one", "3.3.3.3") is not None
    assert users.check("jane", "a long enough one", "3.3.3.3") is not None


def test_a_login_of_ones_own_gives_no_free_guesses_at_others(users):
    for name in ("jane", "joe"):
        users.add(name, Role.READER, "a long enough one")
    guesses = 0
    with pytest.raises(TooManyFailuresError):
        for guesses in range(50):
            assert users.check("joe" if guesses % 2 else "nobody", "a guess", "1.1.1.1") is None
            assert users.check("jane", "a long enough one", "1.1.1.1") is not None
    assert guesses == 4, "the fifth guess"


def test_slips_of_readers_who_share_an_address_are_forgiven_with_their_login(users):
    for number in range(12):
        name = f"reader{number}"
        users.add(name, Role.READER, "a long enough one")
        assert users.check(name, "a slip", "1.1.1.1") is None
        assert users.check(name, "a long enough one", "1.1.1.1") is not None
        assert users.check(name, "a long enough one", "1.1.1.1") is not None


def test_guesses_at_the_same_time_are_no_freer_than_one_after_the_other(users, monkeypatch):
    users.add("jane", Role.READER, "a long enough one")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(users, "_matches", lambda *guessed: time.sleep(0.05))  # as long as a real hash takes

    def guess(number: int) -> bool:
        try:
            return users.check("jane", f"guess {number}", f"1.1.1.{number}") is None
        except TooManyFailuresError:
            return False

    with ThreadPoolExecutor(40) as pool:
        assert sum(pool.map(guess, range(40))) == 5


def test_sessions_end_by_time_logout_and_with_their_user(users, database):
    users.add("jane", Role.READER, "a long enough one")
    sessions = Sessions(database, users, hours=4.0)
    token, session = sessions.start(users.get("jane"))
    assert sessions.find(token) == session
    assert sessions.find(token + "x") is None
    assert token not in [row["token_hash"] for row in database.rows("SELECT token_hash FROM sessions")]
    database.change("UPDATE sessions SET seen_at = ?", (time.time() - 3700.0,))
    assert sessions.find(token) is None, "an hour without a request"
    token, _ = sessions.start(users.get("jane"))
    database.change("UPDATE sessions SET created_at = ?", (time.time() - 5 * 3600.0,))
    assert sessions.find(token) is None
    token, _ = sessions.start(users.get("jane"))
    sessions.end(token)
    assert sessions.find(token) is None
    token, _ = sessions.start(users.get("jane"))
    users.add("jane", Role.READER, "a new long one")
    assert sessions.find(token) is None, "a new password ends sessions"
    token, _ = sessions.start(LOCAL_USER)
    assert sessions.find(token).user is LOCAL_USER


def test_tokens_of_programs(users):
    users.add("jane", Role.READER, "a long enough one")
    token = users.add_token("jane")
    assert users.of_token(token).name == "jane"
    assert users.of_token("guess") is None
    assert users.remove("jane")
    assert users.of_token(token) is None
    with pytest.raises(ConfigError, match="no user 'jane'"):
        users.add_token("jane")


def test_the_audit_log_only_grows_and_shows_tampering(database, tmp_path):
    log = AuditLog(database)
    for number in range(5):
        log.note("jane", "view", "study", number=number)
    assert [entry.detail["number"] for entry in log.entries(limit=2)] == [4, 3]
    assert log.first_broken() is None
    for sql in ("UPDATE audit SET user = 'joe'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.change(sql)
    with sqlite3.connect(tmp_path / "service.sqlite") as around:
        around.execute("DROP TRIGGER audit_is_not_changed")
        around.execute("UPDATE audit SET user = 'joe' WHERE number = 3")
    around.close()
    assert log.first_broken() == 3


def test_lines_that_were_checked_are_checked_again_only_where_another_program_changed_the_file(
    database, tmp_path, monkeypatch
):
    log, sealed = AuditLog(database), []
    real = audit._seal
    monkeypatch.setattr(audit, "_seal", lambda before, *content: sealed.append(content[2]) or real(before, *content))

    def checked() -> list[str]:
        sealed.clear()
        assert log.first_broken() is None
        return list(sealed)

    for action in "abc":
        log.note("jane", action)
    assert [checked(), checked()] == [["a", "b", "c"], []]
    log.note("jane", "d")
    assert checked() == ["d"]
    with ServiceDatabase(tmp_path / "service.sqlite") as another:
        AuditLog(another).note("joe", "e")
    assert checked() == ["a", "b", "c", "d", "e"]
    with sqlite3.connect(tmp_path / "service.sqlite") as around:
        around.execute("DROP TRIGGER audit_is_not_changed")
        around.execute("UPDATE audit SET user = 'joe' WHERE number = 2")
    around.close()
    assert [log.first_broken(), log.first_broken()] == [2, 2]


def test_a_look_at_a_study_is_noted_once_an_hour_and_each_time_its_page_is_opened(database, monkeypatch):
    log = AuditLog(database)

    def lines() -> list[tuple[str, str, int]]:
        return [(entry.user, entry.study_id, entry.detail["version"]) for entry in log.entries(limit=100)][::-1]

    looks = [("jane", "a", 0), ("joe", "a", 0), ("jane", "b", 0), ("jane", "a", 1)]
    for _ in range(3):
        for look in looks:
            log.note_view(*look)
    assert lines() == looks
    log.note_view("jane", "a", 0, opened=True)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3601.0)
    log.note_view("jane", "a", 0)
    assert lines() == [*looks, looks[0], looks[0]]


def test_a_seal_that_was_noted_shows_what_the_chain_does_not(database, tmp_path):
    log = AuditLog(database)
    for number in range(3):
        log.note("jane", "view", "study", number=number)
    noted = log.entries(limit=1)[0]
    with sqlite3.connect(tmp_path / "service.sqlite") as around:
        around.execute("DROP TRIGGER audit_is_not_removed")
        around.execute("DELETE FROM audit WHERE number = ?", (noted.number,))
    around.close()
    assert log.first_broken() is None, "cut off at the end: the chain holds"
    log.note("jane", "view", "another")
    [now] = [entry for entry in log.entries() if entry.number == noted.number]
    assert now.seal != noted.seal
