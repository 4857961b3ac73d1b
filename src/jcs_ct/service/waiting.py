"""How long a study will still take: by the studies that this page read last."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Self

from jcs_ct.jobs import Job, Ledger, State

#: Readings that the estimate rests on, and for how many seconds it is kept.
_LAST, _KEPT_S = 20, 10.0


@dataclass(frozen=True)
class _Look:
    """The queue at a moment.

    Args:
        typical_s: Seconds of a reading; None before the first.
        seconds_of_byte: Seconds for each byte that was sent; None where sizes were not known.
        running: Jobs that are read.
        until_done_s: By job_id of those that wait: seconds of reading it and all that wait before it.
    """

    typical_s: float | None = None
    seconds_of_byte: float | None = None
    running: tuple[Job, ...] = ()
    until_done_s: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def at(cls, last: Sequence[Job], queued: Sequence[Job]) -> Self:
        """From the jobs that were done last, and those that wait or are read, in the order of the queue."""
        rates = [job.seconds / float(size) for job in last if (size := job.request.get("bytes", 0))]
        look = cls(
            statistics.median(job.seconds for job in last) if last else None,
            statistics.median(rates) if rates else None,
            tuple(job for job in queued if job.is_running),
        )
        waiting = [job for job in queued if not job.is_running]
        until_done = accumulate(look.expected_s(job) for job in waiting)
        return replace(look, until_done_s=dict(zip((job.job_id for job in waiting), until_done, strict=True)))

    def expected_s(self, job: Job) -> float:
        """Seconds of reading a study of this size, as far as it is known."""
        size = job.request.get("bytes", 0)
        if self.seconds_of_byte is None or not size:
            return self.typical_s or 0.0
        return self.seconds_of_byte * float(size)

    def left_s(self, job: Job, moment: float) -> float:
        """Seconds until a job that is read should be done; below 0 where it is overdue."""
        return self.expected_s(job) - (moment - job.changed_at)


class WaitingTime:
    """Estimates for studies that wait or are being read; one is read at a time.

    Args:
        ledger: Of the jobs; a job's request may say its ``bytes``.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._lock = ledger, threading.Lock()
        self._look, self._looked_at = _Look(), 0.0

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
            left = look.left_s(job, moment)
            return _coarse(left) if left > 0 else None
        before = sum(max(look.left_s(other, moment), 0.0) for other in look.running)
        # One that was added since the look comes after all that waited then.
        waiting = look.until_done_s.get(job.job_id)
        if waiting is None:
            waiting = max(look.until_done_s.values(), default=0.0) + look.expected_s(job)
        return _coarse(before + waiting)

    def _looked(self, moment: float) -> _Look:
        with self._lock:
            if abs(moment - self._looked_at) > _KEPT_S:
                done = self._ledger.counts()[State.DONE]
                last = self._ledger.jobs(states=(State.DONE,), limit=_LAST, offset=max(0, done - _LAST))
                self._look = _Look.at(last, self._ledger.jobs(states=(State.QUEUED,)))
                self._looked_at = moment
            return self._look


def _coarse(seconds: float) -> int:
    """In steps of 10 s below two minutes, and of minutes above: it is an estimate."""
    step = 10 if seconds < 120 else 60
    return max(step, int(-(-seconds // step) * step))
