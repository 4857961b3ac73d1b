import errno
import fcntl
import gzip
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.tag import BaseTag, tag_in_exception

from jcs_ct.disk_space import free_bytes
from jcs_ct.errors import ConfigError, DamagedFileError, OutputError
from jcs_ct.files import (
    beside_others,
    copy_file,
    only_one,
    prepare_output_folder,
    read_json,
    read_own_json,
    read_text,
    replacing,
    staged_folder,
    temporary_folder,
    write_text,
)


def test_text_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("ä", encoding="utf-8-sig")
    assert read_text(path) == "ä"
    path.write_bytes("Müller".encode("latin-1"))
    for read in (read_text, read_json):
        with pytest.raises(
            ConfigError, match=r"list\.txt: it is no text in UTF-8 \(.* at byte 1\); save it as UTF-8"
        ):
            read(path)
    with pytest.raises(ConfigError, match=r"cannot read .*absent: No such file"):
        read_text(tmp_path / "absent")
    path.write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        read_json(path)


def test_write_replaces_whole_files(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "report.json"
    write_text(target, "one")
    write_text(target, "two")
    assert target.read_text() == "two"
    assert list(target.parent.iterdir()) == [target]


def test_failed_write_leaves_the_old_file_and_no_half_one(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_text(target, "old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_written_files_honour_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "report.json", "one")
        with replacing(tmp_path / "weights.safetensors") as temporary:
            temporary.touch(mode=0o600)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_full_disk_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="DISK_FULL"), replacing(tmp_path / "x.bin"):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("staging", [".0123abcd.part", ".staging/job-0123abcd/.0123abcd.part"])
def test_a_full_disk_is_that_of_the_folder_that_was_named_and_says_what_is_free(
    tmp_path: Path, monkeypatch, number: int, staging: str
) -> None:
    monkeypatch.setattr("jcs_ct.disk_space.free_bytes", lambda path: 3 * 1024**2 if path == tmp_path else 0)
    left = "3.0 MiB are free and more is needed" if number == errno.ENOSPC else "a quota on it is used up"
    with pytest.raises(OutputError) as raised, replacing(tmp_path / staging / "lesions.nii.gz"):
        raise OSError(number, os.strerror(number))
    assert str(raised.value) == (
        f"cannot write {tmp_path}: the disk is full, {left}; free space, or choose another folder (DISK_FULL)"
    )


def test_what_is_free_is_told_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    free = free_bytes(tmp_path / "new" / "folder")
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, abs=1 << 30)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_so_through_the_error_of_a_library(tmp_path: Path, number: int) -> None:
    message = r"the disk is full.*DISK_FULL"
    with pytest.raises(OutputError, match=message) as raised, replacing(tmp_path / "x.dcm") as temporary:
        temporary.touch()
        with tag_in_exception(BaseTag(0x7FE00008)):
            raise OSError(number, os.strerror(number))
    assert raised.value.code == "DISK_FULL"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/hospital/study/im1.dcm"),
        PermissionError(errno.EACCES, "Permission denied", b"/hospital"),
        OSError(errno.EIO, "Input/output error", 7),
        gzip.BadGzipFile("Not a gzipped file"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_read_while_a_file_is_written_is_not_said_to_be_written(tmp_path: Path, error) -> None:
    with pytest.raises(type(error)) as raised, replacing(tmp_path / "x.bin") as temporary:
        temporary.touch()
        raise error
    assert raised.value is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ESTALE])
@pytest.mark.parametrize("named", [True, False])
def test_a_disk_that_fails_while_a_file_is_written_is_said(tmp_path: Path, number: int, named: bool) -> None:
    message = rf"cannot write .*x\.bin: {os.strerror(number)}"
    with pytest.raises(OutputError, match=message), replacing(tmp_path / "x.bin") as temporary:
        raise OSError(number, os.strerror(number), *([str(temporary)] if named else []))
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_wrote_nothing_and_a_place_in_the_way_are_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"), replacing(tmp_path / "x.bin"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="in the way of a folder"):
        write_text(tmp_path / "file" / "x.txt", "one")


def test_a_copy_shares_nothing_with_its_source(tmp_path: Path) -> None:
    source, copy = tmp_path / "im1.dcm", tmp_path / "copy.dcm"
    source.write_text("hospital")
    copy_file(source, copy)
    with copy.open("r+") as stream:  # in place, as pydicom saves
        stream.write("nobody")
    assert source.read_text() == "hospital"


def test_a_copy_that_fails_says_which_side_it_was(tmp_path: Path, monkeypatch) -> None:
    source = tmp_path / "im1.dcm"
    with pytest.raises(ConfigError, match=r"cannot read .*im1\.dcm: No such file"):
        copy_file(source, tmp_path / "copy")
    source.write_text("hospital")
    with pytest.raises(OutputError, match=r"cannot write .*copy: No such file"):
        copy_file(source, tmp_path / "absent" / "copy")
    for number, message in ((errno.ENOSPC, "the disk is full"), (errno.EIO, "see whether its disk fails or that of")):

        def fails(source, target, number=number):  # as the system's own copying says it
            raise OSError(number, os.strerror(number), str(source), None, str(target))

        monkeypatch.setattr(shutil, "copyfile", fails)
        with pytest.raises(OutputError, match=message) as error:
            copy_file(source, tmp_path / "copy")
        assert "im1.dcm" not in str(error.value)


