"""What a study's process may use and how it ends: codes, not texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class FailureCode(StrEnum):
    """Why a study was not read, beside the gate's codes (``errors.GateCode``), which pass through."""

    OUT_OF_MEMORY = "OUT_OF_MEMORY"  #: more memory than its limit, or than the machine or the GPU has
    TIMED_OUT = "TIMED_OUT"  #: longer than its limit, or silent for too long
    KILLED = "KILLED"  #: its process got SIGKILL from outside
    CRASHED = "CRASHED"  #: its process ended by another signal, or raised what is no error of jcs-ct
    CANCELLED = "CANCELLED"  #: a person stopped it
    RUNNER_LOST = "RUNNER_LOST"  #: the program that worked on it is gone
    OUTPUT_UNWRITABLE = "OUTPUT_UNWRITABLE"  #: the results' folder cannot be written, or the disk is full
    BAD_SETTING = "BAD_SETTING"  #: an option or the weights cannot be used
    BACKEND = "BACKEND"  #: what runs the networks cannot run them


class Ending(StrEnum):
    """How an attempt ended, as far as trying again goes."""

    DONE = "done"
    REFUSED = "refused"  #: it would fail again
    FAILED = "failed"  #: it may succeed the next time
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Limits:
    """What one study's process may use.

    Args:
        memory_bytes: Resident memory of the process and its children together. It is watched, five times a second:
            an address-space limit would stop torch and OpenVINO, which reserve far more than they use.
        seconds: Longest time of one study.
        silent_seconds: Longest time without a message of progress.
    """

    memory_bytes: int = 6 * 1024**3
    seconds: float = 3600.0
    silent_seconds: float = 900.0

    def __post_init__(self) -> None:
        if min(self.memory_bytes, self.seconds, self.silent_seconds) <= 0:
            raise ValueError(f"limits must be greater than 0: {self}")


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt.

    Args:
        ending: How it ended.
        code: Empty when done; else a gate code or a :class:`FailureCode`.
        message: For a person; without names and paths of the study.
        value: What the task returned.
        seconds: Of the attempt.
        peak_memory_bytes: Largest resident memory seen, children included.
    """

    ending: Ending
    code: str = ""
    message: str = ""
    value: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_bytes: int = 0
