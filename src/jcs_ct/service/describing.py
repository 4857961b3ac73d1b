"""Studies as JSON values: for the list, the study's page and programs, one description for all three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from jcs_ct.errors import REMEDIES
from jcs_ct.files import read_own_json
from jcs_ct.jobs import JOB_RECORD, Job, State
from jcs_ct.service.settings import READ_AGAIN
from jcs_ct.service.studies import Opinion, StudyRecord
from jcs_ct.service.tasks import GRID, PLACES, STATE, VIEWER
from jcs_ct.service.users import User
from jcs_ct.service.web import Service

#: What a reader is told a stage is; in the order in which they come.
STAGES = {
    "fetch": "Fetching the images",
    "unpack": "Unpacking",
    "read": "Reading the images",
    "lungs": "Finding the lungs",
    "classify": "Classifying slices",
    "map": "Activation maps",
    "second_look": "Checking a negative verdict",
    "segment": "Segmenting lesions",
    "findings": "Measuring",
    "report": "Writing the report",
    "viewer": "Preparing the viewer",
}


class DescribedStudy(TypedDict):
    """A study as the worklist has it: ``facts`` when it was read, ``code`` and ``message`` when it was not."""

    study_id: str
    label: str
    owner: str
    added_at: float
    file_count: int
    byte_count: int
    state: str
    place: int | None
    seconds_left: int | None
    stage: str
    stage_name: str
    done: int
    total: int
    attempts: int
    code: str
    message: str
    remedy: str
    seconds: float
    facts: dict[str, Any] | None
    versions: int
    opinion: dict[str, Any] | None


class WholeStudy(DescribedStudy):
    """A study with what readers added, and the names of its result files."""

    opinions: list[dict[str, Any]]
    corrections: list[dict[str, Any]]
    shared_with: list[str]
    may_delete: bool
    kept_until: float | None
    files: list[str]


def describe_study(service: Service, record: StudyRecord) -> DescribedStudy:
    """One study: whose, how far, and its facts when done."""
    job = service.studies.job(record)
    return _described(
        service, record, job, service.ledger.place_in_queue(record.job_id), *_of_readers(service, [record])
    )


def _of_readers(service: Service, records: Sequence[StudyRecord]) -> tuple[dict[str, Opinion], dict[str, int]]:
    """What readers added to studies, by study_id: the newest opinion, and how many corrections."""
    names = [record.study_id for record in records]
    return service.studies.latest_opinions(names), service.corrections.counts(names)


def _described(
    service: Service,
    record: StudyRecord,
    job: Job,
    place: int | None,
    opinions: Mapping[str, Opinion],
    versions: Mapping[str, int],
) -> DescribedStudy:
    opinion = opinions.get(record.study_id)
    return {
        "study_id": record.study_id,
        "label": record.label,
        "owner": record.owner,
        "added_at": record.added_at,
        "file_count": record.file_count,
        "byte_count": record.byte_count,
        "state": "running" if job.is_running else str(job.state),
        "place": place,
        "seconds_left": service.waiting.left_s(job),
        "stage": job.stage,
        "stage_name": STAGES.get(job.stage, ""),
        "done": job.done,
        "total": job.total,
        "attempts": job.attempts,
        "code": job.code,
        "message": job.message,
        "remedy": REMEDIES.get(job.code, ""),
        "seconds": job.seconds,
        "facts": dict(job.result) if job.state is State.DONE else None,
        "versions": versions.get(record.study_id, 0),
        "opinion": None if opinion is None else asdict(opinion),
    }


def describe_visible(service: Service, records: Sequence[StudyRecord]) -> list[DescribedStudy]:
    """Studies of a list; one whose job is gone (it is being deleted, or was never queued) is passed over."""
    places, of_readers = service.ledger.places_in_queue(), _of_readers(service, records)
    return [
        _described(service, record, job, places.get(record.job_id), *of_readers)
        for record in records
        if (job := service.ledger.job(record.job_id)) is not None
    ]


def describe_whole(service: Service, user: User, record: StudyRecord) -> WholeStudy:
    """One study with opinions, corrections and files."""
    kept_s = None if service.settings.keep_days is None else service.settings.keep_days * 86400.0
    results = service.results.find(record.job_id)
    return {
        **describe_study(service, record),
        "opinions": [asdict(opinion) for opinion in service.studies.opinions(record.study_id)],
        "corrections": [asdict(correction) for correction in service.corrections.of(record.study_id)],
        "shared_with": service.studies.shared_with(record.study_id),
        "may_delete": user.is_admin or user.name == record.owner,
        "kept_until": None if kept_s is None else record.added_at + kept_s,
        "files": [] if results is None else result_files(results),
    }


def result_files(folder: Path) -> list[str]:
    """Names of the files a reader may fetch: results, not what is the viewer's or the page's own."""
    hidden = (VIEWER, STATE, JOB_RECORD)
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(name.as_posix() for name in names if name.parts[0] not in hidden)


def read_report(folder: Path) -> dict[str, Any]:
    """report.json of a reading or a correction."""
    return read_own_json(folder / "report.json", instead=READ_AGAIN)


def read_grid(folder: Path) -> dict[str, Any]:
    """The viewer's grid of a reading."""
    return read_own_json(folder / VIEWER / GRID, instead=READ_AGAIN)


def read_places(folder: Path) -> dict[str, list[int]]:
    """Where the viewer shows each lesion of a reading or a correction."""
    return read_own_json(folder / VIEWER / PLACES, instead=READ_AGAIN)
