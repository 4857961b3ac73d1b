"""Who asks, and may they: sessions, tokens, forged requests, headers. Every route goes through here."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from html import escape
from typing import Annotated
from urllib.parse import urlencode, urlsplit

from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from jcs_ct.jobs import Ledger, ResultFolders
from jcs_ct.loopback import is_loopback
from jcs_ct.service.audit import AuditLog
from jcs_ct.service.corrections import Corrections
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.described_once import DescribedOnce
from jcs_ct.service.listed_studies import ListedFolders
from jcs_ct.service.packages import Packages
from jcs_ct.service.problems import Problem
from jcs_ct.service.sessions import Session, Sessions
from jcs_ct.service.settings import ServiceSettings
from jcs_ct.service.studies import Studies
from jcs_ct.service.uploads import Uploads
from jcs_ct.service.users import LOCAL_USER, User, Users
from jcs_ct.service.waiting import WaitingTime
from jcs_ct.service.work import QueueWork

COOKIE = "jcs_session"
#: For so long it is not looked again whether there are users.
_USERS_KNOWN_FOR_S = 1.0
CSRF_HEADER = "X-CSRF-Token"
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: Headers that a proxy adds, beside those that begin with X-Forwarded- (RFC 7239; RFC 9110, 7.6.3).
_OF_PROXIES = frozenset({"forwarded", "via", "x-real-ip"})
#: Nothing from elsewhere, no inline script or style; the viewer draws fonts and workers from data it carries itself.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
#: For reports: their script and styles are inline, so they get no origin and reach nothing.
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts"
)


@dataclass(eq=False)
class Service:
    """All that routes need; in ``request.app.state.service``."""

    settings: ServiceSettings
    database: ServiceDatabase
    users: Users
    sessions: Sessions
    audit: AuditLog
    ledger: Ledger
    results: ResultFolders
    studies: Studies
    uploads: Uploads
    corrections: Corrections
    work: QueueWork
    folders: ListedFolders
    waiting: WaitingTime
    packages: Packages
    described: DescribedOnce = field(default_factory=DescribedOnce)
    needs_login: bool = field(init=False)
    _look_again_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.needs_login = bool(self.users.all())

    async def look_for_users(self) -> None:
        """Learn, at most once a second, whether there are users: a page without any serves this machine only.

        Beside the loop that answers requests, and by one request: while another program holds the record the others
        go on with what was known.
        """
        if time.monotonic() < self._look_again_at:
            return
        self._look_again_at = math.inf
        try:
            self.needs_login = bool(await run_in_threadpool(self.users.all))
        finally:
            self._look_again_at = time.monotonic() + _USERS_KNOWN_FOR_S


def service_of(request: Request) -> Service:
    """The service of a request."""
    service: Service = request.app.state.service
    return service


class NotLoggedIn(Exception):  # noqa: N818 - an answer, not a fault
    """There is no session, or it has ended."""


def current_session(request: Request) -> Session:
    """The session or program of a request, proved against forgery where it changes something.

    Raises:
        NotLoggedIn: no session, or an ended one.
        Problem: FORGED (no or a wrong token against forgery), BAD_TOKEN.
    """
    session = _find_session(request)
    if request.method in _CHANGING and _token_of(request) is None:
        require_own_page(request)
        if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), session.csrf.encode()):
            raise Problem(403, "FORGED", "the request does not come from this page; reload the page and try again")
    return session


def _find_session(request: Request, *, is_request: bool = True) -> Session:
    """The session of a browser or a program, not yet proved against forgery."""
    service, token = service_of(request), _token_of(request)
    if token is not None:
        user = service.users.of_token(token)
        if user is None:
            raise Problem(401, "BAD_TOKEN", "the token is not known; make one with jcs serve users token NAME")
        return Session(user, "")
    session = service.sessions.find(request.cookies.get(COOKIE, ""), is_request=is_request)
    if session is None or (session.user is LOCAL_USER and service.needs_login):
        raise NotLoggedIn
    return session


def _token_of(request: Request) -> str | None:
    """A program's token; another site's page cannot send one, so it needs no proof against forgery."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def still_asks(request: Request, user: User) -> bool:
    """Whether a request whose answer lasts is still this user's, in the same role: no logout or removal since."""
    try:
        return _find_session(request, is_request=False).user == user
    except (NotLoggedIn, Problem):
        return False


