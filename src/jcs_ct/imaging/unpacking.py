"""Reading .zip and .tar safely: caps on members, size and ratio, no links, no paths outside, names from numbers."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import math
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from jcs_ct.disk_space import GIB
from jcs_ct.errors import GateCode, JCSError, OutputError, StudyError
from jcs_ct.files import explain_temporary, temporary_folder
from jcs_ct.imaging.compression import BZIP2, GZIP, XZ, first_bytes

_BLOCK = 1 << 20
#: What one header of a tar may take: extended ones hold names and times.
_HEADER_BYTES = 1 << 20
#: What a zip's list of members may take, which is read as a whole: 800 bytes for each of the most members.
_LIST_BYTES = 16 << 20
#: The end of a zip: its comment of at most 64 KiB, the end record, and zip64's locator and record before it.
_ZIP_END_BYTES = (1 << 16) + 22 + 20 + 56
#: Memory to decode xz; its strongest preset takes 65 MiB, a file may ask for 4 GiB.
_XZ_MEMORY_BYTES = 128 << 20
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
    total_bytes: int = 8 * GIB
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
    members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive, limits.members)
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
    return explain_temporary(error)


def _refused(reason: str, remedy: str = "unpack it yourself if it is yours") -> StudyError:
    return StudyError(GateCode.UNSUPPORTED, f"the archive is not unpacked: {reason}; {remedy}", remedy=remedy)


def _check_name(name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise _refused("one of its paths leads outside")


def _zip_list_bytes(archive: Path) -> int:
    """How long a zip says that its list of members is (.ZIP File Format Specification, 4.3.14 and 4.3.16)."""
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - _ZIP_END_BYTES))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    size = int.from_bytes(tail[end + 12 : end + 16], "little")
    record, locator = tail[max(0, end - 76) : end - 20], tail[end - 20 : end]
    if record.startswith(b"PK\6\6") and locator.startswith(b"PK\6\7"):
        size = int.from_bytes(record[40:48], "little")
    return size


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if _zip_list_bytes(archive) > _LIST_BYTES:
        raise _refused(f"the list of its members takes more than {_LIST_BYTES >> 20} MiB")
    with zipfile.ZipFile(archive) as package:
        for info in package.infolist():
            _check_name(info.filename)
            if info.external_attr >> 16 & 0o170000 == 0o120000:
                raise _refused("it holds a link")
            if info.flag_bits & 0x1:
                raise _refused("it is encrypted")
            if info.is_dir() or _is_clutter(info.filename):
                continue
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile unpacks others (bzip2, LZMA) in steps of any size: gigabytes before the caps are asked.
                raise _refused(
                    f"it is compressed by zip's method {info.compress_type}, read are 8 (deflate) and 0 (none)",
                    "zip it again with deflate",
                )
            with package.open(info) as stream:
                yield info.filename, stream


def _tar_members(archive: Path, most: int) -> Iterator[tuple[str, IO[bytes]]]:
    others = 0
    with _tar_stream(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as package:
        for info in package:
            stream.left = math.inf  # what is in a file is counted where it is copied
            _check_name(info.name)
            if info.issym() or info.islnk():
                raise _refused("it holds a link")
            content = package.extractfile(info) if info.isfile() and not _is_clutter(info.name) else None
            if content is not None:
                yield info.name, content
            else:
                others += 1
            if others > most:
                raise _refused(f"it holds more than {most} folders and hidden files")
            stream.left = _HEADER_BYTES
        _check_tar_end(stream)


class _TarStream(io.BufferedReader):
    """A tar's bytes, of which one header takes so many and no more, however long it says that it is.

    Attributes:
        left: How many may still be read.
        last: What was read last.
    """

    left: float = _HEADER_BYTES
    last: bytes = b""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self.left:
            raise _refused(f"a header in it takes more than {_HEADER_BYTES >> 20} MiB")
        self.left -= size
        self.last = super().read(size)
        return self.last


@contextmanager
def _tar_stream(archive: Path) -> Iterator[_TarStream]:
    """A tar, unpacked where it lies in gzip, bzip2 or xz."""
    head = first_bytes(archive, len(XZ))
    with ExitStack() as opened:
        content: Any = opened.enter_context(archive.open("rb", buffering=0))
        if head.startswith(XZ):
            content = opened.enter_context(_XzContent(content))
        elif head.startswith((GZIP, BZIP2)):
            content = opened.enter_context((gzip if head.startswith(GZIP) else bz2).open(content, "rb"))
        yield opened.enter_context(_TarStream(content))


class _XzContent(io.RawIOBase):
    """What an xz file holds, read forwards, with a bound on memory, which ``lzma.open`` knows none of."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed, self._place, self._decoder = packed, 0, _xz_decoder()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or place < self._place:
            raise io.UnsupportedOperation("xz is read forwards only")
        while self._place < place and self.read(min(_BLOCK, place - self._place)):
            continue
        return self._place

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data:
            if self._decoder.eof:  # another stream may follow, after padding
                block = (self._decoder.unused_data + self._packed.read(_BLOCK)).lstrip(b"\0")
                if not block:
                    return 0
                self._decoder = _xz_decoder()
            else:
                block = self._packed.read(_BLOCK) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not block:
                    raise EOFError
            data = self._decode(block, len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _decode(self, block: bytes, most: int) -> bytes:
        try:
            return self._decoder.decompress(block, most)
        except lzma.LZMAError as error:
            if "Memory usage limit" not in str(error):
                raise
            reason = f"decoding it takes more than {_XZ_MEMORY_BYTES >> 20} MiB of memory"
            raise _refused(reason, "pack it again with a smaller dictionary (xz -9)") from error


def _xz_decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)


def _check_tar_end(stream: _TarStream) -> None:
    """Refuse a tar that does not end where members do: in blocks of zeros (POSIX 1003.1, pax, ustar).

    ``tarfile`` takes the end of the file, and a member's header that was overwritten, for the end of the members.

    Raises:
        StudyError: TRUNCATED.
    """
    header, stream.left = stream.last, math.inf
    end = header + stream.read(_BLOCK)
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
        raise OutputError(
            f"the archive is not unpacked: the disk has {free / GIB:.1f} GiB free, {free_bytes / GIB:.1f} GiB must "
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
        OutputError: as :func:`unpack`, or there is no temporary folder.
    """
    with temporary_folder("jcs-archive-") as folder:
        names = unpack(archive, folder, limits)
        if not names:
            raise StudyError(GateCode.NO_IMAGES, "the archive holds no files; give one with a study")
        yield folder, names
