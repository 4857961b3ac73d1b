"""Signs of life of a watcher, for monitors: a heartbeat file, and metrics for Prometheus' text collector."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from jcs_ct.errors import OutputError
from jcs_ct.files import write_text
from jcs_ct.jobs import Ledger, State

logger = logging.getLogger(__name__)

HEARTBEAT, METRICS = "heartbeat.json", "metrics.prom"


@dataclass(eq=False)
class Heartbeat:
    """Writes both files, whole or not at all; a full disk stops the signs, not the watcher.

    Args:
        folder: Where they lie.
        ledger: What is counted.
        reading_id: Whose jobs.
        every_s: Least time between two beats that say the same.
        clock: Seconds since the epoch.
    """

    folder: Path
    ledger: Ledger
    reading_id: str
    every_s: float = 5.0
    clock: Callable[[], float] = time.time
    _doing: str = ""
    _written: float = 0.0
    _looked: float = 0.0

    def __call__(self, doing: str) -> None:
        """A sign of life: what is done now, in a word."""
        now = self.clock()
        if doing == self._doing and 0 <= now - self._written < self.every_s:
            return
        if doing == "waiting":
            self._looked = now
        self._doing, self._written = doing, now
        counts = {str(state): count for state, count in self.ledger.counts(reading_id=self.reading_id).items()}
        free, memory = shutil.disk_usage(self.folder).free, psutil.Process().memory_info().rss
        facts = {
            "moment": round(now, 3),
            "last_look": round(self._looked, 3),
            "doing": doing,
            "pid": os.getpid(),
            "jobs": counts,
            "free_bytes": free,
            "memory_bytes": memory,
        }
        try:
            write_text(self.folder / HEARTBEAT, json.dumps(facts, indent=2) + "\n")
            write_text(self.folder / METRICS, self._metrics(now, counts, free, memory))
        except OutputError as error:
            logger.warning("no sign of life can be written: %s", error)

    def _metrics(self, now: float, counts: dict[str, int], free: int, memory: int) -> str:
        figures = {
            "heartbeat_seconds": ("Time of the last sign of life.", now),
            "last_look_seconds": ("Time of the last whole look at the PACS.", self._looked),
            "free_bytes": ("Free space in the watcher's folder.", free),
            "memory_bytes": ("Resident memory of the watcher, without the studies' process.", memory),
        }
        lines = []
        for name, (meaning, value) in figures.items():
            lines += [f"# HELP jcs_watch_{name} {meaning}", f"# TYPE jcs_watch_{name} gauge"]
            lines.append(f"jcs_watch_{name} {value:.3f}")
        lines += ["# HELP jcs_watch_jobs Studies by state.", "# TYPE jcs_watch_jobs gauge"]
        lines += [f'jcs_watch_jobs{{state="{state}"}} {counts[str(state)]}' for state in State]
        return "\n".join(lines) + "\n"
