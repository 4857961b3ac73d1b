"""Work that requests wait for: so many at a time, so that the page goes on answering the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from jcs_ct.service.problems import Problem


class Turns:
    """Places for requests that wait for a process of their own.

    Args:
        most: Requests at a time, those that wait included.
        what: What they do, for the message.
    """

    def __init__(self, most: int, what: str) -> None:
        self._places, self._most, self._what = threading.BoundedSemaphore(most), most, what

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a place.

        Raises:
            Problem: BUSY, where none is free.
        """
        if not self._places.acquire(blocking=False):
            message = f"{self._most} request(s) {self._what} at this moment; try again in a few seconds"
            raise Problem(503, "BUSY", message, retry_after_s=5)
        try:
            yield
        finally:
            self._places.release()
