"""A DICOMweb server of two hundred lines in this process that behaves, on demand, as real ones do."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlparse

from pydicom import dcmread

from jcs_ct.pacs.multipart import decode_parts, encode_parts

Key = tuple[str, str, str]


@dataclass
class FakePacs:
    """What the server holds and how it behaves.

    Args:
        instances: (study, series, instance) -> file, in order of arrival; the first of an identifier is kept.
        modality, sop_class, date, description, patient: Of series, instances and studies.
        failures: So many requests are answered with ``failure`` first.
        retry_after: Header of these answers, when given.
        authorization: Needed in the Authorization header, when given.
        redirect: Where every request is pointed to, when given.
        garbled: What every answer is, when given.
        page_limit: Results that it gives at a time, whatever is asked for.
        says_more: Whether it announces those left out (Warning 299).
        ignores_offset, ignores_filters, refuses_limit: What it makes of the parameters of a search.
        offset_within_limit: Whether it counts the offset within the limit, as Orthanc 1.10.1 does when it filters.
        most_limit: The largest limit that it does not refuse (400).
        counts: ``true``, ``none`` (states none), or a number added to the true one.
        states_modality: Whether a search of series returns the modality.
        xml: Whether it answers searches in XML.
        wado: ``quoted``, ``unquoted``, ``upper``, ``preamble``, ``bare``, ``lf``, ``length``, ``cut``, ``short``,
            ``html``, ``drip`` (a byte every 50 ms), ``drip-head`` (the same of the header) or ``picky`` (406 for any
            transfer syntax).
        stow: ``ok``, ``duplicate``, ``45070`` (Azure's word for it), ``409``, ``empty``, ``warned``, ``failed``,
            ``failed-200``, ``list-failed``, ``xml``, ``html``, ``null``, ``413`` (for more than one part),
            ``too-large`` (for any), ``partial`` (names one of them only) or ``400``.
        holds_search: Whether it searches instances over all studies.
        on_request: Called with each request's method and path before it is answered.
        requests: Method and path of every request.
    """

    url: str = ""
    instances: dict[Key, bytes] = field(default_factory=dict)
    modality: dict[str, str] = field(default_factory=dict)
    sop_class: dict[str, str] = field(default_factory=dict)
    date: dict[str, str] = field(default_factory=dict)
    description: dict[str, str] = field(default_factory=dict)
    patient: dict[str, str] = field(default_factory=dict)
    body_part: dict[str, str] = field(default_factory=dict)
    failures: int = 0
    failure: int = 503
    retry_after: str = ""
    authorization: str = ""
    redirect: str = ""
    garbled: bytes = b""
    page_limit: int = 1000
    says_more: bool = True
    ignores_offset: bool = False
    offset_within_limit: bool = False
    ignores_filters: bool = False
    refuses_limit: bool = False
    most_limit: int = 1 << 30
    counts: str = "true"
    states_modality: bool = True
    xml: bool = False
    wado: str = "quoted"
    stow: str = "ok"
    holds_search: bool = True
    on_request: Any = None
    requests: list[str] = field(default_factory=list)

    def add(self, content: bytes) -> None:
        """Take a DICOM file."""
        dataset = dcmread(BytesIO(content), stop_before_pixels=True)
        key = (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))
        self.instances.setdefault(key, content)
        self.modality[key[1]] = str(dataset.Modality)
        self.sop_class[key[2]] = str(dataset.SOPClassUID)

    def remove(self, study: str) -> None:
        """Delete a study."""
        self.instances = {key: content for key, content in self.instances.items() if key[0] != study}

    def of_modality(self, modality: str) -> list[Key]:
        """Keys of the instances of one modality."""
        return [key for key in self.instances if self.modality[key[1]] == modality]


def _attribute(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


class Handler(BaseHTTPRequestHandler):
    pacs: FakePacs
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body, sent apart from its headers, would wait 40 ms to be acknowledged

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""

    def _answer(self, status: int, body: bytes = b"", kind: str = "application/dicom+json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _is_refused(self) -> bool:
        pacs, path = self.pacs, self.path.partition("?")[0]
        pacs.requests.append(f"{self.command} {path}")
        if pacs.on_request is not None:
            pacs.on_request(self.command, path)
        if pacs.failures > 0:
            pacs.failures -= 1
            self._answer(pacs.failure, **({"Retry_After": pacs.retry_after} if pacs.retry_after else {}))
        elif pacs.authorization and self.headers.get("Authorization") != pacs.authorization:
            self._answer(401)
        elif pacs.redirect:
            self._answer(302, Location=pacs.redirect)
        elif pacs.garbled:
            self._answer(200, pacs.garbled)
        else:
            return False
        return True

    def do_GET(self) -> None:
        if self._is_refused():
            return
        url = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if match := re.fullmatch(r"/studies/([^/]+)/series/([^/]+)/instances/([^/]+)", url.path):
            content = self.pacs.instances.get(match.groups())  # type: ignore[call-overload]
            self._answer(404) if content is None else self._file(content)
            return
        items = self._items(url.path, query)
        if items is None:
            self._answer(404)
        elif (self.pacs.refuses_limit and "limit" in query) or int(query.get("limit", "0")) > self.pacs.most_limit:
            self._answer(400)
        else:
            self._page(items, query)

    def _items(self, path: str, query: dict[str, str]) -> list[dict[str, Any]] | None:
        pacs = self.pacs
        wanted = {} if pacs.ignores_filters else query
        keys = list(pacs.instances)
        if path == "/studies":
            holding_ct = {key[0] for key in pacs.of_modality("CT")} if "ModalitiesInStudy" in wanted else None
            studies = [
                uid for uid in dict.fromkeys(key[0] for key in keys) if holding_ct is None or uid in holding_ct
            ]
            since = wanted.get("StudyDate", "").rstrip("-")
            studies = [uid for uid in studies if pacs.date.get(uid, "99999999") >= since]
            studies = [uid for uid in studies if wanted.get("StudyInstanceUID", uid) == uid]
            return [self._study(uid, sum(key[0] == uid for key in keys)) for uid in studies]
        if path == "/instances":
            if not pacs.holds_search:
                return None
            return [self._instance(key) for key in keys if wanted.get("SOPInstanceUID", key[2]) == key[2]]
        if match := re.fullmatch(r"/studies/([^/]+)/series", path):
            series = [key[1] for key in keys if key[0] == match.group(1)]
            return [self._series(match.group(1), uid, series.count(uid)) for uid in dict.fromkeys(series)]
        if match := re.fullmatch(r"/studies/([^/]+)/series/([^/]+)/instances", path):
            return [self._instance(key) for key in keys if key[:2] == match.groups()]
        return None

    def _count(self, tag: str, number: int) -> dict[str, Any]:
        if self.pacs.counts == "none":
            return {}
        return {tag: _attribute("IS", number if self.pacs.counts == "true" else number + int(self.pacs.counts))}

    def _study(self, uid: str, number: int) -> dict[str, Any]:
        pacs = self.pacs
        found = {"0020000D": _attribute("UI", uid), **self._count("00201208", number)}
        for tag, vr, held in (("00080020", "DA", pacs.date), ("00081030", "LO", pacs.description)):
            if uid in held:
                found[tag] = _attribute(vr, held[uid])
        if uid in pacs.patient:
            found["00100020"] = _attribute("LO", pacs.patient[uid])
        return found

    def _series(self, study: str, uid: str, number: int) -> dict[str, Any]:
        found = {"0020000D": _attribute("UI", study), "0020000E": _attribute("UI", uid)}
        if self.pacs.states_modality:
            found["00080060"] = _attribute("CS", self.pacs.modality[uid])
        if uid in self.pacs.body_part:
            found["00180015"] = _attribute("CS", self.pacs.body_part[uid])
        if uid in self.pacs.description:
            found["0008103E"] = _attribute("LO", self.pacs.description[uid])
        return found | self._count("00201209", number)

    def _instance(self, key: Key) -> dict[str, Any]:
        return {
            "0020000E": _attribute("UI", key[1]),
            "00080018": _attribute("UI", key[2]),
            "00080016": _attribute("UI", self.pacs.sop_class[key[2]]),
        }

    def _page(self, items: list[dict[str, Any]], query: dict[str, str]) -> None:
        offset = 0 if self.pacs.ignores_offset else int(query.get("offset", "0"))
        limit = min(int(query.get("limit", "1000000")), self.pacs.page_limit)
        if self.pacs.offset_within_limit:
            limit = max(0, limit - offset)
        shown, left = items[offset : offset + limit], len(items) - offset - limit
        headers = {}
        if left > 0 and self.pacs.says_more:
            headers["Warning"] = f'299 here "There are {left} additional results that can be requested"'
        if not shown:
            self._answer(204)
        elif self.pacs.xml:
            parts = [xml_of(item) for item in shown]
            body, kind = encode_parts(parts)
            self._answer(200, body, kind.replace("application/dicom", "application/dicom+xml"), **headers)
        else:
            self._answer(200, json.dumps(shown).encode(), **headers)

    def _file(self, content: bytes) -> None:
        way = self.pacs.wado
        if way == "picky" and "transfer-syntax" in self.headers["Accept"]:
            self._answer(406)
        elif way == "bare":
            self._answer(200, content, "application/dicom")
        elif way == "html":
            self._answer(200, b"<html>log in</html>", "application/dicom")
        elif way == "cut":
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif way == "drip":
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self._drip(content)
        elif way == "drip-head":
            self._drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000)
        else:
            self._answer(200, *part_of(content, way))

    def _drip(self, content: bytes) -> None:
        self.close_connection = True
        for place in range(len(content)):
            try:
                self.wfile.write(content[place : place + 1])
            except OSError:
                return  # the client had enough
            time.sleep(0.05)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._is_refused():
            return
        parts = list(decode_parts(body, self.headers["Content-Type"]))
        way = self.pacs.stow
        held = {key[2] for key in self.pacs.instances}
        uids = [str(dcmread(BytesIO(part), stop_before_pixels=True).SOPInstanceUID) for part in parts]
        if way == "too-large" or (way == "413" and len(parts) > 1):
            self._answer(413, b"too large", "text/plain")
            return
        if way not in ("failed", "failed-200", "list-failed", "409", "400", "html"):
            for part in parts:
                self.pacs.add(part)
        self._answer(*receipt(way, uids, held))


def receipt(way: str, uids: list[str], held: set[str]) -> tuple[int, bytes, str]:
    """How a server says what became of objects, in one of many ways."""
    kind = "application/dicom+json"
    stored = [{"00081155": _attribute("UI", uid)} for uid in uids]

    def failed(reason: int, of: list[str]) -> dict[str, Any]:
        return _attribute(
            "SQ", *({"00081155": _attribute("UI", uid), "00081197": _attribute("US", reason)} for uid in of)
        )

    if way in ("duplicate", "45070"):
        again = [uid for uid in uids if uid in held]
        new = [one for one, uid in zip(stored, uids, strict=True) if uid not in held]
        said = {"00081198": failed(0x0111 if way == "duplicate" else 45070, again)} if again else {}
        said |= {"00081199": _attribute("SQ", *new)} if new else {}
        return (200 if not again else 202 if new else 409), json.dumps(said).encode(), kind
    if way == "warned":
        warned = [{**one, "00081196": _attribute("US", 0xB000)} for one in stored]
        return 202, json.dumps({"00081199": _attribute("SQ", *warned)}).encode(), kind
    if way == "partial":
        return 200, json.dumps({"00081199": _attribute("SQ", stored[0])}).encode(), kind
    if way in ("failed", "failed-200", "list-failed"):
        said = {"00081198": failed(0x0110, uids)}
        return (
            (200 if way == "failed-200" else 202),
            json.dumps([said] if way == "list-failed" else said).encode(),
            kind,
        )
    answers: dict[str, tuple[int, bytes, str]] = {
        "ok": (200, json.dumps({"00081199": _attribute("SQ", *stored)}).encode(), kind),
        "413": (200, json.dumps([{"00081199": _attribute("SQ", *stored)}]).encode(), kind),
        "409": (409, b"", kind),
        "400": (400, b"bad request", "text/plain"),
        "empty": (200, b"", kind),
        "xml": (200, b'<?xml version="1.0"?><NativeDicomModel/>', "application/dicom+xml"),
        "html": (200, b"<html>log in</html>", "text/html"),
        "null": (200, json.dumps({"00081198": {"vr": "SQ"}, "00081199": _attribute("SQ", *stored)}).encode(), kind),
    }
    return answers[way]


def part_of(content: bytes, way: str) -> tuple[bytes, str]:
    """One file as the body of an answer, and its Content-Type."""
    kinds = {
        "unquoted": "multipart/related;type=application/dicom;boundary=b0undary",
        "upper": 'Multipart/Related; Boundary="b0undary"; type="application/dicom"',
    }
    line = b"\n" if way == "lf" else b"\r\n"
    length = len(content) + (way == "short")
    head = b"Content-Type: application/dicom" + line
    if way in ("length", "short"):
        head += b"Content-Length: %d" % length + line
    preamble = b"text before, with --b0undary in it" + line if way == "preamble" else b""
    body = preamble + b"--b0undary" + line + head + line + content + line + b"--b0undary--"
    return body, kinds.get(way, 'multipart/related; type="application/dicom"; boundary="b0undary"')


def xml_of(item: dict[str, Any]) -> bytes:
    """A data set as native DICOM XML (PS3.19 A)."""
    attributes = "".join(
        f'<DicomAttribute tag="{tag}" vr="{held["vr"]}">'
        + "".join(f'<Value number="{n}">{value}</Value>' for n, value in enumerate(held["Value"], start=1))
        + "</DicomAttribute>"
        for tag, held in item.items()
    )
    model = '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
    return f'<?xml version="1.0"?>{model}{attributes}</NativeDicomModel>'.encode()


def ct_file(study: str, series: str, number: int, modality: str = "CT", patient: str = "") -> bytes:
    """A DICOM file that is small and whole."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import BasicTextSRStorage, CTImageStorage, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    kind = CTImageStorage if modality == "CT" else BasicTextSRStorage
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.Modality, dataset.InstanceNumber, dataset.PatientID = modality, number, patient
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
