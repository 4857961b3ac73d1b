"""Decoding in a child process that can be killed: hostile or broken files cost a study, never the caller.

One child does all items of a job, or several share them. When one dies, a child started for the item it was at tells
whether that item is to blame: when this child dies of it, too, it is refused, and another goes on with the rest. One
that takes too long is refused at once; after a few such ends the remaining items are refused too. A child that
the system ends (memory, disk) is no fault of any item.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

from jcs_ct.disk_space import GIB
from jcs_ct.errors import GateCode, KilledError
from jcs_ct.files import explain_temporary
from jcs_ct.imaging.forking import ALL_MODULES, DICOM_MODULES, ForkedChild, ForkingParent

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SandboxLimits:
    """What a decoding child may use.

    Args:
        memory_bytes: Address space beyond the output.
        seconds_per_item: Longest silence between two answers.
        cpu_seconds: Processor time of one child.
        deaths: Children that may die in one job before the rest is refused.
    """

    memory_bytes: int = 3 * GIB
    seconds_per_item: float = 60.0
    cpu_seconds: int = 900
    deaths: int = 3

    def __post_init__(self) -> None:
        if min(self.memory_bytes, self.seconds_per_item, self.cpu_seconds, self.deaths) <= 0:
            raise ValueError(f"sandbox limits must be greater than 0: {self}")


#: Signals by which the system ends a child through no fault of what it reads, and why.
_NOT_THE_FILE = {
    signal.SIGKILL: "memory ran out, or someone ended it; try again",
    signal.SIGBUS: "the disk is full, or the file changed while it was read; free space and try again",
    signal.SIGXFSZ: "files may not grow so large here; raise the limit (ulimit -f)",
}


@dataclass(frozen=True)
class Decoded:
    """What became of one item: a value, or the gate's code and a message."""

    value: Any = None
    code: GateCode | None = None
    message: str = ""


#: A child that runs: started from nothing, or forked.
_Started = subprocess.Popen[bytes] | ForkedChild
#: Where children are forked from, when this program asked for that.
_parent: ForkingParent | None = None


def keep_warm(modules: Sequence[str] = ALL_MODULES) -> None:
    """From now on, fork decoding children from a process that is kept, for as long as this program lives.

    For programs that read one study after another; where a child cannot be forked, it is started as ever.

    Args:
        modules: What that process holds ready.
    """
    global _parent
    if _parent is None and hasattr(os, "pidfd_open"):
        _parent = ForkingParent(_environment(), modules)


@contextmanager
def kept_warm() -> Iterator[None]:
    """:func:`keep_warm` while a block runs: for one study, most likely DICOM, that several children read."""
    global _parent
    was_warm = _parent is not None
    keep_warm(DICOM_MODULES)
    try:
        yield
    finally:
        if not was_warm and _parent is not None:
            _parent.close()
            _parent = None


_DAMAGED = "the file is damaged or hostile, export it again"
#: A decoder takes and leaves megabytes a slice: given back to the system each time, they cost a third of its time.
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}


def _environment() -> dict[str, str]:
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**os.environ, **one_thread, **_KEPT_MEMORY, "PYTHONIOENCODING": "utf-8"}


def _start(fd: int | None, *, may_fork: bool) -> _Started:
    """A decoding child that waits for its job."""
    global _parent
    parent = _parent if may_fork else None
    if parent is not None:
        try:
            return parent.start_child(fd)
        except OSError as error:
            logger.warning("decoding children are started from nothing from now on: %s", error)
            _parent = None
            parent.close()
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "jcs_ct.imaging.decoding_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        pass_fds=() if fd is None else (fd,),
    )


