"""A killable process for studies: started once, given one study after the other, ended when it exceeds its limits."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

import psutil

from jcs_ct.jobs.outcome import Ending, FailureCode, Limits, Outcome
from jcs_ct.progress import Progress

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.2


def run_study(
    task: str,
    arguments: Mapping[str, Any],
    *,
    limits: Limits | None = None,
    on_progress: Progress | None = None,
    keep_going: Callable[[], bool] | None = None,
) -> Outcome:
    """One study in a process of its own; see :meth:`StudyWorker.run`."""
    with StudyWorker() as worker:
        return worker.run(task, arguments, limits=limits, on_progress=on_progress, keep_going=keep_going)


class StudyWorker:
    """A process that reads studies one at a time and keeps its networks loaded in between.

    It is started by the first study, started anew after one that failed, was stopped or took the process down, and
    renewed after ``studies_per_process``. It ends with this object, or with this program if that is killed.

    Args:
        studies_per_process: Bounds what a leak in a library can grow to.
        threads: Threads of the numerical libraries; None leaves it to them.
    """

    def __init__(self, *, studies_per_process: int = 100, threads: int | None = None) -> None:
        if studies_per_process < 1:
            raise ValueError(f"studies_per_process must be at least 1, got {studies_per_process}")
        self._studies_per_process, self._threads = studies_per_process, threads
        self._process: subprocess.Popen[bytes] | None = None
        self._taken = 0

    def __enter__(self) -> StudyWorker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the process, which leads a process group of its own; None when there is none."""
        return None if self._process is None else self._process.pid

    def run(
        self,
        task: str,
        arguments: Mapping[str, Any],
        *,
        limits: Limits | None = None,
        on_progress: Progress | None = None,
        keep_going: Callable[[], bool] | None = None,
    ) -> Outcome:
        """Do one task for one study.

        Args:
            task: ``module:function`` of a :data:`~jcs_ct.jobs.child.Task`.
            arguments: Its arguments, as JSON values.
            limits: What it may use.
            on_progress: Called for each message of progress.
            keep_going: Asked every fifth of a second; False stops the study.

        Returns:
            How it ended; nothing that happens to the process raises. What ``on_progress`` and ``keep_going`` raise
            passes through, after the process was ended.
        """
        limits = limits or Limits()
        process = self._ready_process()
        watch = _Watch(process, limits)
        ended = False
        try:
            outcome = self._give(process, task, arguments) or _follow(process, watch, on_progress, keep_going)
            ended = True
        finally:
            if not ended:
                self._end()
        self._taken += 1
        if outcome.ending not in (Ending.DONE, Ending.REFUSED) or self._taken >= self._studies_per_process:
            self._end()
        return outcome

    def close(self) -> None:
        """End the process and all it started."""
        self._end()

    def _ready_process(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
            if self._threads is not None:
                names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
                environment.update(dict.fromkeys(names, str(self._threads)))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "jcs_ct.jobs.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
            self._taken = 0
        return self._process

    @staticmethod
    def _give(process: subprocess.Popen[bytes], task: str, arguments: Mapping[str, Any]) -> Outcome | None:
        stdin = _pipe(process.stdin)
        try:
            stdin.write(json.dumps({"task": task, "arguments": dict(arguments)}).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            return _death(process)
        return None

    def _end(self) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            logger.debug("the study's process had ended")
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                _close(stream)
        self._process = None


class _Watch:
    """What a process has used so far, against its limits."""

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits) -> None:
        self.limits = limits
        self.started = self.last_heard = time.monotonic()
        self.peak_memory_bytes = 0
        self._process = psutil.Process(process.pid)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def exceeded(self) -> tuple[FailureCode, str] | None:
        """The limit that is exceeded, and its numbers."""
        self.peak_memory_bytes = max(self.peak_memory_bytes, self._memory())
        if self.peak_memory_bytes > self.limits.memory_bytes:
            used, allowed = (value / 1024**2 for value in (self.peak_memory_bytes, self.limits.memory_bytes))
            return FailureCode.OUT_OF_MEMORY, f"it took {used:.0f} MiB of memory, {allowed:.0f} MiB are allowed"
        if self.seconds > self.limits.seconds:
            return FailureCode.TIMED_OUT, f"it took longer than {self.limits.seconds:g} s"
        if time.monotonic() - self.last_heard > self.limits.silent_seconds:
            return FailureCode.TIMED_OUT, f"no progress for {self.limits.silent_seconds:g} s"
        return None

    def _memory(self) -> int:
        try:
            processes = [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0
        return sum(map(_resident_bytes, processes))


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:  # it ended while it was looked at; others still take theirs
        return 0


def _follow(
    process: subprocess.Popen[bytes],
    watch: _Watch,
    on_progress: Progress | None,
    keep_going: Callable[[], bool] | None,
) -> Outcome:
    """Hear what the process says until its task ends, one way or the other."""
    stdout = _pipe(process.stdout)
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while True:
            heard = bool(selector.select(_LOOK_EVERY_S))
            over = watch.exceeded()
            if over is not None:
                return _outcome(watch, Ending.FAILED, *over)
            if keep_going is not None and not keep_going():
                return _outcome(watch, Ending.CANCELLED, FailureCode.CANCELLED, "stopped on request")
            if not heard:
                continue
            block = os.read(stdout.fileno(), 1 << 16)
            if not block:
                death = _death(process)
                return _outcome(watch, death.ending, death.code, death.message)
            watch.last_heard = time.monotonic()
            *lines, buffer = (buffer + block).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "progress" in message:
                    if on_progress is not None:
                        on_progress(*message["progress"])
                elif "value" in message:
                    return _outcome(watch, Ending.DONE, value=message["value"])
                else:
                    return _outcome(watch, Ending(message["ending"]), message["code"], message["message"])


def _outcome(
    watch: _Watch, ending: Ending, code: str = "", message: str = "", *, value: Mapping[str, Any] | None = None
) -> Outcome:
    return Outcome(ending, str(code), message, value or {}, round(watch.seconds, 3), watch.peak_memory_bytes)


def _death(process: subprocess.Popen[bytes]) -> Outcome:
    """Why a process ended that nobody here ended."""
    status = process.wait()
    if status == -signal.SIGKILL:
        return Outcome(Ending.FAILED, FailureCode.KILLED, "its process was killed, by hand or for want of memory")
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return Outcome(Ending.FAILED, FailureCode.CRASHED, f"its process ended with {how}")


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the study's process was started without a pipe")
    return stream


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        logger.debug("the study's process did not take its last order")
