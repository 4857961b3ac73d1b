"""Reading text with errors that say what to do, and writing without half files.

What is written goes to a temporary folder in the same folder, held by its process, and is renamed: whoever writes
there later removes what a killed process left, and never what a living one writes.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jcs_ct.disk_space import NO_ROOM, is_disk_full, room_left
from jcs_ct.errors import ConfigError, DamagedFileError, OutputError

logger = logging.getLogger(__name__)

#: A folder that nobody holds was left by a killed process only if it is older: one just made is not held yet.
LEFT_BEHIND_S = 60.0
#: Folder of what attempts are writing, among results that are moved into place when they are whole.
STAGING = ".staging"
#: Name of a folder of what is being written: held (flock) for as long as its process lives, swept afterwards.
_BEGUN = re.compile(r"\.[0-9a-f]{8}\.part")
#: Folders in which nothing that a killed process left was found since this one began, and how many are remembered.
_swept: set[Path] = set()
_MOST_SWEPT = 1000


def read_text(path: Path, *, what: str = "") -> str:
    """A file's text, UTF-8 with or without a byte order mark.

    Args:
        path: Of the file.
        what: The file's name in errors, as ``recipe``.

    Raises:
        ConfigError: it cannot be read.
    """
    named = f"the {what} {path}" if what else str(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {named}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"cannot read {named}: it is no text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error


def own_json(content: bytes, needed: Collection[str], named: object, *, instead: str) -> dict[str, Any]:
    """The object that jcs-ct wrote as JSON, to read it again.

    Args:
        content: Of the file.
        needed: Names that it must have.
        named: The file, as errors call it.
        instead: What can be done where it is damaged and there is no copy; see :class:`DamagedFileError`.

    Raises:
        DamagedFileError: it is none, or a name is missing.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(named, "it is not JSON" if content else "it is empty", instead=instead) from error
    if not isinstance(found, dict):
        raise DamagedFileError(named, f"it holds a {type(found).__name__}, no object", instead=instead)
    missing = sorted(set(needed) - set(found))
    if missing:
        raise DamagedFileError(named, f"it lacks {', '.join(missing)}", instead=instead)
    return found


def read_own_json(path: Path, needed: Collection[str] = (), *, instead: str) -> dict[str, Any]:
    """A file of :func:`own_json`.

    Raises:
        DamagedFileError: it cannot be read, is no object, or lacks a name.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedFileError(path, f"it cannot be read ({error.strerror})", instead=instead) from error
    return own_json(content, needed, path, instead=instead)


def as_numbered(error: OSError) -> OSError:
    """The error that a library raised its own from, where that has no number, as pydicom's; else the error itself."""
    cause: BaseException | None = error
    while isinstance(cause, OSError):
        if cause.errno is not None:
            return cause
        cause = cause.__cause__
    return error


def explain_unwritable(path: Path, error: OSError) -> OutputError:
    """What went wrong while writing, as an error that says what to do.

    Folders that are moved into place later are nobody's: of what was to lie in one, the folder around it is named.
    """
    error = as_numbered(error)
    path = _around_staging(path)
    if is_disk_full(error):
        return OutputError(
            f"cannot write {path}: the disk is full{room_left(path, error)}; free space, or choose another folder "
            "(DISK_FULL)",
            code="DISK_FULL",
        )
    if error.errno == errno.EFBIG:
        return OutputError(
            f"cannot write {path}: files may not grow so large here; raise the limit (ulimit -f) (OUTPUT_UNWRITABLE)",
            remedy="raise the limit on the size of files (ulimit -f)",
        )
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return OutputError(
            f"cannot write {path}: a file of that name is in the way of a folder; give another name, or move "
            "the file away (OUTPUT_UNWRITABLE)",
            remedy="give another name, or move the file away",
        )
    if error.errno == errno.EISDIR:
        return OutputError(
            f"cannot write {path}: a folder of that name is in the way of a file; name a file (OUTPUT_UNWRITABLE)",
            remedy="name a file",
        )
    reason = error.strerror or type(error).__name__
    return OutputError(f"cannot write {path}: {reason}; choose a folder you can write to (OUTPUT_UNWRITABLE)")


def _around_staging(path: Path) -> Path:
    """The folder that the outermost staging folder on a path lies in; the path itself where none is on it."""
    staging = [place for place in (path, *path.parents) if place.name == STAGING or _BEGUN.fullmatch(place.name)]
    return staging[-1].parent if staging else path


def prepare_output_folder(folder: Path) -> Path:
    """Create ``folder`` and prove that it can be written.

    Raises:
        OutputError: the folder cannot be created or written (OUTPUT_UNWRITABLE, DISK_FULL).
    """
    probe = folder / f".probe-{secrets.token_hex(4)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
        probe.unlink()
    except OSError as error:
        probe.unlink(missing_ok=True) if folder.is_dir() else None
        raise explain_unwritable(folder, error) from error
    return folder


def refuse_filled(folder: Path) -> None:
    """Refuse a folder that holds something already; what a killed process had begun there is removed.

    Raises:
        ConfigError: it does.
    """
    if folder.is_dir():
        _sweep(folder)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty; choose a new folder")


