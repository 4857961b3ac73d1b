"""What the page answers when it cannot do what was asked: a status, a code, and what to do."""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from jcs_ct.errors import DamagedFileError, OutputError

logger = logging.getLogger(__name__)


class Problem(Exception):  # noqa: N818 - it is the answer's name (RFC 9457), not a fault of the program
    """An answer of class 4xx or 5xx.

    Args:
        status: HTTP status.
        code: One word in capitals, as in the command line.
        message: What was expected, what came, what to do.
        retry_after_s: For the Retry-After header.
        facts: Further JSON values of the answer.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: float | None = None, **facts: Any
    ) -> None:
        super().__init__(f"{message} ({code})")
        self.status, self.code, self.message = status, code, message
        self.retry_after_s, self.facts = retry_after_s, facts

    def content(self) -> dict[str, Any]:
        """As JSON values."""
        return {"code": self.code, "message": self.message, **self.facts}

    def headers(self) -> dict[str, str]:
        """Headers that belong to it."""
        return {} if self.retry_after_s is None else {"Retry-After": str(max(1, round(self.retry_after_s)))}


def unknown_study() -> Problem:
    """The answer for studies of others as for those that do not exist."""
    return Problem(404, "UNKNOWN_STUDY", "there is no such study, or it is not shared with you")


async def answer_problem(request: Request, problem: Exception) -> Response:
    """A Problem as JSON."""
    if not isinstance(problem, Problem):
        raise TypeError(f"a Problem is answered here, got {type(problem).__name__}")
    return JSONResponse(problem.content(), status_code=problem.status, headers=problem.headers())


async def answer_unwritable(request: Request, error: Exception) -> Response:
    """An :class:`OutputError`, or SQLite's, as JSON: 507; 503 while another program holds the record."""
    # The primary code: the extended ones say which lock it was.
    result = error.sqlite_errorcode & 0xFF if isinstance(error, sqlite3.OperationalError) else sqlite3.SQLITE_OK
    if result == sqlite3.SQLITE_BUSY:
        return await answer_problem(
            request, Problem(503, "BUSY", "the record is in use; try again", retry_after_s=10)
        )
    logger.error("a request could not be answered: %s", error)
    is_full = result == sqlite3.SQLITE_FULL or (isinstance(error, OutputError) and error.code == "DISK_FULL")
    why = "is full; ask the administrator to free space" if is_full else "cannot be written; tell the administrator"
    problem = Problem(507, "DISK_FULL" if is_full else "OUTPUT_UNWRITABLE", f"the server's disk {why}")
    return await answer_problem(request, problem)


async def answer_damaged(request: Request, error: Exception) -> Response:
    """A :class:`DamagedFileError` as JSON: 500; which file it is stands in the log, for the administrator."""
    logger.error("a request could not be answered: %s", error)
    message = "a file of the study's results is damaged; tell the administrator, whose log names it and what to do"
    return await answer_problem(request, Problem(500, DamagedFileError.code, message))


async def answer_invalid(request: Request, error: Exception) -> Response:
    """A request whose parameters or body are not as described: 422 with all that is wrong with it."""
    if not isinstance(error, RequestValidationError):
        raise TypeError(f"a RequestValidationError is answered here, got {type(error).__name__}")
    wrong = error.errors()
    texts = [f"{'.'.join(str(part) for part in one['loc'][1:]) or 'body'}: {one['msg']}" for one in wrong]
    details = [{name: one[name] for name in ("type", "loc", "msg")} for one in wrong]
    return await answer_problem(request, Problem(422, "BAD_REQUEST", "; ".join(texts), detail=details))


async def answer_gone(request: Request, error: Exception) -> Response:
    """Who asked has gone in the middle of it; nobody hears this answer."""
    logger.info("a client went away: %s %s", request.method, type(error).__name__)
    return Response(status_code=400)
