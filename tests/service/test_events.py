"""Streams of what changes: they end with the login that they were opened with, and are counted until they end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from argon2 import PasswordHasher
from fastapi import Request
from starlette.requests import ClientDisconnect

from jcs_ct.jobs import Ledger, ResultFolders
from jcs_ct.service import events
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.described_once import DescribedOnce
from jcs_ct.service.problems import Problem
from jcs_ct.service.sessions import Sessions
from jcs_ct.service.studies import Studies
from jcs_ct.service.users import Role, Users
from jcs_ct.service.web import COOKIE

PASSWORD = "a long enough one"


@pytest.fixture
def service(tmp_path):
    """A page with jane and no studies, without networks."""
    with ServiceDatabase(tmp_path / "service.sqlite") as database, Ledger(tmp_path / "jobs.sqlite") as ledger:
        users = Users(database, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        users.add("jane", Role.ADMIN, PASSWORD)
        yield SimpleNamespace(
            database=database,
            ledger=ledger,
            users=users,
            sessions=Sessions(database, users, hours=4.0),
            studies=Studies(database, ledger, ResultFolders(tmp_path / "results"), tmp_path),
            described=DescribedOnce(),
            needs_login=True,
        )


def asking(service, **headers: str) -> Request:
    async def receive():
        await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/v1/events",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "app": SimpleNamespace(state=SimpleNamespace(service=service)),
    }
    return Request(scope, receive)


def demote(service, token: str) -> None:
    service.database.change("UPDATE users SET role = 'reader' WHERE name = 'jane'")


ENDS = {
    "logout": lambda service, token: service.sessions.end(token),
    "removal": lambda service, token: service.users.remove("jane"),
    "demotion": demote,
    "another password": lambda service, token: service.users.add("jane", Role.ADMIN, PASSWORD),
}


@pytest.mark.parametrize(
    ("end", "kind"), [*((end, "browser") for end in ENDS), *((end, "program") for end in ENDS if end != "logout")]
)
def test_a_stream_ends_with_the_login_that_it_was_opened_with(service, monkeypatch, end, kind):
    monkeypatch.setattr(events, "_LOOK_EVERY_S", 0.01)
    jane = service.users.get("jane")
    token = service.sessions.start(jane)[0] if kind == "browser" else service.users.add_token("jane")
    told = {"Cookie": f"{COOKIE}={token}"} if kind == "browser" else {"Authorization": f"Bearer {token}"}

    async def listen() -> None:
        stream = events._changes(asking(service, **told), service, jane, None)
        assert (await anext(stream)).startswith("retry:")
        waits = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.2)
        assert not waits.done(), "nothing changed yet"
        ENDS[end](service, token)
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(waits, 10)

    asyncio.run(listen())


def test_a_stream_alone_keeps_no_session_alive(service):
    jane = service.users.get("jane")
    token, _ = service.sessions.start(jane)
    service.database.change("UPDATE sessions SET seen_at = seen_at - 100")
    [before] = [row["seen_at"] for row in service.database.rows("SELECT seen_at FROM sessions")]
    assert events.still_asks(asking(service, Cookie=f"{COOKIE}={token}"), jane)
    assert [row["seen_at"] for row in service.database.rows("SELECT seen_at FROM sessions")] == [before]


def test_of_streams_that_are_opened_together_no_more_pass_than_one_after_the_other(service, monkeypatch):
    monkeypatch.setattr(events, "_listening", events.Counter())
    jane, request = service.users.get("jane"), asking(service)
    monkeypatch.setattr(service.studies, "get", lambda *_: None)

    async def open_many() -> list:
        asked = [events.events(request, jane, service, "study") for _ in range(20)]
        return await asyncio.gather(*asked, return_exceptions=True)

    async def gone(message) -> None:
        raise OSError("the client went away")

    opened = asyncio.run(open_many())
    streams = [one for one in opened if not isinstance(one, Problem)]
    assert len(streams) == events.MOST_STREAMS_OF_ONE
    for stream in streams:
        with pytest.raises(ClientDisconnect):
            asyncio.run(stream({"type": "http", "asgi": {"spec_version": "2.4"}}, request.receive, gone))
    assert events._listening["jane"] == 0, "counted until it ends, though it never began"
