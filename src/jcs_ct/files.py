"""Writing without half files: everything goes to a temporary name in the same folder and is renamed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jcs_ct.errors import OutputError


def explain_unwritable(path: Path, error: OSError) -> OutputError:
    """What went wrong while writing, as an error that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"cannot write {path}: the disk is full; free space or choose another folder (DISK_FULL)")
    reason = error.strerror or type(error).__name__
    return OutputError(f"cannot write {path}: {reason}; choose a folder you can write to (OUTPUT_UNWRITABLE)")


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


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under a second name; its content, where the disks differ or know no links.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
    except OSError as error:
        raise explain_unwritable(target, error) from error


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed and renamed over ``path``.

    The temporary name keeps every suffix of ``path`` (writers such as nibabel choose their format by it).
    On any error the temporary file is removed and ``path`` is as it was. The file gets the mode that the umask gives
    to new ones, whatever the writer made of it: safetensors writes files that only their owner can read.

    Args:
        path: The file that is written.
        private: Only the owner may read the file, from its first byte on.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.part.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(0o600 if private else 0o666)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        if not private:
            temporary.unlink()  # some writers want to make it themselves
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True) if path.parent.is_dir() else None
        raise explain_unwritable(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
