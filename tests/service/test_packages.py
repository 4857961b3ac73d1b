"""Packages of results: bounded by the disk's room and by reader, and removed whatever becomes of them."""

from __future__ import annotations

import asyncio
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from jcs_ct.service.packages import MOST_OF_ONE, Packages
from jcs_ct.service.problems import Problem


@pytest.fixture
def results(tmp_path) -> Path:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.dcm").write_bytes(b"x" * 1000)
    return tmp_path / "results"


@pytest.fixture
def packages(tmp_path) -> Packages:
    return Packages(tmp_path / "downloads", free_bytes=500)


def packed(packages: Packages, results: Path, reader: str = "jane", when_packed=lambda: None):
    return packages.send(reader, results, ["a.dcm"], filename="a.zip", when_packed=when_packed)


def refused(code: str, act, *arguments) -> Problem:
    with pytest.raises(Problem) as problem:
        act(*arguments)
    assert problem.value.code == code
    return problem.value


def sent(response, *, whole: bool = True) -> bytes:
    parts = []

    async def send(message) -> None:
        if not whole:
            raise OSError("the client went away")
        parts.append(message.get("body", b""))

    async def receive():
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "headers": [], "asgi": {"spec_version": "2.4"}}
    asyncio.run(response(scope, receive, send))
    return b"".join(parts)


def test_packages_leave_the_room_that_uploads_and_records_need(packages, results, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9999, 0, 1499))
    assert refused("DISK_FULL", packed, packages, results).status == 507
    assert list(packages.folder.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9999, 0, 1500))

    def beside() -> None:  # what is not on the disk yet counts, too
        refused("DISK_FULL", packed, packages, results, "joe")

    assert sent(packed(packages, results, when_packed=beside)).startswith(b"PK")
    assert sent(packed(packages, results)).startswith(b"PK"), "given back"


def test_one_reader_does_not_fill_the_disk(packages, results):
    first, *_ = [packed(packages, results) for _ in range(MOST_OF_ONE)]
    assert refused("TOO_MANY_PACKAGES", packed, packages, results).headers() == {"Retry-After": "10"}
    packed(packages, results, "joe")
    assert sent(first).startswith(b"PK")
    packed(packages, results)


def test_nothing_is_left_of_a_package_that_is_not_fetched_or_not_packed(packages, results, tmp_path):
    def refuse() -> None:
        raise Problem(404, "UNKNOWN_STUDY", "gone")

    for _ in range(2 * MOST_OF_ONE):
        with pytest.raises(OSError, match="went away"):
            sent(packed(packages, results), whole=False)
        refused("UNKNOWN_STUDY", packed, packages, results, "jane", refuse)
        with pytest.raises(FileNotFoundError):
            packed(packages, tmp_path / "absent")
    assert list(packages.folder.iterdir()) == []
    (packages.folder / "left.zip").touch()
    assert not Packages(packages.folder, free_bytes=0).folder.exists()
