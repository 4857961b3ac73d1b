"""Names of runners: machine, process and its start, so that a runner that was killed can be told from a slow one."""

from __future__ import annotations

import os
import socket

import psutil


def this_process() -> str:
    """Name of this process as a runner."""
    return _name(os.getpid(), psutil.Process().create_time())


def is_gone(owner: str) -> bool:
    """Whether a runner was a process of this machine that does not run any more; False when that cannot be known."""
    host, _, rest = owner.partition("/")
    number, _, _ = rest.partition("/")
    if host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        process = psutil.Process(int(number))
        return _name(process.pid, process.create_time()) != owner or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _name(pid: int, started: float) -> str:
    return f"{socket.gethostname()}/{pid}/{started:.2f}"