def copy_file(source: Path, target: Path) -> None:
    """The content of ``source`` as a file of its own, never a link: either may be written later, in place, too.

    Raises:
        ConfigError: ``source`` cannot be read.
        OutputError: ``target`` cannot be written.
    """
    try:
        shutil.copyfile(source, target)
        with target.open("rb") as written:
            os.fsync(written.fileno())
    except OSError as error:
        if error.errno in NO_ROOM or str(error.filename) != str(source):
            raise explain_unwritable(target, error) from error
        if error.filename2 is None:
            raise ConfigError(f"cannot read {source}: {error.strerror}") from error
        remedy = "see whether its disk fails or that of the file it is copied from"
        message = f"cannot copy a file to {target}: {error.strerror}; {remedy} (OUTPUT_UNWRITABLE)"
        raise OutputError(message, remedy=remedy) from error


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path; on success it is flushed and renamed over ``path``.

    It has the name of ``path`` (writers such as nibabel choose their format by its suffixes), in a folder of its own
    beside it. On any error the temporary file is removed and ``path`` is as it was. The file gets the mode that the
    umask gives to new ones, whatever the writer made of it: safetensors writes files that only their owner can read.

    A block may read while it writes: an OSError that names another file than the temporary one passes as it is. One
    that names no file is taken for one of writing; a block that may meet such a one in reading explains it itself.

    Args:
        path: The file that is written.
        private: Only the owner may read the file, from its first byte on.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    staging = path.parent / _new_name()
    temporary = staging / path.name
    is_lent, held = False, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(path.parent)
        staging.mkdir()
        held = _held_if_possible(staging)
        temporary.touch(0o600 if private else 0o666)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        if not private:
            temporary.unlink()  # some writers want to make it themselves
        is_lent = True
        yield temporary
        is_lent = False
        temporary.chmod(mode)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)  # before room is spoken of: what is half there is no use
        if isinstance(error, OSError) and (not is_lent or _is_of_writing(error, temporary)):
            raise explain_unwritable(path, error) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if held is not None:
            os.close(held)


def _new_name() -> str:
    """Of a folder that is swept when its process is killed; see ``_BEGUN``."""
    return f".{secrets.token_hex(4)}.part"


def _held_if_possible(staging: Path) -> int | None:
    """A hold on a folder; None on a disk without locks: nothing is swept there, so nothing need be held."""
    with suppress(OSError, OutputError):
        return _hold(staging)
    return None


def _is_of_writing(error: OSError, path: Path) -> bool:
    """Whether an error came of writing ``path``, as far as it tells: writes name no file, openings and readings do.

    What has no number (damaged pictures and archives) and what a connection comes to is none.
    """
    error = as_numbered(error)
    if error.errno in NO_ROOM:
        return True
    if error.filename is None:
        return error.errno is not None and not isinstance(error, ConnectionError | TimeoutError)
    is_name = isinstance(error.filename, str | bytes | os.PathLike)
    return is_name and os.fsdecode(error.filename) == str(path)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def staged_folder(folder: Path, *, last: str, stale: Sequence[str] = ()) -> Iterator[Path]:
    """Yield an empty folder inside ``folder`` whose files are moved into ``folder`` together, when all are written.

    Until then ``folder`` is as it was, and on any error it stays so: what was there before or what is new, never a
    mixture. An interruption while the files are moved (some milliseconds) is answered after the last of them.

    Args:
        folder: Made when missing.
        last: Name of the file that says that the others are whole: taken away first and put in place last, so that
            even a process that is killed while it moves leaves no folder that looks whole.
        stale: Patterns of names that a former run left; those not written anew are removed.

    Raises:
        OutputError: the folder cannot be written, or something in it cannot be replaced.
    """
    _sweep(prepare_output_folder(folder))
    staging = prepare_output_folder(folder / _new_name())
    held = _held_if_possible(staging)
    try:
        yield staging
        moves = _moves(staging, folder, last)
        leftovers = _leftovers(folder, stale, moves)
        try:
            _put_in_place(moves, leftovers, folder / last)
        except KeyboardInterrupt:
            _put_in_place(moves, leftovers, folder / last)
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if held is not None:
            os.close(held)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder in the system's temporary folder (TMPDIR), removed on leaving.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        raise explain_temporary(error) from error
    with made as folder:
        yield Path(folder)


def explain_temporary(error: OSError) -> OutputError:
    """What went wrong in the system's temporary folder, as an error that says what to do."""
    error = as_numbered(error)
    if is_disk_full(error):
        message = "the disk of the temporary folder is full: free space there, or set TMPDIR to another (DISK_FULL)"
        return OutputError(message, code="DISK_FULL")
    if error.errno == errno.EFBIG:
        return explain_unwritable(Path("the temporary folder"), error)
    reason, remedy = error.strerror or type(error).__name__, "set TMPDIR to a folder you can write to"
    return OutputError(f"cannot write to the temporary folder: {reason}; {remedy} (OUTPUT_UNWRITABLE)", remedy=remedy)


