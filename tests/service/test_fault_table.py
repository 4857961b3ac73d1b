"""Every fault that the page must survive, played against a server that runs as users run it; prints what came back.

python -m pytest tests/service/test_fault_table.py -s
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import numpy as np
import pytest
from argon2 import PasswordHasher
from pydicom import dcmread

from jcs_ct.jobs import JOB_RECORD, Ledger, State
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.users import Role, Users

from .conftest import Browser, Server, add_users, painted, write_phantom
from .hostile import HOSTILE
from .walking import ABSENT, LEAKS, PATH_TRICKS, replaced, routes, text_fields

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: A server whose disk may be small; ``jcs serve`` keeps 2 GiB free.
SMALL = """
import sys
from pathlib import Path
import uvicorn
from jcs_ct.service.app import build_app, build_service
from jcs_ct.service.settings import ServiceSettings, UploadLimits

folder, models, _, port = sys.argv[1:]
limits = UploadLimits(free_bytes=1 << 20)
settings = ServiceSettings(Path(folder), models=models, port=int(port), uploads=limits)
uvicorn.run(build_app(build_service(settings)), host="127.0.0.1", port=int(port), log_level="critical")
"""
MIB = 1 << 20
#: Studies that are sent until one is seen in a stage that is over in milliseconds.
MOST_TRIES = 12
STAGES = ("fetch", "unpack", "read", "lungs", "classify", "map", "segment", "findings", "report", "viewer")


@pytest.fixture(scope="module")
def table():
    """Rows: fault, what came back."""
    rows: list[tuple[str, str]] = []
    yield lambda fault, answer: rows.append((fault, answer))
    print("\n\n| fault | what came back |\n|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def token_of(folder: Path, name: str) -> str:
    database = ServiceDatabase(folder / "service.sqlite")
    users = Users(database, hasher=PasswordHasher(time_cost=1, memory_cost=64))
    if users.get(name) is None:
        users.add(name, Role.READER, "a long enough phrase")
    token = users.add_token(name)
    database.close()
    return token


@pytest.fixture(scope="module")
def program():
    """Makes a program of a user: like a browser, but by a token, which outlives the server."""
    made: list[Browser] = []

    def make(server: Server, name: str = "jane") -> Browser:
        headers = {"Authorization": f"Bearer {token_of(server.folder, name)}"}
        made.append(Browser(httpx2.Client(base_url=server.url, headers=headers, timeout=60)))
        return made[-1]

    yield make
    for one in made:
        one.client.close()


@pytest.fixture(scope="module")
def jane(server, program) -> Browser:
    return program(server)


def announce(jane: Browser, content: bytes, name: str = "study.bin") -> str:
    return jane.announce({name: content}).json()["upload_id"]


def begin_put(server: Server, token: str, upload_id: str, offset: int, content: bytes, whole: int) -> socket.socket:
    """Send the beginning of a chunk and keep the connection."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = f"PUT /api/v1/uploads/{upload_id}?offset={offset} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    head += f"Authorization: {token}\r\nContent-Length: {whole}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def received(jane: Browser, upload_id: str) -> int:
    return int(jane.ask("GET", f"/api/v1/uploads/{upload_id}").json()["received"])


def wait_until(holds, what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def finish(jane: Browser, upload_id: str, content: bytes) -> str:
    """Send the rest and complete; the study's name."""
    start = received(jane, upload_id)
    answer = jane.ask("PUT", f"/api/v1/uploads/{upload_id}?offset={start}", content=content[start:])
    assert answer.json() == {"received": len(content)}
    return jane.ask("POST", f"/api/v1/uploads/{upload_id}/complete").json()["study_id"]


def sent_bytes(server: Server, study_id: str) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((server.folder / "sent" / study_id).iterdir()))


