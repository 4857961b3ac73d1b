"""Studies on a Slurm cluster: a Slurm job for some dozens of them, by submitit.

A Slurm job reads its studies one after the other and leaves how each ended in a file, on a disk that the machines
share. What a job leaves no file of, because it was killed or ran out of time, is lost and comes back to the driver.
A limit on jobs, at which Slurm takes no other, is waited for while some of ours are out.
"""

from __future__ import annotations

import json
import logging
import math
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jcs_ct.batch.executor import Order, attempt, lost, outcome_from_dict, outcome_to_dict
from jcs_ct.disk_space import GIB
from jcs_ct.errors import BackendError, ConfigError, DamagedFileError, MissingExtraError
from jcs_ct.files import prepare_output_folder, read_own_json, write_text
from jcs_ct.jobs import Outcome, StudyWorker

logger = logging.getLogger(__name__)

_FLUSH_AFTER_S = 2.0
_SUBMIT_AGAIN_S = 30.0
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class SlurmSettings:
    """What a Slurm job asks for.

    Args:
        partition: Where it runs; empty for the cluster's default.
        studies_per_job: Studies of each job.
        jobs: Jobs that may be out at once.
        threads: Cores of each.
        minutes: Time limit of each.
        gpus: GPUs of each.
        cluster: ``slurm``, or ``local`` for processes of this machine in its place (tests, a trial).
        parameters: More parameters of submitit, as ``{"slurm_account": "lab"}``.
    """

    partition: str = ""
    studies_per_job: int = 50
    jobs: int = 100
    threads: int = 2
    minutes: int = 24 * 60
    gpus: int = 0
    cluster: str = "slurm"
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.studies_per_job, self.jobs, self.threads, self.minutes) < 1 or self.gpus < 0:
            raise ConfigError(f"a Slurm job needs at least one study, core and minute: {self}")


@dataclass(eq=False)
class _Group:
    job: Any
    orders: dict[str, Order]


