"""What a watcher has done with a study it fetched: ``jcs diagnose --dicom``, in the study's process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jcs_ct.imaging.identifiers import ObjectIdentifiers, read_identifiers
from jcs_ct.jobs import ReadingRequest

if TYPE_CHECKING:
    from jcs_ct.progress import Progress

#: Name of :func:`read_for_pacs` for :class:`~jcs_ct.jobs.StudyWorker`.
READ_FOR_PACS = "jcs_ct.pacs.watched_reading:read_for_pacs"


def revision_of(study_uid: str, fingerprint: str) -> str:
    """What stands for a study in a job's key: its identifier and its images, hashed together."""
    return hashlib.sha256(f"{study_uid}|{fingerprint}".encode()).hexdigest()


def read_for_pacs(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The task: read ``study``, write its DICOM results into ``output``.

    Args:
        arguments: ``study`` and ``output`` (folders), ``models``, ``revision`` (names the results),
            ``supersedes`` (:class:`ObjectIdentifiers` of the results that they take the place of, as mappings).
        progress: Stages.

    Returns:
        ``objects``: files, relative to ``output``, and what they are, in the order in which they are to be stored:
        the structured report last, so that where it lies the others do.
    """
    from jcs_ct.jobs.study_reading import read_as_requested
    from jcs_ct.reporting.dicom_results import in_storing_order, write_dicom_results

    output = Path(arguments["output"])
    request = ReadingRequest(
        study=arguments["study"], output=str(output), models=arguments["models"], formats=(), dicom=False
    )
    study, diagnosis, _ = read_as_requested(request, progress)
    written = write_dicom_results(
        study,
        diagnosis,
        output,
        revision=arguments["revision"],
        supersedes=[ObjectIdentifiers(**one) for one in arguments["supersedes"]],
    )
    progress("identify", 0, 1)
    known = dict(zip(written, read_identifiers(written), strict=True))
    return {
        "verdict": str(diagnosis.verdict),
        "objects": [[path.relative_to(output).as_posix(), asdict(known[path])] for path in in_storing_order(written)],
    }
