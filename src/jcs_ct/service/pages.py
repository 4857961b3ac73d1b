"""Pages for people: login, worklist, study, audit log. Text is escaped by the templates; scripts get data as JSON."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.concurrency import run_in_threadpool

from jcs_ct import NOTICE, __version__
from jcs_ct.disk_space import GIB
from jcs_ct.jobs import State
from jcs_ct.reporting.language import Words
from jcs_ct.reporting.page_templates import limits_in_html
from jcs_ct.reporting.window_presets import PRESETS
from jcs_ct.service.bodies import read_body
from jcs_ct.service.comparing import OtherStudy, StudyOrder, burden_change, other_studies
from jcs_ct.service.describing import (
    DescribedStudy,
    describe_visible,
    describe_whole,
    read_grid,
    read_places,
    read_report,
)
from jcs_ct.service.problems import Problem, answer_problem
from jcs_ct.service.sessions import Session
from jcs_ct.service.studies import StudyRecord
from jcs_ct.service.users import LOCAL_USER, TooManyFailuresError
from jcs_ct.service.web import (
    COOKIE,
    Admin,
    CurrentSession,
    Service,
    TheService,
    own_page,
    require_own_page,
    set_cookie,
)

router = APIRouter(include_in_schema=False)

PAGE = Path(__file__).parent / "page"
_LONGEST_FORM = 16_384
_MOST_ROWS = 500
_WORDS = Words.of("en")
_templates = Environment(
    loader=FileSystemLoader(PAGE / "templates"), autoescape=select_autoescape(default=True), trim_blocks=True
)
_templates.filters["moment"] = lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
_templates.filters["day"] = lambda date: f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else "date not stated"
_templates.filters["figure"] = _WORDS.figure
_templates.filters["one_digit"] = lambda value: (
    "not measured" if value is None else "< 0.1" if 0 < value < 0.05 else _WORDS.figure(value)
)
_templates.filters["signed"] = lambda value: "–" if value is None else f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")
_templates.filters["duration"] = lambda seconds: f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"


def _render(request: Request, name: str, session: Session | None, **values: Any) -> HTMLResponse:
    content = _templates.get_template(name).render(
        base=request.scope.get("root_path", ""),
        notice=NOTICE,
        version=__version__,
        user=None if session is None else session.user,
        csrf="" if session is None else session.csrf,
        needs_login=request.app.state.service.needs_login,
        **values,
    )
    return HTMLResponse(content)


async def answer_problem_to_people(request: Request, problem: Exception) -> Response:
    """A Problem of a page as a page; of the interface for programs as JSON."""
    is_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if not is_page or not isinstance(problem, Problem):
        return await answer_problem(request, problem)
    page = _render(request, "problem.html", None, problem=problem.message[:1].upper() + problem.message[1:] + ".")
    page.status_code = problem.status
    page.headers.update(problem.headers())
    return page


async def _form(request: Request) -> dict[str, str]:
    """Fields of a urlencoded form, the first value of each; none of one that is too long."""
    content = await read_body(request, _LONGEST_FORM) or b""
    fields = parse_qs(content.decode("utf-8", errors="replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


@router.get("/login")
def login_page(request: Request, service: TheService, target: Annotated[str, Query(alias="next")] = "") -> Response:
    """The form, which leads on to ``next``; without users the session of this machine begins by itself."""
    if not service.needs_login:
        token, _ = service.sessions.start(LOCAL_USER)
        response: Response = RedirectResponse(own_page(request, target), status_code=303)
        set_cookie(request, response, token)
        return response
    return _login_form(request, target)


@router.post("/login")
async def login(request: Request, service: TheService) -> Response:
    """Check name and password."""
    require_own_page(request)
    fields = await _form(request)
    name, password = fields.get("name", "")[:100], fields.get("password", "")[:1000]
    target = fields.get("next", "")
    address = request.client.host if request.client else ""
    try:
        user = await run_in_threadpool(service.users.check, name, password, address)
    except TooManyFailuresError as error:  # not noted: a stranger could make the log grow without end
        page = _login_form(request, target, f"Too many failed logins; wait {error.wait_s:.0f} s.")
        page.status_code, page.headers["Retry-After"] = 429, str(max(1, round(error.wait_s)))
        return page
    if user is None:
        await run_in_threadpool(
            lambda: service.audit.note(name if service.users.get(name) else "unknown", "login_failed")
        )
        page = _login_form(request, target, "Wrong name or password.")
        page.status_code = 401
        return page
    token, _ = await run_in_threadpool(service.sessions.start, user)
    await run_in_threadpool(service.audit.note, user.name, "login")
    response = RedirectResponse(own_page(request, target), status_code=303)
    set_cookie(request, response, token)
    return response


def _login_form(request: Request, target: str, problem: str = "") -> HTMLResponse:
    return _render(request, "login.html", None, problem=problem, next=own_page(request, target))


@router.post("/logout")
def logout(request: Request, session: CurrentSession, service: TheService) -> Response:
    """End the session."""
    service.sessions.end(request.cookies.get(COOKIE, ""))
    service.audit.note(session.user.name, "logout")
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path=request.scope.get("root_path") or "/")
    return response


@router.get("/")
def worklist_page(request: Request, session: CurrentSession, service: TheService) -> HTMLResponse:
    """Upload and worklist."""
    limits = service.settings.uploads
    return _render(
        request,
        "worklist.html",
        session,
        limits=limits,
        **_worklist(service, session, {}),
        folders=service.folders.names,
        has_pacs=service.settings.pacs is not None,
        states=_STATES,
    )


_STATES = {
    "queued": "waiting",
    "running": "being read",
    "done": "read",
    "refused": "refused",
    "set_aside": "set aside",
    "cancelled": "cancelled",
}


@router.get("/worklist")
def worklist_rows(
    request: Request,
    session: CurrentSession,
    service: TheService,
    text: Annotated[str, Query(max_length=100)] = "",
    verdict: Annotated[str, Query(max_length=20)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
    opinion: Annotated[str, Query(max_length=20)] = "",
    least_percent: Annotated[str, Query(max_length=10)] = "",
    since: Annotated[str, Query(max_length=10)] = "",
    reader: Annotated[str, Query(max_length=40)] = "",
) -> HTMLResponse:
    """The table's rows under filters."""
    filters = {
        "text": text,
        "verdict": verdict,
        "state": state,
        "opinion": opinion,
        "least_percent": least_percent,
        "since": since,
        "reader": reader,
    }
    return _render(request, "worklist_rows.html", session, states=_STATES, **_worklist(service, session, filters))


