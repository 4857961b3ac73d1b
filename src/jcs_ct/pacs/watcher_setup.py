"""A watcher at work: put together in a folder, and kept going through outages and full disks until it is stopped."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from jcs_ct.errors import JCSError, OutputError
from jcs_ct.files import only_one
from jcs_ct.jobs import JobKey, Ledger, RetryPolicy, StudyWorker
from jcs_ct.pacs.book import StudyBook
from jcs_ct.pacs.heartbeat import Heartbeat
from jcs_ct.pacs.remote import StudyQuery
from jcs_ct.pacs.server import PacsCertificateError, PacsDeniedError
from jcs_ct.pacs.survey import Survey
from jcs_ct.pacs.watch import Pacs, Watcher, WatchSettings

logger = logging.getLogger(__name__)

LEDGER, BOOK, LOCK, STUDIES = "jobs.sqlite", "studies.sqlite", "watch.lock", "studies"


@contextmanager
def open_watcher(
    pacs: Pacs,
    folder: Path,
    key: JobKey,
    *,
    query: StudyQuery | None = None,
    whole_archive: bool = False,
    settle_s: float = 30.0,
    retries: RetryPolicy | None = None,
    settings: WatchSettings | None = None,
) -> Iterator[Watcher]:
    """A watcher in its folder, alone there; what an earlier one held when it was killed is free again.

    Args:
        pacs: The server.
        folder: Made when missing.
        key: Weights, operating point and version of every job.
        query, whole_archive, settle_s: See :class:`Survey`.
        retries: What a failure leads to.
        settings: How it works.

    Raises:
        OutputError: the folder cannot be used, or another watcher works in it.
    """
    with (
        only_one(folder / LOCK, "watcher"),
        Ledger(folder / LEDGER, retries=retries or RetryPolicy(most_attempts=5)) as ledger,
        closing(StudyBook(folder / BOOK, key.reading_id)) as book,
        StudyWorker() as worker,
    ):
        ledger.release_lost()
        survey = Survey(
            pacs, book, ledger, key, query or StudyQuery(), whole_archive=whole_archive, settle_s=settle_s
        )
        beat = Heartbeat(folder, ledger, key.reading_id)
        yield Watcher(pacs, survey, folder / STUDIES, settings or WatchSettings(), worker, beat)


def go_on(
    watcher: Watcher,
    every_s: float,
    *,
    once: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Look, work and wait, for ever or until no job is open.

    Refused credentials and an untrusted certificate end it at the first look, where a person sees it; later they are
    an outage like any other. An answer that is none ends it at the first look in a new folder alone, where the
    address is to be doubted; elsewhere it was damaged on its way. A full disk and a locked ledger are waited for.

    Raises:
        ConfigError: the first look cannot go on.
        PacsError: the first look in a new folder; with ``once`` that of any, where the server does not answer.
    """
    has_looked = False
    while True:
        try:
            answered = watcher.look()
            has_looked = has_looked or answered
            if once and not has_looked and watcher.unanswered is not None:
                raise watcher.unanswered
            if once and answered and watcher.is_idle():
                return
        except (PacsDeniedError, PacsCertificateError) as error:
            if not has_looked:
                raise
            logger.warning("%s", error)
            watcher.beat("denied")
        except (sqlite3.OperationalError, OSError, OutputError) as error:
            logger.warning("the watcher's folder cannot be used now (%s); trying again", type(error).__name__)
        except JCSError as error:
            if not has_looked and watcher.is_new:
                raise
            logger.warning("%s", error)
        sleep(every_s)
