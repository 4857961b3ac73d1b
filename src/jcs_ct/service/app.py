"""The page's application: puts the parts together, starts and stops what runs beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect

from jcs_ct import NOTICE, __version__
from jcs_ct.errors import ConfigError, DamagedFileError, OutputError
from jcs_ct.files import prepare_output_folder
from jcs_ct.jobs import Ledger, ResultFolders
from jcs_ct.service import api, events, intake, monitoring, pages, reader_api
from jcs_ct.service.audit import AuditLog
from jcs_ct.service.corrections import Corrections
from jcs_ct.service.database import JOBS, PATIENTS_SALT, RECORD, ServiceDatabase, require_whole
from jcs_ct.service.listed_studies import ListedFolders
from jcs_ct.service.packages import Packages
from jcs_ct.service.problems import Problem, answer_damaged, answer_gone, answer_invalid, answer_unwritable
from jcs_ct.service.sessions import Sessions
from jcs_ct.service.settings import ServiceSettings
from jcs_ct.service.studies import Studies
from jcs_ct.service.uploads import Uploads
from jcs_ct.service.users import Users
from jcs_ct.service.waiting import WaitingTime
from jcs_ct.service.web import NotLoggedIn, Service, answer_not_logged_in, guard
from jcs_ct.service.work import QueueWork

#: Every part of the page that answers requests, but for its static files.
ROUTERS = tuple(part.router for part in (api, reader_api, intake, events, monitoring, pages))


def build_service(settings: ServiceSettings) -> Service:
    """Open the folder and load the networks in the process that will read studies.

    Raises:
        ConfigError: an address or a proxy by which others can reach it, without users; networks that cannot be
            loaded.
        DamagedFileError: the folder holds studies, and a record of them is empty or gone.
        OutputError: the folder cannot be used.
    """
    folder = prepare_output_folder(settings.folder)
    folder.chmod(0o700)
    folders = ListedFolders(settings.study_folders)
    require_whole(folder)
    with ExitStack() as opened:
        database = opened.enter_context(ServiceDatabase(folder / RECORD))
        users = Users(database)
        _require_users(settings, users)
        ledger, results = opened.enter_context(Ledger(folder / JOBS)), ResultFolders(folder / "results")
        studies = Studies(database, ledger, results, folder)
        uploads = Uploads(database, folder / "uploads", settings.uploads)
        work = QueueWork(
            ledger,
            results,
            studies,
            uploads,
            models=settings.models,
            limits=settings.study,
            keep_days=settings.keep_days,
            salt=folder / PATIENTS_SALT,
        )
        opened.callback(work.stop)
        work.prepare()
        service = Service(
            settings=settings,
            database=database,
            users=users,
            sessions=Sessions(database, users, hours=settings.session_hours),
            audit=AuditLog(database),
            ledger=ledger,
            results=results,
            studies=studies,
            uploads=uploads,
            corrections=Corrections(database, studies, settings.study),
            work=work,
            folders=folders,
            waiting=WaitingTime(ledger),
            packages=Packages(folder / "downloads", free_bytes=settings.uploads.free_bytes),
        )
        opened.pop_all()  # all is well: close_service ends them
    return service


def _require_users(settings: ServiceSettings, users: Users) -> None:
    """Refuse a page without users that others can reach."""
    if (settings.is_loopback and not settings.root_path) or users.all():
        return
    why, instead = f"{settings.host} can be reached by others", "serve on 127.0.0.1"
    if settings.is_loopback:
        why, instead = "a root path is of a proxy, through which others can reach the page", "serve without one"
    raise ConfigError(f"{why}, and there are no users: add one with `jcs serve users add NAME`, or {instead}")


def close_service(service: Service) -> None:
    """End what :func:`build_service` began."""
    service.work.stop()
    service.corrections.close()
    service.ledger.close()
    service.database.close()


def build_app(service: Service) -> FastAPI:
    """The application of a service; it works the queue off while it runs, and closes the service at its end."""

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        service.work.start()
        yield
        close_service(service)

    app = FastAPI(
        title="jcs-ct",
        description=NOTICE,
        version=__version__,
        docs_url=None,  # its scripts would come from elsewhere
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        lifespan=running,
    )
    app.state.service = service
    app.add_middleware(BaseHTTPMiddleware, dispatch=guard)
    app.add_exception_handler(Problem, pages.answer_problem_to_people)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(ClientDisconnect, answer_gone)
    app.add_exception_handler(OutputError, answer_unwritable)
    app.add_exception_handler(DamagedFileError, answer_damaged)
    app.add_exception_handler(sqlite3.OperationalError, answer_unwritable)
    app.add_exception_handler(NotLoggedIn, answer_not_logged_in)
    app.add_exception_handler(404, _not_found)
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=pages.PAGE / "static"), name="static")
    return app


async def _not_found(request: Request, error: Exception) -> Response:
    return JSONResponse({"code": "NOT_FOUND", "message": "there is nothing at this address"}, status_code=404)
