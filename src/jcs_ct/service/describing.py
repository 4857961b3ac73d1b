"""Studies as JSON values: for the list, the study's page and programs, one description for all three."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jcs_ct.jobs import JOB_RECORD, State
from jcs_ct.service.studies import StudyRecord
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
    "segment": "Segmenting lesions",
    "findings": "Measuring",
    "report": "Writing the report",
    "viewer": "Preparing the viewer",
}


def describe_study(service: Service, record: StudyRecord) -> dict[str, Any]:
    """One study: whose, how far, and its facts when done."""
    job = service.studies.job(record)
    latest = service.studies.opinions(record.study_id)[:1]
    return {
        "study_id": record.study_id,
        "label": record.label,
        "owner": record.owner,
        "added_at": record.added_at,
        "file_count": record.file_count,
        "byte_count": record.byte_count,
        "state": "running" if job.is_running else str(job.state),
        "place": service.ledger.place_in_queue(record.job_id),
        "seconds_left": service.waiting.left_s(job),
        "stage": job.stage,
        "stage_name": STAGES.get(job.stage, ""),
        "done": job.done,
        "total": job.total,
        "attempts": job.attempts,
        "code": job.code,
        "message": job.message,
        "seconds": job.seconds,
        "facts": dict(job.result) if job.state is State.DONE else None,
        "versions": len(service.corrections.of(record.study_id)),
        "opinion": asdict(latest[0]) if latest else None,
    }


def describe_whole(service: Service, user: User, record: StudyRecord) -> dict[str, Any]:
    """One study with opinions, corrections and files."""
    described = describe_study(service, record)
    described["opinions"] = [asdict(opinion) for opinion in service.studies.opinions(record.study_id)]
    described["corrections"] = [asdict(correction) for correction in service.corrections.of(record.study_id)]
    described["shared_with"] = service.studies.shared_with(record.study_id)
    described["may_delete"] = user.is_admin or user.name == record.owner
    kept_s = None if service.settings.keep_days is None else service.settings.keep_days * 86400.0
    described["kept_until"] = None if kept_s is None else record.added_at + kept_s
    results = service.results.find(record.job_id)
    described["files"] = [] if results is None else result_files(results)
    return described


def result_files(folder: Path) -> list[str]:
    """Names of the files a reader may fetch: results, not what is the viewer's or the page's own."""
    hidden = (VIEWER, STATE, JOB_RECORD)
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(name.as_posix() for name in names if name.parts[0] not in hidden)


def read_report(folder: Path) -> dict[str, Any]:
    """report.json of a reading or a correction."""
    content: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return content


def read_grid(folder: Path) -> dict[str, Any]:
    """The viewer's grid of a reading."""
    content: dict[str, Any] = json.loads((folder / VIEWER / GRID).read_text(encoding="utf-8"))
    return content


def read_places(folder: Path) -> dict[str, list[int]]:
    """Where the viewer shows each lesion of a reading or a correction."""
    content: dict[str, list[int]] = json.loads((folder / VIEWER / PLACES).read_text(encoding="utf-8"))
    return content
