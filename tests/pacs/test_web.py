"""Searching, fetching and storing over DICOMweb, with a server that misbehaves."""

from __future__ import annotations

import base64

import pytest

from jcs_ct.errors import ConfigError, JCSError
from jcs_ct.pacs.multipart import decode_parts, encode_parts
from jcs_ct.pacs.web import DicomWeb, PacsDeniedError, PacsServer, PacsUnavailableError

from .conftest import ct_file


@pytest.fixture
def waits():
    return []


@pytest.fixture
def web(pacs, waits):
    client = DicomWeb(PacsServer(pacs.url, retries=2), sleep=waits.append)
    yield client
    client.close()


def test_parts_come_back_as_they_were_sent():
    files = [b"one\r\n--not the boundary\r\n", b"", b"\0" * 300]
    assert list(decode_parts(*encode_parts(files))) == files


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"x", "text/html", "answered with text/html, multipart/related is expected"),
        (b"x", "multipart/related; boundary=b", "does not hold the boundary"),
        (b"--b\r\nContent-Type: application/dicom\r\n\r\nhalf", "multipart/related; boundary=b", "is cut off"),
    ],
)
def test_answers_that_are_no_multipart(body, content_type, message):
    with pytest.raises(JCSError, match=message):
        list(decode_parts(body, content_type))


def test_a_study_is_fetched_as_it_came_under_names_from_hashes(web, pacs, fill, tmp_path):
    fill("1.2.3")
    pacs.add(ct_file("1.2.3", "1.2.3.9", 1, modality="SR"))
    assert web.ct_studies() == ["1.2.3"]
    assert web.fetch_study("1.2.3", tmp_path) == 4
    files = sorted(tmp_path.iterdir())
    assert {path.read_bytes() for path in files} == {pacs.instances[key] for key in pacs.of_modality("CT")}
    assert not [path for path in files if "1.2.3" in path.name]


def test_a_fetch_that_was_cut_short_goes_on_where_it_was(web, pacs, fill, tmp_path):
    fill("1.2.3")
    web.fetch_study("1.2.3", tmp_path)
    sorted(tmp_path.iterdir())[0].unlink()
    pacs.requests.clear()
    assert web.fetch_study("1.2.3", tmp_path) == 4
    assert len([line for line in pacs.requests if line.count("/") == 6]) == 1


def test_transient_errors_are_tried_again_with_growing_waits(web, pacs, fill, waits):
    fill("1.2.3")
    pacs.failures = 2
    assert web.ct_studies() == ["1.2.3"]
    assert waits == [1.0, 2.0]
    pacs.failures = 3
    with pytest.raises(PacsUnavailableError, match=r"cannot be reached \(HTTP 503\), tried 3 times"):
        web.ct_studies()


def test_a_server_that_is_not_there():
    client = DicomWeb(PacsServer("http://127.0.0.1:9", retries=1), sleep=lambda seconds: None)
    with pytest.raises(PacsUnavailableError, match=r"ConnectionError\), tried 2 times"):
        client.ct_studies()
    client.close()


def test_credentials_are_sent_and_a_refusal_is_not_retried(pacs, waits):
    pacs.authorization = "Bearer secret"
    with pytest.raises(
        PacsDeniedError, match=r"asks for credentials \(HTTP 401\); set JCS_PACS_TOKEN, or .*PACS_CREDENTIALS"
    ):
        DicomWeb(PacsServer(pacs.url), sleep=waits.append).ct_studies()
    assert waits == []
    assert DicomWeb(PacsServer(pacs.url, token="secret")).ct_studies() == []
    pacs.authorization = "Basic " + base64.b64encode(b"me:pass").decode()
    assert DicomWeb(PacsServer(pacs.url, user="me", password="pass")).ct_studies() == []


def test_secrets_stay_out_of_texts():
    assert "secret" not in repr(PacsServer("http://localhost", user="me", password="secret"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "pacs.example"}, "must be http"),
        ({"url": "http://me:pass@pacs.example"}, "without a user name"),
        ({"url": "http://pacs.example", "token": "x"}, "in the clear"),
        ({"url": "https://pacs.example", "token": "x", "user": "y"}, "not both"),
        ({"url": "https://pacs.example", "retries": -1}, "retries must be"),
    ],
)
def test_settings_that_cannot_be_used(arguments, message):
    with pytest.raises(ConfigError, match=message):
        PacsServer(**arguments)


def test_results_are_stored_and_storing_twice_changes_nothing(web, pacs, tmp_path):
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(ct_file("1.2.3", "1.2.3.7", number, modality="SR"))
    web.store(paths)
    web.store(paths)
    assert list(pacs.instances.values()) == [path.read_bytes() for path in paths]
    pacs.refuse_store = True
    with pytest.raises(JCSError, match="HTTP 409"):
        web.store(paths)


def test_identifiers_that_would_leave_the_address_are_refused(web, tmp_path):
    for uid in ("../admin", "1.2/../../x", "1..2", ""):
        with pytest.raises(ConfigError, match="letters that no UID has"):
            web.fetch_study(uid, tmp_path)
