"""What a job is: one study under one set of weights, its state, and a runner's hold on it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jcs_ct.choices import State

#: States in which a runner may take a job.
OPEN_STATES = (State.QUEUED, State.READ)


@dataclass(frozen=True)
class JobKey:
    """What makes a reading one of its kind; equal keys are one job.

    Args:
        study: Study Instance UID, or a hash of the study's content or place.
        weights: Hash over the weights of both networks.
        operating_point: Hash over what decides (thresholds).
        version: Of the software.
    """

    study: str
    weights: str
    operating_point: str
    version: str

    def __post_init__(self) -> None:
        if not self.study:
            raise ValueError("a job needs a study: its UID or a hash")

    @property
    def reading_id(self) -> str:
        """Hash of what the study is read with, without the study."""
        return digest(self.weights, self.operating_point, self.version)[:24]

    @property
    def job_id(self) -> str:
        """What the job is called on disk, in logs and in addresses: a hash, never the study's UID."""
        return digest(self.study, self.weights, self.operating_point, self.version)[:24]


def digest(*parts: str) -> str:
    """SHA-256 over texts, in hexadecimal."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Job:
    """One row of the ledger as it was when it was read.

    Args:
        key: Study, weights, operating point and version.
        request: What the runner needs (place of the study, options), as JSON values.
        state: Where it stands.
        priority: Larger goes first; within a priority the older.
        attempts: Times a runner took it since it was queued, outages apart.
        not_before: Seconds since the epoch before which it is not taken.
        code, message: Why it is where it is: a gate code or a :class:`~jcs_ct.jobs.outcome.FailureCode`.
        stage, done, total: Progress of the present or last attempt.
        owner: Runner that holds it, or empty.
        cancel_requested: A person wants the runner to stop.
        result: What the reading returned (small JSON values).
        added_at, changed_at: Seconds since the epoch.
        seconds, peak_memory_bytes: Of the attempt that finished; 0 before.
    """

    key: JobKey
    request: Mapping[str, Any]
    state: State
    priority: int = 0
    attempts: int = 0
    not_before: float = 0.0
    code: str = ""
    message: str = ""
    stage: str = ""
    done: int = 0
    total: int = 0
    owner: str = ""
    cancel_requested: bool = False
    result: Mapping[str, Any] = field(default_factory=dict)
    added_at: float = 0.0
    changed_at: float = 0.0
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def job_id(self) -> str:
        """See :attr:`JobKey.job_id`."""
        return self.key.job_id

    @property
    def is_running(self) -> bool:
        """Whether a runner holds it."""
        return bool(self.owner)


@dataclass(frozen=True)
class Claim:
    """A runner's hold on a job: what it was when taken, and the token that later calls must show.

    A hold ends with the lease. A runner that was too slow finds its token worthless (``LeaseLostError``), so a job
    that another runner took over is never finished twice.
    """

    job: Job
    token: str
    lease_s: float

    @property
    def job_id(self) -> str:
        """See :attr:`JobKey.job_id`."""
        return self.job.job_id


@dataclass(frozen=True)
class HistoryEntry:
    """One thing that happened to a job; ``event`` is a state, ``claimed``, ``released`` or ``lost``."""

    moment: float
    event: str
    attempt: int
    code: str
    message: str


@dataclass(frozen=True)
class RetryPolicy:
    """How often and after which waits a failed job is tried again.

    Args:
        most_attempts: After so many the job is set aside.
        first_wait_s: Wait after the first failure; each further one waits twice as long.
        longest_wait_s: Bound of the waits.
    """

    most_attempts: int = 3
    first_wait_s: float = 30.0
    longest_wait_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.most_attempts < 1 or min(self.first_wait_s, self.longest_wait_s) < 0:
            raise ValueError(f"attempts must be at least 1 and waits not negative: {self}")

    def wait_after(self, attempts: int) -> float:
        """Seconds to wait after so many failed attempts."""
        return min(self.longest_wait_s, self.first_wait_s * 2.0 ** max(0, attempts - 1))
