"""A runner: takes jobs from the ledger one at a time, runs each in its process, puts results in place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from jcs_ct.choices import State
from jcs_ct.errors import OutputError
from jcs_ct.jobs.attempts import OUTAGE_WAIT_S, Attempts, crashed
from jcs_ct.jobs.hold import Hold
from jcs_ct.jobs.job import Claim, Job
from jcs_ct.jobs.ledger import LeaseLostError, Ledger
from jcs_ct.jobs.outcome import Limits
from jcs_ct.jobs.result_folders import ResultFolders
from jcs_ct.jobs.worker import StudyWorker

logger = logging.getLogger(__name__)


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
        outage_wait_s: See :class:`~jcs_ct.jobs.attempts.Attempts`.
    """

    ledger: Ledger
    results: ResultFolders
    task: str
    arguments: Callable[[Job, Path], Mapping[str, Any]]
    limits: Limits = field(default_factory=Limits)
    worker: StudyWorker = field(default_factory=StudyWorker)
    keep_going: Callable[[], bool] = lambda: True
    outage_wait_s: float = OUTAGE_WAIT_S

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.ledger, self.outage_wait_s)

    def work_once(self, *, reading_id: str | None = None) -> str | None:
        """Take one job as far as it goes; its ``job_id``, or None when nothing is due.

        After an outage of the machine (a full disk, a folder that cannot be written) nothing is due for a while; the
        job that met it is given back, and says so.

        Raises:
            sqlite3.OperationalError: the ledger cannot be written.
        """
        claim = None
        if self._attempts.may_claim():
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
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 - else the job is held, and the thread that runs this ends
            self._attempts.end(claim, crashed(error))

    def _work_on(self, claim: Claim) -> None:
        job_id = claim.job_id
        if self.results.find(job_id) is not None:  # an earlier attempt was killed between the rename and the record
            self._attempts.finish(claim, self.results.record(job_id))
            return
        staged = self.results.stage(job_id)
        try:
            hold = Hold(self.ledger, claim, keep_going=self.keep_going)
            outcome = self.worker.run(
                self.task,
                self.arguments(claim.job, staged),
                limits=self.limits,
                on_progress=hold.note,
                keep_going=hold.keep_going,
            )
            publish = partial(self._publish, job_id, staged)
            self._attempts.settle(claim, outcome, publish, stopped=hold.stopped)
        finally:
            self._discard(staged)

    def _discard(self, staged: Path) -> None:
        """Remove what an attempt left; what cannot be removed now is swept at the next start."""
        try:
            self.results.discard(staged)
        except OutputError as error:
            logger.warning("%s", error)

    def _publish(self, job_id: str, staged: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
        self.results.publish(job_id, staged, record)
        return self.results.record(job_id)
