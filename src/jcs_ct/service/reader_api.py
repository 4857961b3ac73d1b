"""The interface's part for readers' own work: views, sharing, corrections and drafts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from jcs_ct.service.bodies import BoundedRoute, StrictBody, binary_body, read_body
from jcs_ct.service.corrections import MOST_MASK_BYTES
from jcs_ct.service.problems import Problem
from jcs_ct.service.studies import LONGEST_REASON
from jcs_ct.service.web import CurrentUser, TheService

router = APIRouter(prefix="/api/v1", route_class=BoundedRoute)


class OpinionIn(StrictBody):
    """What a reader thinks of the verdict."""

    agrees: bool
    reason: str = Field(default="", max_length=LONGEST_REASON)


class ShareIn(StrictBody):
    """Who else may see a study."""

    user: str


@router.post("/studies/{study_id}/opinions", status_code=201, tags=["readers"])
def add_opinion(study_id: str, body: OpinionIn, user: CurrentUser, service: TheService) -> dict[str, Any]:
    """Agree or disagree with the verdict, with a reason; it stands beside the automatic one, never over it."""
    record = service.studies.get(user, study_id)
    service.studies.require_done(record)
    service.studies.add_opinion(user, record, agrees=body.agrees, reason=body.reason)
    service.audit.note(user.name, "opinion", study_id, agrees=body.agrees)
    return {"opinions": [asdict(opinion) for opinion in service.studies.opinions(study_id)]}


@router.post("/studies/{study_id}/shares", status_code=201, tags=["readers"])
def share(study_id: str, body: ShareIn, user: CurrentUser, service: TheService) -> dict[str, Any]:
    """Let another reader see a study; its owner or an administrator may."""
    record = service.studies.get(user, study_id)
    service.studies.require_owner(user, record, "share")
    other = service.users.get(body.user)
    if other is None:
        raise Problem(404, "UNKNOWN_USER", "there is no user of that name")
    service.studies.share(record, other)
    service.audit.note(user.name, "share", study_id, **{"with": other.name})
    return {"shared_with": service.studies.shared_with(study_id)}


@router.delete("/studies/{study_id}/shares/{user_name}", tags=["readers"])
def stop_sharing(study_id: str, user_name: str, user: CurrentUser, service: TheService) -> dict[str, Any]:
    """Let another reader no longer see a study; its owner or an administrator may. What they wrote stays."""
    record = service.studies.get(user, study_id)
    service.studies.require_owner(user, record, "stop sharing")
    if not service.studies.stop_sharing(record, user_name):
        raise Problem(404, "NOT_SHARED", "the study is not shared with a user of that name")
    service.audit.note(user.name, "unshare", study_id, **{"with": user_name})
    return {"shared_with": service.studies.shared_with(study_id)}


async def _mask(request: Request) -> bytes:
    """A request's body, no longer than a mask may be."""
    content = await read_body(request, MOST_MASK_BYTES)
    if content is None:
        raise Problem(413, "MASK_TOO_LARGE", f"a mask has at most {MOST_MASK_BYTES} bytes")
    return content


@router.post(
    "/studies/{study_id}/corrections",
    status_code=201,
    tags=["readers"],
    openapi_extra=binary_body("application/gzip", "gzip of one byte a voxel of the viewer's grid, x fastest."),
)
async def save_correction(
    study_id: str,
    request: Request,
    user: CurrentUser,
    service: TheService,
    parent: Annotated[int, Query(ge=0)],
    note: Annotated[str, Query(max_length=LONGEST_REASON)] = "",
    although_newer: bool = False,
) -> dict[str, Any]:
    """Save a painted mask (gzip of one byte a voxel of the viewer's grid, x fastest) as a new version."""
    record = await run_in_threadpool(service.studies.get, user, study_id)
    mask = await _mask(request)
    saved = await run_in_threadpool(
        lambda: service.corrections.save(
            user, record, parent=parent, mask=mask, note=note, although_newer=although_newer
        )
    )
    await run_in_threadpool(
        lambda: service.audit.note(user.name, "correction", study_id, version=saved.version, parent=parent)
    )
    return asdict(saved)


@router.put(
    "/studies/{study_id}/draft",
    status_code=204,
    tags=["readers"],
    openapi_extra=binary_body("application/gzip", "As for a correction."),
)
async def keep_draft(
    study_id: str, request: Request, user: CurrentUser, service: TheService, parent: Annotated[int, Query(ge=0)]
) -> None:
    """Keep what you are painting, as it is."""
    record = await run_in_threadpool(service.studies.get, user, study_id)
    mask = await _mask(request)
    await run_in_threadpool(service.corrections.keep_draft, user, record, parent, mask)


@router.get("/studies/{study_id}/draft", tags=["readers"])
def draft(study_id: str, user: CurrentUser, service: TheService) -> Response:
    """Your draft (gzip), or 204; the header ``X-Parent`` names the version it was painted on."""
    kept = service.corrections.draft(user, service.studies.get(user, study_id))
    if kept is None:
        return Response(status_code=204)
    return Response(kept[1], media_type="application/gzip", headers={"X-Parent": str(kept[0])})


@router.delete("/studies/{study_id}/draft", status_code=204, tags=["readers"])
def drop_draft(study_id: str, user: CurrentUser, service: TheService) -> None:
    """Forget your draft."""
    service.corrections.drop_draft(user, service.studies.get(user, study_id))
