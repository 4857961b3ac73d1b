"""Studies on this machine: so many processes side by side, each kept for many studies with its networks loaded."""

from __future__ import annotations

import queue
import threading

from jcs_ct.batch.executor import Order, attempt
from jcs_ct.engine.processor import cores
from jcs_ct.jobs import Outcome, StudyWorker


def default_workers() -> int:
    """Processes that this machine has cores for: two cores a process."""
    return max(1, cores() // 2)


class LocalExecutor:
    """A thread for each process, which watches its time and memory and starts it anew when it failed.

    Args:
        workers: Processes side by side.
        threads: Of the numerical libraries in each; None divides the cores.
        studies_per_process: A process is renewed after so many.
    """

    def __init__(self, workers: int, *, threads: int | None = None, studies_per_process: int = 500) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self._threads = threads or max(1, cores() // workers)
        self._studies_per_process = studies_per_process
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[tuple[str, Outcome]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._workers = [threading.Thread(target=self._work, name=f"study-{n}", daemon=True) for n in range(workers)]
        for thread in self._workers:
            thread.start()

    @property
    def window(self) -> int:
        """One waits for each that runs."""
        return 2 * len(self._workers)

    @property
    def workers(self) -> int:
        """See :class:`~jcs_ct.batch.executor.Executor`."""
        return len(self._workers)

    def submit(self, order: Order) -> None:
        """See :class:`~jcs_ct.batch.executor.Executor`."""
        self._orders.put(order)

    def collect(self, timeout_s: float) -> list[tuple[str, Outcome]]:
        """See :class:`~jcs_ct.batch.executor.Executor`."""
        ended: list[tuple[str, Outcome]] = []
        try:
            ended.append(self._ended.get(timeout=timeout_s))
            while True:
                ended.append(self._ended.get_nowait())
        except queue.Empty:
            return ended

    def close(self) -> None:
        """See :class:`~jcs_ct.batch.executor.Executor`."""
        self._stopping.set()
        for _ in self._workers:
            self._orders.put(None)
        for thread in self._workers:
            thread.join(timeout=30)

    def _work(self) -> None:
        with StudyWorker(studies_per_process=self._studies_per_process, threads=self._threads) as worker:
            while (order := self._orders.get()) is not None and not self._stopping.is_set():
                outcome = attempt(worker, order, keep_going=lambda: not self._stopping.is_set())
                self._ended.put((order.token, outcome))
