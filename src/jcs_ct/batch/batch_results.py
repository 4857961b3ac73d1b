"""Where results of a batch lie: folders of this machine or a shared disk, or objects of a store.

A folder is renamed into place when it is whole. A store knows no renaming: there the marker ``_DONE`` is written
last, and results without it do not count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from jcs_ct.batch.addresses import DONE_MARKER, file_system, is_address
from jcs_ct.batch.pictures import PICTURE
from jcs_ct.batch.store_faults import reading, storing, without_credentials
from jcs_ct.files import beside_others, own_json
from jcs_ct.jobs import JOB_RECORD, ResultFolders
from jcs_ct.jobs.result_folders import RECORDED

_LOCK = ".batch.lock"


class BatchResults(Protocol):
    """Results by job, whole or not at all."""

    def find(self, job_id: str) -> Mapping[str, Any] | None:
        """The record of a job whose results are in place.

        Raises:
            DamagedFileError: the record is not as it was written.
            OutputError: a store does not answer.
        """

    def stage(self, job_id: str) -> dict[str, str]:
        """Arguments that tell the task where to write one attempt's results.

        Raises:
            OutputError: nothing can be written.
        """

    def publish(self, job_id: str, staged: Mapping[str, str], record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Put an attempt's results in place; the record of those that lie there then (the first ones stay).

        Raises:
            OutputError: they cannot be put in place.
        """

    def discard(self, staged: Mapping[str, str]) -> None:
        """Remove what an attempt left."""

    def at_work(self) -> AbstractContextManager[None]:
        """While a batch works here, perhaps beside others; one that is alone removes what killed ones left."""

    def records(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every job whose results are in place, with its record."""

    def picture(self, job_id: str) -> bytes | None:
        """The small picture of a study."""

    def page(self, job_id: str) -> Path | None:
        """The report page of a study, where it lies in a folder and was written."""


def open_results(place: str) -> BatchResults:
    """Results in a folder, or at an address.

    Raises:
        OutputError: nothing can be written there.
    """
    return ObjectResults(place) if is_address(place) else FolderResults(Path(place))


class FolderResults:
    """Results in folders, see :class:`~jcs_ct.jobs.ResultFolders`."""

    def __init__(self, root: Path) -> None:
        self._folders = ResultFolders(root.absolute())

    def find(self, job_id: str) -> Mapping[str, Any] | None:
        """See :class:`BatchResults`."""
        return None if self._folders.find(job_id) is None else self._folders.record(job_id)

    def stage(self, job_id: str) -> dict[str, str]:
        """See :class:`BatchResults`."""
        return {"output": str(self._folders.stage(job_id))}

    def publish(self, job_id: str, staged: Mapping[str, str], record: Mapping[str, Any]) -> Mapping[str, Any]:
        """See :class:`BatchResults`."""
        self._folders.publish(job_id, Path(staged["output"]), record)
        return self._folders.record(job_id)

    def discard(self, staged: Mapping[str, str]) -> None:
        """See :class:`BatchResults`."""
        output = Path(staged["output"])
        for place in (output, *output.parent.glob(f"{output.name}.*")):  # an executor's own tries lie beside it
            self._folders.discard(place)

    def at_work(self) -> AbstractContextManager[None]:
        """See :class:`BatchResults`."""
        return beside_others(self._folders.root / _LOCK, self._folders.sweep)

    def records(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """See :class:`BatchResults`."""
        for path in sorted(self._folders.root.iterdir()):
            record = None if path.name.startswith(".") else self.find(path.name)
            if record is not None:
                yield path.name, record

    def picture(self, job_id: str) -> bytes | None:
        """See :class:`BatchResults`."""
        path = self._folders.root / job_id / PICTURE
        return path.read_bytes() if path.is_file() else None

    def page(self, job_id: str) -> Path | None:
        """See :class:`BatchResults`."""
        path = self._folders.root / job_id / "report.html"
        return path if path.is_file() else None


class ObjectResults:
    """Results as objects below an address."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self._system, self._root = file_system(self._address)
        with storing(self._address):
            self._system.makedirs(self._root, exist_ok=True)
            self._system.pipe_file(f"{self._root}/.probe", b"probe")
            self._system.rm_file(f"{self._root}/.probe")

    def find(self, job_id: str) -> Mapping[str, Any] | None:
        """See :class:`BatchResults`."""
        with storing(self._address):
            there = self._system.exists(f"{self._root}/{job_id}/{DONE_MARKER}")
            return self._record(job_id) if there else None

    def stage(self, job_id: str) -> dict[str, str]:
        """See :class:`BatchResults`."""
        return {"store": f"{self._address}/{job_id}"}

    def publish(self, job_id: str, staged: Mapping[str, str], record: Mapping[str, Any]) -> Mapping[str, Any]:
        """See :class:`BatchResults`."""
        standing = self.find(job_id)
        if standing is not None:
            return standing
        content = json.dumps(dict(record), indent=2, allow_nan=False) + "\n"
        with storing(self._address):
            self._system.pipe_file(f"{self._root}/{job_id}/{JOB_RECORD}", content.encode())
            self._system.pipe_file(f"{self._root}/{job_id}/{DONE_MARKER}", b"done\n")
        return record

    def discard(self, staged: Mapping[str, str]) -> None:
        """What an attempt stored is overwritten by the next: there is nothing to remove."""

    def at_work(self) -> AbstractContextManager[None]:
        """What an attempt stored is overwritten by the next: there is nothing to remove."""
        return nullcontext()

    def records(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """See :class:`BatchResults`."""
        with reading(self._address):
            self._system.invalidate_cache(self._root)
            markers = sorted(self._system.glob(f"{self._root}/*/{DONE_MARKER}"))
        for marker in markers:
            job_id = marker.split("/")[-2]
            with reading(self._address):
                record = self._record(job_id)
            yield job_id, record

    def picture(self, job_id: str) -> bytes | None:
        """See :class:`BatchResults`."""
        place = f"{self._root}/{job_id}/{PICTURE}"
        with reading(self._address):
            return bytes(self._system.cat_file(place)) if self._system.exists(place) else None

    def page(self, job_id: str) -> Path | None:
        """An object has no place that a page beside the ledger could link to."""

    def _record(self, job_id: str) -> Mapping[str, Any]:
        content = bytes(self._system.cat_file(f"{self._root}/{job_id}/{JOB_RECORD}"))
        place = f"{without_credentials(self._address)}/{job_id}"
        instead = f"remove {place} and have the study read again"
        return own_json(content, RECORDED, f"{place}/{JOB_RECORD}", instead=instead)
