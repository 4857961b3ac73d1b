"""How attempts end, whoever runs them: results in place, tried again, refused, or given back to be tried later.

An outage of the machine (:data:`~jcs_ct.jobs.outcome.OUTAGES`) is no fault of the study that meets it: the job is
given back without counting the attempt, and its runner takes no other for a while.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jcs_ct.choices import State
from jcs_ct.jobs.job import Claim
from jcs_ct.jobs.ledger import LeaseLostError, Ledger
from jcs_ct.jobs.outcome import Ending, FailureCode, Outcome, explain
from jcs_ct.jobs.result_folders import ResultsGoneError

logger = logging.getLogger(__name__)

#: Time for which a runner takes no job after an outage of its machine.
OUTAGE_WAIT_S = 30.0

#: Puts an attempt's results in place with their record; the record of the results that lie there then.
Publish = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def crashed(error: Exception) -> Outcome:
    """An attempt that a fault beside its study ended; logged without the fault's text, which may quote the study."""
    _, code, message = explain(error)
    logger.error("an attempt ended beside its study's process: %s %s", code, message)
    return Outcome(Ending.FAILED, code, message)


@dataclass(eq=False)
class Attempts:
    """Writes down how a runner's attempts end.

    Args:
        ledger: The record.
        outage_wait_s: Time for which nothing is claimed after an outage of the machine.
    """

    ledger: Ledger
    outage_wait_s: float = OUTAGE_WAIT_S
    _owed: list[Callable[[], State]] = field(default_factory=list)
    _claims_from: float = 0.0

    def may_claim(self) -> bool:
        """Whether it is time to take a job: not soon after an outage; first the ledger takes back what it could not.

        Raises:
            sqlite3.OperationalError: it cannot be written yet.
        """
        if time.monotonic() < self._claims_from:
            return False
        while self._owed:
            try:
                self._owed[0]()
            except LeaseLostError as error:
                logger.warning("%s", error)
            del self._owed[0]
        return True

    def settle(self, claim: Claim, outcome: Outcome, publish: Publish, *, stopped: bool = False) -> State:
        """Put an attempt's results in place and write down how it ended; where the job stands then.

        Args:
            claim: The hold on the job.
            outcome: How the attempt ended.
            publish: Puts what it wrote in place.
            stopped: See :meth:`end`.

        Raises:
            LeaseLostError: the lease was lost.
            OutputError: the results cannot be put in place.
        """
        if outcome.ending is not Ending.DONE:
            return self.end(claim, outcome, stopped=stopped)
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
        self.ledger.renew(claim)  # still ours: nobody else's results are replaced
        try:
            published = publish(record)
        except ResultsGoneError as error:
            return self.end(claim, Outcome(Ending.FAILED, FailureCode.RUNNER_LOST, str(error)))
        return self.finish(claim, published)

    def finish(self, claim: Claim, record: Mapping[str, Any]) -> State:
        """The job is done, as the record beside its results says.

        Raises:
            LeaseLostError: the lease was lost.
        """
        self.ledger.finish(
            claim,
            result=record["value"],
            seconds=record["seconds"],
            peak_memory_bytes=record["peak_memory_bytes"],
        )
        logger.info("job %s: %s", claim.job_id, State.DONE)
        return State.DONE

    def end(self, claim: Claim, outcome: Outcome, *, stopped: bool = False) -> State:
        """Write down how an attempt ended that is not done; where the job stands then.

        After an outage the job waits twice as long as the runner, so that another one is tried first: a study that
        needs more room than there is does not hold up those that need less.

        Args:
            claim: The hold on the job.
            outcome: How it ended.
            stopped: A cancelled attempt was stopped for the runner's sake, not the person's: the job is given back.

        Raises:
            LeaseLostError: the lease was lost.
        """
        code, message = outcome.code, outcome.message
        if outcome.is_outage:
            self._pause()
            logger.warning("job %s waits, no attempt is counted: %s %s", claim.job_id, code, message)
            return self.give_back(claim, wait_s=2 * self.outage_wait_s, code=code, message=message)
        if outcome.ending is Ending.CANCELLED and stopped:
            return self.give_back(claim, message="the program that worked on it was stopped")
        if outcome.ending is Ending.CANCELLED:
            self.ledger.acknowledge_cancel(claim)
            state = State.CANCELLED
        elif outcome.ending is Ending.REFUSED:
            self.ledger.refuse(claim, code, message)
            state = State.REFUSED
        else:
            state = self.ledger.fail(claim, code, message)
        level = logging.WARNING if outcome.ending is Ending.FAILED else logging.INFO
        logger.log(level, "job %s: %s, attempt %d; %s", claim.job_id, code, claim.job.attempts, state)
        return state

    def give_back(self, claim: Claim, *, wait_s: float = 0.0, code: str = "", message: str = "") -> State:
        """Give a job back without counting the attempt: at once, or once the ledger's disk takes it again.

        Without the second, a full disk would be counted when the lease ends.

        Raises:
            LeaseLostError: the lease was lost.
        """
        release = partial(self.ledger.release, claim, wait_s=wait_s, code=code, message=message)
        try:
            return release()
        except sqlite3.OperationalError as error:
            logger.warning("job %s is given back later, the ledger cannot be written: %s", claim.job_id, error)
            self._pause()
            self._owed.append(release)
            return claim.job.state

    def _pause(self) -> None:
        self._claims_from = time.monotonic() + self.outage_wait_s
