"""The thread that works the queue off, and what else falls due: old uploads, studies that are kept long enough."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jcs_ct import __version__
from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.jobs import Ending, Job, JobKey, Limits, ResultFolders, Runner, StudyWorker
from jcs_ct.jobs.ledger import Ledger
from jcs_ct.service.problems import Problem
from jcs_ct.service.studies import Studies
from jcs_ct.service.tasks import DESCRIBE_MODELS, READ_FOR_PAGE
from jcs_ct.service.uploads import Uploads

logger = logging.getLogger(__name__)

_LOOK_EVERY_S, _TIDY_EVERY_S, _WAIT_AFTER_FAULT_S = 0.3, 600.0, 30.0


class QueueWork:
    """Reads queued studies one after the other in a process that keeps its networks loaded.

    Args:
        ledger, results: Of the jobs.
        studies, uploads: Of the page.
        models: Name of the networks.
        limits: Of one study.
        keep_days: Studies older than that are deleted; None keeps them.
        salt: File with the secret that patients' pseudonyms follow from; made when missing.
    """

    def __init__(
        self,
        ledger: Ledger,
        results: ResultFolders,
        studies: Studies,
        uploads: Uploads,
        *,
        models: str,
        limits: Limits,
        keep_days: float | None,
        salt: Path,
    ) -> None:
        self._studies, self._uploads, self._keep_days = studies, uploads, keep_days
        self._salt = salt
        self._ledger, self._results = ledger, results
        self._models, self._worker, self._stop = models, StudyWorker(), threading.Event()
        self._facts: Mapping[str, Any] = {}
        self._runner = Runner(
            ledger,
            results,
            READ_FOR_PAGE,
            self._arguments,
            limits=limits,
            worker=self._worker,
            keep_going=lambda: not self._stop.is_set(),
        )
        self._thread = threading.Thread(target=self._work, name="queue", daemon=True)
        self._tidied = 0.0

    def prepare(self) -> None:
        """Load the networks, and put in order what a killed server left; :meth:`stop` ends what this began.

        Raises:
            ConfigError: the networks cannot be loaded.
            OutputError: the folder cannot be written.
            sqlite3.OperationalError: the records cannot be.
        """
        outcome = self._worker.run(DESCRIBE_MODELS, {"models": self._models})
        if outcome.ending is not Ending.DONE:
            raise ConfigError(f"the networks cannot be loaded: {outcome.message} ({outcome.code})")
        self._facts = outcome.value
        self._ledger.release_lost()
        self._results.sweep()
        self._studies.finish_deleting()
        self._studies.queue_forgotten(self.key)
        self._studies.remove_orphans()

    def key(self, study_id: str) -> JobKey:
        """Key of reading a study with the networks of this server."""
        return JobKey(study_id, self._facts["weights"], self._facts["operating_point"], __version__)

    @property
    def validation(self) -> list[dict[str, Any]]:
        """What `jcs calibrate` kept of the validation patients; empty for networks that do not say."""
        found: list[dict[str, Any]] = self._facts["validation"]
        return found

    @property
    def reading_id(self) -> str:
        """See :attr:`JobKey.reading_id`, of this server's networks."""
        return self.key("any").reading_id

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Give the present study back and end, also where it never started."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        self._worker.close()

    @property
    def is_alive(self) -> bool:
        """Whether the queue is being worked off."""
        return self._thread.is_alive()

    def _arguments(self, job: Job, staged: Path) -> Mapping[str, Any]:
        sent = self._studies.sent(str(job.request["study_id"]))
        return {
            "study": str(sent),
            "output": str(staged),
            "models": self._models,
            "salt": str(self._salt),
            "free_bytes": self._uploads.limits.free_bytes,
            "source": job.request.get("source"),
        }

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                done = self._runner.work_once()
                self.tidy()
            except (OutputError, sqlite3.OperationalError) as error:  # a full disk must not end the queue
                logger.error("the queue waits: %s", error)
                self._stop.wait(_WAIT_AFTER_FAULT_S)
                continue
            except Exception:
                # A thread that ended here would leave a page that lives and reads nothing. The study's lease runs
                # out, which counts as an attempt: one that does this every time is set aside.
                logger.exception("the queue waits after a fault of the software; please report it")
                self._stop.wait(_WAIT_AFTER_FAULT_S)
                continue
            if done is None:
                self._stop.wait(_LOOK_EVERY_S)

    def tidy(self, *, at_once: bool = False) -> None:
        """Every ten minutes: end what was left half done, remove uploads nobody goes on with, and old studies."""
        if not at_once and time.monotonic() - self._tidied < _TIDY_EVERY_S:
            return
        self._tidied = time.monotonic()
        self._studies.finish_deleting()
        self._studies.queue_forgotten(self.key)
        self._uploads.sweep()
        if self._keep_days is None:
            return
        for record in self._studies.older_than(self._keep_days * 86400.0):
            try:
                self._studies.delete(record, by="retention", days=self._keep_days)
            except Problem as problem:
                logger.warning("study %s is kept for now: %s", record.study_id, problem.code)