@pytest.mark.parametrize("fault", ["cut", "server killed -9"])
def test_an_upload_goes_on_where_it_was(server, jane, table, fault):
    content = os.urandom(3 * MIB)
    upload_id = announce(jane, content)
    token = jane.client.headers["Authorization"]
    connection = begin_put(server, token, upload_id, 0, content[:MIB], len(content))
    wait_until(lambda: received(jane, upload_id) > 0, "nothing arrived")
    if fault == "cut":
        connection.close()
        before = received(jane, upload_id)
        wait_until(
            lambda: jane.ask("PUT", f"/api/v1/uploads/{upload_id}?offset=1", content=b"x").status_code == 409, ""
        )
    else:
        before = received(jane, upload_id)
        server.kill()
        connection.close()
        server.start()
    after = received(jane, upload_id)
    assert before <= after <= MIB
    wrong = jane.ask("PUT", f"/api/v1/uploads/{upload_id}?offset={after + 1}", content=b"x")
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["received"]) == (409, "WRONG_OFFSET", after)
    early = jane.ask("POST", f"/api/v1/uploads/{upload_id}/complete")
    assert (early.status_code, early.json()["code"]) == (409, "INCOMPLETE")
    study_id = finish(jane, upload_id, content)
    assert sent_bytes(server, study_id) == content
    table(
        f"upload of 3 MiB, {fault} after 1 MiB",
        f"{after} bytes kept; 409 WRONG_OFFSET names them; went on; bytes equal",
    )


def described(jane: Browser, study_id: str) -> tuple[str, int]:
    study = jane.wait(study_id)
    return study["state"], study["attempts"]


def test_a_queued_study_outlives_the_server(server, jane, table, tmp_path):
    folder = write_phantom(tmp_path, slices=16, size=96)
    names = [jane.send_folder(folder, label) for label in ("first", "second")]
    wait_until(lambda: jane.study(names[0])["state"] == "running", "the first is read")
    assert jane.study(names[1])["state"] == "queued"
    server.kill()
    server.start()
    assert [described(jane, name) for name in names] == [("done", 2), ("done", 1)]
    table("server killed -9, one study queued, one read", "both done; attempts 1 and 2")


