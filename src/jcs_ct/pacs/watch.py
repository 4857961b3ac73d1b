"""New stable studies in, results back, each study once for each set of weights.

A study is stable when the number of its CT images has not changed from one look to the next. Results are written to
disk whole before the first of them is sent, and are sent again as they lie there after a kill or an outage: their
identifiers stay the same, so the PACS keeps one result set.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jcs_ct.errors import JCSError, StudyError
from jcs_ct.files import prepare_output_folder
from jcs_ct.pacs.jobs import Job, JobStore, State
from jcs_ct.pacs.web import DicomWeb, PacsCertificateError, PacsDeniedError, PacsUnavailableError

logger = logging.getLogger(__name__)

#: Reads the study in the first folder and writes DICOM results into the second; the files, whole.
ReadStudy = Callable[[Path, Path], tuple[Path, ...]]

_MOST_ATTEMPTS = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 30.0, 3600.0


@dataclass(eq=False)
class Watcher:
    """One PACS, one record of jobs, one set of weights.

    Args:
        web: The server.
        jobs: The record.
        folder: Where studies are fetched to and results lie until they are stored.
        models_sha256: Identity of the weights.
        read_study: Diagnoses one study.
        outage_wait_s: Wait before a job is tried again that met an outage.
        counts: Images of each study at the last look; what makes a study stable.
    """

    web: DicomWeb
    jobs: JobStore
    folder: Path
    models_sha256: str
    read_study: ReadStudy
    outage_wait_s: float = 30.0
    counts: dict[str, int] = field(default_factory=dict)

    def look(self) -> bool:
        """Queue new studies that are stable, then work on every open job; whether the server answered.

        Raises:
            PacsDeniedError: the server refuses the credentials; nothing can go on.
            PacsCertificateError: its certificate is not trusted; likewise.
        """
        try:
            self._queue_stable_studies()
        except PacsUnavailableError as error:
            logger.warning("%s; looking again later", error)
            return False
        for job in self.jobs.open_jobs(self.models_sha256):
            self._work_on(job)
        return True

    def is_idle(self) -> bool:
        """Whether every study that was seen is stable and done with."""
        known = self.jobs.all_jobs()
        mine = [job for job in known if job.models_sha256 == self.models_sha256]
        return not self.counts and all(job.state in (State.STORED, State.REFUSED) for job in mine)

    def _queue_stable_studies(self) -> None:
        known = {job.study_uid for job in self.jobs.all_jobs() if job.models_sha256 == self.models_sha256}
        seen: dict[str, int] = {}
        for study_uid in self.web.ct_studies():
            if study_uid in known:
                continue
            seen[study_uid] = sum(series.instance_count for series in self.web.ct_series(study_uid))
            if seen[study_uid] and self.counts.get(study_uid) == seen[study_uid]:
                self.jobs.add(study_uid, self.models_sha256)
        self.counts = seen

    def _work_on(self, job: Job) -> None:
        try:
            if job.state is State.QUEUED:
                self._read(job)
            self.web.store(self._results(job))
            self.jobs.set_state(job, State.STORED)
            shutil.rmtree(self._place(job) / "study", ignore_errors=True)
            logger.info("study %s: results stored", job.identifier)
        except StudyError as error:
            self.jobs.set_state(job, State.REFUSED, str(error.code))
            logger.warning("study %s refused: %s", job.identifier, error.code)
        except PacsUnavailableError as error:
            self.jobs.postpone(job, self.outage_wait_s, failed=False)
            logger.warning("study %s waits: %s", job.identifier, error)
        except (PacsDeniedError, PacsCertificateError):
            raise
        except JCSError as error:
            self._fail(job, error)

    def _read(self, job: Job) -> None:
        place = prepare_output_folder(self._place(job))
        count = self.web.fetch_study(job.study_uid, place / "study")
        logger.info("study %s: %d images fetched", job.identifier, count)
        if not self.read_study(place / "study", place / "results"):
            raise JCSError("the reading wrote no DICOM results")
        self.jobs.set_state(job, State.READ)

    def _results(self, job: Job) -> list[Path]:
        return sorted((self._place(job) / "results").rglob("*.dcm"))

    def _place(self, job: Job) -> Path:
        return self.folder / job.identifier

    def _fail(self, job: Job, error: JCSError) -> None:
        if job.attempts + 1 >= _MOST_ATTEMPTS:
            self.jobs.set_state(job, State.REFUSED, type(error).__name__)
            logger.warning("study %s given up after %d attempts: %s", job.identifier, _MOST_ATTEMPTS, error)
            return
        wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**job.attempts)
        self.jobs.postpone(job, wait, failed=True)
        logger.warning("study %s: %s; tried again in %.0f s", job.identifier, error, wait)