class SlurmExecutor:
    """Orders in groups as Slurm jobs.

    Args:
        folder: On a disk that the machines share; for submitit's files and the endings.
        settings: What a job asks for.
        memory_bytes: Memory of each job.

    Raises:
        ConfigError: submitit is not installed, or there is no Slurm.
    """

    def __init__(self, folder: Path, settings: SlurmSettings, *, memory_bytes: int) -> None:
        submitit = _import_submitit()
        from submitit.core.utils import FailedJobError

        self._not_taken: type[Exception] = FailedJobError
        self._settings = settings
        self._folder = prepare_output_folder(folder.absolute())
        self._endings = prepare_output_folder(self._folder / "endings")
        try:
            self._submitit = submitit.AutoExecutor(self._folder / "submitit", cluster=settings.cluster)
        except RuntimeError as error:
            raise ConfigError(f"Slurm cannot be used: {error}") from error
        self._submitit.update_parameters(
            timeout_min=settings.minutes,
            cpus_per_task=settings.threads,
            mem_gb=math.ceil(memory_bytes / GIB),
            gpus_per_node=settings.gpus,
            name="jcs-batch",
            **({"slurm_partition": settings.partition} if settings.partition else {}),
            **settings.parameters,
        )
        self._waiting: list[Order] = []
        self._waiting_since = 0.0
        self._submit_from = 0.0
        self._groups: list[_Group] = []

    @property
    def window(self) -> int:
        """See :class:`~jcs_ct.batch.executor.Executor`."""
        return self._settings.jobs * self._settings.studies_per_job

    @property
    def workers(self) -> int:
        """See :class:`~jcs_ct.batch.executor.Executor`; a Slurm job reads one study at a time."""
        return self._settings.jobs

    def submit(self, order: Order) -> None:
        """See :class:`~jcs_ct.batch.executor.Executor`; the order waits for others of its Slurm job.

        Raises:
            BackendError: Slurm takes no job.
        """
        if not self._waiting:
            self._waiting_since = time.monotonic()
        self._waiting.append(order)
        self._flush(least=self._settings.studies_per_job)

    def collect(self, timeout_s: float) -> list[tuple[str, Outcome]]:
        """See :class:`~jcs_ct.batch.executor.Executor`.

        Raises:
            BackendError: Slurm takes no job, and none of ours is out that could make room for it.
        """
        if time.monotonic() - self._waiting_since >= _FLUSH_AFTER_S:
            self._flush(least=1)
        deadline = time.monotonic() + timeout_s
        while True:
            ended = [one for group in self._groups for one in self._ended(group)]
            self._groups = [group for group in self._groups if group.orders]
            if ended or time.monotonic() >= deadline:
                return ended
            time.sleep(_LOOK_EVERY_S)

    def close(self) -> None:
        """See :class:`~jcs_ct.batch.executor.Executor`; a Slurm job that cannot be cancelled is named in the log."""
        for group in self._groups:
            try:
                group.job.cancel()
            except (OSError, subprocess.CalledProcessError) as error:
                name, reason = group.job.job_id, type(error).__name__
                logger.error("Slurm job %s could not be cancelled (%s); end it with scancel", name, reason)
        self._groups = []

    def _flush(self, *, least: int) -> None:
        """Make Slurm jobs of the orders that wait, as long as there are so many; what Slurm does not take waits on.

        Raises:
            BackendError: Slurm takes no job, and none of ours is out.
        """
        while len(self._waiting) >= least and time.monotonic() >= self._submit_from:
            orders = self._waiting[: self._settings.studies_per_job]
            try:
                job = self._submitit.submit(
                    run_orders, [order.to_dict() for order in orders], str(self._endings), self._settings.threads
                )
            except (self._not_taken, OSError) as error:
                self._wait_for_slurm(error)
                return
            del self._waiting[: len(orders)]
            self._groups.append(_Group(job, {order.token: order for order in orders}))

    def _wait_for_slurm(self, error: Exception) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        if not self._groups:
            raise BackendError(
                f"Slurm takes no job: {reason}; check --partition and what you may ask for, or wait until your other "
                "jobs have ended, and give the same command again: what is done stays done",
                remedy="mend what Slurm says, and give the same command again",
            ) from error
        self._submit_from = time.monotonic() + _SUBMIT_AGAIN_S
        logger.warning("Slurm takes no further job now, %d are out: %s", len(self._groups), reason)

    def _ended(self, group: _Group) -> list[tuple[str, Outcome]]:
        over = group.job.done()  # asked before the files are looked at: what is missing then stays missing
        ended = []
        for token in list(group.orders):
            path = self._endings / f"{token}.json"
            if path.is_file():
                ended.append((token, _outcome_in(path)))
                path.unlink()
            elif over:
                ended.append((token, lost("its Slurm job ended before it was read")))
            else:
                continue
            del group.orders[token]
        return ended


def _outcome_in(path: Path) -> Outcome:
    """How an order ended; one of which that cannot be read any more is lost, and its study read again."""
    try:
        return outcome_from_dict(read_own_json(path, ("ending",), instead="read the study again"))
    except (DamagedFileError, TypeError, ValueError):
        return lost("what its Slurm job wrote of its ending is damaged")


def _import_submitit() -> Any:
    try:
        import submitit
    except ModuleNotFoundError as error:
        if error.name != "submitit":
            raise
        raise MissingExtraError("the executor slurm", "cluster") from error
    return submitit


def run_orders(orders: Sequence[dict[str, Any]], endings: str, threads: int) -> int:
    """Run orders one after the other on the machine that this is called on; how many there were."""
    with StudyWorker(threads=threads, studies_per_process=500) as worker:
        for values in orders:
            order = Order.from_dict(values)
            outcome = attempt(worker, order)
            write_text(Path(endings, f"{order.token}.json"), json.dumps(outcome_to_dict(outcome)))
    return len(orders)
