"""What holds on every route, whichever are added: a session, proof against forgery, no sight of others' studies."""

from __future__ import annotations

import asyncio

import pytest
from fastapi.testclient import TestClient

from jcs_ct.service.app import ROUTERS
from jcs_ct.service.bodies import JSON_BYTES_OF_A_FILE, MOST_JSON_BYTES, BoundedRoute

from .conftest import LIMITS, Browser
from .walking import ABSENT, OPEN, Route, routes

VALUES = {"study_id": ABSENT, "upload_id": "1" * 32, "name": "report.json"}
FOREIGN = (
    {"Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "null"},
    {"Origin": "http://["},
)


@pytest.fixture(scope="module")
def every(app) -> list[Route]:
    return routes(app.openapi())


def ask(browser: Browser, route: Route, values=VALUES, **headers):
    """By a browser's session, with its proof against forgery unless ``headers`` say otherwise."""
    return browser.ask(route.method, route.target(values), json=route.body, headers=headers, follow_redirects=False)


def test_the_walk_forgets_no_route(every):
    known = {(route.method, route.path) for route in every} | set(OPEN)
    served = {
        (method, route.path.replace(":path}", "}"))
        for router in ROUTERS
        for route in router.routes
        for method in route.methods - {"HEAD"}
    }
    assert served == known
    assert len(known) > 35


def test_a_session_is_needed_everywhere(app, every, service):
    stranger, ended = (
        Browser(TestClient(app, base_url="http://127.0.0.1")),
        Browser(TestClient(app, base_url="http://127.0.0.1")),
    )
    ended.login("joe")
    service.database.change("UPDATE sessions SET created_at = 0 WHERE user = 'joe'")
    for route in every:
        for who in (stranger, ended):
            answer = ask(who, route)
            assert (answer.status_code, answer.json()["code"]) == (401, "NOT_LOGGED_IN"), route


def test_forged_requests_change_nothing_anywhere(browser, every):
    jane = browser("jane")
    for route in every:
        if route.method == "GET":
            continue
        answers = [ask(jane, route, **headers) for headers in FOREIGN]
        answers += [ask(jane, route, **{"X-CSRF-Token": token}) for token in ("", "guess", "é".encode())]
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (403, "FORGED"), route
    assert jane.client.get("/api/v1/studies").status_code == 200, "still logged in: the logout was forged, too"


def test_what_others_sent_looks_as_if_it_did_not_exist(browser, every, service):
    jane, joe = browser("jane"), browser("joe")
    study_id = jane.send({"letter.txt": b"x"})
    jane.wait(study_id)
    upload_id = jane.announce({"a": b"abc"}).json()["upload_id"]
    walked = [route for route in every if set(route.parameters) & {"study_id", "upload_id"}]
    assert len(walked) > 20
    for route in walked:
        foreign = ask(joe, route, {**VALUES, "study_id": study_id, "upload_id": upload_id})
        absent = ask(joe, route)
        assert (foreign.status_code, foreign.content) == (absent.status_code, absent.content), route
        assert foreign.json()["code"] in ("UNKNOWN_STUDY", "UNKNOWN_UPLOAD"), route
    assert joe.ask("GET", f"/api/v1/events?study_id={study_id}").status_code == 404
    assert study_id not in joe.client.get("/worklist").text
    assert jane.study(study_id)["state"] == "refused", "still there"
    assert jane.ask("DELETE", f"/api/v1/uploads/{upload_id}").status_code == 204


def test_requests_that_are_none_name_all_that_is_wrong(browser):
    answer = browser("jane").ask(
        "POST", "/api/v1/uploads", json={"label": "x" * 121, "files": [{"name": 1, "size": "2"}]}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "BAD_REQUEST")
    assert all(place in answer.json()["message"] for place in ("label: ", "files.0.name: ", "files.0.size: "))


def answered_unread(app, route: Route) -> int:
    """Status for someone without a session who announces 200 MiB; whoever begins to read them fails."""
    path, _, query = route.target(VALUES).partition("?")
    headers = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(200 << 20)}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": route.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    told: list[int] = []

    async def receive():
        assert told, "a stranger's body is read"
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            told.append(message["status"])

    asyncio.run(app(scope, receive, send))
    return told[0]


def test_no_body_is_read_of_those_without_a_session(app, every):
    changing = [route for route in every if route.method != "GET"]
    assert {answered_unread(app, route) for route in changing} == {401}


def test_json_has_a_limit_everywhere(browser):
    served = [route for router in ROUTERS for route in router.routes if route.body_field is not None]
    assert len(served) >= 4
    assert all(isinstance(route, BoundedRoute) for route in served)
    jane = browser("jane")
    most = MOST_JSON_BYTES + JSON_BYTES_OF_A_FILE * LIMITS.files
    whole = b'{"files": []}'.ljust(most)

    def cut(content: bytes):
        yield from (content[start : start + 8192] for start in range(0, len(content), 8192))

    kind = {"Content-Type": "application/json"}
    for content in (whole, cut(whole)):
        answer = jane.ask("POST", "/api/v1/uploads", content=content, headers=kind)
        assert (answer.status_code, answer.json()["code"]) == (422, "NO_FILES")
    for content in (whole + b" ", cut(whole + b" ")):
        answer = jane.ask("POST", "/api/v1/uploads", content=content, headers=kind)
        assert (answer.status_code, answer.json()["code"]) == (413, "BODY_TOO_LARGE")
