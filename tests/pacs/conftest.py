"""A DICOMweb server of a hundred lines in this process, and a reading that costs nothing."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread

from jcs_ct.pacs.multipart import decode_parts, encode_parts


@dataclass
class FakePacs:
    """What the server holds and how it misbehaves.

    Args:
        instances: (study, series, instance) -> file, in order of arrival; the first of an identifier is kept.
        modality: Of each series.
        failures: So many requests are answered with 503 first.
        requests: Method and path of every request.
        authorization: Needed in the Authorization header, when given.
        redirect: Where every request is pointed to, when given.
        garbled: Whether answers are no JSON.
    """

    url: str = ""
    instances: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    modality: dict[str, str] = field(default_factory=dict)
    failures: int = 0
    refuse_store: bool = False
    authorization: str = ""
    redirect: str = ""
    garbled: bool = False
    requests: list[str] = field(default_factory=list)

    def add(self, content: bytes) -> None:
        """Take a DICOM file."""
        dataset = dcmread(BytesIO(content), stop_before_pixels=True)
        key = (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))
        self.instances.setdefault(key, content)
        self.modality[key[1]] = str(dataset.Modality)

    def of_modality(self, modality: str) -> list[tuple[str, str, str]]:
        """Keys of the instances of one modality."""
        return [key for key in self.instances if self.modality[key[1]] == modality]


class Handler(BaseHTTPRequestHandler):
    pacs: FakePacs
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""

    def _answer(self, status: int, body: bytes = b"", content_type: str = "application/dicom+json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _is_refused(self) -> bool:
        self.pacs.requests.append(f"{self.command} {self.path.partition('?')[0]}")
        if self.pacs.failures > 0:
            self.pacs.failures -= 1
            self._answer(503)
            return True
        if self.pacs.authorization and self.headers.get("Authorization") != self.pacs.authorization:
            self._answer(401)
            return True
        if self.pacs.redirect:
            self.send_response(302)
            self.send_header("Location", self.pacs.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True
        if self.pacs.garbled:
            self._answer(200, b"<html>")
            return True
        return False

    def do_GET(self) -> None:
        if self._is_refused():
            return
        path = self.path.partition("?")[0]
        keys = self.pacs.of_modality("CT")
        if path == "/studies":
            found = [{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in dict.fromkeys(key[0] for key in keys)]
        elif match := re.fullmatch(r"/studies/([^/]+)/series", path):
            series = [key[1] for key in keys if key[0] == match.group(1)]
            found = [
                {
                    "0020000E": {"Value": [uid]},
                    "00080060": {"Value": ["CT"]},
                    "00201209": {"Value": [series.count(uid)]},
                }
                for uid in dict.fromkeys(series)
            ]
        elif match := re.fullmatch(r"/studies/([^/]+)/series/([^/]+)/instances", path):
            found = [{"00080018": {"Value": [key[2]]}} for key in keys if key[:2] == match.groups()]
        elif match := re.fullmatch(r"/studies/([^/]+)/series/([^/]+)/instances/([^/]+)", path):
            self._answer(200, *encode_parts([self.pacs.instances[match.groups()]]))  # type: ignore[index]
            return
        else:
            self._answer(404)
            return
        self._answer(200 if found else 204, json.dumps(found).encode() if found else b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._is_refused():
            return
        if self.pacs.refuse_store:
            self._answer(409, json.dumps({"00081198": {"vr": "SQ", "Value": [{}]}}).encode())
            return
        for part in decode_parts(body, self.headers["Content-Type"]):
            self.pacs.add(part)
        self._answer(200, b"{}")


@pytest.fixture
def pacs() -> Iterator[FakePacs]:
    held = FakePacs()
    handler = type("Handler", (Handler,), {"pacs": held})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield held
    server.shutdown()
    server.server_close()
    thread.join()


def ct_file(study: str, series: str, number: int, modality: str = "CT") -> bytes:
    """A DICOM file that is small and whole."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.Modality, dataset.InstanceNumber = modality, number
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture
def fill(pacs):
    """``fill("1.2", images=4)`` puts a CT study into the PACS."""

    def put(study: str, images: int = 4) -> None:
        for number in range(1, images + 1):
            pacs.add(ct_file(study, f"{study}.1", number))

    return put
