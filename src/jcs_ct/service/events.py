"""What changes while a reader looks: server-sent events of studies; browsers reconnect by themselves."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator, Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from jcs_ct.service.describing import describe_visible
from jcs_ct.service.problems import Problem
from jcs_ct.service.users import User
from jcs_ct.service.web import CurrentUser, Service, TheService, still_asks

router = APIRouter(prefix="/api/v1")

_LOOK_EVERY_S, _BREATH_EVERY_S, _LONGEST_S = 0.5, 15.0, 600.0
#: Studies are described anew when something was changed, and so often for the time that is left.
_DESCRIBE_EVERY_S = 10.0
#: Streams at a time; each asks twice a second whether something was changed.
MOST_STREAMS = 64
#: Of them one user's: a page that is open has one, and a browser keeps six connections.
MOST_STREAMS_OF_ONE = 12
#: Studies that one stream tells of.
MOST_STUDIES = 200


#: Names of those who listen, once a stream.
_listening: Counter[str] = Counter()


@router.get("/events", tags=["studies"])
async def events(
    request: Request, user: CurrentUser, service: TheService, study_id: Annotated[str | None, Query()] = None
) -> StreamingResponse:
    """A line for each study that changes (all you may see, or one): its description as JSON."""
    if study_id is not None:
        await run_in_threadpool(service.studies.get, user, study_id)
    # Nothing is waited for from here to the count: of requests that come together none passes by another's.
    if _listening[user.name] >= MOST_STREAMS_OF_ONE:
        message = f"you have {MOST_STREAMS_OF_ONE} pages open that wait for news already; close some"
        raise Problem(429, "TOO_MANY_STREAMS", message, retry_after_s=10)
    if _listening.total() >= MOST_STREAMS:
        raise Problem(503, "TOO_MANY_STREAMS", f"{MOST_STREAMS} pages listen already", retry_after_s=10)
    _listening[user.name] += 1
    return _Stream(user.name, _changes(request, service, user, study_id))


class _Stream(StreamingResponse):
    """A stream that was counted, until it ends, also where it never began."""

    def __init__(self, listener: str, content: AsyncIterator[str]) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _listening[self._listener] -= 1


async def _changes(request: Request, service: Service, user: User, study_id: str | None) -> AsyncIterator[str]:
    """What is told until the reader goes, or may no longer be told; the browser then asks anew, and for a login."""
    told: dict[str, str] = {}
    yield "retry: 2000\n\n"
    seen: object = None
    silent, spent = 0.0, 0.0
    while spent < _LONGEST_S and not await request.is_disconnected():
        moment = await run_in_threadpool(_moment, service)
        if moment != seen:
            seen = moment
            if not await run_in_threadpool(still_asks, request, user):
                return
            now = await run_in_threadpool(_describe, service, user, study_id, moment)
            for text in _told_of(told, now):
                yield text
                silent = 0.0
            told = now
        if silent >= _BREATH_EVERY_S:
            yield ": still here\n\n"
            silent = 0.0
        await asyncio.sleep(_LOOK_EVERY_S)
        silent, spent = silent + _LOOK_EVERY_S, spent + _LOOK_EVERY_S


def _told_of(told: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Events of what differs between two looks."""
    for name in told.keys() - now.keys():
        yield f"event: gone\ndata: {json.dumps({'study_id': name})}\n\n"
    for name, text in now.items():
        if told.get(name) != text:
            yield f"event: study\ndata: {text}\n\n"


def _moment(service: Service) -> Hashable:
    """What a description is of: it changes with the records, and every ten seconds for the time that is left."""
    marks = service.ledger.change_mark(), service.database.change_mark()
    return (*marks, time.time() // _DESCRIBE_EVERY_S)


def _describe(service: Service, user: User, study_id: str | None, moment: Hashable) -> dict[str, str]:
    if study_id is None:
        records = service.studies.visible(user)[:MOST_STUDIES]
    else:
        records = service.studies.visible(user, study_id=study_id)
    texts = service.described.at(moment)
    missing = [record for record in records if record.study_id not in texts]
    if missing:
        texts.update((study["study_id"], json.dumps(study)) for study in describe_visible(service, missing))
    return {record.study_id: texts[record.study_id] for record in records if record.study_id in texts}