@contextmanager
def only_one(lock: Path, what: str, *, where_locks_are_known: bool = False) -> Iterator[None]:
    """Hold a file as a lock while the block lasts, so that two programs of a kind never work in one folder.

    Args:
        lock: In that folder; made when missing. It says who holds it, for the one who comes second.
        what: What works there, for the message: ``batch``.
        where_locks_are_known: On a disk that knows none go on without, with a warning.

    Raises:
        OutputError: another holds it, its disk knows no locks, or the folder cannot be written.
    """
    prepare_output_folder(lock.parent)
    held, lacks_locks = None, False
    try:
        held = _hold(lock, os.O_RDWR | os.O_CREAT)
    except OutputError:
        if not where_locks_are_known:
            raise
        lacks_locks = True
    except OSError as error:
        raise explain_unwritable(lock, error) from error
    if lacks_locks:  # not in the handler: what goes wrong in the block would seem to come of the lock
        logger.warning("%s cannot be locked: see to it that no other %s works there", lock.parent, what)
        yield
        return
    if held is None:
        remedy = "stop it, or choose another folder"
        message = f"another {what} works in {lock.parent}{_holder(lock)}; {remedy} (OUTPUT_UNWRITABLE)"
        raise OutputError(message, remedy=remedy)
    try:
        with suppress(OSError):  # a full disk: it is held all the same
            os.ftruncate(held, 0)
            os.write(held, f"process {os.getpid()} on {os.uname().nodename}\n".encode())
        yield
    finally:
        os.close(held)


def _holder(lock: Path) -> str:
    """Who holds a lock, as it says itself; nothing where it does not."""
    try:
        said = lock.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f" ({said})" if re.fullmatch(r"process \d+ on \S+", said) else ""


@contextmanager
def beside_others(lock: Path, when_alone: Callable[[], object]) -> Iterator[None]:
    """Hold a file together with all who hold it like this; whoever finds nobody else calls ``when_alone`` first.

    On a disk that knows no locks nobody is alone.
    """
    import fcntl

    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            when_alone()
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _hold(path: Path, flags: int = os.O_RDONLY) -> int | None:
    """Lock a folder or file for the life of this process, however that ends; None where somebody else has it.

    The descriptor to close; a lock goes with its process, so what a killed one left can be told from another's work.

    Raises:
        OSError: it cannot be opened.
        OutputError: the system or its disk knows no such locks.
    """
    descriptor = os.open(path, flags, 0o666)
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError) as error:
        os.close(descriptor)
        if isinstance(error, OSError) and error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return None
        reason = error.strerror if isinstance(error, OSError) else "this system knows no locks of files"
        remedy = "choose a folder on a local disk, or have this one's mounted with locks (Lustre: -o flock)"
        raise OutputError(f"cannot lock {path}: {reason}; {remedy} (OUTPUT_UNWRITABLE)", remedy=remedy) from error
    return descriptor


def _sweep_once(folder: Path) -> None:
    """Sweep a folder, but not at each of many files: a folder of thousands would be listed for every one."""
    if folder in _swept or not _sweep(folder):
        return
    if len(_swept) >= _MOST_SWEPT:
        _swept.clear()
    _swept.add(folder)


def _sweep(folder: Path) -> bool:
    """Remove what processes that were killed had begun to write in ``folder``; whether none was too new to tell."""
    are_told = True
    for staging in folder.glob(f".{'[0-9a-f]' * 8}.part"):
        # Another run swept it first, it is another user's, or its disk knows no locks: no reason not to write.
        with suppress(OSError, OutputError):
            if staging.is_symlink() or not staging.is_dir():
                continue
            if time.time() - staging.stat().st_mtime < LEFT_BEHIND_S:
                are_told = False
                continue
            held = _hold(staging)
            if held is not None:
                shutil.rmtree(staging, ignore_errors=True)
                os.close(held)
    return are_told


def _moves(staging: Path, folder: Path, last: str) -> list[tuple[Path, Path]]:
    """(from, to) of every staged file, ``last`` at the end."""
    moves = [(path, folder / path.relative_to(staging)) for path in sorted(staging.rglob("*")) if not path.is_dir()]
    for _, target in moves:
        if target.is_dir():
            remedy = "remove it, or choose another folder"
            raise OutputError(f"cannot write {target}: it is a folder; {remedy} (OUTPUT_UNWRITABLE)", remedy=remedy)
    return sorted(moves, key=lambda move: move[1] == folder / last)


def _leftovers(folder: Path, patterns: Sequence[str], moves: Sequence[tuple[Path, Path]]) -> list[Path]:
    written = {target for _, target in moves}
    return [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path not in written]


def _put_in_place(moves: Sequence[tuple[Path, Path]], leftovers: Sequence[Path], last: Path) -> None:
    """Move what is not moved yet; called again it goes on where it was stopped."""
    try:
        if any(source.exists() for source, target in moves if target != last):
            last.unlink(missing_ok=True)
        for path in leftovers:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in leftovers} - {last.parent}:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        for source, target in moves:
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
    except OSError as error:
        raise explain_unwritable(last.parent, error) from error
