"""How long a study will still take: by the studies that this page read last."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass

from jcs_ct.jobs import Job, Ledger, State

#: Readings that the estimate rests on, and for how many seconds it is kept.
_LAST, _KEPT_S = 20, 10.0


@dataclass(frozen=True)
class _Look:
    """The queue at a moment.

    Args:
        typical_s: Seconds of a reading; None before the first.
        seconds_of_byte: Seconds for each byte that was sent; None where sizes were not known.
        open_jobs: The one that is read, and those that wait in their order.
    """

    typical_s: float | None
    seconds_of_byte: float | None
    open_jobs: tuple[Job, ...]

    def expected_s(self, job: Job) -> float:
        """Seconds of reading a study of this size, as far as it is known."""
        size = job.request.get("bytes", 0)
        if self.seconds_of_byte is None or not size:
            return self.typical_s or 0.0
        return self.seconds_of_byte * float(size)


class WaitingTime:
    """Estimates for studies that wait or are being read; one is read at a time.

    Args:
        ledger: Of the jobs; a job's request may say its ``bytes``.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._lock = ledger, threading.Lock()
        self._look, self._looked_at = _Look(None, None, ()), 0.0

    def left_s(self, job: Job, *, now: float | None = None) -> int | None:
        """Seconds until an open job is done, coarsely; None before a study was read, and for one that is overdue.

        Args:
            job: Which.
            now: Seconds since the epoch.
        """
        moment = time.time() if now is None else now
        look = self._looked(moment)
        if look.typical_s is None or job.state is not State.QUEUED:
            return None
        if job.is_running:
            left = look.expected_s(job) - (moment - job.changed_at)
            return _coarse(left) if left > 0 else None
        total = look.expected_s(job)
        for other in look.open_jobs:
            if other.job_id == job.job_id:
                break
            spent = moment - other.changed_at if other.is_running else 0.0
            total += max(look.expected_s(other) - spent, 0.0)
        return _coarse(total)

    def _looked(self, moment: float) -> _Look:
        with self._lock:
            if abs(moment - self._looked_at) > _KEPT_S:
                done = self._ledger.counts()[State.DONE]
                last = self._ledger.jobs(states=(State.DONE,), limit=_LAST, offset=max(0, done - _LAST))
                rates = [job.seconds / float(size) for job in last if (size := job.request.get("bytes", 0))]
                waiting = self._ledger.jobs(states=(State.QUEUED,))
                self._look = _Look(
                    statistics.median(job.seconds for job in last) if last else None,
                    statistics.median(rates) if rates else None,
                    tuple(sorted(waiting, key=lambda job: not job.is_running)),
                )
                self._looked_at = moment
            return self._look


def _coarse(seconds: float) -> int:
    """In steps of 10 s below two minutes, and of minutes above: it is an estimate."""
    step = 10 if seconds < 120 else 60
    return max(step, int(-(-seconds // step) * step))
