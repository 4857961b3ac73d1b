"""Result folders: written beside, then renamed into place, so that a folder that is there is whole.

A result takes effect once: the first rename wins, a second one finds the place taken and is dropped.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jcs_ct.errors import JCSError, OutputError
from jcs_ct.files import STAGING, explain_unwritable, prepare_output_folder, read_own_json, write_text

#: What the runner notes of the job in its result folder: the task's value, seconds, memory, versions of the key.
JOB_RECORD = "job.json"
#: What whoever ends a job needs of it.
RECORDED = ("value", "seconds", "peak_memory_bytes")


class ResultsGoneError(JCSError):
    """What an attempt wrote is not there any more when it is to be put in place."""


class ResultFolders:
    """A folder of result folders, one a job, named by :attr:`JobKey.job_id`.

    Args:
        root: Made when missing; staging folders lie in ``root/.staging``, on the same file system.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self.root = prepare_output_folder(root)
        self._staging = prepare_output_folder(root / STAGING)

    def find(self, job_id: str) -> Path | None:
        """The results of a job, whole, or None."""
        place = self.root / job_id
        return place if (place / JOB_RECORD).is_file() else None

    def record(self, job_id: str) -> Mapping[str, Any]:
        """What :meth:`publish` noted of a job whose results are in place.

        Raises:
            DamagedFileError: it is not as it was noted.
        """
        place = self.root / job_id
        return read_own_json(place / JOB_RECORD, RECORDED, instead=f"remove {place} and have the study read again")

    def stage(self, job_id: str) -> Path:
        """An empty folder for one attempt.

        Raises:
            OutputError: it cannot be made.
        """
        return prepare_output_folder(self._staging / f"{job_id}-{secrets.token_hex(4)}")

    def publish(self, job_id: str, staged: Path, record: Mapping[str, Any]) -> bool:
        """Move an attempt's folder into place; False when results were there already (the staged ones are removed).

        A folder in that place without a record holds no results, whatever lies in it: it is replaced.

        Args:
            job_id: Whose.
            staged: From :meth:`stage`, filled.
            record: JSON values for ``job.json``.

        Raises:
            ResultsGoneError: the attempt's folder was removed.
            OutputError: it cannot be moved.
        """
        if not staged.is_dir():
            raise ResultsGoneError("what was written was removed before it was put in place; it is read again")
        write_text(staged / JOB_RECORD, json.dumps(dict(record), indent=2, allow_nan=False) + "\n")
        place = self.root / job_id
        try:
            _sync(staged)
            if place.is_dir() and self.find(job_id) is None:
                self.remove(job_id)
            staged.rename(place)
            _sync(self.root)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise explain_unwritable(place, error) from error
            shutil.rmtree(staged)
            return False
        return True

    def discard(self, staged: Path) -> None:
        """Remove what an attempt left."""
        _remove(staged)

    def remove(self, job_id: str) -> None:
        """Remove a job's results: out of sight first, whole, then from the disk."""
        place = self.root / job_id
        if place.exists():
            doomed = self._staging / f"{job_id}-{secrets.token_hex(4)}.removed"
            try:
                place.rename(doomed)
            except OSError as error:
                raise explain_unwritable(place, error) from error
            _remove(doomed)

    def sweep(self) -> int:
        """Remove what killed attempts left behind; only while no runner works here. How many folders."""
        left = list(self._staging.iterdir())
        for folder in left:
            _remove(folder)
        return len(left)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        remedy = "remove it by hand"
        raise OutputError(f"cannot remove {folder}: {error.strerror}; {remedy}", remedy=remedy) from error


def _sync(folder: Path) -> None:
    """Bring a folder's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
