"""Decoding children forked from a process that holds what they need, for programs that read one study after another.

Starting Python and importing NumPy and pydicom takes longer than decoding a small study, twice for each. The parent
of the children reads no file and takes no job: every child begins as clean as one that is started from nothing, and
accepts the same limits. Started as ``python -P -m jcs_ct.imaging.forking FD MODULE...``; it ends when the other end
of the socket ``FD`` closes.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO

#: What the tasks of ``decoding_child`` for DICOM import when they run, and what all of them do.
DICOM_MODULES = ("numpy", "pydicom.pixels", "jcs_ct.imaging.dicom_headers", "jcs_ct.imaging.dicom_voxels")
ALL_MODULES = (*DICOM_MODULES, "jcs_ct.imaging.nifti")
_NO_OUTPUT = -1
#: Received descriptors are kept out of the way of the one that a job names.
_OUT_OF_THE_WAY = 512


class ForkedChild:
    """A decoding child that was forked, with the ends of its pipes."""

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._handle = os.pidfd_open(pid)  # it waits for its job: the number cannot be another process's yet
        self.stdin, self.stdout = stdin, stdout

    def kill(self) -> None:
        """End it at once; nothing happens when it has ended."""
        try:
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        except ProcessLookupError:
            return

    def wait(self) -> None:
        """Wait until it has ended."""
        select.select([self._handle], [], [])
        os.close(self._handle)


class ForkingParent:
    """The process that decoding children are forked from; may be asked by several threads.

    Args:
        environment: Of the process.
        modules: What it holds ready; children import what else they need.
    """

    def __init__(self, environment: dict[str, str], modules: Sequence[str] = ALL_MODULES) -> None:
        self._asking = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "jcs_ct.imaging.forking", str(theirs.fileno()), *modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs.fileno(),),
            )

    def start_child(self, output: int | None) -> ForkedChild:
        """Fork a child that takes a job on its stdin.

        Args:
            output: Descriptor that the child gets under the same number.

        Raises:
            OSError: the process is gone.
        """
        job_end, stdin = os.pipe()
        stdout, answer_end = os.pipe()
        streams = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb", buffering=0)
        try:
            passed = [job_end, answer_end, *([] if output is None else [output])]
            with self._asking:  # one question at a time: answers do not say whose they are
                socket.send_fds(self._socket, [str(_NO_OUTPUT if output is None else output).encode()], passed)
                answer = self._socket.recv(32)
            if not answer:
                raise ConnectionResetError("the process that decoding children are forked from has ended")
            return ForkedChild(int(answer), *streams)
        except OSError:
            for stream in streams:
                stream.close()
            raise
        finally:
            os.close(job_end)
            os.close(answer_end)

    def close(self) -> None:
        """End the process; children that run are not touched."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


def serve(channel: socket.socket, work: Callable[[], None]) -> None:
    """Fork a child for each request, until the channel closes; ``work`` is what a child does."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children here
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, 32, 3)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            channel.close()
            _become_child(int(message), descriptors)
            work()
            sys.stdout.flush()
            os._exit(0)
        channel.send(str(pid).encode())
        for descriptor in descriptors:
            os.close(descriptor)


def _become_child(output: int, descriptors: list[int]) -> None:
    """Put the received descriptors where a child that is started from nothing has them."""
    import fcntl

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _OUT_OF_THE_WAY) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, place in zip(moved, (0, 1, output), strict=False):
        os.dup2(descriptor, place)
        os.close(descriptor)


def main() -> None:
    """Import what children need, then serve."""
    from jcs_ct.imaging import decoding_child

    decoding_child.without_downloads()
    for name in sys.argv[2:]:
        importlib.import_module(name)
    serve(socket.socket(fileno=int(sys.argv[1])), decoding_child.main)


if __name__ == "__main__":
    main()