def reaches(ledger: Ledger, job_id: str, stage: str) -> bool:
    """Whether a job is seen in a stage before it ends; some last a few milliseconds."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        job = ledger.job(job_id)
        if job.state is not State.QUEUED:
            return False
        if job.is_running and job.stage == stage:
            return True
        time.sleep(0.001)
    raise AssertionError(f"{stage} did not come within 120 s")


def test_a_study_is_read_once_whichever_stage_the_server_is_killed_in(server, jane, table, tmp_path):
    folder = write_phantom(tmp_path, slices=24, size=128, seed=8)
    for path in sorted(folder.iterdir()):
        server.pacs.add(path.read_bytes())
    uid = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
    results, seen = server.folder / "results", []
    with Ledger(server.folder / "jobs.sqlite") as ledger:
        before, sent = ledger.counts()[State.DONE], 0

        def sent_and_seen(stage: str) -> tuple[str, str]:
            """A study, and its job in a stage; one that ran through it unseen is left to end, and another sent."""
            nonlocal sent
            for _ in range(MOST_TRIES):
                sent += 1
                if stage == "fetch":
                    study_id = jane.ask("POST", "/api/v1/studies", json={"study_uid": uid}).json()["study_id"]
                else:
                    study_id = jane.send_folder(folder)
                [job_id] = [job.job_id for job in ledger.jobs() if job.request["study_id"] == study_id]
                if reaches(ledger, job_id, stage):
                    return study_id, job_id
                assert jane.wait(study_id)["state"] == "done"
            raise AssertionError(f"{stage} was never seen")

        for stage in STAGES:
            study_id, job_id = sent_and_seen(stage)
            server.kill()
            assert not (results / job_id).exists(), "not half a result"
            server.start()
            assert described(jane, study_id) == ("done", 2), stage
            assert (results / job_id / JOB_RECORD).is_file()
            seen.append(jane.study(study_id)["facts"])
        assert ledger.counts()[State.DONE] == before + sent
    assert len({(one["verdict"], one["opacification_volume_ml"]) for one in seen}) == 1
    assert os.listdir(results / ".staging") == []
    table(
        f"server killed -9 in each of {', '.join(STAGES)}",
        f"{len(STAGES)} studies done, attempts 2 each, answers equal",
    )


@pytest.fixture(scope="module")
def read_study(jane, phantom_folder) -> str:
    study_id = jane.send_folder(phantom_folder, "Read")
    assert jane.wait(study_id)["state"] == "done"
    return study_id


def shape_of(jane: Browser, study_id: str) -> list[int]:
    return jane.ask("GET", f"/api/v1/studies/{study_id}/viewer/grid.json").json()["shape"]


def lesions(jane: Browser, study_id: str, version: int) -> bytes:
    answer = jane.ask("GET", f"/api/v1/studies/{study_id}/viewer/lesions.nii.gz?version={version}")
    assert answer.status_code == 200
    return answer.content


def test_a_correction_is_whole_or_not_there_when_the_server_is_killed(server, jane, table, phantom_folder):
    study_id = jane.send_folder(phantom_folder, "Correcting")
    jane.wait(study_id)
    mask = np.zeros(shape_of(jane, study_id), dtype=bool)
    mask[10:14, 10:14, 4] = True
    content = painted(mask)
    path, place = f"/api/v1/studies/{study_id}", server.folder / "corrections" / study_id
    assert jane.ask("PUT", f"{path}/draft?parent=0", content=content).status_code == 204
    seen = []
    for wanted in ("0001.part/state/painted.gz", "0001.part/state/diagnosis.json", "0001.part/report.json"):
        with ThreadPoolExecutor(1) as pool:
            saving = pool.submit(jane.ask, "POST", f"{path}/corrections?parent=0", content=content)
            wait_until(lambda wanted=wanted, saving=saving: (place / wanted).exists() or saving.done(), wanted)
            assert not saving.done(), "killed before it was saved"
            server.kill()
            seen.append(type(saving.exception()).__name__)
        server.start()
        assert jane.study(study_id)["versions"] == 0
        assert jane.ask("GET", f"{path}/draft").content == content, "the draft is still there"
        assert not list(place.glob("*.part")), "nothing half is left"
    saved = jane.ask("POST", f"{path}/corrections?parent=0", content=content).json()
    assert (saved["version"], saved["facts"]["voxel_count"]) == (1, 16)
    assert jane.ask("GET", f"{path}/draft").status_code == 204
    table(
        "server killed -9 while a correction is measured, written, reported",
        "no version, draft kept, nothing half left; saved again: version 1, 16 of 16 voxels",
    )


def test_results_lie_in_the_pacs_once_when_the_server_is_killed_while_it_sends(server, jane, table, phantom_folder):
    study_id = jane.send_folder(phantom_folder, "Sending")
    own = sum(name.endswith(".dcm") for name in jane.wait(study_id)["files"])
    before = len(server.pacs.instances)

    def kill(method: str, path: str) -> None:
        if method == "POST":
            server.pacs.on_request = None
            server.kill()

    server.pacs.stow = "duplicate"  # says what it held before, as servers do
    server.pacs.on_request = kill
    with pytest.raises(httpx2.HTTPError):
        jane.ask("POST", f"/api/v1/studies/{study_id}/send")
    server.start()
    receipts = [jane.ask("POST", f"/api/v1/studies/{study_id}/send").json() for _ in range(2)]
    assert receipts[1] == {"stored": own, "present": own, "changed": 0}
    assert len(server.pacs.instances) == before + own
    table(
        "server killed -9 while it sends to the PACS", f"sent again: {receipts[0]}; {own} objects there, none twice"
    )


def test_two_readers_save_at_once(server, program, jane, table, read_study):
    root = program(server, "root")
    masks = [np.zeros(shape_of(jane, read_study), dtype=bool) for _ in range(2)]
    masks[0][5, 5, 5] = masks[1][6, 6, 6] = True
    path = f"/api/v1/studies/{read_study}/corrections?parent=0"
    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(who.ask, "POST", path, content=painted(mask))
            for who, mask in zip((jane, root), masks, strict=True)
        ]
        answers = [one.result() for one in asked]
    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) == [201, 409]
    late = statuses.index(409)
    assert answers[late].json()["code"] == "NEWER_VERSION"
    again = (jane, root)[late].ask("POST", f"{path}&although_newer=true", content=painted(masks[late]))
    assert again.json()["version"] == 2
    assert lesions(jane, read_study, 1) != lesions(jane, read_study, 2)
    assert [one["facts"]["voxel_count"] for one in jane.study(read_study)["corrections"]] == [1, 1]
    table(
        "two readers save at once",
        f"201 and 409 NEWER_VERSION ({answers[late].json()['message'].split(';')[0]}); on request beside it",
    )


def test_an_ended_session_a_forged_request_and_anothers_study(server, jane, table, read_study, request):
    every = routes(jane.ask("GET", "/api/v1/openapi.json").json())
    values = {"study_id": read_study, "upload_id": announce(jane, b"abc"), "name": "report.json", "user_name": "joe"}
    joe = Browser(httpx2.Client(base_url=server.url, timeout=60))
    request.addfinalizer(joe.client.close)
    joe.login("joe")

    def answers(who: Browser, asked, values=values, **headers) -> Counter[str]:
        got = [who.ask(one.method, one.target(values), json=one.body, headers=headers) for one in asked]
        return Counter(f"{answer.status_code} {answer.json()['code']}" for answer in got)

    changing = [one for one in every if one.method != "GET"]
    forged = answers(joe, changing, **{"X-CSRF-Token": "guess"}) + answers(
        joe, changing, Origin="https://evil.example"
    )
    assert forged == {"403 FORGED": 2 * len(changing)}
    table(f"forged request on {len(changing)} routes (wrong token; foreign Origin)", "403 FORGED on all")
    foreign = [one for one in every if set(one.parameters) & {"study_id", "upload_id"}]
    seen = answers(joe, foreign)
    assert seen == answers(
        joe, foreign, {"study_id": ABSENT, "upload_id": ABSENT, "name": "report.json", "user_name": "joe"}
    )
    assert set(seen) == {"404 UNKNOWN_STUDY", "404 UNKNOWN_UPLOAD"}
    table(
        f"another reader's study or upload on {len(foreign)} routes", f"{dict(seen)}, as for one that does not exist"
    )
    database = ServiceDatabase(server.folder / "service.sqlite")
    database.change("UPDATE sessions SET created_at = 0 WHERE user = 'joe'")
    database.close()
    assert answers(joe, every) == {"401 NOT_LOGGED_IN": len(every)}
    page = joe.client.get("/", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["Location"]) == (303, "/login")
    table(f"expired session on {len(every)} routes", "401 NOT_LOGGED_IN on all; pages lead to the login")


def raw(server: Server, token: str, method: str, target: str, body=None) -> tuple[int, dict[str, str], bytes]:
    """A request whose address travels as it stands."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Authorization": token, "Content-Type": "application/json"}
    connection.request(method, target, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read(MIB)
    connection.close()
    return answer.status, dict(answer.getheaders()), content


def names_below(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir() if path != folder}


def test_no_parameter_leads_to_another_path(server, program, jane, table, read_study):
    token = program(server, "root").client.headers["Authorization"]  # sees every study: only the path is in the way
    described_routes = jane.ask("GET", "/api/v1/openapi.json").json()
    values = {"study_id": read_study, "upload_id": ABSENT, "name": "report.json", "user_name": "joe"}
    around, asked = names_below(server.folder), []
    for route in routes(described_routes):
        for name in route.parameters:
            asked += [(route, route.target({**values, name: trick}), route.body, "path") for trick in PATH_TRICKS]
        for name in (*route.given, *PAGE_QUERIES.get(route.path, ())):
            if route.method != "DELETE" and not route.path.endswith("/events"):
                asked += [
                    (route, route.target(values, **{name: trick}), route.body, "query") for trick in PATH_TRICKS
                ]
        for place in text_fields(route.body):
            bodies = [replaced(route.body, place, httpx2.QueryParams(f"x={trick}")["x"]) for trick in PATH_TRICKS]
            asked += [(route, route.target(values), body, "body") for body in bodies]
    statics = [(None, f"/static/{trick}", None, "path") for trick in PATH_TRICKS]
    came: Counter[str] = Counter()
    for route, target, body, kind in [*asked, *statics]:
        status, headers, content = raw(server, token, "GET" if route is None else route.method, target, body)
        assert status < 500, (route, target, content)
        assert not any(leak in content for leak in LEAKS), (route, target)
        assert "Set-Cookie" not in headers, target
        assert kind != "path" or status in (307, 400, 404, 405, 409, 422), (route, target, status)
        assert not headers.get("Location", "/").startswith("//"), target
        came[f"{kind} {status}"] += 1
        if status == 201:  # an upload under that name: given up, so that there is room for the next
            assert raw(server, token, "DELETE", f"/api/v1/uploads/{json.loads(content)['upload_id']}")[0] == 204
    assert names_below(server.folder) == around, "nothing was written outside the folder"
    for folder in ("sent", "results", "uploads", "corrections"):
        odd = [
            path.name
            for path in (server.folder / folder).iterdir()
            if not re.fullmatch(r"[0-9a-f]{24,64}(-unpacked)?|\.staging", path.name)
        ]
        assert odd == [], "only random names reach the disk"
    text = ", ".join(f"{kind} {count}" for kind, count in sorted(came.items()))
    table(
        f"path tricks: {sum(came.values())} requests, {len(PATH_TRICKS)} tricks in every parameter, query and text",
        f"status: count = {text}; no 5xx, no leak, nothing written outside",
    )


#: What the pages for people take in their addresses.
PAGE_QUERIES = {
    "/worklist": ("text", "verdict", "state", "opinion", "least_percent", "since", "reader"),
    "/studies/{study_id}": ("version", "beside"),
}


def test_fifty_uploads_at_once_are_bounded(server, program, table):
    readers = [program(server, f"reader{number}") for number in range(17)]
    root, done, refused = program(server, "root"), [], Counter()
    content = os.urandom(2 * MIB)
    before = server.memory.memory_info().rss

    def send(number: int) -> None:
        who = readers[number % len(readers)]
        while True:
            answer = who.announce({"study.bin": content})
            if answer.status_code == 201:
                break
            assert (answer.status_code, answer.json()["code"]) == (429, "TOO_MANY_UPLOADS")
            assert int(answer.headers["Retry-After"]) >= 1
            refused[number] += 1
            time.sleep(0.1)
        upload_id = answer.json()["upload_id"]
        for offset in range(0, len(content), MIB // 2):
            path = f"/api/v1/uploads/{upload_id}?offset={offset}"
            assert who.ask("PUT", path, content=content[offset : offset + MIB // 2]).status_code == 200
        done.append(who.ask("POST", f"/api/v1/uploads/{upload_id}/complete").json()["study_id"])

    most, peak = 0, before
    with ThreadPoolExecutor(50) as pool:
        sending = [pool.submit(send, number) for number in range(50)]
        while not all(one.done() for one in sending):
            figures = root.ask("GET", "/metrics").text
            most = max(most, int(re.search(r"^jcs_uploads_open (\d+)$", figures, re.M).group(1)))
            peak = max(peak, server.memory.memory_info().rss)
        for one in sending:
            one.result()
    assert len(set(done)) == 50
    assert most <= 16
    assert refused
    assert peak - before < 200 * MIB
    assert all(sent_bytes(server, study_id) == content for study_id in done)
    table(
        "50 uploads in parallel",
        f"at most {most} open, {len(refused)} told 429 TOO_MANY_UPLOADS with Retry-After; all 50 arrived whole; "
        f"server +{(peak - before) / MIB:.0f} MiB",
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused(server, jane, table, name):
    content, gate_code, words = HOSTILE[name]
    study = jane.wait(jane.send({"study.zip": content()}))
    assert (study["state"], study["code"], study["attempts"]) == ("refused", gate_code, 1)
    assert words in study["message"]
    table(name, f"refused, {gate_code}: {study['message']}")


def test_what_is_no_ct_and_what_is_too_large(jane, table):
    letter = jane.wait(jane.send({"letter.txt": b"Dear colleague"}))
    assert (letter["state"], letter["code"]) == ("refused", "NO_IMAGES")
    table("not a CT", f"refused, {letter['message']}")
    large = jane.ask("POST", "/api/v1/uploads", json={"files": [{"name": "a", "size": 20 * 10**9}]})
    assert (large.status_code, large.json()["code"]) == (413, "UPLOAD_TOO_LARGE")
    table("20 GB announced", f"413 UPLOAD_TOO_LARGE, before a byte: {large.json()['message']}")


@contextmanager
def small_disk(folder: Path, megabytes: int):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Take the disk's room, but for so many bytes."""
    filler = folder / "filler"
    usage = os.statvfs(folder)
    with filler.open("wb", buffering=0) as out, suppress(OSError):  # full before: that is what was wanted
        for _ in range((usage.f_bavail * usage.f_frsize - leave) // 65536 + (leave == 0)):
            out.write(b"\0" * 65536)
    return filler


def test_a_full_disk_is_said_and_nothing_is_lost(table, program, tmp_path, random_models, phantom_folder):
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, 96):
        folder = disk / "serve"
        folder.mkdir()
        add_users(folder)
        server = Server(folder, [sys.executable, "-c", SMALL, str(folder), str(random_models)])
        try:
            _full_disk(server, program(server), disk, table, phantom_folder)
        finally:
            server.kill()


def _full_disk(server: Server, jane: Browser, disk: Path, table, phantom_folder: Path) -> None:
    read_study = jane.send_folder(phantom_folder)
    assert jane.wait(read_study)["state"] == "done"
    large = jane.ask("POST", "/api/v1/uploads", json={"files": [{"name": "a", "size": 80 * MIB}]})
    assert (large.status_code, large.json()["code"]) == (507, "DISK_FULL")
    table("disk too full for an upload", f"507 DISK_FULL before a byte: {large.json()['message']}")

    content = os.urandom(2 * MIB)
    upload_id = announce(jane, content)
    half = jane.ask("PUT", f"/api/v1/uploads/{upload_id}?offset=0", content=content[:MIB])
    filler = fill(disk, 300_000)
    full = jane.ask("PUT", f"/api/v1/uploads/{upload_id}?offset={MIB}", content=content[MIB:])
    assert (half.status_code, full.status_code, full.json()["code"]) == (200, 507, "DISK_FULL")
    assert received(jane, upload_id) == MIB
    filler.unlink()
    study_id = finish(jane, upload_id, content)
    assert sent_bytes(server, study_id) == content
    table(
        "disk full in the middle of an upload", "507 DISK_FULL; 1 MiB kept; went on when there was room; bytes equal"
    )

    mask = np.zeros(shape_of(jane, read_study), dtype=bool)
    mask[10:14, 10:14, 4] = True
    waiting = jane.send_folder(phantom_folder)
    filler = fill(disk, 0)
    path = f"/api/v1/studies/{read_study}"
    acts = (
        ("PUT", f"{path}/draft?parent=0", {"content": painted(mask)}),
        ("POST", f"{path}/corrections?parent=0", {"content": painted(mask)}),
        ("POST", f"{path}/opinions", {"json": {"agrees": False, "reason": "x" * 2000}}),
        ("GET", f"{path}/results.zip", {}),
    )
    told = Counter(
        f"{answer.status_code} {answer.json()['code']}" for answer in (jane.ask(*act[:2], **act[2]) for act in acts)
    )
    assert set(told) <= {"507 DISK_FULL", "500 OUTPUT_UNWRITABLE"}, told
    assert jane.client.get("/health").status_code == 503
    assert jane.study(read_study)["versions"] == 0
    filler.unlink()
    assert jane.ask("POST", f"{path}/corrections?parent=0", content=painted(mask)).json()["version"] == 1
    assert jane.wait(waiting, 180)["state"] == "done", "the queue goes on"
    assert jane.client.get("/health").status_code == 200
    assert not list(server.folder.rglob("*.part*"))
    table(
        "disk full while drafts, corrections, opinions, packages are written and a study is read",
        f"{dict(told)}, /health 503; with room again: saved, read, /health 200, nothing half left",
    )
