"""The interface's part for studies that are already somewhere: pick them here, and send results back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from pydantic import Field, field_validator, model_validator

from jcs_ct.jobs import Ending, run_study
from jcs_ct.pacs.attributes import is_uid
from jcs_ct.service.bodies import BoundedRoute, StrictBody
from jcs_ct.service.describing import DescribedStudy, describe_study, result_files
from jcs_ct.service.listed_studies import find_in_pacs
from jcs_ct.service.problems import Problem
from jcs_ct.service.settings import PacsAddress
from jcs_ct.service.studies import LONGEST_LABEL
from jcs_ct.service.tasks import SEND_RESULTS
from jcs_ct.service.turns import Turns
from jcs_ct.service.web import CurrentUser, Service, TheService

router = APIRouter(prefix="/api/v1", route_class=BoundedRoute)

#: Results that are sent to the PACS at a time, each by a process of its own.
_SENDING = Turns(4, "send results")


class PickedStudy(StrictBody):
    """A study in a listed folder (``folder`` and ``name``) or in the PACS (``study_uid``)."""

    label: str = Field(default="", max_length=LONGEST_LABEL)
    folder: str = ""
    name: str = ""
    study_uid: str = ""

    @field_validator("study_uid")
    @classmethod
    def _is_identifier(cls, uid: str) -> str:
        if uid and not is_uid(uid):
            raise ValueError("an identifier has at most 64 letters, digits, dashes and dots")
        return uid

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.study_uid) == bool(self.folder and self.name):
            raise ValueError("give folder and name, or study_uid")
        return self


@router.get("/folders", tags=["upload"])
def list_folders(user: CurrentUser, service: TheService) -> dict[str, Any]:
    """Folders of the server that the administrator listed, and what lies in them."""
    folders = service.folders
    return {
        "folders": [
            {"folder": name, "studies": [asdict(one) for one in folders.entries(name)]} for name in folders.names
        ]
    }


@router.get("/pacs/studies", tags=["upload"])
def search_pacs(
    user: CurrentUser,
    service: TheService,
    patient_id: Annotated[str, Query(max_length=64)] = "",
    accession_number: Annotated[str, Query(max_length=64)] = "",
) -> dict[str, Any]:
    """CT studies of one patient or one order in the PACS, the newest first."""
    found = find_in_pacs(_pacs(service), patient_id=patient_id, accession_number=accession_number)
    service.audit.note(user.name, "pacs_search", found=len(found))
    return {"studies": found}


@router.post("/studies", status_code=201, tags=["upload"])
def pick(body: PickedStudy, user: CurrentUser, service: TheService) -> DescribedStudy:
    """Queue a study of a listed folder or of the PACS; its process fetches it."""
    limits = service.settings.uploads
    source: dict[str, Any] = {
        "most_files": limits.files,
        "most_bytes": limits.total_bytes,
        "free_bytes": limits.free_bytes,
    }
    if body.study_uid:
        address = _pacs(service)
        source |= {"url": address.url, "ca_bundle": address.ca_bundle, "study_uid": body.study_uid}
    else:
        source |= {"place": str(service.folders.find(body.folder, body.name))}
    label = body.label.strip() or "Study"
    record = service.studies.record(
        user,
        service.studies.new_id(),
        label,
        files=0,
        size=0,
        key=service.work.key,
        source=source,
        action="fetch" if body.study_uid else "pick",
    )
    return describe_study(service, service.studies.queue(record, service.work.key))


@router.post("/studies/{study_id}/send", tags=["results"])
def send_to_pacs(
    study_id: str, user: CurrentUser, service: TheService, version: Annotated[int, Query(ge=0)] = 0
) -> dict[str, int]:
    """Store the DICOM results of the automatic reading (version 0) or of a correction in the PACS."""
    record = service.studies.get(user, study_id)
    folder, address = service.corrections.folder(record, version), _pacs(service)
    if not any(name.endswith(".dcm") for name in result_files(folder)):
        raise Problem(409, "NO_DICOM", "the study has no DICOM results: it is no DICOM, or has no positions")
    arguments = {"results": str(folder), "url": address.url, "ca_bundle": address.ca_bundle}
    with _SENDING.taken():
        outcome = run_study(SEND_RESULTS, arguments, limits=service.settings.study)
    if outcome.ending is not Ending.DONE:
        raise Problem(502, "PACS_FAILED", outcome.message)
    receipt = {name: int(outcome.value[name]) for name in ("stored", "present", "changed")}
    service.audit.note(user.name, "send", study_id, version=version, **receipt)
    return receipt


def _pacs(service: Service) -> PacsAddress:
    if service.settings.pacs is None:
        raise Problem(404, "NO_PACS", "the administrator named no PACS; start the page with --pacs URL")
    return service.settings.pacs
