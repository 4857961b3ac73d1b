"""One way to open, change and close the SQLite files of jobs, page and watcher."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from jcs_ct.errors import DamagedFileError
from jcs_ct.jobs.sqlite_file import SqliteFile

STEPS = ("CREATE TABLE things (name TEXT PRIMARY KEY, count INTEGER NOT NULL);",)


def open_file(folder):
    return SqliteFile(folder / "things.sqlite", STEPS, "the list of things")


def test_what_fails_takes_effect_not_at_all_and_the_file_goes_on(tmp_path):
    with open_file(tmp_path) as file:
        assert file.change("INSERT INTO things VALUES ('a', 1)") == 1
        with pytest.raises(sqlite3.IntegrityError), file.transaction() as run:
            run.execute("UPDATE things SET count = 2")
            run.execute("INSERT INTO things VALUES ('a', 3)")
        assert file.row("SELECT count FROM things")["count"] == 1
        assert file.row("SELECT count FROM things WHERE name = ?", ("b",)) is None
        assert file.change("UPDATE things SET count = 4") == 1
    with open_file(tmp_path) as file:
        assert [tuple(row) for row in file.rows("SELECT * FROM things")] == [("a", 4)]


def test_a_full_disk_is_one_error_and_the_file_goes_on_when_there_is_room(tmp_path):
    with open_file(tmp_path) as file:
        pages = file.row("PRAGMA page_count")[0]
        file.row(f"PRAGMA max_page_count = {pages}")
        big = "x" * 100_000
        for _ in range(2):  # SQLite takes the transaction back by itself
            with pytest.raises(sqlite3.OperationalError, match="full"):
                file.change("INSERT INTO things VALUES (?, 1)", (big,))
        file.row("PRAGMA max_page_count = 1000")
        assert file.change("INSERT INTO things VALUES (?, 1)", (big,)) == 1


def test_threads_and_objects_count_together(tmp_path):
    with open_file(tmp_path) as first, open_file(tmp_path) as second:
        first.change("INSERT INTO things VALUES ('a', 0)")

        def add(number):
            with (first if number % 2 else second).transaction() as run:
                held = run.execute("SELECT count FROM things").fetchone()["count"]
                run.execute("UPDATE things SET count = ?", (held + 1,))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(40)))
        assert second.row("SELECT count FROM things")["count"] == 40


def test_what_one_object_writes_outlives_another_that_was_closed(tmp_path):
    """A file that is opened and closed beside SQLite loses the process's locks, and another process takes its log."""
    others = f"import sqlite3; db = sqlite3.connect({str(tmp_path / 'things.sqlite')!r}); "
    look = others + "print(db.execute('SELECT count(*) FROM things').fetchone()[0]); db.close()"

    def seen_by_another_process():
        return int(subprocess.run([sys.executable, "-c", look], capture_output=True, check=True, text=True).stdout)

    with open_file(tmp_path) as first:
        first.change("INSERT INTO things VALUES ('a', 0)")
        open_file(tmp_path).close()
        assert seen_by_another_process() == 1
        first.change("INSERT INTO things VALUES ('b', 0)")
        assert seen_by_another_process() == 2
    assert seen_by_another_process() == 2


def test_the_file_is_its_owners_from_the_start_and_keeps_the_mode_it_is_given(tmp_path):
    path = tmp_path / "things.sqlite"
    for given in (0o600, 0o640):
        open_file(tmp_path).close()
        assert stat.S_IMODE(path.stat().st_mode) == given
        path.chmod(0o640)


def test_a_change_by_whomever_shows_in_the_mark(tmp_path):
    with open_file(tmp_path) as first, open_file(tmp_path) as second:
        for changing in (first, second):
            before = first.change_mark(), second.change_mark()
            assert (first.change_mark(), second.change_mark()) == before
            first.rows("SELECT * FROM things")
            assert first.change_mark() == before[0], "looking changes nothing"
            changing.change("INSERT INTO things VALUES (?, 1)", (str(before),))
            assert first.change_mark() != before[0]
            assert second.change_mark() != before[1]


def cut_in_half(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [cut_in_half, lambda content: bytes(len(content)), lambda content: b"[]" * 500])
def test_a_damaged_file_is_said_when_it_is_opened_or_read(tmp_path, damage):
    with open_file(tmp_path) as file:
        for number in range(2000):
            file._connection.execute("INSERT INTO things VALUES (?, 1)", (f"{number:0100d}",))
    path = tmp_path / "things.sqlite"
    path.write_bytes(damage(path.read_bytes()))
    message = r"the list of things .* is damaged: .*; put it back from a copy, or "
    with pytest.raises(DamagedFileError, match=message), open_file(tmp_path) as file:
        file.rows("SELECT * FROM things")