def test_a_temporary_folder_is_removed_or_its_lack_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError), temporary_folder("jcs-test-") as folder:
        (folder / "half").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(OutputError, match=r"cannot write to the temporary folder: No such file .*; set TMPDIR"):
        temporary_folder("jcs-test-").__enter__()


def test_a_file_in_the_way_of_the_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        prepare_output_folder(tmp_path / "file" / "out")


@pytest.fixture
def earlier(tmp_path):
    for name in ("one.txt", "two.txt", "old.txt", "last.txt"):
        (tmp_path / name).write_text("earlier")
    (tmp_path / "mine.txt").write_text("mine")
    return tmp_path


def write_anew(folder):
    with staged_folder(folder, last="last.txt", stale=("one.txt", "two.txt", "old.txt")) as staging:
        for name in ("one.txt", "two.txt", "sub/three.txt", "last.txt"):
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_text("new")


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


NEW = {"one.txt": "new", "two.txt": "new", "sub/three.txt": "new", "last.txt": "new", "mine.txt": "mine"}


def test_a_staged_folder_takes_the_place_of_an_earlier_one(earlier):
    write_anew(earlier)
    assert content(earlier) == NEW


@pytest.mark.parametrize("stage", ["write", "move"])
def test_an_interruption_leaves_the_earlier_files_or_the_new_ones(earlier, monkeypatch, stage):
    before = content(earlier)
    if stage == "write":
        with pytest.raises(KeyboardInterrupt), staged_folder(earlier, last="last.txt") as staging:
            (staging / "one.txt").write_text("half")
            raise KeyboardInterrupt
        assert content(earlier) == before
        return
    moves = []

    def interrupted_once(self, target):
        moves.append(target)
        if len(moves) == 2:
            raise KeyboardInterrupt
        return os.replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        write_anew(earlier)
    assert content(earlier) == NEW


@pytest.mark.parametrize("at", ["rmdir", "replace"])
def test_an_interruption_after_a_folder_of_leftovers_was_removed(tmp_path, monkeypatch, at):
    (tmp_path / "overlay").mkdir()
    for name in ("overlay/slice-0001.dcm", "last.txt"):
        (tmp_path / name).write_text("earlier")
    act, calls = getattr(Path, at), []

    def interrupted_once(self, *arguments):
        done = act(self, *arguments)
        calls.append(self)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return done

    stale = ("overlay/slice-*.dcm",)
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path, last="last.txt", stale=stale) as staging:
        for name in ("one.txt", "last.txt"):
            (staging / name).write_text("new")
        monkeypatch.setattr(Path, at, interrupted_once)
    assert content(tmp_path) == {"one.txt": "new", "last.txt": "new"}
    assert not (tmp_path / "overlay").exists()


def test_the_last_file_is_not_there_while_others_are_moved(earlier, monkeypatch):
    seen = []

    def watched(self, target):
        seen.append((target.name, (earlier / "last.txt").exists()))
        return os.replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    write_anew(earlier)
    assert seen == [("one.txt", False), ("three.txt", False), ("two.txt", False), ("last.txt", False)]


@contextmanager
def one_killed_of_two(script: str, folder: Path) -> Iterator[tuple[Path, Path]]:
    """What two processes are writing, of which the first was killed."""
    begun = [
        subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        killed, working = (Path(process.stdout.readline().strip()) for process in begun)
        begun[0].kill()
        begun[0].wait()
        yield killed, working
    finally:
        for process in begun:
            process.kill()
            process.communicate()


def test_what_a_killed_process_had_begun_is_swept_and_another_s_work_is_not(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time\nfrom jcs_ct.files import staged_folder\n"
        "with staged_folder(pathlib.Path(sys.argv[1]), last='last.txt') as staging:\n"
        "    (staging / 'half.txt').write_text('half')\n    print(staging, flush=True)\n    time.sleep(60)\n"
    )
    with one_killed_of_two(script, tmp_path) as (killed, working):
        for staging in (killed, working):
            os.utime(staging, (0, 0))
        with staged_folder(tmp_path, last="last.txt") as staging:
            assert not killed.exists()
            assert (working / "half.txt").exists()
            (staging / "last.txt").write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([working.name, "last.txt"])
    with staged_folder(tmp_path, last="last.txt"):
        assert not working.exists()


def test_a_file_that_a_killed_process_had_begun_is_swept_and_one_that_is_being_written_is_not(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time\nfrom jcs_ct.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1]) / 'state-0000010.pt') as temporary:\n"
        "    temporary.write_text('half')\n    print(temporary, flush=True)\n    time.sleep(60)\n"
    )
    with one_killed_of_two(script, tmp_path) as (killed, working):
        write_text(tmp_path / "log.txt", "one")
        assert killed.exists(), "too new to tell"
        for half in (killed, working):
            os.utime(half.parent, (0, 0))
        write_text(tmp_path / "log.txt", "two")
        assert (killed.parent.exists(), working.read_text()) == (False, "half")


