"""Servers without users, behind a proxy, and killed in every stage."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import httpx2
import pytest
from fastapi.testclient import TestClient

from jcs_ct.errors import ConfigError
from jcs_ct.jobs import JOB_RECORD, Ledger, State
from jcs_ct.service.app import build_app, build_service
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.settings import ServiceSettings
from jcs_ct.service.users import Users

from .conftest import write_phantom


@pytest.fixture(scope="module")
def open_app(tmp_path_factory, random_models):
    """A page without users, mounted at /jcs by a proxy."""
    settings = ServiceSettings(tmp_path_factory.mktemp("open"), models=str(random_models), root_path="/jcs")
    with TestClient(build_app(build_service(settings))) as client:
        yield client.app


def test_without_users_only_this_machine_is_answered(open_app):
    for address in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"):
        assert TestClient(open_app, base_url=address).get("/health").status_code == 200
    for address in ("http://evil.example", "http://192.0.2.7", "http://localhost.evil.example"):
        answer = TestClient(open_app, base_url=address).get("/health")
        assert (answer.status_code, answer.json()["code"]) == (403, "NO_USERS")
    client = TestClient(open_app, base_url="http://127.0.0.1")
    assert client.get("/health", headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 403


def test_a_page_behind_a_proxy_keeps_its_path(open_app):
    client = TestClient(open_app, base_url="http://127.0.0.1")
    first = client.get("/", headers={"Accept": "text/html"}, follow_redirects=False)
    assert first.headers["Location"] == "/jcs/login"
    for login in ("/login", "/jcs/login"):  # proxies that cut the path off, and those that do not
        answer = client.get(login, follow_redirects=False)
        assert answer.headers["Location"] == "/jcs/"
        assert "Path=/jcs" in answer.headers["Set-Cookie"]
    page = client.get("/jcs/", headers={"Accept": "text/html"}).text
    assert 'href="/jcs/static/page.css"' in page
    assert 'src="/static' not in page
    assert client.get("/jcs/static/page.css").status_code == client.get("/static/page.css").status_code == 200


def test_other_addresses_need_users(tmp_path):
    with pytest.raises(ConfigError, match="can be reached by others and there are no users"):
        build_service(ServiceSettings(tmp_path, host="0.0.0.0"))
    with pytest.raises(ConfigError, match="a root path starts with /"):
        ServiceSettings(tmp_path, root_path="jcs/")


def test_networks_that_cannot_be_loaded_are_said_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match="the networks cannot be loaded"):
        build_service(ServiceSettings(tmp_path / "s", models=str(tmp_path / "absent")))


def test_users_from_the_command_line(tmp_path, jcs):
    folder = ("--folder", tmp_path / "s")
    command = [sys.executable, "-m", "jcs_ct", "serve", "users", "add", "jane", *map(str, folder), "--password-stdin"]
    for password, status in (("short\n", 2), ("a long enough one\n", 0)):
        assert subprocess.run(command, input=password, text=True, check=False).returncode == status
    database = ServiceDatabase(tmp_path / "s" / "service.sqlite")
    users = Users(database)
    assert users.check("jane", "a long enough one", "here") is not None
    assert jcs("serve", "users", "list", *folder).output == "jane  reader\n"
    token = jcs("serve", "users", "token", "jane", *folder).output.strip()
    assert users.of_token(token).name == "jane"
    assert jcs("serve", "users", "remove", "jane", *folder).exit_code == 0
    assert isinstance(jcs("serve", "users", "remove", "jane", *folder).exception, ConfigError)
    database.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_killed_in_each_stage_reads_every_study_once(server, tmp_path):
    database = ServiceDatabase(server.folder / "service.sqlite")
    token = Users(database).add_token("jane")
    database.close()
    study = write_phantom(tmp_path, slices=24, size=128, seed=8)
    client = httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    stages = ("unpack", "read", "lungs", "classify", "segment", "findings", "report", "viewer")
    with Ledger(server.folder / "jobs.sqlite") as ledger:
        for stage in stages:
            study_id = send(client, study)
            job_id = wait_for_stage(ledger, stage)
            server.kill()
            assert not (server.folder / "results" / job_id).exists(), "not half a result"
            server.start()
            deadline = time.monotonic() + 120
            while ledger.job(job_id).state is State.QUEUED and time.monotonic() < deadline:
                time.sleep(0.1)
            job = ledger.job(job_id)
            assert (job.state, job.attempts) == (State.DONE, 2), stage
            assert (server.folder / "results" / job_id / JOB_RECORD).is_file()
            described = client.get(f"/api/v1/studies/{study_id}").json()
            assert described["facts"]["verdict"] == "positive"
        assert ledger.counts()[State.DONE] == len(stages)
    assert len([place for place in (server.folder / "results").iterdir() if place.name != ".staging"]) == len(stages)
    assert os.listdir(server.folder / "results" / ".staging") == []
    client.close()


def send(client: httpx2.Client, folder) -> str:
    files = sorted(folder.iterdir())
    listed = [{"name": path.name, "size": path.stat().st_size} for path in files]
    upload = client.post("/api/v1/uploads", json={"label": "x", "files": listed}).json()
    stream = b"".join(files[index].read_bytes() for index in upload["order"])
    client.put(f"/api/v1/uploads/{upload['upload_id']}?offset=0", content=stream).raise_for_status()
    return client.post(f"/api/v1/uploads/{upload['upload_id']}/complete").json()["study_id"]


def wait_for_stage(ledger: Ledger, stage: str) -> str:
    """Name of the job that is in that stage now."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for job in ledger.jobs(states=(State.QUEUED,)):
            if job.is_running and job.stage == stage:
                return job.job_id
        time.sleep(0.001)
    raise AssertionError(f"stage {stage} was never seen")


def test_the_server_itself_loads_no_networks():
    """Studies are read in processes of their own: the server stays small."""
    code = "import sys; import jcs_ct.service.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
