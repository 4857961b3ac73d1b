"""The driver: takes jobs from the ledger, keeps the executor busy, puts results in place and writes down each ending.

Only the driver touches the ledger and puts results in place, whatever runs the studies. A study is run at least once;
its results take effect once: the first to be put in place stay. Killed at any moment, the driver finds out what is
left from the ledger and the results when it is started again.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jcs_ct.batch.batch_results import BatchResults
from jcs_ct.batch.executor import Executor, Order
from jcs_ct.disk_space import GIB
from jcs_ct.errors import DamagedFileError, OutputError
from jcs_ct.jobs import Claim, Ending, FailureCode, LeaseLostError, Ledger, Limits, Outcome, State
from jcs_ct.jobs.attempts import OUTAGE_WAIT_S, Attempts, crashed
from jcs_ct.jobs.hold import Hold
from jcs_ct.jobs.outcome import explain

logger = logging.getLogger(__name__)

_LEASE_S = 3600.0
_RENEW_EVERY_S = 300.0
_COLLECT_S = 0.5
_LOOK_AGAIN_S = 2.0
_TELL_EVERY_S = 2.0
#: What a driver waits for room on a full disk before it gives up.
DISK_PATIENCE_S = 3600.0


@dataclass(frozen=True)
class Standing:
    """How far a batch is.

    Args:
        counts: Jobs by state.
        running: Studies that are being read.
        ended_here: Jobs that this driver brought to an end, well or not.
        seconds: Since this driver began.
        waiting_for: What it waits for, when it does (``disk``, or the store of the results).
        verdicts: Studies that are done, by verdict.
    """

    counts: Mapping[State, int]
    running: int
    ended_here: int
    seconds: float
    waiting_for: str = ""
    verdicts: Mapping[str, int] = field(default_factory=dict)

    @property
    def open(self) -> int:
        """Jobs that are still to be done."""
        return self.counts[State.QUEUED]

    @property
    def rate(self) -> float:
        """Studies a second since this driver began."""
        return self.ended_here / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until all is done at this rate; None before the first ended."""
        return self.open / self.rate if self.rate > 0 else None


@dataclass(frozen=True)
class Failure:
    """An attempt at a study that was refused or failed.

    Args:
        job_id: The study's, as `jcs batch status` and the summary have it.
        attempt: Which one, from 1.
        state: Where the job stands now: ``queued`` (it is tried again), ``refused`` or ``set_aside``.
        code: Why.
        message: For a person; without names and paths of the study.
    """

    job_id: str
    attempt: int
    state: State
    code: str
    message: str


@dataclass(frozen=True)
class _Held:
    hold: Hold
    staged: Mapping[str, str]

    @property
    def claim(self) -> Claim:
        return self.hold.claim


