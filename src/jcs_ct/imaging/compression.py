"""Files told by their first bytes to be compressed with gzip or bzip2, whatever they are called."""

from __future__ import annotations

import bz2
import gzip
import zlib
from io import IOBase
from pathlib import Path

GZIP, BZIP2, XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"
#: Compressed bytes among which the first few hundred of the content lie: bzip2 works in blocks of 900 kB.
_ENOUGH = {GZIP: 1 << 14, BZIP2: 1 << 20}


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file as they lie on disk.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as stream:
        return stream.read(count)


def first_unpacked_bytes(path: Path, count: int) -> bytes:
    """The first bytes of the content of a file in gzip or bzip2; as many as can be had when it is damaged.

    Raises:
        OSError: the file cannot be opened.
    """
    head = first_bytes(path, 3)
    packed = next((magic for magic in _ENOUGH if head.startswith(magic)), None)
    if packed is None:
        return first_bytes(path, count)
    block = first_bytes(path, _ENOUGH[packed])
    try:
        if packed == GZIP:
            return zlib.decompressobj(wbits=31).decompress(block, count)
        return bz2.BZ2Decompressor().decompress(block, count)
    except (zlib.error, OSError, EOFError, ValueError):
        return b""


def open_unpacked(path: Path) -> IOBase:
    """A file's content, unpacked on reading when it is in gzip or bzip2.

    Raises:
        OSError: the file cannot be opened.
    """
    head = first_bytes(path, 3)
    if head.startswith(GZIP):
        return gzip.open(path, "rb")
    if head.startswith(BZIP2):
        return bz2.open(path, "rb")
    return path.open("rb")
