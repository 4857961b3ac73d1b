"""Reading .zip and .tar safely: caps on members, size and ratio, no links, no paths outside, names from numbers."""

from __future__ import annotations

import errno
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from jcs_ct.errors import GateCode, JCSError, OutputError, StudyError

_BLOCK = 1 << 20
_DAMAGED = (
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may unpack to.

    Args:
        members: Files in it.
        total_bytes: All files together.
        ratio: Unpacked size over the archive's own size.
        free_bytes: What must stay free on the disk.
    """

    members: int = 20_000
    total_bytes: int = 8 * 1024**3
    ratio: float = 200.0
    free_bytes: int = 0

    def __post_init__(self) -> None:
        if min(self.members, self.total_bytes, self.ratio) <= 0 or self.free_bytes < 0:
            raise ValueError(f"archive limits must be greater than 0: {self}")


def unpack(archive: Path, folder: Path, limits: ArchiveLimits | None = None) -> dict[Path, PurePosixPath]:
    """Unpack the regular files of ``archive`` into ``folder``; what each file made is called in the archive.

    Files are named by their number; names in the archive never reach the disk, and sizes are counted while
    unpacking, since headers may lie.

    Raises:
        StudyError: UNSUPPORTED (a link, a path outside, encryption, a cap), UNREADABLE (damaged), TRUNCATED.
        OutputError: the disk is full (DISK_FULL), or fails otherwise (OUTPUT_UNWRITABLE).
    """
    limits = limits or ArchiveLimits()
    budget = min(limits.total_bytes, int(limits.ratio * max(archive.stat().st_size, 1)) + _BLOCK)
    names: dict[Path, PurePosixPath] = {}
    members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)
    try:
        for count, (name, stream) in enumerate(members, start=1):
            if count > limits.members:
                raise _refused(f"it holds more than {limits.members} files")
            target = folder / f"{count:06d}.bin"
            budget -= _copy(stream, target, budget, limits.free_bytes)
            names[target] = PurePosixPath(name.replace("\\", "/"))
    except _DAMAGED as error:
        message = f"the archive is damaged ({type(error).__name__}); copy it again from its source"
        raise StudyError(GateCode.UNREADABLE, message) from error
    except OSError as error:
        raise _explained(error) from error
    return names


def _explained(error: OSError) -> JCSError:
    """Damage, which gzip, bz2 and seeks behind the end report as OSError, told apart from a disk that fails."""
    if error.errno in (None, errno.EINVAL):
        message = f"the archive is damaged ({type(error).__name__}); copy it again from its source"
        return StudyError(GateCode.UNREADABLE, message)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "the disk of the temporary folder is full: free space there, or set TMPDIR to another (DISK_FULL)"
        return OutputError(f"the archive cannot be unpacked: {message}", code="DISK_FULL")
    message = f"the archive cannot be unpacked into the temporary folder: {error.strerror or type(error).__name__}"
    remedy = "set TMPDIR to a folder you can write to"
    return OutputError(f"{message}; {remedy} (OUTPUT_UNWRITABLE)", remedy=remedy)


def _refused(reason: str) -> StudyError:
    return StudyError(
        GateCode.UNSUPPORTED, f"the archive is not unpacked: {reason}; unpack it yourself if it is yours"
    )


def _check_name(name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise _refused("one of its paths leads outside")


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as package:
        for info in package.infolist():
            _check_name(info.filename)
            if info.external_attr >> 16 & 0o170000 == 0o120000:
                raise _refused("it holds a link")
            if info.flag_bits & 0x1:
                raise _refused("it is encrypted")
            if info.is_dir() or _is_clutter(info.filename):
                continue
            with package.open(info) as stream:
                yield info.filename, stream


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive, mode="r:*") as package:
        for info in package:
            _check_name(info.name)
            if info.issym() or info.islnk():
                raise _refused("it holds a link")
            if not info.isfile() or _is_clutter(info.name):
                continue
            stream = package.extractfile(info)
            if stream is not None:
                yield info.name, stream
        _check_tar_end(package)


def _check_tar_end(package: tarfile.TarFile) -> None:
    """Refuse a tar that does not end where members do: in blocks of zeros (POSIX 1003.1, pax, ustar).

    ``tarfile`` takes the end of the file, and a member's header that was overwritten, for the end of the members.

    Raises:
        StudyError: TRUNCATED.
    """
    if package.fileobj is None:
        raise ValueError("the archive is closed")
    package.fileobj.seek(package.offset)
    end = package.fileobj.read(_BLOCK)
    if len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):
        message = (
            "the archive has no end: it is cut off, or a header in it was overwritten; copy it again from its source"
        )
        raise StudyError(GateCode.TRUNCATED, message)


def _is_clutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _require_space(folder: Path, free_bytes: int) -> None:
    free = shutil.disk_usage(folder).free if free_bytes else 0
    if free < free_bytes:
        gib = 1024**3
        raise OutputError(
            f"the archive is not unpacked: the disk has {free / gib:.1f} GiB free, {free_bytes / gib:.1f} GiB must "
            "stay free; free space there (DISK_FULL)",
            code="DISK_FULL",
        )


def _copy(stream: IO[bytes], target: Path, budget: int, free_bytes: int) -> int:
    written = 0
    with target.open("xb") as out:
        while block := stream.read(_BLOCK):
            written += len(block)
            if written > budget:
                raise _refused("it unpacks to more than its caps on size and ratio allow")
            _require_space(target.parent, free_bytes)
            out.write(block)
    return written


@contextmanager
def unpacked(archive: Path, limits: ArchiveLimits | None = None) -> Iterator[tuple[Path, dict[Path, PurePosixPath]]]:
    """A temporary folder with the files of ``archive`` and what they are called there; removed on leaving.

    Raises:
        StudyError: as :func:`unpack`, and NO_IMAGES for an archive without files.
    """
    folder = Path(tempfile.mkdtemp(prefix="jcs-archive-"))
    try:
        names = unpack(archive, folder, limits)
        if not names:
            raise StudyError(GateCode.NO_IMAGES, "the archive holds no files; give one with a study")
        yield folder, names
    finally:
        shutil.rmtree(folder, ignore_errors=True)
