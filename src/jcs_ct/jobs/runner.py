"""A runner: takes jobs from the ledger one at a time, runs each in its process, puts results in place."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from jcs_ct.choices import State
from jcs_ct.errors import OutputError
from jcs_ct.jobs.job import Claim, Job
from jcs_ct.jobs.ledger import LeaseLostError, Ledger
from jcs_ct.jobs.outcome import Ending, FailureCode, Limits, Outcome, explain
from jcs_ct.jobs.result_folders import ResultFolders, ResultsGoneError
from jcs_ct.jobs.worker import StudyWorker

logger = logging.getLogger(__name__)

_NOTE_EVERY_S = 1.0


@dataclass(eq=False)
class Runner:
    """Works on the queued jobs of a ledger.

    Args:
        ledger: The record.
        results: Where results go.
        task: ``module:function`` of a :data:`~jcs_ct.jobs.child.Task`.
        arguments: What the task is given for a job, and the empty folder that it writes to.
        limits: Of each study.
        worker: The process.
        keep_going: Asked during a study; False gives the job back unfinished (the runner is to stop).
    """

    ledger: Ledger
    results: ResultFolders
    task: str
    arguments: Callable[[Job, Path], Mapping[str, Any]]
    limits: Limits = field(default_factory=Limits)
    worker: StudyWorker = field(default_factory=StudyWorker)
    keep_going: Callable[[], bool] = lambda: True

    def work_once(self, *, reading_id: str | None = None) -> str | None:
        """Take one job as far as it goes; its ``job_id``, or None when nothing is due.

        Raises:
            OutputError: the results' folder cannot be written; the job is given back to be tried later.
        """
        claim = self.ledger.claim(states=(State.QUEUED,), reading_id=reading_id)
        if claim is None:
            return None
        try:
            self._attempt(claim)
        except LeaseLostError as error:
            logger.warning("%s", error)
        return claim.job_id

    def _attempt(self, claim: Claim) -> None:
        try:
            self._work_on(claim)
        except (LeaseLostError, sqlite3.Error):
            raise
        except OutputError as error:
            self.ledger.fail(claim, error.code, str(error))
            raise
        except Exception as error:  # noqa: BLE001 - else the job is held, and the thread that runs this ends
            _, code, message = explain(error)
            logger.error("job %s: %s %s", claim.job_id, code, message)
            self.ledger.fail(claim, code, message)

    def _work_on(self, claim: Claim) -> None:
        job_id = claim.job_id
        if self.results.find(job_id) is not None:  # an earlier attempt was killed between the rename and the record
            finish(self.ledger, claim, self.results.record(job_id))
            return
        staged = self.results.stage(job_id)
        try:
            hold = _Hold(self.ledger, claim, self.keep_going)
            outcome = self.worker.run(
                self.task,
                self.arguments(claim.job, staged),
                limits=self.limits,
                on_progress=hold.note,
                keep_going=hold.keep_going,
            )
            settle(self.ledger, claim, outcome, partial(self._publish, job_id, staged), stopped=hold.stopped)
        finally:
            self.results.discard(staged)

    def _publish(self, job_id: str, staged: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
        self.results.publish(job_id, staged, record)
        return self.results.record(job_id)


#: Puts an attempt's results in place with their record; the record of the results that lie there then.
Publish = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def settle(ledger: Ledger, claim: Claim, outcome: Outcome, publish: Publish, *, stopped: bool = False) -> State:
    """Put an attempt's results in place and write down how it ended; where the job stands then.

    Args:
        ledger: The record.
        claim: The hold on the job.
        outcome: How the attempt ended.
        publish: Puts what it wrote in place.
        stopped: A cancelled attempt was stopped for the runner's sake, not the person's: the job is given back.

    Raises:
        LeaseLostError: the lease was lost.
        OutputError: the results cannot be put in place.
    """
    logger.info("job %s: %s %s", claim.job_id, outcome.ending, outcome.code)
    if outcome.ending is Ending.DONE:
        key = claim.job.key
        record = {
            "job_id": claim.job_id,
            "weights": key.weights,
            "operating_point": key.operating_point,
            "version": key.version,
            "value": dict(outcome.value),
            "seconds": outcome.seconds,
            "peak_memory_bytes": outcome.peak_memory_bytes,
        }
        ledger.renew(claim)  # still ours: nobody else's results are replaced
        try:
            published = publish(record)
        except ResultsGoneError as error:
            return ledger.fail(claim, FailureCode.RUNNER_LOST, str(error))
        return finish(ledger, claim, published)
    if outcome.ending is Ending.REFUSED:
        ledger.refuse(claim, outcome.code, outcome.message)
        return State.REFUSED
    if outcome.ending is Ending.FAILED:
        return ledger.fail(claim, outcome.code, outcome.message)
    if stopped:
        return ledger.release(claim, message="the program that worked on it was stopped")
    ledger.acknowledge_cancel(claim)
    return State.CANCELLED


def finish(ledger: Ledger, claim: Claim, record: Mapping[str, Any]) -> State:
    """The job is done, as the record beside its results says."""
    ledger.finish(
        claim,
        result=record["value"],
        seconds=record["seconds"],
        peak_memory_bytes=record["peak_memory_bytes"],
    )
    return State.DONE


class _Hold:
    """Keeps a claim alive while its study is read: progress at most once a second, else a renewal."""

    def __init__(self, ledger: Ledger, claim: Claim, keep_going: Callable[[], bool]) -> None:
        self._ledger, self._claim, self._runner_goes_on = ledger, claim, keep_going
        self._noted = time.monotonic()
        self._stage = ("", 0, 0)
        self._wanted = True
        self.stopped = False

    def note(self, stage: str, done: int, total: int) -> None:
        due = stage != self._stage[0] or time.monotonic() - self._noted >= _NOTE_EVERY_S
        self._stage = (stage, done, total)
        if due:
            self._write()

    def keep_going(self) -> bool:
        if time.monotonic() - self._noted >= _NOTE_EVERY_S:
            self._write()
        if not self._runner_goes_on():
            self.stopped = True
            return False
        return self._wanted

    def _write(self) -> None:
        self._noted = time.monotonic()
        self._wanted = self._ledger.progress(self._claim, *self._stage) and self._wanted
