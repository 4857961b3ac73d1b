"""A page with users and phantoms to send to it."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil
import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from pydicom import dcmread

from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom
from jcs_ct.service.app import build_app, build_service
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.settings import PacsAddress, ServiceSettings, UploadLimits
from jcs_ct.service.users import Role, Users

from ..pacs.fake_pacs import FakePacs, Handler

PASSWORDS = {"root": "correct horse", "jane": "battery staple", "joe": "another phrase"}
LIMITS = UploadLimits(total_bytes=64 * 1024**2, files=200, chunk_bytes=1 << 18, free_bytes=1 << 20)


def write_phantom(folder: Path, *, slices: int = 10, size: int = 64, seed: int = 5) -> Path:
    write_dicom(make_phantom(PhantomConfig(slices=slices, size=size, lesions=4, seed=seed)), folder)
    return folder / "dicom"


def turn_in_plane(source: Path, target: Path) -> Path:
    """The same patient, stored a quarter turn round: rows run where columns ran, and the headers say so."""
    target.mkdir()
    for path in sorted(source.iterdir()):
        dataset = dcmread(path)
        row, column = np.array(dataset.ImageOrientationPatient, dtype=float).reshape(2, 3)
        row_mm, column_mm = (float(value) for value in dataset.PixelSpacing)
        first = np.array(dataset.ImagePositionPatient, dtype=float) + row * column_mm * (dataset.Columns - 1)
        dataset.ImagePositionPatient = [round(value, 6) for value in first]
        dataset.ImageOrientationPatient = [*column, *-row]
        dataset.PixelSpacing = [column_mm, row_mm]
        dataset.PixelData = np.ascontiguousarray(dataset.pixel_array.T[::-1]).tobytes()
        dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows
        dataset.StudyDate = "20990101"  # some time after the phantom's own
        dataset.save_as(target / path.name)
    return target


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("axial"))


@pytest.fixture(scope="session")
def turned_folder(tmp_path_factory, phantom_folder) -> Path:
    return turn_in_plane(phantom_folder, tmp_path_factory.mktemp("turned") / "dicom")


def zipped(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as package:
        for path in sorted(folder.iterdir()):
            package.write(path, f"study/{path.name}")
    return content.getvalue()


def painted(mask: np.ndarray) -> bytes:
    """A mask as a browser sends it."""
    return gzip.compress(mask.astype(np.uint8).tobytes(order="F"))


@dataclass
class Browser:
    """What a reader's browser does, without its screen."""

    client: TestClient
    csrf: str = ""

    def login(self, name: str) -> Browser:
        form = {"name": name, "password": PASSWORDS[name]}
        answer = self.client.post("/login", data=form, follow_redirects=False)
        assert answer.status_code == 303, answer.text
        page = self.client.get("/", headers={"Accept": "text/html"}).text
        self.csrf = page.split('name="csrf" content="')[1].split('"')[0]
        return self

    def ask(self, method: str, path: str, **options):
        headers = {"X-CSRF-Token": self.csrf, **options.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **options)

    def announce(self, files: dict[str, bytes], label: str = "Study"):
        listed = [{"name": name, "size": len(content)} for name, content in files.items()]
        return self.ask("POST", "/api/v1/uploads", json={"label": label, "files": listed})

    def send(self, files: dict[str, bytes], label: str = "Study") -> str:
        """The study's name."""
        upload = self.announce(files, label).json()
        contents = list(files.values())
        stream = b"".join(contents[index] for index in upload["order"])
        step = upload["chunk_bytes"]
        for offset in range(0, len(stream), step):
            path = f"/api/v1/uploads/{upload['upload_id']}?offset={offset}"
            answer = self.ask("PUT", path, content=stream[offset : offset + step])
            assert answer.status_code == 200, answer.text
        answer = self.ask("POST", f"/api/v1/uploads/{upload['upload_id']}/complete")
        assert answer.status_code == 201, answer.text
        return answer.json()["study_id"]

    def send_folder(self, folder: Path, label: str = "Study") -> str:
        return self.send({f"study/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}, label)

    def study(self, study_id: str) -> dict:
        answer = self.ask("GET", f"/api/v1/studies/{study_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, study_id: str, seconds: float = 120.0) -> dict:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            study = self.study(study_id)
            if study["state"] not in ("queued", "running"):
                return study
            time.sleep(0.1)
        raise AssertionError(f"still {study['state']} {study['stage']}")


def add_users(folder: Path) -> None:
    database = ServiceDatabase(folder / "service.sqlite")
    users = Users(database, hasher=PasswordHasher(time_cost=1, memory_cost=64))  # a hash says how it is checked
    for name, password in PASSWORDS.items():
        users.add(name, Role.ADMIN if name == "root" else Role.READER, password)
    database.close()


@contextmanager
def serving_fake_pacs() -> Iterator[FakePacs]:
    """A PACS, empty."""
    held = FakePacs()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"pacs": held}))
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield held
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="package")
def fake_pacs() -> Iterator[FakePacs]:
    with serving_fake_pacs() as held:
        yield held


@pytest.fixture(scope="package")
def incoming(tmp_path_factory, phantom_folder) -> Path:
    """A folder that the administrator listed."""
    folder = tmp_path_factory.mktemp("listed") / "incoming"
    folder.mkdir()
    (folder / "phantom.zip").write_bytes(zipped(phantom_folder))
    return folder


@pytest.fixture(scope="package")
def service(tmp_path_factory, random_models, incoming, fake_pacs):
    folder = tmp_path_factory.mktemp("serve")
    add_users(folder)
    settings = ServiceSettings(
        folder=folder,
        models=str(random_models),
        uploads=LIMITS,
        study_folders=(incoming,),
        pacs=PacsAddress(fake_pacs.url),
    )
    return build_service(settings)


@pytest.fixture(scope="package")
def app(service):
    with TestClient(build_app(service)) as client:
        yield client.app


@pytest.fixture
def browser(app):
    """``browser("jane")`` is a browser that is logged in."""

    def make(name: str | None = None) -> Browser:
        made = Browser(TestClient(app, base_url="http://127.0.0.1"))
        return made.login(name) if name else made

    return make


class Server:
    """The page as a process that can be killed.

    Args:
        folder: Of the page.
        command: Serves it, given ``--port``.
    """

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder, self._command = folder, command
        self.pacs: FakePacs | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        self._process = subprocess.Popen([*self._command, "--port", str(self.port)], env=os.environ)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                with urlopen(f"{self.url}/health") as answer:
                    assert answer.status == 200
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the server did not start")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """As a machine without memory would, and wait until all that it started has ended."""
        started = psutil.Process(self._process.pid).children(recursive=True)
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        _, alive = psutil.wait_procs(started, timeout=10)
        assert alive == [], "what it started ends with it"

    @property
    def memory(self) -> psutil.Process:
        """The server without the process that reads studies."""
        return psutil.Process(self._process.pid)


def serve_command(folder: Path, **options: Path | str) -> list[str]:
    """``jcs serve`` on a folder."""
    parts = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "jcs_ct", "serve", "--folder", str(folder), *parts]


@pytest.fixture(scope="module")
def server(tmp_path_factory, random_models, incoming):
    folder = tmp_path_factory.mktemp("serve")
    add_users(folder)
    with serving_fake_pacs() as pacs:
        started = Server(folder, serve_command(folder, models=random_models, pacs=pacs.url, studies=incoming))
        started.pacs = pacs
        yield started
        started.kill()


CHROMIUM = shutil.which("chromium")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="package")
def chromium():
    if CHROMIUM is None:
        pytest.skip("needs Debian's Chromium at /usr/bin/chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()
