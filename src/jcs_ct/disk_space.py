"""Space on disks: its unit, and the numbers of errors that say there is none. Loads nothing, as children need it."""

from __future__ import annotations

import errno

#: Bytes of a gibibyte.
GIB = 1024**3
#: Numbers of errors that only writing comes to: the disk is full, a quota on it, or a limit on one file's size.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_disk_full(error: BaseException) -> bool:
    """Whether a system call found no room: on the disk, or in a quota on it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
