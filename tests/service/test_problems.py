"""What the page answers of errors that are not its own."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest

from jcs_ct.errors import DamagedFileError, OutputError
from jcs_ct.service.problems import answer_damaged, answer_unwritable


def by_sqlite(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (OutputError("no room (DISK_FULL)", code="DISK_FULL"), (507, "DISK_FULL")),
        (OutputError("cannot write /data/the cupboard is full: denied"), (507, "OUTPUT_UNWRITABLE")),
        (by_sqlite(sqlite3.SQLITE_FULL), (507, "DISK_FULL")),
        (by_sqlite(sqlite3.SQLITE_READONLY), (507, "OUTPUT_UNWRITABLE")),
        (by_sqlite(sqlite3.SQLITE_BUSY), (503, "BUSY")),
        (by_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT), (503, "BUSY")),
    ],
)
def test_what_cannot_be_written_is_told_by_its_code(error, answer):
    told = asyncio.run(answer_unwritable(None, error))
    assert (told.status_code, json.loads(told.body)["code"]) == answer


def test_a_damaged_file_is_told_without_its_place():
    error = DamagedFileError("/data/results/DOE/report.json", "it is empty", instead="read it again")
    told = asyncio.run(answer_damaged(None, error))
    content = json.loads(told.body)
    assert (told.status_code, content["code"], "DOE" in content["message"]) == (500, "DAMAGED", False)