class _Child:
    """One decoding child and the answers it gives, each awaited for a limited time.

    Args:
        job: What it does.
        fd: Of the file that it fills.
        may_fork: It may be a forked one, of whose end no signal is known.
    """

    def __init__(self, job: Mapping[str, Any], fd: int | None, *, may_fork: bool) -> None:
        self._process = _start(fd, may_fork=may_fork)
        self._buffer = b""
        self._ended = False
        self._send(json.dumps(job).encode())

    def _send(self, job: bytes) -> None:
        stdin = self._stream(self._process.stdin)
        try:
            stdin.write(job)
            stdin.close()
        except BrokenPipeError:
            logger.warning("the decoding child ended before it took its job")

    @staticmethod
    def _stream(stream: IO[bytes] | None) -> IO[bytes]:
        if stream is None:
            raise RuntimeError("the decoding child was started without a pipe")
        return stream

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The next answer, or None when the child ended, was silent for ``seconds``, or does not make sense."""
        stdout = self._stream(self._process.stdout)
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                block = os.read(stdout.fileno(), 1 << 16)
                if not block:
                    self._ended = True
                    return None
                self._buffer += block
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            self._ended = True  # what speaks so is no longer the child that was started
            return None
        return answer

    @property
    def has_ended(self) -> bool:
        """Whether an answer is missing because the child died, and not because it is slow."""
        return self._ended

    def why_silent(self, seconds: float) -> str:
        """Why an answer is missing, and what to do.

        Raises:
            KilledError: the system ended the child, through no fault of what it read.
        """
        if not self._ended:
            return f"took longer than {seconds:g} s; {_DAMAGED}"
        ended_by = self._signal()
        if ended_by is None:
            return f"ended the decoding process; {_DAMAGED}"
        ended = f"ended the decoding process ({ended_by.name})"
        if ended_by in _NOT_THE_FILE:
            raise KilledError(f"the system {ended}: {_NOT_THE_FILE[ended_by]} (KILLED)")
        if ended_by is signal.SIGXCPU:
            return f"{ended}: it took more processor time than is allowed"
        return f"{ended}: {_DAMAGED}"

    def _signal(self) -> signal.Signals | None:
        """The signal that the child died of; of a forked one it is not known."""
        if isinstance(self._process, ForkedChild):
            return None
        try:
            status = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return None
        return signal.Signals(-status) if status < 0 else None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                stream.close()


@contextmanager
def decoded_pixels(byte_count: int = 0) -> Iterator[IO[bytes]]:
    """A temporary file that children fill.

    Args:
        byte_count: Bytes whose space is reserved: a child that maps them does not die of a disk that is full.

    Raises:
        OutputError: there is no room for it.
    """
    with ExitStack() as open_files:
        try:
            output = open_files.enter_context(tempfile.TemporaryFile())
            _reserve(output, byte_count)
        except OSError as error:
            raise explain_temporary(error) from error
        yield output


def _reserve(output: IO[bytes], byte_count: int) -> None:
    try:
        if byte_count:
            os.posix_fallocate(output.fileno(), 0, byte_count)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # file systems that reserve nothing
            raise
        output.truncate(byte_count)


def run_in_child(
    task: str,
    items: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any] | None = None,
    *,
    output: IO[bytes] | None = None,
    output_bytes: int = 0,
    limits: SandboxLimits | None = None,
    advance: Callable[[int], None] | None = None,
    children: int = 1,
) -> list[Decoded]:
    """Do ``items`` of ``task`` in limited child processes.

    Args:
        task: A name that ``decoding_child`` knows.
        items: JSON values, one answer each.
        options: JSON values for the whole task; ``fd`` is added when there is an output.
        output: Open file that the children fill (pixels travel there, not through the pipe).
        output_bytes: Size the output may grow to.
        limits: Memory and time of each child.
        advance: Called with the number of items done.
        children: Processes that share the items, in runs of neighbours; the deaths allowed are each run's own.

    Returns:
        One outcome an item, in order. Never raises for what a file does to the child.

    Raises:
        OutputError: what is decoded cannot be written.
        KilledError: the system ended a child, through no fault of what it read.
    """
    limits = limits or SandboxLimits()
    fd = None if output is None else output.fileno()
    common = {
        "task": task,
        "options": {**(options or {}), "fd": fd},
        "memory_bytes": limits.memory_bytes + 2 * output_bytes,
        "cpu_seconds": limits.cpu_seconds,
        "file_bytes": output_bytes,
    }
    size = max(1, -(-len(items) // max(1, children)))
    runs = [items[start : start + size] for start in range(0, len(items), size)]
    if len(runs) < 2:
        return _run(common, items, fd, limits, advance)
    done, lock = [0] * len(runs), threading.Lock()

    def run(number: int) -> list[Decoded]:
        def told(count: int) -> None:
            with lock:
                done[number] = count
                if advance is not None:
                    advance(sum(done))

        return _run(common, runs[number], fd, limits, told)

    with ThreadPoolExecutor(len(runs), thread_name_prefix="decoding") as pool:
        return [outcome for outcomes in pool.map(run, range(len(runs))) for outcome in outcomes]


def _run(
    common: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    fd: int | None,
    limits: SandboxLimits,
    advance: Callable[[int], None] | None,
) -> list[Decoded]:
    """Do items in one child after another, until all are done or too many children died."""
    outcomes: dict[int, Decoded] = {}
    deaths, on_trial = 0, False
    while len(outcomes) < len(items) and deaths < limits.deaths:
        first = len(outcomes)
        child = _Child({**common, "items": list(items[first:])}, fd, may_fork=not on_trial)
        try:
            _collect(child, first, len(items), outcomes, limits.seconds_per_item, advance)
            at = len(outcomes)
            if at == len(items):
                break
            # What a child that did others before dies of may be theirs, and how a forked one ended is not known.
            on_trial = child.has_ended and not (on_trial and at == first)
            if not on_trial:
                reason = child.why_silent(limits.seconds_per_item)
                outcomes[at] = Decoded(None, GateCode.UNREADABLE, f"decoding it {reason}")
                logger.warning("decoding item %d of %d %s", at + 1, len(items), reason)
                deaths += 1
        finally:
            child.close()
    gone = Decoded(None, GateCode.UNREADABLE, "not read: decoding failed too often before it")
    return [outcomes.get(number, gone) for number in range(len(items))]


def _collect(
    child: _Child,
    first: int,
    count: int,
    outcomes: dict[int, Decoded],
    seconds: float,
    advance: Callable[[int], None] | None,
) -> None:
    """Take a child's answers until all are in, or no more come."""
    while len(outcomes) < count:
        answer = child.answer(seconds)
        if answer is None:
            return
        if "done" not in answer:
            continue
        if (number := answer.get("errno")) is not None:
            raise explain_temporary(OSError(int(number), os.strerror(int(number))))
        code = answer.get("code")
        outcomes[first + int(answer["done"])] = Decoded(
            answer.get("value"), None if code is None else GateCode(code), answer.get("message", "")
        )
        if advance is not None:
            advance(len(outcomes))
