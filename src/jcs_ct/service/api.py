"""The interface for programs, and for the page's own scripts: JSON over HTTP, described by OpenAPI."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from jcs_ct.service.bodies import BoundedRoute, StrictBody, binary_body
from jcs_ct.service.describing import (
    DescribedStudy,
    WholeStudy,
    describe_study,
    describe_visible,
    describe_whole,
    read_grid,
    read_report,
    result_files,
)
from jcs_ct.service.problems import Problem
from jcs_ct.service.studies import LONGEST_LABEL
from jcs_ct.service.tasks import ACTIVATION, CT, DENSITIES, LESION_IDS, LESIONS, VIEWER
from jcs_ct.service.web import REPORT_POLICY, Admin, CurrentSession, CurrentUser, TheService

router = APIRouter(prefix="/api/v1", route_class=BoundedRoute)

_VIEWER_FILES = (CT, ACTIVATION, LESIONS, LESION_IDS, DENSITIES)
#: Files of the viewer that a correction has anew.
_OF_VERSION = (LESIONS, LESION_IDS, DENSITIES)


class AnnouncedFile(StrictBody):
    """One file that will be sent."""

    name: str
    size: int


class Announcement(StrictBody):
    """A study that will be sent."""

    label: str = Field(default="", max_length=LONGEST_LABEL)
    files: list[AnnouncedFile]


class ListedStudies(TypedDict):
    """A page of the worklist."""

    total: int
    studies: list[DescribedStudy]


@router.get("/session", tags=["administration"])
def session(session: CurrentSession) -> dict[str, str]:
    """Who asks, and what a browser's requests must show against forgery."""
    return {"user": session.user.name, "role": str(session.user.role), "csrf": session.csrf}


@router.post("/uploads", status_code=201, tags=["upload"])
def announce(body: Announcement, user: CurrentUser, service: TheService) -> dict[str, Any]:
    """Announce a study; send its files, in the order that comes back, as one stream of chunks."""
    files = [file.model_dump() for file in body.files]
    upload, order = service.uploads.announce(user, body.label.strip() or "Study", files)
    service.audit.note(user.name, "announce", files=len(files), bytes=upload.total_bytes)
    return {
        "upload_id": upload.upload_id,
        "order": order,
        "received": 0,
        "total_bytes": upload.total_bytes,
        "chunk_bytes": service.uploads.limits.chunk_bytes,
    }


@router.get("/uploads/{upload_id}", tags=["upload"])
def upload_state(upload_id: str, user: CurrentUser, service: TheService) -> dict[str, Any]:
    """How much is here: where to go on after a cut."""
    upload = service.uploads.find(user, upload_id)
    return {"upload_id": upload_id, "received": upload.received, "total_bytes": upload.total_bytes}


@router.put(
    "/uploads/{upload_id}",
    tags=["upload"],
    openapi_extra=binary_body("application/octet-stream", "The chunk, as it is."),
)
async def receive(
    upload_id: str,
    request: Request,
    user: CurrentUser,
    service: TheService,
    offset: Annotated[int, Query(ge=0)],
) -> dict[str, Any]:
    """Send the chunk (the request's body, as it is) that starts at ``offset``."""
    upload = await run_in_threadpool(service.uploads.find, user, upload_id)
    return {"received": await service.uploads.receive(upload, offset, request.stream())}


@router.post("/uploads/{upload_id}/complete", status_code=201, tags=["upload"])
def complete(upload_id: str, user: CurrentUser, service: TheService) -> DescribedStudy:
    """All is sent: make it a study and queue it; asked again, the same study is the answer."""
    record = service.studies.of_upload(user, upload_id)
    if record is None:
        upload = service.uploads.find(user, upload_id)
        study_id, files, size = service.studies.new_id(), len(upload.sizes), upload.total_bytes
        with service.uploads.taking_over(upload, service.studies.sent(study_id)):
            record = service.studies.record(
                user, study_id, upload.label, files=files, size=size, key=service.work.key, upload_id=upload_id
            )
    else:
        service.uploads.drop(upload_id)  # what a kill or a full disk left of it
    return describe_study(service, service.studies.queue(record, service.work.key))


@router.delete("/uploads/{upload_id}", status_code=204, tags=["upload"])
def abandon(upload_id: str, user: CurrentUser, service: TheService) -> None:
    """Give an upload up."""
    service.uploads.drop(service.uploads.find(user, upload_id).upload_id)


