"""How long a study will still take: by the studies that this page read last."""

from __future__ import annotations

import statistics
import threading
import time

from jcs_ct.jobs import Job, Ledger, State

#: Readings that the estimate rests on, and for how many seconds it is kept.
_LAST, _KEPT_S = 20, 10.0


class WaitingTime:
    """Estimates for studies that wait or are being read; one is read at a time.

    Args:
        ledger: Of the jobs.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._lock = ledger, threading.Lock()
        self._typical_s: float | None = None
        self._running: Job | None = None
        self._looked_at = 0.0

    def left_s(self, job: Job, place: int | None, *, now: float | None = None) -> int | None:
        """Seconds until the job is done, coarsely; None when it is not open or nothing was read yet.

        Args:
            job: Which.
            place: In the queue; None while it is read.
            now: Seconds since the epoch.
        """
        moment = time.time() if now is None else now
        typical, running = self._look(moment)
        if typical is None or not (job.is_running or place is not None):
            return None
        if job.is_running:
            return _coarse(_rest(typical, job, moment))
        first = 0.0 if running is None else _rest(typical, running, moment)
        return _coarse(first + typical * (place or 1))

    def _look(self, moment: float) -> tuple[float | None, Job | None]:
        with self._lock:
            if abs(moment - self._looked_at) > _KEPT_S:
                done = self._ledger.counts()[State.DONE]
                last = self._ledger.jobs(states=(State.DONE,), limit=_LAST, offset=max(0, done - _LAST))
                self._typical_s = statistics.median(job.seconds for job in last) if last else None
                held = (job for job in self._ledger.jobs(states=(State.QUEUED,)) if job.is_running)
                self._running, self._looked_at = next(held, None), moment
            return self._typical_s, self._running


def _rest(typical_s: float, job: Job, moment: float) -> float:
    """What is left of a study that is being read since ``changed_at``; never nothing."""
    return max(typical_s - (moment - job.changed_at), 0.05 * typical_s)


def _coarse(seconds: float) -> int:
    """In steps of 10 s below two minutes, and of minutes above: it is an estimate."""
    step = 10 if seconds < 120 else 60
    return int(-(-seconds // step) * step)
