"""A batch in its folder: found, written down, queued, worked off, summarised; the same call goes on where it was."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from jcs_ct import NOTICE, __version__
from jcs_ct.batch.addresses import is_address
from jcs_ct.batch.batch_reading import READ_FOR_BATCH, BatchOptions
from jcs_ct.batch.batch_results import BatchResults, open_results
from jcs_ct.batch.cohort_manifest import ManifestCounts, count_studies, read_manifest, write_manifest
from jcs_ct.batch.cohort_search import find_studies
from jcs_ct.batch.driver import Driver, Failure, Standing
from jcs_ct.batch.executor import Executor
from jcs_ct.batch.local_studies import OWN_FOLDER, Gate
from jcs_ct.disk_space import GIB
from jcs_ct.errors import ConfigError, DamagedFileError
from jcs_ct.files import only_one, prepare_output_folder, read_own_json, write_text
from jcs_ct.jobs import JobKey, Ledger, Limits, RetryPolicy, State, reading_key

logger = logging.getLogger(__name__)

MANIFEST, LEDGER, LOCK, RESULTS = "manifest.csv", "jobs.sqlite", "batch.lock", "results"
_QUEUED_AT_ONCE = 1000
#: In a folder that nothing was written to: a batch's that was stopped at once, and a volume's of its own.
_OWN_FILES = {LOCK, "lost+found"}


@dataclass(frozen=True)
class Batch:
    """What a batch is, as ``batch.json`` in its folder says.

    Args:
        folder: Manifest, ledger, summary and, unless elsewhere, results.
        key: Weights, operating point and version of every job; its study is replaced.
        options: How studies are read.
        results: Folder or address of the results.
    """

    folder: Path
    key: JobKey
    options: BatchOptions
    results: str

    @property
    def manifest(self) -> Path:
        """The studies that were found."""
        return self.folder / MANIFEST

    def job_id(self, study: str) -> str:
        """The job, and so the result folder, of a study of the manifest."""
        return replace(self.key, study=study).job_id

    def open_results(self) -> BatchResults:
        """Where results lie."""
        return open_results(self.results)

    def open_ledger(self) -> Ledger:
        """The jobs; three attempts each, soon after one another: a cohort has others to read in between."""
        return Ledger(self.folder / LEDGER, retries=RetryPolicy(most_attempts=3, first_wait_s=5.0))


def new_batch(folder: Path, options: BatchOptions, results: str | None = None) -> Batch:
    """A batch in its folder, begun or gone on with; another reading may go on in the same folder.

    Raises:
        CheckpointError, ConfigError: the networks cannot be loaded.
        OutputError: the folder cannot be written.
    """
    from jcs_ct.checkpoints import load_models

    prepare_output_folder(folder)
    key = reading_key("any", load_models(options.models), threshold=options.threshold)
    if options.decisive:
        key = replace(key, operating_point=f"{key.operating_point};{options.decisive}")
    place = results or str((folder / RESULTS).absolute())
    batch = Batch(folder, key, options, place if is_address(place) else str(Path(place).absolute()))
    facts = {
        "notice": NOTICE,
        "weights": key.weights,
        "operating_point": key.operating_point,
        "version": __version__,
        "results": batch.results,
        "options": options.to_arguments(),
    }
    write_text(folder / OWN_FOLDER, json.dumps(facts, indent=2) + "\n")
    return batch


def existing_batch(folder: Path) -> Batch:
    """The batch that was begun in a folder.

    Raises:
        ConfigError: none was.
        DamagedFileError: what says so is not as it was written.
    """
    path = folder / OWN_FOLDER
    if not path.is_file():
        raise ConfigError(f"no batch was begun in {folder}: it holds no {OWN_FOLDER}")
    instead = "give the `jcs batch run` that began it again: what is done stays done"
    facts = read_own_json(path, ("weights", "operating_point", "version", "results", "options"), instead=instead)
    key = JobKey("any", facts["weights"], facts["operating_point"], facts["version"])
    try:
        options = BatchOptions.from_arguments(facts["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(path, "its options are none of this version", instead=instead) from error
    return Batch(folder, key, options, facts["results"])


def find_cohort(
    batch: Batch, source: str, *, since: date | None = None, progress: Callable[[int], None] | None = None
) -> ManifestCounts:
    """Find the studies and write the manifest.

    Raises:
        ConfigError, OutputError: see ``find_studies`` and ``write_manifest``.
    """
    gate = Gate(batch.options.lenient, batch.options.allow_deflated)
    return write_manifest(batch.manifest, find_studies(source, gate, since=since, progress=progress))


def count_cohort(batch: Batch) -> ManifestCounts:
    """What the manifest that lies there holds.

    Raises:
        ConfigError: none lies there.
    """
    return count_studies(read_manifest(batch.manifest))


def queue_cohort(batch: Batch, ledger: Ledger) -> int:
    """Queue every study of the manifest that the gate lets through and that has no job yet; how many."""
    new, waiting = 0, []
    for study in read_manifest(batch.manifest):
        if study.code:
            continue
        waiting.append((replace(batch.key, study=study.study), study.to_request()))
        if len(waiting) == _QUEUED_AT_ONCE:
            new += ledger.add_many(waiting)
            waiting = []
    return new + ledger.add_many(waiting)


def retry_failed(batch: Batch, ledger: Ledger) -> int:
    """Queue studies again that failed too often, or whose results are gone; how many.

    Raises:
        DamagedFileError: results are not as they were written.
        OutputError: the store of the results does not answer.
    """
    results = batch.open_results()
    closed = ledger.jobs(states=[State.SET_ASIDE, State.DONE], reading_id=batch.key.reading_id)
    again = [job for job in closed if job.state is State.SET_ASIDE or results.find(job.job_id) is None]
    return sum(ledger.requeue(job.job_id) for job in again)


def work_off(
    batch: Batch,
    ledger: Ledger,
    executor: Executor,
    *,
    limits: Limits | None = None,
    least_free_bytes: int = GIB,
    on_change: Callable[[Standing], None] = lambda standing: None,
    on_failure: Callable[[Failure], None] = lambda failure: None,
    keep_going: Callable[[], bool] = lambda: True,
) -> Standing:
    """Run every open job of the batch.

    Raises:
        OutputError: the disk stayed full.
    """
    results = batch.open_results()
    room = [batch.folder] if is_address(batch.results) else [batch.folder, Path(batch.results)]
    driver = Driver(
        ledger,
        results,
        executor,
        READ_FOR_BATCH,
        batch.options.to_arguments(),
        batch.key.reading_id,
        limits=limits or Limits(),
        room=tuple(room),
        least_free_bytes=least_free_bytes,
        on_change=on_change,
        on_failure=on_failure,
        keep_going=keep_going,
    )
    return driver.run()


@contextmanager
def only_batch(folder: Path) -> Iterator[None]:
    """Hold a batch's folder while the block lasts.

    Raises:
        ConfigError: it is no batch's and holds other files.
        OutputError: another batch works in it.
    """
    prepare_output_folder(folder)
    if not (folder / OWN_FOLDER).exists() and any(path.name not in _OWN_FILES for path in folder.iterdir()):
        raise ConfigError(
            f"{folder} holds files and no batch ({OWN_FOLDER}); give an empty or new folder, or that of the batch"
        )
    with only_one(folder / LOCK, "batch"):
        yield
