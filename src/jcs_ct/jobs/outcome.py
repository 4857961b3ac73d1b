"""What a study's process may use and how it ends: codes, not texts."""

from __future__ import annotations

import sqlite3
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from jcs_ct.disk_space import GIB, is_disk_full
from jcs_ct.errors import CheckpointError, ConfigError, JCSError, MaskError, StudyError

#: SQLite's primary result codes (sqlite.org/rescode.html) of a file that cannot be written for now.
_FILE_UNUSABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
    }
)
_NO_MEMORY = ("can't allocate memory", "bad_alloc", "not enough memory", "out of memory")


class FailureCode(StrEnum):
    """Why a study was not read; codes of errors (``errors.REMEDIES``), as the gate's, pass through beside these."""

    OUT_OF_MEMORY = "OUT_OF_MEMORY"  #: more memory than its limit, or than the machine or the GPU has
    TIMED_OUT = "TIMED_OUT"  #: longer than its limit, or silent for too long
    KILLED = "KILLED"  #: its process got SIGKILL from outside
    CRASHED = "CRASHED"  #: its process ended by another signal, or raised what is no error of jcs-ct
    CANCELLED = "CANCELLED"  #: a person stopped it
    RUNNER_LOST = "RUNNER_LOST"  #: the program that worked on it is gone
    OUTPUT_UNWRITABLE = "OUTPUT_UNWRITABLE"  #: the results' folder cannot be written
    DISK_FULL = "DISK_FULL"  #: the disk has no room for the results
    BAD_SETTING = "BAD_SETTING"  #: an option or the weights cannot be used
    BACKEND = "BACKEND"  #: what runs the networks cannot run them


#: Outages of the machine: whichever study meets one, it is not the study's fault.
OUTAGES = frozenset({FailureCode.DISK_FULL, FailureCode.OUTPUT_UNWRITABLE})


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

    memory_bytes: int = 6 * GIB
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

    @property
    def is_outage(self) -> bool:
        """Whether the machine failed, and not the study (see :data:`OUTAGES`)."""
        return self.ending is Ending.FAILED and self.code in OUTAGES


def explain(error: Exception) -> tuple[Ending, str, str]:
    """An exception of an attempt as ending, code and message.

    The text of an exception that is not jcs-ct's own may quote the study: only its type and place are told.
    """
    if isinstance(error, StudyError):
        return Ending.REFUSED, str(error.code), str(error)
    if isinstance(error, ConfigError | CheckpointError | MaskError):
        return Ending.REFUSED, FailureCode.BAD_SETTING, str(error)
    if isinstance(error, JCSError):
        return Ending.FAILED, error.code, str(error)
    outage = _outage(error)
    if outage is not None:
        return Ending.FAILED, *outage
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
        return Ending.FAILED, FailureCode.OUT_OF_MEMORY, "the study needs more memory than there is"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return Ending.FAILED, FailureCode.CRASHED, f"{type(error).__name__} at {place}; please report it"


def _outage(error: Exception) -> tuple[FailureCode, str] | None:
    """Code and message of an exception that says that the disk is full, or the ledger cannot be written."""
    result = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if is_disk_full(error) or result == sqlite3.SQLITE_FULL:
        return FailureCode.DISK_FULL, "the disk is full, or a quota on it; free space (DISK_FULL)"
    if result in _FILE_UNUSABLE:
        return FailureCode.OUTPUT_UNWRITABLE, f"the record of jobs cannot be written: {error} (OUTPUT_UNWRITABLE)"
    return None
