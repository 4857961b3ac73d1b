"""Certificates and credentials: a TLS server of the standard library, and a real Orthanc that asks for a password."""

from __future__ import annotations

import base64
import logging
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from jcs_ct.errors import ConfigError, JCSError
from jcs_ct.pacs.dicomweb import DicomWeb
from jcs_ct.pacs.server import PacsCertificateError, PacsDeniedError, PacsServer, PacsUnavailableError

from .fake_pacs import FakePacs, Handler, ct_file
from .needs_orthanc import Orthanc, needs_orthanc

TOKEN = "token-that-must-stay-out-of-logs"
PASSWORD = "pässword-that-must-stay-out-of-logs"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


def make_certificate(folder: Path, name: str, subject: str) -> Path:
    """A self-signed certificate for ``subject`` (a subjectAltName), with its key in ``<name>.key``."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=test", "-addext", f"subjectAltName={subject}", "-days", "2"]
    command += ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder / f"{name}.pem"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Folder with ``good.pem`` for 127.0.0.1 and ``other.pem`` for another host."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificate(folder, "good", "IP:127.0.0.1")
    make_certificate(folder, "other", "DNS:pacs.example")
    return folder


@pytest.fixture
def serve_tls(certificates):
    """``serve_tls("good")``: a DICOMweb server with that certificate that wants the token."""
    servers = []

    def serve(name: str) -> FakePacs:
        held = FakePacs(authorization=f"Bearer {TOKEN}")
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("TlsHandler", (Handler,), {"pacs": held}))
        server.handle_error = lambda request, client_address: None  # a client that hangs up is the test
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        held.url = f"https://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return held

    yield serve
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def connect():
    """A client that never really waits; ``connect.waits`` are the waits it would have made."""
    clients = []

    def open_client(server: PacsServer) -> DicomWeb:
        clients.append(DicomWeb(server, sleep=open_client.waits.append))
        return clients[-1]

    open_client.waits = []
    yield open_client
    for client in clients:
        client.close()


def test_a_named_certificate_is_trusted_and_the_token_arrives(serve_tls, certificates, connect, tmp_path):
    pacs = serve_tls("good")
    for number in range(3):
        pacs.add(ct_file("1.2.3", "1.2.3.1", number))
    web = connect(PacsServer(pacs.url, token=TOKEN, ca_bundle=str(certificates / "good.pem")))
    assert [one.uid for one in web.studies()] == ["1.2.3"]
    assert web.fetch_study("1.2.3", tmp_path).image_count == 3


def test_an_unknown_certificate_is_refused_at_once_and_nothing_is_sent(serve_tls, connect):
    pacs = serve_tls("good")
    with pytest.raises(
        PacsCertificateError, match=r"not trusted \(self-signed certificate\).*--ca-bundle .PACS_CERT"
    ):
        connect(PacsServer(pacs.url, token=TOKEN)).studies()
    assert (connect.waits, pacs.requests) == ([], [])


def test_a_trusted_certificate_of_another_host_is_refused(serve_tls, certificates, connect):
    pacs = serve_tls("other")
    web = connect(PacsServer(pacs.url, token=TOKEN, ca_bundle=str(certificates / "other.pem")))
    with pytest.raises(PacsCertificateError, match=r"not trusted \(IP address mismatch"):
        web.studies()
    assert pacs.requests == []


def test_a_wrong_token_is_refused_with_what_to_do(serve_tls, certificates, connect):
    pacs = serve_tls("good")
    web = connect(PacsServer(pacs.url, token="wrong", ca_bundle=str(certificates / "good.pem")))
    with pytest.raises(PacsDeniedError, match=r"refuses the token \(HTTP 401\); check JCS_PACS_TOKEN"):
        web.studies()
    assert connect.waits == []


def test_https_to_a_port_that_speaks_http(pacs, connect):
    web = connect(PacsServer(pacs.url.replace("http:", "https:"), retries=1))
    with pytest.raises(PacsUnavailableError, match=r"\(SSLError\), tried 2 times.*PACS_UNAVAILABLE"):
        web.studies()


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_bundle_without_certificates(tmp_path, content):
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bundle.pem holds no certificates that can be read"):
        PacsServer("https://pacs.example", ca_bundle=str(path))


@pytest.mark.parametrize(
    ("credentials", "message"),
    [
        ({"token": "secret\n"}, "check JCS_PACS_TOKEN"),
        ({"token": "secret ü"}, "check JCS_PACS_TOKEN"),
        ({"user": "me"}, "set JCS_PACS_USER and JCS_PACS_PASSWORD"),
        ({"password": "secret"}, "set JCS_PACS_USER and JCS_PACS_PASSWORD"),
        ({"user": "me:you", "password": "secret"}, "a user name with a colon"),
        ({"user": "me", "password": "secret\r\n"}, "line ends"),
    ],
)
def test_credentials_that_cannot_be_sent_are_not_repeated(credentials, message):
    with pytest.raises(ConfigError, match=message) as refused:
        PacsServer("https://pacs.example", **credentials)
    assert "secret" not in str(refused.value)


def test_a_password_of_any_letters_is_sent_as_utf8(pacs, connect):
    pacs.authorization = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert connect(PacsServer(pacs.url, user="me", password=PASSWORD)).studies() == []
    with pytest.raises(PacsDeniedError, match=r"refuses the user or password .*JCS_PACS_USER and JCS_PACS_PASSWORD"):
        connect(PacsServer(pacs.url, user="me", password="wrong")).studies()


def test_a_redirection_is_not_followed(pacs, connect):
    pacs.redirect = "http://127.0.0.1:9/elsewhere"
    with pytest.raises(JCSError, match=r"points to another address \(HTTP 302\)"):
        connect(PacsServer(pacs.url, token=TOKEN)).studies()


def test_an_answer_that_is_no_json(pacs, connect):
    pacs.garbled = b"<html>"
    with pytest.raises(JCSError, match="is XML that cannot be read"):
        connect(PacsServer(pacs.url)).studies()


def test_credentials_from_the_environment_reach_no_log(serve_tls, certificates, jcs, monkeypatch, caplog, tmp_path):
    pacs = serve_tls("good")
    pacs.add(ct_file("1.2.3", "1.2.3.1", 1))
    caplog.set_level(logging.DEBUG)
    arguments = ("1.2.3", "-o", tmp_path / "study", "--ca-bundle", certificates / "good.pem")
    said = []
    for token in (TOKEN, f"{TOKEN}-wrong", f"{TOKEN}\n"):
        monkeypatch.setenv("JCS_PACS_TOKEN", token)
        result = jcs("--verbose", "pacs", "fetch", pacs.url, *arguments)
        said.append((type(result.exception).__name__, str(result.exception), result.output))
    assert [kind for kind, _, _ in said] == ["NoneType", "PacsDeniedError", "ConfigError"]
    assert "1 CT images" in said[0][2]
    assert TOKEN not in repr(said) + caplog.text


@contextmanager
def tls_in_front(port: int, certificate: Path) -> Iterator[str]:
    """TLS on a free port, handed on in the clear to ``port``, as a reverse proxy does; yields the address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))

    class Front(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                with (
                    context.wrap_socket(self.request, server_side=True) as outside,
                    socket.create_connection(("127.0.0.1", port)) as inside,
                ):
                    back = threading.Thread(target=pass_on, args=(inside, outside))
                    back.start()
                    pass_on(outside, inside)
                    back.join()
            except ssl.SSLError:
                return  # a client that does not trust the certificate hangs up

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Front) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Bytes from one connection to the other until the first ends; then both end."""
    try:
        while block := source.recv(1 << 16):
            target.sendall(block)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@needs_orthanc
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_server_with_a_password_behind_tls(certificates, connect, tmp_path):
    """TLS stands in front, as it usually does: Debian's Orthanc 1.10.1 ends with a segmentation fault when it speaks
    TLS itself (its civetweb against OpenSSL 3)."""
    server = Orthanc(tmp_path, users={"me": PASSWORD})
    server.start()
    try:
        with tls_in_front(server.port, certificates / "good.pem") as address:
            check_tls_and_password(f"{address}/dicom-web", str(certificates / "good.pem"), connect, tmp_path)
    finally:
        server.stop()


def check_tls_and_password(root, bundle, connect, folder):
    with pytest.raises(PacsCertificateError, match="self-signed certificate"):
        connect(PacsServer(root, user="me", password=PASSWORD)).studies()
    with pytest.raises(PacsDeniedError, match="refuses the user or password"):
        connect(PacsServer(root, user="me", password="wrong", ca_bundle=bundle)).studies()
    with pytest.raises(PacsDeniedError, match="asks for credentials"):
        connect(PacsServer(root, ca_bundle=bundle)).studies()
    web = connect(PacsServer(root, user="me", password=PASSWORD, ca_bundle=bundle))
    sent = folder / "sent.dcm"
    sent.write_bytes(ct_file("1.2.3", "1.2.3.1", 1))
    web.store([sent])
    assert [one.uid for one in web.studies()] == ["1.2.3"]
    assert web.fetch_study("1.2.3", folder / "fetched").image_count == 1
    (fetched,) = (folder / "fetched").iterdir()
    assert fetched.read_bytes() == sent.read_bytes()


def test_a_header_that_drips_is_left_within_tls_too(serve_tls, certificates, connect, tmp_path):
    pacs = serve_tls("good")
    pacs.add(ct_file("1.2.3", "1.2.3.1", 0))
    pacs.wado = "drip-head"
    bundle = str(certificates / "good.pem")
    started = time.monotonic()
    with pytest.raises(PacsUnavailableError):
        connect(PacsServer(pacs.url, token=TOKEN, ca_bundle=bundle, retries=0, answer_s=0.5)).fetch_study(
            "1.2.3", tmp_path
        )
    assert time.monotonic() - started < 5, "the whole would take longer"