def _worklist(service: Service, session: Session, filters: dict[str, str]) -> dict[str, Any]:
    """The newest studies that pass the filters, and how many do."""
    given = {name: value for name, value in filters.items() if value}
    records = [record for record in service.studies.visible(session.user) if _record_passes(record, given)]
    if given.keys() <= _OF_RECORDS:  # the others need not be described
        return {"rows": describe_visible(service, records[:_MOST_ROWS]), "passing": len(records)}
    passing = [row for row in describe_visible(service, records) if _passes(row, given)]
    return {"rows": passing[:_MOST_ROWS], "passing": len(passing)}


#: Filters by what a study's record says.
_OF_RECORDS = frozenset({"text", "reader", "since"})


def _record_passes(record: StudyRecord, filters: dict[str, str]) -> bool:
    day = time.strftime("%Y-%m-%d", time.localtime(record.added_at))
    return (
        filters.get("text", "").lower() in record.label.lower()
        and filters.get("reader", record.owner) == record.owner
        and filters.get("since", "") <= day
    )


def _passes(row: DescribedStudy, filters: dict[str, str]) -> bool:
    facts, opinion = row["facts"] or {}, row["opinion"]
    view = "none" if opinion is None else "agrees" if opinion["agrees"] else "disagrees"
    percent = facts.get("percent_opacity")
    least = filters.get("least_percent", "")
    enough = not least or (percent is not None and percent >= _number(least))
    return (
        filters.get("verdict", facts.get("verdict")) == facts.get("verdict")
        and filters.get("state", row["state"]) == row["state"]
        and filters.get("opinion", view) == view
        and enough
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


@router.get("/studies/{study_id}")
def study_page(
    request: Request,
    study_id: str,
    session: CurrentSession,
    service: TheService,
    version: Annotated[int | None, Query(ge=0)] = None,
    beside: str = "",
) -> HTMLResponse:
    """One study: how far it is, why it was refused, or what was found; ``beside`` another one of the same patient."""
    record = service.studies.get(session.user, study_id)
    study = describe_whole(service, session.user, record)
    values: dict[str, Any] = {"study": study, "states": _STATES, "report": None, "page_data": {}}
    if study["state"] == State.DONE:
        shown = study["versions"] if version is None else version
        folder = service.corrections.folder(record, shown)
        report = read_report(folder)
        grid = read_grid(service.studies.require_done(record))
        others = other_studies(service.studies, session.user, record)
        other = next((one for one in others if one.study_id == beside), None)
        compared = None if other is None else _beside(service, session, other, report, corrected=shown > 0)
        is_same_reading = service.studies.job(record).key.reading_id == service.work.reading_id
        values |= {
            "report": report,
            "limits": limits_in_html(report, _WORDS) if "limits" in report else "",  # older readings say none
            "windows": PRESETS,
            "shown_version": shown,
            "others": others,
            "beside": compared,
            "has_pacs": service.settings.pacs is not None,
            "page_data": {
                "beside": None if compared is None else compared["viewer"],
                "validation": service.work.validation if is_same_reading else [],
                "study_id": study_id,
                "version": shown,
                "latest": study["versions"],
                "grid": grid,
                "windows": [asdict(window) for window in PRESETS],
                "slices": report["slices"],
                "verdict": report["verdict"],
                "operating_point": report["operating_point"],
                "lesions": _lesions(report, read_places(folder)),
            },
        }
        service.audit.note_view(session.user.name, study_id, shown, opened=True)
    return _render(request, "study.html", session, **values)


def _beside(
    service: Service, session: Session, other: OtherStudy, report: dict[str, Any], *, corrected: bool
) -> dict[str, Any]:
    """Another study of the patient for the page: like is compared with like, and a correction with the newest one.

    The change runs from the earlier study to the later one; where that is not known, from the other one to this one.
    """
    record = service.studies.get(session.user, other.study_id)
    versions = service.corrections.of(record.study_id)
    version = versions[-1].version if corrected and versions else 0
    its_report = read_report(service.corrections.folder(record, version))
    service.audit.note_view(session.user.name, record.study_id, version, opened=True)
    in_order = (report, its_report) if other.order is StudyOrder.LATER else (its_report, report)
    return {
        **asdict(other),
        "version": version,
        "change": burden_change(*in_order),
        "flags": its_report["quality_flags"],
        "viewer": {
            "study_id": record.study_id,
            "version": version,
            "grid": read_grid(service.studies.require_done(record)),
            "slices": its_report["slices"],
        },
    }


def _lesions(report: dict[str, Any], places: dict[str, list[int]]) -> list[dict[str, Any]]:
    """What the list and the crosshair need of each lesion."""
    names = ("lesion_id", "volume_ml", "voxel_count", "side", "third", "mean_hu")
    lesions = report["lesions"] or []
    return [
        {name: lesion[name] for name in names} | {"place": places[str(lesion["lesion_id"])]} for lesion in lesions
    ]


@router.get("/audit")
def administration_page(request: Request, session: CurrentSession, user: Admin, service: TheService) -> HTMLResponse:
    """How the server does, who may use it, and who did what."""
    return _render(
        request,
        "administration.html",
        session,
        states=_STATES,
        counts={str(state): count for state, count in service.ledger.counts().items()},
        uploads=service.uploads.count(),
        free_gib=shutil.disk_usage(service.settings.folder).free / GIB,
        keep_days=service.settings.keep_days,
        users=service.users.all(),
        entries=service.audit.entries(limit=500),
        first_broken=service.audit.first_broken(),
    )