def test_a_folder_of_many_files_is_not_searched_for_each(tmp_path: Path, monkeypatch) -> None:
    sought, find = [], Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: sought.append(self) or find(self, pattern))
    for number in range(5):
        write_text(tmp_path / f"{number}.txt", "one")
    assert sought == [tmp_path]


def test_what_is_only_just_begun_or_a_link_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.txt").write_text("kept")
    folder = tmp_path / "out"
    (folder / ".00000000.part").mkdir(parents=True)
    (folder / ".11111111.part").symlink_to(elsewhere)
    os.utime(elsewhere, (0, 0))
    with staged_folder(folder, last="last.txt") as staging:
        (staging / "last.txt").write_text("whole")
    assert (folder / ".00000000.part").is_dir()
    assert (elsewhere / "kept.txt").read_text() == "kept"


def test_who_works_in_a_folder_is_said_with_what_to_do(tmp_path):
    lock = tmp_path / "serve.lock"
    lock.write_text("process 1 on another-machine, which ended long ago and had a longer name than this one has\n")
    with only_one(lock, "server"), pytest.raises(OutputError) as second:
        only_one(lock, "server").__enter__()
    held = rf"another server works in {tmp_path} \(process {os.getpid()} on \S+\); stop it, or choose another folder"
    assert re.match(held, str(second.value))
    assert second.value.remedy == "stop it, or choose another folder"
    with lock.open() as other:  # held by a version that does not say who it is
        fcntl.flock(other, fcntl.LOCK_EX)
        lock.write_text("")
        with pytest.raises(OutputError, match=rf"another server works in {tmp_path}; stop it"):
            only_one(lock, "server").__enter__()


def test_a_folder_is_one_programs_of_a_kind_and_free_when_that_ends(tmp_path):
    with only_one(tmp_path / "new" / "batch.lock", "batch"), pytest.raises(OutputError, match="another batch works"):
        only_one(tmp_path / "new" / "batch.lock", "batch").__enter__()
    with only_one(tmp_path / "new" / "batch.lock", "batch"):
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["batch.lock"]
    with pytest.raises(OutputError, match="in the way"):
        only_one(tmp_path / "new", "batch").__enter__()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_not_taken_for_another_program(tmp_path, monkeypatch, caplog, number):
    def no_locks(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OutputError, match=rf"cannot lock .*lock: {os.strerror(number)}; choose a folder on a local"):
        only_one(tmp_path / "lock", "batch").__enter__()
    with only_one(tmp_path / "lock", "training", where_locks_are_known=True):
        assert caplog.messages == [f"{tmp_path} cannot be locked: see to it that no other training works there"]
    (tmp_path / ".00000000.part").mkdir()
    os.utime(tmp_path / ".00000000.part", (0, 0))
    write_anew(tmp_path)
    assert content(tmp_path) == {**{name: "new" for name in NEW if name != "mine.txt"}, "lock": ""}
    assert (tmp_path / ".00000000.part").is_dir(), "perhaps another's"
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EACCES])
def test_a_lock_that_another_holds_is_told_by_its_number(tmp_path, monkeypatch, number):
    def held(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", held)
    with pytest.raises(OutputError, match="another batch works in"):
        only_one(tmp_path / "lock", "batch").__enter__()


def test_only_who_is_alone_in_a_folder_tidies_it(tmp_path):
    tidied = []
    with beside_others(tmp_path / "lock", lambda: tidied.append("first")):
        with beside_others(tmp_path / "lock", lambda: tidied.append("second")):
            pass
        assert tidied == ["first"]
    with beside_others(tmp_path / "lock", lambda: tidied.append("third")):
        assert tidied == ["first", "third"]


DAMAGE = {
    "cut": (lambda content: content[: len(content) // 2], "it is not JSON"),
    "empty": (lambda content: b"", "it is empty"),
    "list": (lambda content: b"[]", "it holds a list, no object"),
    "zeros": (lambda content: bytes(len(content)), "it is not JSON"),
    "other": (lambda content: b"{}", "it lacks value"),
}


@pytest.mark.parametrize(("damage", "why"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_of_its_own_is_said_with_what_to_do(tmp_path, damage, why):
    path = tmp_path / "job.json"
    path.write_bytes(b'{"value": {"n": 1}}')
    assert read_own_json(path, ["value"], instead="read it again") == {"value": {"n": 1}}
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedFileError) as caught:
        read_own_json(path, ["value"], instead="read it again")
    assert str(caught.value) == f"{path} is damaged: {why}; put it back from a copy, or read it again (DAMAGED)"
    assert (caught.value.code, caught.value.remedy) == ("DAMAGED", "put it back from a copy, or read it again")
