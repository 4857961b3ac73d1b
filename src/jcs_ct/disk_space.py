"""Space on disks: its unit, and the numbers of errors that say there is none. Loads nothing, as children need it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

#: Bytes of a gibibyte.
GIB = 1024**3
#: Numbers of errors that only writing comes to: the disk is full, a quota on it, or a limit on one file's size.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_disk_full(error: BaseException) -> bool:
    """Whether a system call found no room: on the disk, or in a quota on it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def size_text(count: int) -> str:
    """Bytes for a person: MiB below a tenth of a GiB."""
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / 1024**2:.1f} MiB"


def free_bytes(path: Path) -> int | None:
    """What is free on the disk that ``path`` lies on, or would; None where the system does not say."""
    for place in (path.absolute(), *path.absolute().parents):
        try:
            found = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return found.f_bavail * found.f_frsize
    return None


def room_left(path: Path, error: OSError) -> str:
    """How much is free where there was no room, for a message; of a quota the disk does not tell."""
    if error.errno == errno.EDQUOT:
        return ", a quota on it is used up"
    free = free_bytes(path)
    return "" if free is None else f", {size_text(free)} are free and more is needed"
