"""A runner's hold on a job while its study is worked on: lease renewed, progress noted, requests to stop heard."""

from __future__ import annotations

import time
from collections.abc import Callable

from jcs_ct.jobs.job import Claim
from jcs_ct.jobs.ledger import Ledger


class Hold:
    """Keeps a claim alive, and the ledger told how far its study is.

    Give :meth:`note` and :meth:`keep_going` to what works on the study, or ask :meth:`keep_going` now and then. Each
    may raise :class:`~jcs_ct.jobs.LeaseLostError`, when the job was another runner's before it could be noted.

    Args:
        ledger: The record.
        claim: What is held.
        every_s: Time between two notes, by the clock that leases end by; a new stage is noted at once.
        beat: Called with each note.
        keep_going: The runner's; False stops the work for its sake.

    Attributes:
        stopped: The work was stopped for the runner's sake, and not for a person's.
    """

    def __init__(
        self,
        ledger: Ledger,
        claim: Claim,
        *,
        every_s: float = 1.0,
        beat: Callable[[], None] = lambda: None,
        keep_going: Callable[[], bool] = lambda: True,
    ) -> None:
        self.claim, self.stopped = claim, False
        self._ledger, self._every_s, self._beat, self._runner_goes_on = ledger, every_s, beat, keep_going
        self._noted, self._stage, self._wanted = time.time(), ("", 0, 0), True

    def note(self, stage: str, done: int, total: int) -> None:
        """How far the study is (a :class:`~jcs_ct.progress.Progress`)."""
        is_new = stage != self._stage[0]
        self._stage = (stage, done, total)
        if is_new or self._is_due():
            self._write()

    def keep_going(self) -> bool:
        """Whether the study is still to be worked on; what was last noted is written again when that is due."""
        if self._is_due():
            self._write()
        if not self._runner_goes_on():
            self.stopped = True
            return False
        return self._wanted

    def _is_due(self) -> bool:
        return not 0 <= time.time() - self._noted < self._every_s  # the clock may be set back

    def _write(self) -> None:
        self._noted = time.time()
        self._wanted = self._ledger.progress(self.claim, *self._stage) and self._wanted
        self._beat()
