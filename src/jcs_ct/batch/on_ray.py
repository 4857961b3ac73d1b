"""Studies on a Ray cluster: a Ray task for each, which watches the study's process on the machine it came to.

Ray brings tasks back that lost their process or machine; the study inside is isolated as everywhere else, since Ray
knows no time limit for a task and shares a process between tasks.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from jcs_ct.batch.executor import Order, attempt, lost, outcome_from_dict, outcome_to_dict
from jcs_ct.errors import BackendError, ConfigError, MissingExtraError
from jcs_ct.jobs import Ending, FailureCode, Outcome, StudyWorker
from jcs_ct.jobs.attempts import crashed

logger = logging.getLogger(__name__)

#: Times that Ray runs a task anew whose process or machine went away.
RAY_RETRIES = 3
_OBJECT_STORE_BYTES = 128 * 1024**2


class RayExecutor:
    """Orders as Ray tasks.

    Args:
        address: ``auto`` or the address of a cluster; None starts one on this machine that ends with the executor.
        workers: Studies side by side on this machine, where one is started; on a cluster its cores decide.
        threads: Cores of each study.
        memory_bytes: Memory that Ray sets aside for each study.
        gpus: Share of a GPU that each study takes.
        window: Orders that may be out at once; None for two a worker, as the cluster grows and shrinks.

    Raises:
        ConfigError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        workers: int = 1,
        threads: int = 1,
        memory_bytes: int,
        gpus: float = 0.0,
        window: int | None = None,
    ) -> None:
        self._ray = _import_ray()
        self._starts_ray = not self._ray.is_initialized()
        if self._starts_ray:
            self._connect(address, workers, threads, memory_bytes)
        self._window = window
        remote = self._ray.remote(run_order)
        self._run = remote.options(
            num_cpus=threads,
            num_gpus=gpus,
            memory=memory_bytes,
            max_retries=RAY_RETRIES,
            retry_exceptions=False,
        )
        self._threads = threads
        self._running: dict[Any, str] = {}

    def _connect(self, address: str | None, workers: int, threads: int, memory_bytes: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Without an address Ray would join any cluster that runs on this machine.
        options: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "configure_logging": False}
        if address is None:
            options |= {
                "num_cpus": workers * threads,
                "_memory": workers * memory_bytes,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "include_dashboard": False,
            }
        try:
            self._ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ConfigError(f"no Ray cluster answers at {address or 'this machine'}: {error}") from error

    @property
    def window(self) -> int:
        """See :class:`~jcs_ct.batch.executor.Executor`; what waits makes a cluster grow that can."""
        return self._window or 2 * self.workers

    @property
    def workers(self) -> int:
        """See :class:`~jcs_ct.batch.executor.Executor`; as many as the cluster has room for now."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)) // self._threads)

    def submit(self, order: Order) -> None:
        """See :class:`~jcs_ct.batch.executor.Executor`."""
        self._running[self._run.remote(order.to_dict(), self._threads)] = order.token

    def collect(self, timeout_s: float) -> list[tuple[str, Outcome]]:
        """See :class:`~jcs_ct.batch.executor.Executor`.

        Raises:
            BackendError: Ray itself went away on this machine, which is no study's fault.
        """
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        more, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [(self._running.pop(reference), self._outcome(reference)) for reference in {*ready, *more}]

    def _outcome(self, reference: Any) -> Outcome:
        errors = self._ray.exceptions
        try:
            return outcome_from_dict(self._ray.get(reference))
        except errors.OutOfMemoryError:
            return Outcome(Ending.FAILED, FailureCode.OUT_OF_MEMORY, "its machine ran out of memory")
        except errors.LocalRayletDiedError as error:
            raise BackendError(
                "Ray went away on this machine; give the same command again: what ran counts no attempt, what is "
                "done stays done"
            ) from error
        except errors.RayTaskError as error:  # run_order itself raised: Ray does not try that again
            return crashed(error)
        except errors.RayError as error:
            return lost(f"Ray lost it more than {RAY_RETRIES} times ({type(error).__name__})")

    def close(self) -> None:
        """See :class:`~jcs_ct.batch.executor.Executor`; a study that cannot be cancelled is said in the log."""
        for reference in self._running:
            try:
                self._ray.cancel(reference, force=True)
            except (self._ray.exceptions.RayError, ConnectionError, ValueError) as error:
                logger.error("a study could not be cancelled on Ray: %s", type(error).__name__)
        self._running.clear()
        if self._starts_ray:
            self._ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise MissingExtraError("the executor ray", "cluster") from error
    import ray.exceptions

    return ray


@cache
def _worker(threads: int) -> StudyWorker:
    """The studies' process of this Ray process, kept with its networks from task to task."""
    return StudyWorker(threads=threads, studies_per_process=500)


def run_order(values: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Run one order on the machine that this is called on.

    Ray may run an order anew while the first run still lives behind a broken network: each writes to a folder of its
    own, and the first that is whole takes the order's place.
    """
    order = Order.from_dict(values)
    output = order.arguments.get("output")
    if output is None:
        return outcome_to_dict(attempt(_worker(threads), order))
    try:
        return outcome_to_dict(_run_apart(order, Path(output), threads))
    except OSError as error:
        return outcome_to_dict(crashed(error))


def _run_apart(order: Order, output: Path, threads: int) -> Outcome:
    mine = Path(f"{output}.{secrets.token_hex(4)}")
    mine.mkdir(parents=True)
    try:
        apart = replace(order, arguments={**order.arguments, "output": str(mine)})
        outcome = attempt(_worker(threads), apart)
        if outcome.ending is Ending.DONE and not any(output.iterdir()):
            mine.rename(output)
    finally:
        shutil.rmtree(mine, ignore_errors=True)
    return outcome
