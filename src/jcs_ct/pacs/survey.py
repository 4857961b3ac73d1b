"""What is to be read on a server: new studies, and studies that changed, once they are whole and at rest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Protocol

from jcs_ct.errors import ConfigError
from jcs_ct.jobs import JobKey, Ledger
from jcs_ct.pacs.book import Sighting, StudyBook
from jcs_ct.pacs.remote import RemoteStudy, StudyListing, StudyQuery
from jcs_ct.pacs.server import PacsError, PacsGoneError, PacsIncompleteError, PacsUnavailableError
from jcs_ct.pacs.watched_reading import revision_of
from jcs_ct.reporting.dicom_identity import report_series_uid

logger = logging.getLogger(__name__)

#: A first look at a larger archive wants to be asked for: its studies are read one by one, for days.
MOST_AT_FIRST = 100


class Catalogue(Protocol):
    """What a survey asks a server."""

    def studies(self, query: StudyQuery | None = None) -> list[RemoteStudy]:
        """Studies with CT, all of them."""

    def answers(self) -> bool:
        """Whether the server answers at all."""

    def study(self, study_uid: str) -> RemoteStudy:
        """One of them, as a search finds it."""

    def listing(self, study: RemoteStudy) -> StudyListing:
        """Every series and image of one, or an error when it is not whole."""


@dataclass(eq=False)
class Survey:
    """Compares the server with the book, and queues what is to be read.

    Args:
        pacs: The server.
        book: What was seen.
        ledger: The jobs.
        key: Weights, operating point and version of every job; its study is replaced.
        query: Which studies are wanted.
        whole_archive: Whether a first look may queue more than :data:`MOST_AT_FIRST` studies.
        settle_s: A study is read when it has not changed for so long.
        recheck_s: A study that was dealt with is listed again after so long, though its count is what it was, or the
            query does not find it any more.
        clock: Seconds since the epoch.
    """

    pacs: Catalogue
    book: StudyBook
    ledger: Ledger
    key: JobKey
    query: StudyQuery
    whole_archive: bool = False
    settle_s: float = 30.0
    recheck_s: float = 6 * 3600.0
    clock: Callable[[], float] = time.time

    def look(self) -> int:
        """Look once; how many studies are still unsettled.

        Raises:
            PacsUnavailableError: the server does not answer.
            PacsIncompleteError: its list of studies is cut; nothing can be said of what is not in it.
            ConfigError: a first look finds a large archive that nobody asked for.
        """
        known = self.book.sightings()
        found = {study.uid: study for study in self.pacs.studies(self.query)}
        if not known and len(found) > MOST_AT_FIRST and not self.whole_archive:
            raise ConfigError(
                f"the PACS holds {len(found)} CT studies that match: name the first day with --since YYYY-MM-DD, or "
                f"read all of them with --since all (up to {MOST_AT_FIRST} need no word)"
            )
        unsettled = 0
        for study in found.values():
            unsettled += not self._is_dealt_with(study, known.get(study.uid))
        for study_uid in known.keys() - found.keys():
            self._miss(known[study_uid])
        return unsettled

    def _is_dealt_with(self, study: RemoteStudy, seen: Sighting | None) -> bool:
        if seen is not None and seen.missed_at:
            seen = replace(seen, missed_at=0.0)
            self.book.note(seen)
        if seen is not None and seen.is_settled and not self._may_have_changed(study, seen):
            return True
        try:
            return self._examine(study, seen)
        except PacsUnavailableError as error:
            self._pass_over(study.uid, error)
            return False
        except PacsError as error:
            logger.warning("study %s: %s", name_of(study.uid), error)
            self.book.note(replace(self._sighting(study, seen), fingerprint="", changed_at=self.clock()))
            return not isinstance(error, PacsIncompleteError)

    def _may_have_changed(self, study: RemoteStudy, seen: Sighting) -> bool:
        return (
            study.instance_count != seen.instance_count
            or study.patient_key != seen.patient_key
            or self._is_due(seen.listed_at)
        )

    def _is_due(self, moment: float) -> bool:
        """Whether what was found out then is to be asked for again."""
        return not 0 <= self.clock() - moment < self.recheck_s

    def _examine(self, study: RemoteStudy, seen: Sighting | None) -> bool:
        listing = self.pacs.listing(study)
        now = self.clock()
        sighting = replace(self._sighting(study, seen), listed_at=now)
        # What was first seen in the future was seen before the clock was set back: its rest is counted anew.
        if seen is None or sighting.fingerprint != listing.fingerprint or sighting.changed_at > now:
            sighting = replace(sighting, fingerprint=listing.fingerprint, changed_at=now)
        if not sighting.is_settled and now - sighting.changed_at >= self.settle_s:
            sighting = self._settle(study, listing, sighting)
        self.book.note(sighting)
        return sighting.is_settled

    def _settle(self, study: RemoteStudy, listing: StudyListing, sighting: Sighting) -> Sighting:
        """Queue a study at rest, unless it is not wanted or its results lie on the server."""
        self._drop_job_of(sighting)
        dealt_with = replace(sighting, settled=listing.fingerprint, job_id="")
        if not listing.ct_series or not self.query.admits(study, listing):
            return dealt_with
        key = replace(self.key, study=revision_of(study.uid, listing.fingerprint))
        later = self._later_results(study, key) if self.has_results(key, listing) else ""
        if later:  # what was rejected must not be stored again under its own identifiers
            key = replace(self.key, study=revision_of(study.uid, f"{listing.fingerprint}|after {later}"))
        if self.has_results(key, listing):
            logger.info("study %s: its results lie on the server already", name_of(study.uid))
            return dealt_with
        request = {"study_uid": study.uid, "fingerprint": listing.fingerprint}
        if not self.ledger.add(key, request):
            self.ledger.requeue(key.job_id, request=request)
        logger.info("study %s: %d images, queued as job %s", name_of(study.uid), listing.image_count, key.job_id)
        return replace(dealt_with, job_id=key.job_id)

    def _later_results(self, study: RemoteStudy, key: JobKey) -> str:
        """An instance of the results that took the place of this reading's; empty where none did.

        A study is again what it was when images that came by mistake are removed: the results in force are then those
        of images that it no longer has.
        """
        current = self.book.results(study.uid)
        own = report_series_uid(key.job_id)
        return "" if own in {one.series for one in current} else min((one.instance for one in current), default="")

    @staticmethod
    def has_results(key: JobKey, listing: StudyListing) -> bool:
        """Whether the structured report of this reading of these images lies on the server: it is stored last."""
        return report_series_uid(key.job_id) in {one.uid for one in listing.series}

    def _drop_job_of(self, sighting: Sighting) -> None:
        """A job of images that are no longer the study's is not to be done."""
        if sighting.job_id:
            self.ledger.cancel(sighting.job_id, message="the study changed or was deleted before this was done")

    def _miss(self, seen: Sighting) -> None:
        """A study is not in the list: forget it when the server says, asked for it alone, that it is gone.

        One that the query leaves out is there, and is asked for again after ``recheck_s`` only.
        """
        if seen.missed_at and not self._is_due(seen.missed_at):
            return
        try:
            self.pacs.listing(RemoteStudy(seen.study_uid))
        except PacsGoneError:
            logger.info("study %s: deleted on the server", name_of(seen.study_uid))
            self._drop_job_of(seen)
            self.book.forget(seen.study_uid)
        except PacsUnavailableError as error:
            self._pass_over(seen.study_uid, error)
        except PacsError as error:
            logger.warning("study %s: not in the list, and %s", name_of(seen.study_uid), error)
            self.book.note(replace(seen, missed_at=self.clock()))
        else:
            self.book.note(replace(seen, missed_at=self.clock()))

    def _pass_over(self, study_uid: str, error: PacsUnavailableError) -> None:
        """A study that the server fails on does not hold up the others; a server that is down does.

        Raises:
            PacsUnavailableError: it answers nothing at all.
        """
        if not self.pacs.answers():
            raise error
        logger.warning("study %s: the PACS fails on it, %s", name_of(study_uid), error)

    @staticmethod
    def _sighting(study: RemoteStudy, seen: Sighting | None) -> Sighting:
        return replace(
            seen or Sighting(study.uid), instance_count=study.instance_count, patient_key=study.patient_key
        )


def name_of(study_uid: str) -> str:
    """What a study is called in logs: a hash."""
    return sha256(study_uid.encode()).hexdigest()[:12]
