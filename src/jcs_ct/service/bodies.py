"""What requests carry: JSON that is checked strictly, or bytes as they are; none is read beyond its limit."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.types import Message

from jcs_ct.service.problems import Problem
from jcs_ct.service.web import current_session, service_of

#: Bytes of JSON that a request may carry, and so many more for each file that an upload may announce.
MOST_JSON_BYTES, JSON_BYTES_OF_A_FILE = 64 * 1024, 512


class StrictBody(BaseModel):
    """JSON whose fields are all known and of their own type."""

    model_config = ConfigDict(extra="forbid", strict=True)


def binary_body(kind: str, text: str) -> dict[str, Any]:
    """What OpenAPI says of a request's body that is taken as it is."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}}}
    return {"requestBody": {"required": True, "description": text, "content": content}}


async def read_body(request: Request, most_bytes: int) -> bytes | None:
    """A request's body; None where it is longer than it may be: what is beyond is not read."""
    declared = request.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > most_bytes:
        return None
    content = bytearray()
    async for block in request.stream():
        content += block
        if len(content) > most_bytes:
            return None
    return bytes(content)


class BoundedRoute(APIRoute):
    """A route that asks for the session before it reads JSON, and reads no more of it than may be.

    FastAPI itself reads JSON before any dependency is asked. What a route takes as it is, it counts itself.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See :class:`fastapi.routing.APIRoute`."""
        answer = super().get_route_handler()
        if self.body_field is None:
            return answer

        async def bounded(request: Request) -> Response:
            await run_in_threadpool(current_session, request)
            most = MOST_JSON_BYTES + JSON_BYTES_OF_A_FILE * service_of(request).settings.uploads.files
            content = await read_body(request, most)
            if content is None:
                raise Problem(413, "BODY_TOO_LARGE", f"the request carries more than {most} bytes of JSON; send less")

            async def read() -> Message:
                return {"type": "http.request", "body": content, "more_body": False}

            return await answer(Request(request.scope, read))

        return bounded
