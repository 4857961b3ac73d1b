"""A study full of identity leaves none of it in logs, reports or file names; and no network is needed to read it."""

from __future__ import annotations

import gzip
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.errors import StudyError

SECRETS = {
    "PatientName": "Zzyzxova^Qwertina",
    "PatientID": "MRN918273645",
    "PatientBirthDate": "19611213",
    "StudyDate": "20310405",
    "SeriesDate": "20310406",
    "AccessionNumber": "ACC5647382910",
    "ReferringPhysicianName": "Grubelnik^Horatia",
    "InstitutionName": "Hospital of Nowhere-at-Sea",
    "StudyID": "SID77123",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.11111111112222222222",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.33333333334444444444",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.55555555556666666666",
}
#: Searched for in lower case; names are searched for by their parts.
WORDS = sorted({part.lower() for value in SECRETS.values() for part in value.split("^")} | {"zzyzxova-folder"})
#: What DICOM results copy from their source, since a PACS files them by it (PS3.3 C.7.1.1, C.7.2.1, C.7.4.1).
#: The source's Series Instance UID stands in references to its images, in the SR's content as UID.
COPIED = (frozenset(SECRETS) | {"UID"}) - {"SeriesDate", "InstitutionName"}


class Listener(logging.Handler):
    """Keeps every log record as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {record.getMessage()} {record.exc_info or ''}")


def run(*arguments):
    """(result, everything it said): ``jcs --verbose`` in this process, with all loggers open."""
    listener, root = Listener(), logging.getLogger()
    before = root.level
    root.addHandler(listener)
    root.setLevel(logging.INFO)
    try:
        result = CliRunner().invoke(app, ["--verbose", *map(str, arguments)])
    finally:
        root.removeHandler(listener)
        root.setLevel(before)
    return result, "\n".join([*listener.lines, result.output, str(result.exception or "")])


@pytest.fixture(scope="module")
def named_study(phantom_study, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "Zzyzxova-folder"
    folder.mkdir()
    for number, path in enumerate(sorted(phantom_study.iterdir())):
        dataset = dcmread(path)
        for name, value in SECRETS.items():
            setattr(dataset, name, value)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / f"Zzyzxova_Qwertina_MRN918273645_{number}.dcm", enforce_file_format=True)
    return folder


@pytest.fixture(scope="module")
def read(named_study, random_models, tmp_path_factory):
    """(output folder, everything said) of a run with every output."""
    out = tmp_path_factory.mktemp("out")
    result, said = run("diagnose", named_study, "-o", out, "--models", random_models, "--dicom")
    assert result.exit_code == 0, said
    return out, said


def found_in(text: str) -> list[str]:
    lowered = text.lower()
    return [word for word in WORDS if word in lowered]


def test_the_search_finds_what_is_there(named_study):
    assert len(found_in(next(named_study.iterdir()).read_bytes().decode("latin-1"))) >= len(SECRETS)
    assert "zzyzxova" in found_in(str(named_study))


def test_logs_and_messages_hold_no_identity(read):
    _, said = read
    assert "jcs_ct.imaging.series read 10 DICOM files" in said, "the log was on"
    assert "research use only" in said.lower()
    assert found_in(said) == []


def test_names_of_outputs_hold_no_identity(read):
    out, _ = read
    names = [path.relative_to(out).as_posix() for path in out.rglob("*")]
    assert len(names) > 8
    assert found_in("\n".join(names)) == []


def test_outputs_that_are_no_dicom_hold_no_identity(read):
    out, _ = read
    for path in out.rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            assert found_in(content.decode("latin-1")) == [], path.name


def leaks(dataset: Dataset) -> Iterator[str]:
    """Keywords of the elements that hold identity and are not among those copied on purpose."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from leaks(item)
        elif element.keyword not in COPIED:
            value = element.value
            if found_in(value.decode("latin-1") if isinstance(value, bytes) else str(value)):
                yield element.keyword


def test_dicom_results_hold_identity_only_where_the_standard_puts_it(read):
    out, _ = read
    for path in out.rglob("*.dcm"):
        dataset = dcmread(path)
        assert str(dataset.PatientName) == SECRETS["PatientName"]
        assert dataset.SeriesInstanceUID != SECRETS["SeriesInstanceUID"]
        assert "InstitutionName" not in dataset
        assert list(leaks(dataset)) == [], path.name


def test_a_refusal_holds_no_identity(named_study, random_models, tmp_path):
    broken = tmp_path / "Zzyzxova-folder"
    broken.mkdir()
    for number, path in enumerate(sorted(named_study.iterdir())):
        if number != 4:
            (broken / path.name).write_bytes(path.read_bytes()[: -100 if number == 7 else None])
    result, said = run("diagnose", broken, "-o", tmp_path / "out", "--models", random_models)
    assert isinstance(result.exception, StudyError)
    assert "(TRUNCATED)" in said
    assert found_in(said) == []


def test_a_file_that_is_no_image_is_not_named(tmp_path):
    path = tmp_path / "Zzyzxova-folder"
    path.write_text("no image")
    result, said = run("info", path)
    assert isinstance(result.exception, StudyError)
    assert found_in(said) == []


BLOCKED = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise RuntimeError("the network is blocked: " + event)

sys.addaudithook(refuse)
"""


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """This process and every Python process it starts fail at their first use of the network."""

    def refuse(*arguments, **options):
        raise RuntimeError("the network is blocked")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)
    control = "import socket; socket.create_connection(('127.0.0.1', 9))"
    tried = subprocess.run([sys.executable, "-P", "-c", control], capture_output=True, check=False)
    assert b"the network is blocked" in tried.stderr
    with pytest.raises(RuntimeError, match="the network is blocked"):
        socket.create_connection(("127.0.0.1", 9))


@pytest.mark.usefixtures("offline")
def test_diagnosis_needs_no_network(named_study, random_models, read, tmp_path):
    out, _ = read
    result, said = run("diagnose", named_study, "-o", tmp_path / "out", "--models", random_models)
    assert result.exit_code == 0, said
    assert (tmp_path / "out" / "report.json").read_bytes() == (out / "report.json").read_bytes()
