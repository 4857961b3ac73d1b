"""New and changed studies in, results back: each state of a study's images once for each reading.

A study is read when it is whole and at rest (``survey``), in a process of its own that can be killed. Its results lie
on disk whole before the first of them is sent, and are sent again as they lie there after a kill or an outage. Their
identifiers follow from the images and the reading, so the PACS keeps one result set, whoever sends it how often.
Whatever goes wrong with a study is one attempt with its code; the watcher goes on with the next.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from jcs_ct.disk_space import GIB
from jcs_ct.errors import GateCode, JCSError
from jcs_ct.files import prepare_output_folder
from jcs_ct.imaging.identifiers import ObjectIdentifiers
from jcs_ct.jobs import OPEN_STATES, Claim, Ending, LeaseLostError, Ledger, Limits, Outcome, State, StudyWorker
from jcs_ct.jobs.attempts import Attempts, crashed
from jcs_ct.jobs.hold import Hold
from jcs_ct.jobs.outcome import FailureCode
from jcs_ct.pacs.book import StudyBook
from jcs_ct.pacs.remote import StudyListing
from jcs_ct.pacs.server import (
    PacsCertificateError,
    PacsDeniedError,
    PacsGoneError,
    PacsIncompleteError,
    PacsRefusedError,
    PacsUnavailableError,
)
from jcs_ct.pacs.storing import StoreReceipt
from jcs_ct.pacs.survey import Catalogue, Survey
from jcs_ct.pacs.watched_reading import READ_FOR_PACS

logger = logging.getLogger(__name__)

#: Refusals that damage on the way can cause: the images are fetched anew before they are believed.
_PERHAPS_DAMAGED = frozenset({GateCode.UNREADABLE, GateCode.TRUNCATED, GateCode.NO_IMAGES})
#: One process works in a folder, and looks are short beside it: what a killed one held is released at the start.
_LEASE_S = 1800.0
_NOTE_EVERY_S = 5.0
_WORK_PER_LOOK = 4.0


class Pacs(Catalogue, Protocol):
    """What a watcher asks of a server."""

    def fetch_study(
        self, study_uid: str, folder: Path, *, advance: Callable[[int, int], None] | None = None
    ) -> StudyListing:
        """Write the CT images of a study, whole, or raise."""

    def store(self, paths: Sequence[Path]) -> StoreReceipt:
        """Store results, or raise."""


@dataclass(frozen=True)
class WatchSettings:
    """How a watcher works.

    Args:
        models: ``compact``, or a folder made by ``jcs calibrate``.
        task: What the study's process does.
        limits: What it may use.
        outage_wait_s: Wait before a job is tried again that met an outage of the server; see also
            :class:`~jcs_ct.jobs.attempts.Attempts` for those of this machine.
        look_every_s: Longest time between two looks at the server while jobs are open.
        least_free_bytes: Below so much free space nothing is fetched.
        keep_s: What a job that waits may leave on disk for so long; jobs that are closed leave nothing.
    """

    models: str = "compact"
    task: str = READ_FOR_PACS
    limits: Limits = field(default_factory=Limits)
    outage_wait_s: float = 30.0
    look_every_s: float = 30.0
    least_free_bytes: int = 2 * GIB
    keep_s: float = 24 * 3600.0

    def __post_init__(self) -> None:
        if min(self.outage_wait_s, self.look_every_s, self.least_free_bytes, self.keep_s) < 0:
            raise ValueError(f"waits and limits must not be negative: {self}")


class StudyChangedError(JCSError):
    """The images on the server are not those that were queued."""

    code = "CHANGED"


@dataclass(eq=False)
class Watcher:
    """One PACS, one ledger, one reading.

    Args:
        pacs: The server.
        survey: Queues what is to be read.
        folder: Where studies are fetched to and results lie until they are stored.
        settings: Limits and waits.
        worker: The studies' process.
        beat: Called with a word for what is done now, at least between any two steps.
        clock: Seconds since the epoch.
        unsettled: Studies that the last look left open; there may be some before the first.
    """

    pacs: Pacs
    survey: Survey
    folder: Path
    settings: WatchSettings = field(default_factory=WatchSettings)
    worker: StudyWorker = field(default_factory=StudyWorker)
    beat: Callable[[str], None] = lambda doing: None
    clock: Callable[[], float] = time.time
    unsettled: int = 1
    #: Why the last look was not answered; None where it was.
    unanswered: JCSError | None = field(default=None, init=False)
    _outage: str = ""

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.ledger, self.settings.outage_wait_s)

    @property
    def ledger(self) -> Ledger:
        """The jobs."""
        return self.survey.ledger

    @property
    def book(self) -> StudyBook:
        """What was seen."""
        return self.survey.book

    def look(self) -> bool:
        """Look at the server, then work on jobs until none is due or it is time to look again.

        Returns:
            Whether the server answered.

        Raises:
            PacsDeniedError: the server refuses the credentials.
            PacsCertificateError: its certificate is not trusted.
            ConfigError: a first look finds an archive that nobody asked for.
        """
        self.beat("looking")
        began = self.clock()
        try:
            self.unsettled = self.survey.look()
        except (PacsUnavailableError, PacsIncompleteError) as error:
            logger.warning("%s; looking again later", error)
            self.beat("outage")
            self.unanswered = error
            return False
        if self.unanswered is not None:
            logger.info("the PACS answers again")
        self.unanswered = None
        self._sweep()
        started, self._outage = self.clock(), ""
        # Four times as much work follows a long look at a large or slow server: neither starves the other.
        work_s = max(self.settings.look_every_s, _WORK_PER_LOOK * (started - began))
        while self._attempts.may_claim() and (claim := self._claim()) is not None:
            self._work_on(claim)
            if self._outage or not 0 <= self.clock() - started < work_s:  # the clock may be set back
                break
        self.beat(self._outage or ("waiting" if self.has_space() else "disk full"))
        return True

    def is_idle(self) -> bool:
        """Whether every study that was seen is dealt with and no job is open."""
        counts = self.ledger.counts(reading_id=self.survey.key.reading_id)
        return not self.unsettled and not counts[State.QUEUED] and not counts[State.READ]

    @property
    def is_new(self) -> bool:
        """Whether no study was ever seen in this folder."""
        return not self.book.sightings()

    def has_space(self) -> bool:
        """Whether the disk has room for another study."""
        prepare_output_folder(self.folder)
        return shutil.disk_usage(self.folder).free >= self.settings.least_free_bytes

    def _claim(self) -> Claim | None:
        """The next job that is due; while the disk is full, only one whose results are to be stored."""
        states = (State.READ, State.QUEUED) if self.has_space() else (State.READ,)
        for state in states:
            claim = self.ledger.claim(states=(state,), reading_id=self.survey.key.reading_id, lease_s=_LEASE_S)
            if claim is not None:
                return claim
        return None

    def _work_on(self, claim: Claim) -> None:
        try:
            self._attempt(claim)
        except LeaseLostError as error:
            logger.warning("%s", error)

    def _attempt(self, claim: Claim) -> None:
        try:
            self.beat(f"working on {claim.job_id}")
            self._read_and_store(claim)
        except LeaseLostError:
            raise
        except (KeyboardInterrupt, SystemExit):
            self._attempts.give_back(claim, message="the watcher was stopped")
            raise
        except Exception as error:  # noqa: BLE001 - whatever a study raises is one attempt with its code
            self._end(claim, crashed(error))

    def _read_and_store(self, claim: Claim) -> None:
        try:
            if claim.job.state is State.QUEUED:
                outcome = self._read(claim)
                if outcome.ending is not Ending.DONE:
                    self._end(claim, outcome)
                    return
                self.ledger.advance(claim, State.READ, result={**outcome.value, "seconds": outcome.seconds})
                claim = self._again(claim)
            if claim.job.cancel_requested:
                self._end(claim, Outcome(Ending.CANCELLED, FailureCode.CANCELLED))
                return
            self._store(claim)
        except (StudyChangedError, PacsGoneError) as error:
            self.book.unsettle(claim.job.request["study_uid"], self.clock())
            self._end(claim, Outcome(Ending.REFUSED, error.code, str(error)))
        except (PacsUnavailableError, PacsDeniedError, PacsCertificateError) as error:
            self._wait_or_fail(claim, error)

    def _again(self, claim: Claim) -> Claim:
        """The claim with the job as it is now."""
        job = self.ledger.job(claim.job_id)
        if job is None:
            raise LeaseLostError(f"job {claim.job_id} is no longer in the ledger")
        return Claim(job, claim.token, claim.lease_s)

    def _read(self, claim: Claim) -> Outcome:
        place, study_uid = prepare_output_folder(self._place(claim)), claim.job.request["study_uid"]
        beat = partial(self.beat, f"working on {claim.job_id}")
        hold = Hold(self.ledger, claim, every_s=_NOTE_EVERY_S, beat=beat)
        listing = self.pacs.fetch_study(study_uid, place / "study", advance=partial(hold.note, "fetch"))
        if listing.fingerprint != claim.job.request["fingerprint"]:
            raise StudyChangedError("the study changed before it was read; it is read when it is at rest again")
        shutil.rmtree(place / "results", ignore_errors=True)
        arguments = {
            "study": str(place / "study"),
            "output": str(place / "results"),
            "models": self.settings.models,
            "revision": claim.job_id,
            "supersedes": [asdict(one) for one in self._superseded(claim, listing)],
        }
        return self.worker.run(
            self.settings.task,
            arguments,
            limits=self.settings.limits,
            on_progress=hold.note,
            keep_going=hold.keep_going,
        )

    def _superseded(self, claim: Claim, listing: StudyListing) -> list[ObjectIdentifiers]:
        """Earlier results that the server holds, those of a storing that was cut short included.

        A job's own are none of them: it stores the same identifiers again when a person removed them and asked anew.
        """
        study_uid, listed = claim.job.request["study_uid"], {one.uid for one in listing.series}
        begun = [one for one in self.book.begun_results(study_uid) if one.series in listed]
        own = {one["instance"] for _, one in claim.job.result.get("objects", [])}
        return [one for one in (*self.book.results(study_uid), *begun) if one.instance not in own]

    def _store(self, claim: Claim) -> None:
        """Send the results, unless the study changed in the meantime or another watcher has sent them."""
        study_uid, result = claim.job.request["study_uid"], dict(claim.job.result)
        objects = [(name, ObjectIdentifiers(**one)) for name, one in result.get("objects", [])]
        if not objects:
            raise PacsRefusedError("the reading wrote no DICOM results")
        if not self.survey.has_results(claim.job.key, self._unchanged(claim)):
            paths = [self._place(claim) / "results" / name for name, _ in objects]
            if not all(path.is_file() for path in paths):
                raise StudyChangedError("its results are not on disk any more; it is read again")
            self.book.begin_results(study_uid, [one for _, one in objects])
            receipt = self.pacs.store(paths)
            logger.info("job %s: %d results stored, %d of them were there", claim.job_id, len(paths), receipt.present)
            if receipt.warned:
                logger.warning("job %s: the PACS warns that it changed %d results", claim.job_id, receipt.warned)
                result["changed"] = receipt.warned
            if any(one.study != study_uid for _, one in objects):
                logger.warning("job %s: the results are a study of their own, the PACS's has no UID", claim.job_id)
                result["own_study"] = True
            elif unlisted := self._sent_again(claim, objects, paths):
                logger.warning("job %s: the PACS took %d series and does not list them whole", claim.job_id, unlisted)
                result["series_not_listed"] = unlisted
        self.book.replace_results(study_uid, [one for _, one in objects])
        self._remove(claim.job_id)
        seconds = float(result.get("seconds", 0))
        self._attempts.finish(claim, {"value": result, "seconds": seconds, "peak_memory_bytes": 0})

    def _sent_again(
        self, claim: Claim, objects: Sequence[tuple[str, ObjectIdentifiers]], paths: Sequence[Path]
    ) -> int:
        """Send once more what the server does not list; how many series it does not list then either."""
        if not self._unlisted(claim, objects):
            return 0
        self.pacs.store(paths)  # what is there already is no failure
        return self._unlisted(claim, objects)

    def _unlisted(self, claim: Claim, objects: Sequence[tuple[str, ObjectIdentifiers]]) -> int:
        """Series of the results that the server does not list, or with fewer objects than they have."""
        sent = Counter(one.series for _, one in objects)
        for one in self._unchanged(claim).series:
            if one.instance_count is None or one.instance_count >= sent[one.uid]:
                del sent[one.uid]
        return len(sent)

    def _unchanged(self, claim: Claim) -> StudyListing:
        """The study as it is now, with the images that were read."""
        listing = self.pacs.listing(self.pacs.study(claim.job.request["study_uid"]))
        if listing.fingerprint != claim.job.request["fingerprint"]:
            raise StudyChangedError("the study changed while it was read; it is read again when it is at rest")
        return listing

    def _end(self, claim: Claim, outcome: Outcome) -> None:
        """Write down how an attempt ended that is not done, and remove what a closed job has on disk."""
        if outcome.code in _PERHAPS_DAMAGED:
            shutil.rmtree(self._place(claim) / "study", ignore_errors=True)
            outcome = replace(outcome, ending=Ending.FAILED)
        elif outcome.ending in (Ending.REFUSED, Ending.CANCELLED):
            self._remove(claim.job_id)
        state = self._attempts.end(claim, outcome)
        if outcome.is_outage:
            self._outage = "disk full" if outcome.code == FailureCode.DISK_FULL else "outage"
            self.beat(self._outage)
        elif state not in OPEN_STATES:
            self._remove(claim.job_id)

    def _wait_or_fail(
        self, claim: Claim, error: PacsUnavailableError | PacsDeniedError | PacsCertificateError
    ) -> None:
        """An outage is no fault of the study; one of a server that answers others is."""
        try:
            answers = self.pacs.answers()
        except (PacsDeniedError, PacsCertificateError):
            answers = False
        if answers:
            self._end(claim, Outcome(Ending.FAILED, error.code, str(error)))
            return
        self._outage = "outage"
        self.beat(self._outage)
        wait_s = self.settings.outage_wait_s
        self._attempts.give_back(claim, wait_s=wait_s, code=error.code, message=str(error))
        logger.warning("job %s waits: %s", claim.job_id, error.code)

    def _sweep(self) -> None:
        """Remove what closed jobs and jobs that wait for long have on disk."""
        open_jobs = {job.job_id: job for job in self.ledger.jobs(states=(State.QUEUED, State.READ))}
        for place in _folders(self.folder):
            job = open_jobs.get(place.name)
            if job is None or (
                job.state is State.QUEUED and self.clock() - place.stat().st_mtime > self.settings.keep_s
            ):
                self._remove(place.name)

    def _remove(self, job_id: str) -> None:
        place = self.folder / job_id
        if place.exists():
            shutil.rmtree(place)

    def _place(self, claim: Claim) -> Path:
        return self.folder / claim.job_id


def _folders(root: Path) -> Iterator[Path]:
    return (path for path in root.iterdir() if path.is_dir()) if root.is_dir() else iter(())
