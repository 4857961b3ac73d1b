"""Servers without users, behind a proxy, from the command line, and asked by programs."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from urllib.parse import urlencode

import httpx2
import psutil
import pytest
from fastapi.testclient import TestClient

from jcs_ct.errors import ConfigError, NotFoundError, OutputError
from jcs_ct.files import only_one
from jcs_ct.service.app import build_app, build_service
from jcs_ct.service.bringing import bring_in
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.serving import listening
from jcs_ct.service.settings import ServiceSettings
from jcs_ct.service.studies import Studies
from jcs_ct.service.users import Role, User, Users
from jcs_ct.service.work import QueueWork

from .conftest import PASSWORDS, add_users


@pytest.fixture(scope="module")
def open_app(tmp_path_factory, random_models):
    """A page without users."""
    settings = ServiceSettings(tmp_path_factory.mktemp("open"), models=str(random_models))
    with TestClient(build_app(build_service(settings))) as client:
        yield client.app


@pytest.fixture(scope="module")
def mounted_app(tmp_path_factory, random_models):
    """A page with users, mounted at /jcs by a proxy."""
    folder = tmp_path_factory.mktemp("mounted")
    add_users(folder)
    settings = ServiceSettings(folder, models=str(random_models), root_path="/jcs")
    with TestClient(build_app(build_service(settings))) as client:
        yield client.app


def test_without_users_only_this_machine_is_answered(open_app):
    for address in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"):
        assert TestClient(open_app, base_url=address).get("/health").status_code == 200
    for address in ("http://evil.example", "http://192.0.2.7", "http://localhost.evil.example"):
        answer = TestClient(open_app, base_url=address).get("/health")
        assert (answer.status_code, answer.json()["code"]) == (403, "NO_USERS")
    client = TestClient(open_app, base_url="http://127.0.0.1")
    for name in ("X-Forwarded-For", "X-Forwarded-Proto", "x-forwarded-host", "Forwarded", "X-Real-IP", "Via"):
        assert client.get("/health", headers={name: "192.0.2.7"}).status_code == 403, name
    for host in ("[", "[::1", "", "127.0.0.1@evil.example"):
        assert client.get("/health", headers={"Host": host}).status_code == 403


def test_a_page_behind_a_proxy_keeps_its_path(mounted_app):
    client = TestClient(mounted_app, base_url="http://127.0.0.1")
    form = {"name": "jane", "password": PASSWORDS["jane"]}
    first = client.get("/", headers={"Accept": "text/html"}, follow_redirects=False)
    assert first.headers["Location"] == "/jcs/login"
    for login in ("/login", "/jcs/login"):  # proxies that cut the path off, and those that do not
        answer = client.post(login, data=form, follow_redirects=False)
        assert answer.headers["Location"] == "/jcs/"
        assert "Path=/jcs" in answer.headers["Set-Cookie"]
    page = client.get("/jcs/", headers={"Accept": "text/html"}).text
    assert 'href="/jcs/static/page.css"' in page
    assert 'src="/static' not in page
    assert client.get("/jcs/static/page.css").status_code == client.get("/static/page.css").status_code == 200


def test_a_record_that_another_program_holds_does_not_stop_what_needs_none(open_app, monkeypatch):
    service, waits, goes_on = open_app.state.service, Event(), Event()

    def waiting():
        waits.set()
        assert goes_on.wait(5)
        return []

    monkeypatch.setattr(service.users, "all", waiting)
    service._look_again_at = 0.0

    async def both() -> list[int]:
        transport = httpx2.ASGITransport(app=open_app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            held = asyncio.ensure_future(client.get("/health"))
            while not waits.is_set():
                await asyncio.sleep(0.01)
            answered = await client.get("/static/page.css")
            assert not held.done()
            goes_on.set()
            return [answered.status_code, (await held).status_code]

    assert asyncio.run(both()) == [200, 200]


def test_users_that_are_added_or_removed_are_known_a_second_later(open_app, monkeypatch):
    service = open_app.state.service
    client = TestClient(open_app, base_url="http://192.0.2.7")
    for users, status in (([User("jane", Role.READER)], 200), ([], 403)):
        monkeypatch.setattr(service.users, "all", lambda users=users: users)
        known = client.get("/static/page.css").status_code
        service._look_again_at -= 1.0
        assert client.get("/static/page.css").status_code == status != known


def test_programs_are_told_of_tokens_where_there_are_no_users(open_app):
    answer = TestClient(open_app, base_url="http://127.0.0.1").get("/api/v1/studies")
    assert (answer.status_code, answer.json()["code"]) == (401, "NOT_LOGGED_IN")
    needed = "programs need a token: `jcs serve users add NAME`, then `jcs serve users token NAME`"
    assert answer.json()["message"] == needed


def test_a_link_leads_on_without_users(open_app):
    client = TestClient(open_app, base_url="http://127.0.0.1")
    asked = "/studies/0?version=1"
    sent = client.get(asked, headers={"Accept": "text/html"}, follow_redirects=False)
    assert sent.headers["Location"] == f"/login?{urlencode({'next': asked})}"
    assert client.get(sent.headers["Location"], follow_redirects=False).headers["Location"] == asked


def test_a_link_leads_on_behind_a_proxy(mounted_app):
    client = TestClient(mounted_app, base_url="http://127.0.0.1")
    form = {"name": "jane", "password": PASSWORDS["jane"]}
    asked = "/jcs/studies/0?version=1"
    sent = client.get(asked, headers={"Accept": "text/html"}, follow_redirects=False)
    assert sent.headers["Location"] == f"/jcs/login?{urlencode({'next': asked})}"
    for target, leads in ((asked, asked), *((other, "/jcs/") for other in ("/", "//jcs/", "/other/", "/jcsx/"))):
        answer = client.post("/jcs/login", data={**form, "next": target}, follow_redirects=False)
        assert answer.headers["Location"] == leads


def test_a_port_that_is_taken_is_said_before_anything_is_begun(tmp_path):
    command = [sys.executable, "-m", "jcs_ct", "serve", "--folder", str(tmp_path / "s"), "--port"]
    with listening("127.0.0.1", 0) as [taken]:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=f"port {port} is taken; give another --port"),
            listening("localhost", port),
        ):
            pass
        ended = subprocess.run([*command, str(port)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"port {port} is taken; give another --port" in ended.stderr
    assert "serving on" not in ended.stdout
    assert not (tmp_path / "s").exists()


def test_an_address_that_is_not_this_machines_is_said():
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.7, port 0: "), listening("192.0.2.7", 0):
        pass


def test_only_a_page_has_users_and_corrections(tmp_path, jcs):
    folder = ("--folder", tmp_path / "nosuch")
    asked = [("users", *part) for part in (["list"], ["remove", "jane"], ["token", "jane"])]
    for command in (*asked, ("export", "-o", tmp_path / "out")):
        with pytest.raises(NotFoundError, match="nosuch is not the folder of a page"):
            raise jcs("serve", *command, *folder).exception
    assert list(tmp_path.iterdir()) == []


def test_other_addresses_need_users(tmp_path):
    with pytest.raises(ConfigError, match="can be reached by others, and there are no users"):
        build_service(ServiceSettings(tmp_path, host="0.0.0.0"))
    with pytest.raises(ConfigError, match=r"a root path is of a proxy, .* and there are no users"):
        build_service(ServiceSettings(tmp_path, root_path="/jcs"))
    with pytest.raises(ConfigError, match="a root path starts with /"):
        ServiceSettings(tmp_path, root_path="jcs/")


def test_a_second_server_leaves_the_folder_of_the_first_alone(tmp_path, jcs):
    with only_one(tmp_path / "serve.lock", "server"):
        refused = jcs("serve", "--folder", tmp_path)
    assert "another server works in" in str(refused.exception)
    assert not (tmp_path / "jobs.sqlite").exists()


def test_a_study_for_which_there_is_no_room_has_the_code_of_a_full_disk(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "1.dcm").write_bytes(b"x")
    source = {"place": str(tmp_path / "study"), "most_files": 9, "most_bytes": 9, "free_bytes": 1 << 62}
    with pytest.raises(OutputError, match="ask the administrator") as caught:
        bring_in(source, tmp_path / "sent", lambda *stage: None)
    assert caught.value.code == "DISK_FULL"


def test_a_fault_does_not_end_the_queue(monkeypatch):
    calls = []

    def work_once():
        calls.append("once")
        if len(calls) == 1:
            raise KeyError
        work._stop.set()

    monkeypatch.setattr("jcs_ct.service.work._WAIT_AFTER_FAULT_S", 0.0)
    work = QueueWork.__new__(QueueWork)
    work._stop, work._runner, work.tidy = Event(), SimpleNamespace(work_once=work_once), lambda: None
    work._work()
    assert len(calls) == 2


def test_a_start_that_fails_leaves_no_process_behind(tmp_path, random_models, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    here = psutil.Process()
    before = {child.pid for child in here.children(recursive=True)}
    monkeypatch.setattr(Studies, "remove_orphans", full)
    with pytest.raises(sqlite3.OperationalError):
        build_service(ServiceSettings(tmp_path / "s", models=str(random_models)))
    begun = [child for child in here.children(recursive=True) if child.pid not in before]
    _, alive = psutil.wait_procs(begun, timeout=10)
    assert alive == []


def test_networks_that_cannot_be_loaded_are_said_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match="the networks cannot be loaded"):
        build_service(ServiceSettings(tmp_path / "s", models=str(tmp_path / "absent")))


def test_users_from_the_command_line(tmp_path, jcs):
    folder = ("--folder", tmp_path / "s")
    command = [sys.executable, "-m", "jcs_ct", "serve", "users", "add", "jane", *map(str, folder), "--password-stdin"]
    for options, password, status, warns in (
        ((), "short\n", 2, False),
        ((), "a long enough one\n", 0, True),
        (("--admin",), "a long enough one\n", 0, False),
        ((), "a long enough one\n", 0, True),
    ):
        done = subprocess.run([*command, *options], input=password, text=True, check=False, capture_output=True)
        assert done.returncode == status
        assert ("there is no administrator yet" in done.stderr) is warns
    database = ServiceDatabase(tmp_path / "s" / "service.sqlite")
    users = Users(database)
    assert users.check("jane", "a long enough one", "here") is not None
    assert jcs("serve", "users", "list", *folder).output == "jane  reader\n"
    token = jcs("serve", "users", "token", "jane", *folder).output.strip()
    assert users.of_token(token).name == "jane"
    assert jcs("serve", "users", "remove", "jane", *folder).exit_code == 0
    assert isinstance(jcs("serve", "users", "remove", "jane", *folder).exception, ConfigError)
    database.close()


def test_the_server_itself_loads_no_networks():
    """Studies are read in processes of their own: the server stays small."""
    code = "import sys; import jcs_ct.service.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_the_client_of_the_guide_sends_a_study_and_has_its_results(server, phantom_folder, tmp_path):
    guide = Path(__file__).parents[2] / "docs/how-to/serve.md"
    [example] = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    database = ServiceDatabase(server.folder / "service.sqlite")
    token = Users(database).add_token("jane")
    database.close()
    example = example.replace("http://127.0.0.1:8000", server.url).replace("from jcs serve users token", token)
    client: dict[str, object] = {}
    exec(compile(example, str(guide), "exec"), client)
    study_id = client["send"](phantom_folder)
    assert client["wait"](study_id)["facts"]["verdict"] == "positive"
    client["take"](study_id, tmp_path / "results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as package:
        assert {"report.json", "lesions.nii.gz", "lesions.seg.dcm"} <= set(package.namelist())
