"""Names of runners: machine, process and its start, so that a runner that was killed can be told from a slow one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil

#: Another text after each start of the machine (Linux).
_BOOT = Path("/proc/sys/kernel/random/boot_id")
#: Place of a process's start among the fields that follow its name in ``/proc/PID/stat`` (proc(5), field 22).
_START_TICKS = 19


def this_process() -> str:
    """Name of this process as a runner."""
    return _name(os.getpid())


def is_gone(owner: str) -> bool:
    """Whether a runner was a process of this machine that does not run any more; False when that cannot be known."""
    host, _, rest = owner.partition("/")
    number, _, _ = rest.partition("/")
    if host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        process = psutil.Process(int(number))
        return _name(process.pid) != owner or process.status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return True


def _name(pid: int) -> str:
    return f"{socket.gethostname()}/{pid}/{_started(pid)}"


def _started(pid: int) -> str:
    """When a process began: on Linux in ticks since its machine did, which no clock that is set changes."""
    if not _BOOT.exists():
        return f"{psutil.Process(pid).create_time():.2f}"
    after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return f"{_BOOT.read_text()[:8]}-{after_name[_START_TICKS]}"
