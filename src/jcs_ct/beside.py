"""Work beside other work: one owner of the threads that a study's stages run in, of what they raise, of their end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


class Beside:
    """Starts work in threads of its own, and ends with all of it: ``with Beside("lungs") as beside``.

    Left without an error, it waits for what was started and raises an error among it. Left with one (Ctrl-C
    too), it drops what has not begun, tells what runs by :attr:`is_stopping`, waits for it, and lets the error pass:
    no thread outlives the block.

    Args:
        name: Of its threads.
        threads: How many; work that finds none free waits, in the order in which it was started.
    """

    def __init__(self, name: str, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._unfinished: set[Future[object]] = set()
        self._stopping = threading.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether the block was left with an error: what still runs may end early, its result is not wanted."""
        return self._stopping.is_set()

    def start(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin ``work`` as soon as a thread is free; its result, or what it raises, comes from the future."""
        future = self._pool.submit(work, *args, **kwargs)
        watched = cast("Future[object]", future)
        self._unfinished.add(watched)
        watched.add_done_callback(self._forget)
        return future

    def _forget(self, future: Future[object]) -> None:
        """A result belongs to who asked for it: kept here, those of a long study would fill the memory."""
        if not future.cancelled() and future.exception() is None:
            self._unfinished.discard(future)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            for future in self._unfinished:
                future.result()