@dataclass(eq=False)
class Driver:
    """One batch at work.

    Args:
        ledger: The record.
        results: Where results go.
        executor: What runs the studies.
        task: What is done with each.
        options: Of every study, for the task.
        reading_id: Jobs of these weights, operating point and version are worked on.
        limits: Of each study.
        room: Folders whose disk must have ``least_free_bytes`` before another study is begun.
        least_free_bytes: See ``room``.
        on_change: Called with the standing every two seconds.
        on_failure: Called when an attempt at a study was refused or failed.
        keep_going: Asked twice a second; False gives the jobs that run back and ends.
        outage_wait_s: See :class:`~jcs_ct.jobs.attempts.Attempts`.
        disk_patience_s: Longest wait for a disk or store that takes no results.
    """

    ledger: Ledger
    results: BatchResults
    executor: Executor
    task: str
    options: Mapping[str, Any]
    reading_id: str
    limits: Limits = field(default_factory=Limits)
    room: tuple[Path, ...] = ()
    least_free_bytes: int = GIB
    on_change: Callable[[Standing], None] = lambda standing: None
    on_failure: Callable[[Failure], None] = lambda failure: None
    keep_going: Callable[[], bool] = lambda: True
    outage_wait_s: float = OUTAGE_WAIT_S
    disk_patience_s: float = DISK_PATIENCE_S
    _held: dict[str, _Held] = field(default_factory=dict)
    _unsettled: list[tuple[_Held, Outcome]] = field(default_factory=list)
    _ended: int = 0
    _verdicts: Counter[str] = field(default_factory=Counter)
    _blocked_since: float | None = None
    _waiting_for: str = ""

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.ledger, self.outage_wait_s)

    def run(self) -> Standing:
        """Work until no job is left, or until told to stop.

        Raises:
            OutputError: the disk stayed full; whatever is left goes on when the same command is given again.
            BackendError: what runs the studies went away; likewise.
        """
        self.ledger.release_lost(counts=False)  # studies have processes of their own: none of them ends a driver
        self._verdicts = Counter(self.ledger.result_counts("verdict", reading_id=self.reading_id))
        try:
            with self.results.at_work():
                return self._work()
        finally:
            self._close_executor()
            self._give_back()

    def _close_executor(self) -> None:
        """End what runs; where that fails, it is said, and neither hides an earlier error nor keeps jobs held.

        Studies that go on write to places of their own, and what they write does not count.
        """
        try:
            self.executor.close()
        except Exception as error:  # noqa: BLE001 - Ray, submitit and the commands that they call raise errors of many kinds
            _, code, message = explain(error)
            logger.error("what runs the studies could not be ended: %s %s", code, message)

    def _work(self) -> Standing:
        began = told = time.monotonic()
        while self.keep_going():
            self._renew()  # before others' leases are ended: a machine that slept would take the jobs from itself
            claimed = self._fill()
            for token, outcome in self.executor.collect(_COLLECT_S if self._held else 0.0):
                self._take(self._held.pop(token), outcome)
            self._settle_late()
            is_idle = not self._held and not self._unsettled and not claimed
            if is_idle or time.monotonic() - told >= _TELL_EVERY_S:
                told = time.monotonic()
                standing = self._standing(told - began)
                self.on_change(standing)
                if is_idle and not standing.open:
                    return standing
            if not self._held and not claimed:
                time.sleep(_LOOK_AGAIN_S)
        return self._standing(time.monotonic() - began)

    def _fill(self) -> bool:
        """Claim jobs until the executor has enough; whether there was one."""
        claimed = False
        try:
            while len(self._held) < self.executor.window and not self._is_blocked():
                claim = self.ledger.claim(states=(State.QUEUED,), reading_id=self.reading_id, lease_s=_LEASE_S)
                if claim is None or not self._begin(claim):
                    break
                claimed = True
        except sqlite3.OperationalError as error:
            self._block(error)
        return claimed

    def _begin(self, claim: Claim) -> bool:
        """Give a job to the executor, or end it where its results lie there; False when these cannot be reached."""
        try:
            record = self.results.find(claim.job_id)
            if record is not None:  # an earlier driver was killed between putting them in place and writing it down
                self._attempts.finish(claim, record)
                self._count(record["value"])
                return True
            staged = self.results.stage(claim.job_id)
        except DamagedFileError as error:  # of this study alone: the others are read
            failed = crashed(error)
            self._note(claim, self._attempts.end(claim, failed), failed)
            return True
        except (OutputError, sqlite3.OperationalError) as error:
            self._attempts.end(claim, crashed(error))
            self._block(error)
            return False
        self._waiting_for = ""
        token = secrets.token_hex(8)
        self._held[token] = _Held(Hold(self.ledger, claim, every_s=_RENEW_EVERY_S), staged)
        arguments = {"study": dict(claim.job.request), "options": dict(self.options), **staged}
        self.executor.submit(Order(token, self.task, arguments, self.limits))
        return True

    def _take(self, held: _Held, outcome: Outcome, *, late: bool = False) -> None:
        """Settle an attempt; when the disk or the ledger cannot take it now, later."""

        def publish(record: Mapping[str, Any]) -> Mapping[str, Any]:
            job_id = held.claim.job_id
            there = self.results.find(job_id) if late else None  # in place already, and not written down
            return self.results.publish(job_id, held.staged, record) if there is None else there

        try:
            state = self._attempts.settle(held.claim, outcome, publish)
        except LeaseLostError as error:
            logger.warning("%s", error)
        except DamagedFileError as error:  # of results that lay there before
            failed = crashed(error)
            self._note(held.claim, self._attempts.end(held.claim, failed), failed)
        except (OutputError, sqlite3.OperationalError) as error:
            self._unsettled.append((held, outcome))
            self._block(error)
            return
        else:
            self._note(held.claim, state, outcome)
        self._discard(held)
        if outcome.is_outage:
            self._block(OutputError(outcome.message, code=outcome.code))
        else:
            self._blocked_since, self._waiting_for = None, ""

    def _note(self, claim: Claim, state: State, outcome: Outcome) -> None:
        """Count what came to an end, and tell what failed."""
        if state is State.DONE:
            self._count(outcome.value)
            return
        self._ended += state is not State.QUEUED
        if outcome.ending in (Ending.REFUSED, Ending.FAILED) and not outcome.is_outage:
            job = claim.job
            self.on_failure(Failure(job.job_id, job.attempts, state, outcome.code, outcome.message))

    def _count(self, value: Mapping[str, Any]) -> None:
        self._ended += 1
        if "verdict" in value:
            self._verdicts[value["verdict"]] += 1

    def _discard(self, held: _Held) -> None:
        """Remove what an attempt left; what cannot be removed now is swept by the next driver."""
        try:
            self.results.discard(held.staged)
        except OutputError as error:
            logger.warning("%s", error)

    def _settle_late(self) -> None:
        """Try again what the disk could not take; results that were put in place by then are not written twice."""
        if not self._has_room():
            return
        for held, outcome in self._unsettled.copy():
            self._unsettled.remove((held, outcome))
            self._take(held, outcome, late=True)

    def _has_room(self) -> bool:
        return all(shutil.disk_usage(folder).free >= self.least_free_bytes for folder in self.room)

    def _is_blocked(self) -> bool:
        """Whether nothing new may be begun: for want of room, or soon after an outage of the machine.

        Raises:
            OutputError: that has lasted for too long.
            sqlite3.OperationalError: the ledger cannot be written.
        """
        if not self._has_room():
            error = OutputError(f"less than {self.least_free_bytes / 1024**2:.1f} MiB are free", code="DISK_FULL")
            self._block(error)
            return True
        return bool(self._unsettled) or not self._attempts.may_claim()

    def _block(self, error: Exception) -> None:
        """Wait for the disk, and say so.

        Raises:
            OutputError: that has lasted for too long.
        """
        now = time.monotonic()
        self._waiting_for = "disk"
        if self._blocked_since is None:
            logger.warning("waiting until results can be written: %s", error)
            self._blocked_since = now
        if now - self._blocked_since > self.disk_patience_s:
            code = error.code if isinstance(error, OutputError) else FailureCode.OUTPUT_UNWRITABLE
            first = "free space" if code == FailureCode.DISK_FULL else "see that the results' place can be written"
            raise OutputError(
                f"results could not be written for {self.disk_patience_s:.0f} s ({error}); {first} and give the same "
                f"command again: what is done stays done, nothing is lost ({code})",
                code=str(code),
                remedy=f"{first} and give the same command again",
            )

    def _renew(self) -> None:
        """Keep every hold alive; studies that a person cancelled end by themselves."""
        for held in [*self._held.values(), *(held for held, _ in self._unsettled)]:
            try:
                held.hold.keep_going()
            except (LeaseLostError, sqlite3.OperationalError) as error:
                logger.warning("%s", error)

    def _give_back(self) -> None:
        """Jobs that ran when the driver was stopped are queued again, without counting the attempt."""
        for held in [*self._held.values(), *(held for held, _ in self._unsettled)]:
            try:
                self._attempts.give_back(held.claim, message="the batch was stopped")
            except LeaseLostError as error:
                logger.warning("%s", error)
            self._discard(held)

    def _standing(self, seconds: float) -> Standing:
        counts = self.ledger.counts(reading_id=self.reading_id)
        running = min(len(self._held), self.executor.workers)
        return Standing(counts, running, self._ended, seconds, self._waiting_for, dict(self._verdicts))