@router.get("/studies", tags=["studies"])
def list_studies(
    user: CurrentUser,
    service: TheService,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> ListedStudies:
    """Studies that you may see, the newest first."""
    visible = service.studies.visible(user)
    shown = describe_visible(service, visible[offset : offset + limit])
    return {"total": len(visible), "studies": shown}


@router.get("/studies/{study_id}", tags=["studies"])
def study(study_id: str, user: CurrentUser, service: TheService) -> WholeStudy:
    """One study: state, progress, facts, opinions, corrections, files."""
    return describe_whole(service, user, service.studies.get(user, study_id))


@router.post("/studies/{study_id}/cancel", tags=["studies"])
def cancel(study_id: str, user: CurrentUser, service: TheService) -> DescribedStudy:
    """Stop a study that waits or is being read."""
    record = service.studies.get(user, study_id)
    if not service.ledger.cancel(record.job_id):
        raise Problem(409, "NOT_OPEN", "the study is not waiting or being read")
    service.audit.note(user.name, "cancel", study_id)
    return describe_study(service, record)


@router.post("/studies/{study_id}/retry", tags=["studies"])
def retry(study_id: str, user: CurrentUser, service: TheService) -> DescribedStudy:
    """Queue a study again that was refused, cancelled or set aside."""
    record = service.studies.get(user, study_id)
    if service.results.find(record.job_id) is not None or not service.ledger.requeue(record.job_id):
        raise Problem(409, "NOT_STOPPED", "the study is done or being read; there is nothing to try again")
    service.audit.note(user.name, "retry", study_id)
    return describe_study(service, record)


@router.delete("/studies/{study_id}", status_code=204, tags=["studies"])
def delete(study_id: str, user: CurrentUser, service: TheService) -> None:
    """Remove a study with everything that belongs to it; its owner or an administrator may."""
    record = service.studies.get(user, study_id)
    service.studies.require_owner(user, record, "delete")
    service.studies.delete(record, by=user.name)


@router.get("/studies/{study_id}/report.json", tags=["results"])
def report(
    study_id: str, user: CurrentUser, service: TheService, version: Annotated[int, Query(ge=0)] = 0
) -> JSONResponse:
    """The report as data, of the automatic reading or of a correction."""
    record = service.studies.get(user, study_id)
    found = read_report(service.corrections.folder(record, version))
    service.audit.note_view(user.name, study_id, version)
    return JSONResponse(found)


@router.get("/studies/{study_id}/report.html", tags=["results"])
def report_page(study_id: str, user: CurrentUser, service: TheService) -> Response:
    """The report as one page that needs no WebGL; it runs without an origin."""
    folder = service.studies.require_done(service.studies.get(user, study_id))
    headers = {"Content-Security-Policy": REPORT_POLICY}
    service.audit.note_view(user.name, study_id, 0)
    return FileResponse(folder / "report.html", media_type="text/html", headers=headers)


@router.get("/studies/{study_id}/viewer/grid.json", tags=["results"])
def viewer_grid(study_id: str, user: CurrentUser, service: TheService) -> dict[str, Any]:
    """The grid of the viewer's volumes."""
    return read_grid(service.studies.require_done(service.studies.get(user, study_id)))


@router.get("/studies/{study_id}/viewer/{name}", tags=["results"])
def viewer_volume(
    study_id: str, name: str, user: CurrentUser, service: TheService, version: Annotated[int, Query(ge=0)] = 0
) -> FileResponse:
    """A volume for the viewer: the chest in HU, or a map or mask of 8 bits on the same grid."""
    record = service.studies.get(user, study_id)
    if name not in _VIEWER_FILES:
        raise Problem(404, "UNKNOWN_FILE", f"the viewer has {', '.join(_VIEWER_FILES)}")
    path = service.corrections.folder(record, version if name in _OF_VERSION else 0) / VIEWER / name
    if not path.is_file():
        raise Problem(404, "UNKNOWN_FILE", "the study was read by a version that did not write this file")
    service.audit.note_view(user.name, study_id, version)
    return FileResponse(path, media_type="application/gzip")


@router.get("/studies/{study_id}/results.zip", tags=["results"])
def results_zip(
    study_id: str, user: CurrentUser, service: TheService, version: Annotated[int, Query(ge=0)] = 0
) -> FileResponse:
    """Every result file of the automatic reading (version 0) or of a correction: report, NIfTI, DICOM."""
    record = service.studies.get(user, study_id)
    folder = service.corrections.folder(record, version)
    name = f"jcs-{study_id}-v{version}.zip"

    def note() -> None:
        service.studies.require_kept(record)  # else what was listed is not all there was
        service.audit.note(user.name, "export", study_id, version=version)

    try:
        return service.packages.send(user.name, folder, result_files(folder), filename=name, when_packed=note)
    except FileNotFoundError:
        service.studies.require_kept(record)
        raise


@router.get("/studies/{study_id}/files/{name:path}", tags=["results"])
def result_file(
    study_id: str, name: str, user: CurrentUser, service: TheService, version: Annotated[int, Query(ge=0)] = 0
) -> FileResponse:
    """One result file by the name that the study's description lists."""
    folder = service.corrections.folder(service.studies.get(user, study_id), version)
    if name not in result_files(folder):
        raise Problem(404, "UNKNOWN_FILE", "there is no such result file")
    service.audit.note(user.name, "export", study_id, version=version, file=name)
    return FileResponse(folder / name, media_type="application/octet-stream", filename=Path(name).name)


@router.get("/audit", tags=["administration"])
def audit(
    user: Admin,
    service: TheService,
    study_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 200,
) -> dict[str, Any]:
    """Who did what, the newest first, and the first line whose seal does not follow from the line before."""
    entries = service.audit.entries(study_id=study_id, limit=limit)
    return {"first_broken": service.audit.first_broken(), "entries": [asdict(entry) for entry in entries]}
