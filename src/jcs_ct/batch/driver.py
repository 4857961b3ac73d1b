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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from jcs_ct.batch.batch_results import BatchResults
from jcs_ct.batch.executor import Executor, Order
from jcs_ct.errors import OutputError
from jcs_ct.jobs import Claim, FailureCode, LeaseLostError, Ledger, Limits, Outcome, State
from jcs_ct.jobs.runner import finish, settle

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
        waiting_for: What it waits for, when it does (``disk``).
    """

    counts: Mapping[State, int]
    running: int
    ended_here: int
    seconds: float
    waiting_for: str = ""

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
class _Held:
    claim: Claim
    staged: Mapping[str, str]


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
        keep_going: Asked twice a second; False gives the jobs that run back and ends.
        disk_patience_s: Longest wait for room.
    """

    ledger: Ledger
    results: BatchResults
    executor: Executor
    task: str
    options: Mapping[str, Any]
    reading_id: str
    limits: Limits = field(default_factory=Limits)
    room: tuple[Path, ...] = ()
    least_free_bytes: int = 1024**3
    on_change: Callable[[Standing], None] = lambda standing: None
    keep_going: Callable[[], bool] = lambda: True
    disk_patience_s: float = DISK_PATIENCE_S
    _held: dict[str, _Held] = field(default_factory=dict)
    _unsettled: list[tuple[_Held, Outcome]] = field(default_factory=list)
    _ended: int = 0
    _blocked_since: float | None = None

    def run(self) -> Standing:
        """Work until no job is left, or until told to stop.

        Raises:
            OutputError: the disk stayed full; whatever is left goes on when the same command is given again.
            BackendError: what runs the studies went away; likewise.
        """
        began = renewed = told = time.monotonic()
        self.ledger.release_lost(counts=False)  # studies have processes of their own: none of them ends a driver
        self.results.sweep()
        try:
            while self.keep_going():
                claimed = self._fill()
                for token, outcome in self.executor.collect(_COLLECT_S if self._held else 0.0):
                    self._take(self._held.pop(token), outcome)
                self._settle_late()
                if time.monotonic() - renewed > _RENEW_EVERY_S:
                    renewed = time.monotonic()
                    self._renew()
                is_idle = not self._held and not self._unsettled and not claimed
                if is_idle or time.monotonic() - told >= _TELL_EVERY_S:
                    told = time.monotonic()
                    standing = self._standing(told - began)
                    self.on_change(standing)
                    if is_idle and not standing.open:
                        return standing
                if is_idle:
                    time.sleep(_LOOK_AGAIN_S)
            return self._standing(time.monotonic() - began)
        finally:
            self.executor.close()
            self._give_back()

    def _fill(self) -> bool:
        """Claim jobs until the executor has enough; whether there was one."""
        claimed = False
        while len(self._held) < self.executor.window and not self._is_blocked():
            try:
                claim = self.ledger.claim(states=(State.QUEUED,), reading_id=self.reading_id, lease_s=_LEASE_S)
                if claim is None:
                    break
                claimed = True
                self._begin(claim)
            except (OutputError, sqlite3.OperationalError) as error:
                self._block(error)
        return claimed

    def _begin(self, claim: Claim) -> None:
        record = self.results.find(claim.job_id)
        if record is not None:  # an earlier driver was killed between putting them in place and writing it down
            finish(self.ledger, claim, record)
            self._ended += 1
            return
        try:
            staged = self.results.stage(claim.job_id)
        except OutputError as error:
            self.ledger.release(claim, code=FailureCode.OUTPUT_UNWRITABLE, message=str(error))
            raise
        token = secrets.token_hex(8)
        self._held[token] = _Held(claim, staged)
        arguments = {"study": dict(claim.job.request), "options": dict(self.options), **staged}
        self.executor.submit(Order(token, self.task, arguments, self.limits))

    def _take(self, held: _Held, outcome: Outcome) -> None:
        """Settle an attempt; when the disk or the ledger cannot take it now, later."""
        claim = held.claim
        try:
            if outcome.code == FailureCode.OUTPUT_UNWRITABLE and not self._has_room():
                self.ledger.release(claim, code=outcome.code, message=outcome.message)
                self._block(OutputError(outcome.message))
            else:
                publish = partial(self.results.publish, claim.job_id, held.staged)
                state = settle(self.ledger, claim, outcome, publish)
                self._ended += state is not State.QUEUED
                self._blocked_since = None
            self.results.discard(held.staged)
        except LeaseLostError as error:
            logger.warning("%s", error)
            self.results.discard(held.staged)
        except (OutputError, sqlite3.OperationalError) as error:
            self._block(error)
            self._unsettled.append((held, outcome))

    def _settle_late(self) -> None:
        """Try again what the disk could not take; results that were put in place by then are not written twice."""
        if not self._unsettled or not self._has_room():
            return
        waiting, self._unsettled = self._unsettled, []
        for held, outcome in waiting:
            record = self.results.find(held.claim.job_id)
            if record is None:
                self._take(held, outcome)
                continue
            try:
                finish(self.ledger, held.claim, record)
                self._ended += 1
            except sqlite3.OperationalError:
                self._unsettled.append((held, outcome))

    def _has_room(self) -> bool:
        return all(shutil.disk_usage(folder).free >= self.least_free_bytes for folder in self.room)

    def _is_blocked(self) -> bool:
        """Whether nothing new may be begun, for want of room.

        Raises:
            OutputError: that has lasted for too long.
        """
        if self._has_room() and not self._unsettled:
            self._blocked_since = None
            return False
        self._block(OutputError(f"less than {self.least_free_bytes / 1024**2:.1f} MiB are free"))
        return True

    def _block(self, error: Exception) -> None:
        now = time.monotonic()
        if self._blocked_since is None:
            logger.warning("waiting for room on the disk: %s", error)
            self._blocked_since = now
        if now - self._blocked_since > self.disk_patience_s:
            raise OutputError(
                f"the disk has had no room for {self.disk_patience_s:.0f} s ({error}); free space and give the same "
                "command again: what is done stays done, nothing is lost (DISK_FULL)",
                code="DISK_FULL",
            )

    def _renew(self) -> None:
        for held in [*self._held.values(), *(held for held, _ in self._unsettled)]:
            try:
                self.ledger.renew(held.claim)
            except (LeaseLostError, sqlite3.OperationalError) as error:
                logger.warning("%s", error)

    def _give_back(self) -> None:
        """Jobs that ran when the driver was stopped are queued again, without counting the attempt."""
        for held in [*self._held.values(), *(held for held, _ in self._unsettled)]:
            try:
                self.ledger.release(held.claim, message="the batch was stopped")
                self.results.discard(held.staged)
            except (LeaseLostError, OutputError, sqlite3.OperationalError) as error:
                logger.warning("%s", error)

    def _standing(self, seconds: float) -> Standing:
        counts = self.ledger.counts(reading_id=self.reading_id)
        waiting = "disk" if self._blocked_since is not None else ""
        running = min(len(self._held), self.executor.workers)
        return Standing(counts, running, self._ended, seconds, waiting)
