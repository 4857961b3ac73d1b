"""Seconds of every stage of a reading, and word of how far each is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jcs_ct.progress import Progress


class StageClock:
    """Seconds per stage, and the progress of each."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """Time what is done within; gives a function to be called with how much of it is done, of how much."""

        def report(done: int, of: int) -> None:
            self._progress(name, done, of)

        report(0, total)
        started = time.perf_counter()
        yield report
        self.seconds[name] = round(time.perf_counter() - started, 3)
        report(total, total)
