"""Servers without users, behind a proxy, from the command line, and asked by programs."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from jcs_ct.errors import ConfigError
from jcs_ct.service.app import build_app, build_service
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.settings import ServiceSettings
from jcs_ct.service.users import Users


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
    for host in ("[", "[::1", "", "127.0.0.1@evil.example"):
        assert client.get("/health", headers={"Host": host}).status_code == 403


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