def require_own_page(request: Request) -> None:
    """Refuse what another site's page sends.

    Raises:
        Problem: FORGED.
    """
    origin = request.headers.get("Origin")
    foreign_origin = origin is not None and origin.partition("://")[2] != request.headers.get("Host", "")
    if foreign_origin or request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Problem(403, "FORGED", "the request comes from another site's page")


def current_user(session: Annotated[Session, Depends(current_session)]) -> User:
    """Who asks."""
    return session.user


def admin_only(user: Annotated[User, Depends(current_user)]) -> User:
    """Who asks, where only administrators may.

    Raises:
        Problem: ADMIN_ONLY.
    """
    if not user.is_admin:
        raise Problem(403, "ADMIN_ONLY", "only an administrator may do that")
    return user


CurrentSession = Annotated[Session, Depends(current_session)]
CurrentUser = Annotated[User, Depends(current_user)]
Admin = Annotated[User, Depends(admin_only)]
TheService = Annotated[Service, Depends(service_of)]


def set_cookie(request: Request, response: Response, token: str) -> None:
    """Give a browser its session; only this site's pages send it back, and no script reads it."""
    response.set_cookie(
        COOKIE,
        token,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path=request.scope.get("root_path") or "/",
    )


async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Middleware: without users only this machine is answered; every answer carries the security headers.

    The path under which a proxy mounts the page is set here, so that it may cut it off requests or not.
    """
    service = service_of(request)
    await service.look_for_users()
    root_path = service.settings.root_path
    request.scope["root_path"] = root_path
    if not f"{request.scope['path']}/".startswith(f"{root_path}/"):
        request.scope["path"] = f"{root_path}{request.scope['path']}"
    refused = _refuse_strangers(request)
    response = refused if refused is not None else await call_next(request)
    headers = response.headers
    headers.setdefault("Content-Security-Policy", _POLICY)
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"  # with no-referrer a form's Origin is null
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=()"
    if not request.scope["path"].removeprefix(root_path).startswith("/static/"):
        headers["Cache-Control"] = "no-store"
    return response


def _refuse_strangers(request: Request) -> Response | None:
    """Without users: refuse names that are not this machine's (DNS rebinding) and what came through a proxy.

    A proxy is told by the headers that it adds. One that adds none and names this machine as the host cannot be told.
    """
    if service_of(request).needs_login:
        return None
    try:
        host = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    except ValueError:  # no name of a machine, such as half an IPv6 address
        host = ""
    came_by_proxy = any(name in _OF_PROXIES or name.startswith("x-forwarded-") for name in request.headers)
    if is_loopback(host) and not came_by_proxy and not service_of(request).settings.root_path:
        return None
    content = {
        "code": "NO_USERS",
        "message": "without users this page answers its own machine only; add one: jcs serve users add NAME",
    }
    return JSONResponse(content, status_code=403)


async def answer_not_logged_in(request: Request, error: Exception) -> Response:
    """Pages lead to the login, programs get 401."""
    login = f"{request.scope.get('root_path', '')}/login"
    headers = {}
    if request.headers.get("HX-Request"):  # a part of a page: the whole page goes to the login
        headers["HX-Redirect"] = login
    elif "text/html" in request.headers.get("Accept", "") and request.method == "GET":
        asked = request.scope["path"] + ("?" if request.url.query else "") + request.url.query
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            # From a link elsewhere a browser sends no cookie of ours (SameSite=strict); from a page of ours it does.
            again = escape(own_page(request, asked))
            return HTMLResponse(f'<!doctype html><meta http-equiv="refresh" content="0; url={again}">')
        leads_on = "" if own_page(request, asked) == own_page(request, "") else f"?{urlencode({'next': asked})}"
        return RedirectResponse(f"{login}{leads_on}", status_code=303)
    programs = "programs need a token: `jcs serve users add NAME`, then `jcs serve users token NAME`"
    is_open = not service_of(request).needs_login
    message = programs if is_open else f"log in first; a session ends after some hours; {programs}"
    return JSONResponse({"code": "NOT_LOGGED_IN", "message": message}, status_code=401, headers=headers)


def own_page(request: Request, target: str) -> str:
    """Where a login leads: ``target`` when it is a path of this page, else the worklist."""
    root = f"{request.scope.get('root_path', '')}/"
    # Browsers read \\ as / and drop control characters, so that either could make another site's address of a path.
    is_own = target.startswith(root) and not target.startswith("//") and "\\" not in target and target.isprintable()
    is_login = target.partition("?")[0] == f"{root}login"
    return target if is_own and not is_login else root
