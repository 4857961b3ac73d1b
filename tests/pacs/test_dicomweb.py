"""Searching, fetching and storing over DICOMweb, with a server that misbehaves."""

from __future__ import annotations

import base64
import time
import tracemalloc

import pytest
from pydicom import config as pydicom_config

from jcs_ct.errors import ConfigError, JCSError
from jcs_ct.pacs.dicomweb import DicomWeb
from jcs_ct.pacs.multipart import decode_parts, encode_parts
from jcs_ct.pacs.remote import StudyQuery
from jcs_ct.pacs.server import (
    PacsAnswerError,
    PacsDeniedError,
    PacsGoneError,
    PacsIncompleteError,
    PacsRefusedError,
    PacsServer,
    PacsUnavailableError,
)

from .fake_pacs import ct_file


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
        (
            b"--b\r\n\r\n\r\nhalf\r\n--b--\r\nhalf",
            "multipart/related; boundary=b",
            "goes on after its closing boundary",
        ),
    ],
)
def test_answers_that_are_no_multipart(body, content_type, message):
    with pytest.raises(JCSError, match=message):
        list(decode_parts(body, content_type))


def test_a_study_is_fetched_as_it_came_under_names_from_hashes(web, pacs, fill, tmp_path):
    fill("1.2.3")
    pacs.add(ct_file("1.2.3", "1.2.3.9", 1, modality="SR"))
    assert [one.uid for one in web.studies()] == ["1.2.3"]
    told = []
    assert web.fetch_study("1.2.3", tmp_path, advance=lambda *counts: told.append(counts)).image_count == 4
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    files = sorted(tmp_path.iterdir())
    assert {path.read_bytes() for path in files} == {pacs.instances[key] for key in pacs.of_modality("CT")}
    assert not [path for path in files if "1.2.3" in path.name]


def test_a_fetch_that_was_cut_short_goes_on_where_it_was(web, pacs, fill, tmp_path):
    fill("1.2.3")
    web.fetch_study("1.2.3", tmp_path)
    sorted(tmp_path.iterdir())[0].unlink()
    pacs.requests.clear()
    assert web.fetch_study("1.2.3", tmp_path).image_count == 4
    assert len([line for line in pacs.requests if line.count("/") == 6]) == 1


def test_a_folder_with_files_of_others_is_refused_and_left_as_it_is(web, pacs, fill, tmp_path):
    for study in ("1.2.3", "1.2.4"):
        fill(study, images=2)
    web.fetch_study("1.2.3", tmp_path / "first")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.dcm").write_bytes(ct_file("1.2.4", "1.2.4.1", 1))
    for folder, count in (("first", 2), ("own", 1)):
        before = sorted((tmp_path / folder).iterdir())
        with pytest.raises(ConfigError, match=f"holds {count} DICOM files that were not fetched from this study"):
            web.fetch_study("1.2.4", tmp_path / folder)
        assert sorted((tmp_path / folder).iterdir()) == before


def test_transient_errors_are_tried_again_with_growing_waits(web, pacs, fill, waits):
    fill("1.2.3")
    pacs.failures = 2
    assert [one.uid for one in web.studies()] == ["1.2.3"]
    assert waits == [1.0, 2.0]
    pacs.failures = 3
    with pytest.raises(
        PacsUnavailableError, match=r"cannot be reached \(HTTP 503\), tried 3 times.*PACS_UNAVAILABLE"
    ):
        web.studies()


def test_a_server_that_is_not_there():
    client = DicomWeb(PacsServer("http://127.0.0.1:9", retries=1), sleep=lambda seconds: None)
    with pytest.raises(PacsUnavailableError, match=r"ConnectionError\), tried 2 times"):
        client.studies()
    client.close()


def test_credentials_are_sent_and_a_refusal_is_not_retried(pacs, waits):
    pacs.authorization = "Bearer secret"
    with pytest.raises(
        PacsDeniedError, match=r"asks for credentials \(HTTP 401\); set JCS_PACS_TOKEN, or .*PACS_CREDENTIALS"
    ):
        DicomWeb(PacsServer(pacs.url), sleep=waits.append).studies()
    assert waits == []
    assert DicomWeb(PacsServer(pacs.url, token="secret")).studies() == []
    pacs.authorization = "Basic " + base64.b64encode(b"me:pass").decode()
    assert DicomWeb(PacsServer(pacs.url, user="me", password="pass")).studies() == []


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


@pytest.fixture
def results(tmp_path):
    """Three files of results, not yet stored."""
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(ct_file("1.2.3", "1.2.3.7", number, modality="SR"))
    return paths


@pytest.mark.parametrize("way", ["ok", "duplicate", "45070", "empty", "warned", "xml", "null", "413", "partial"])
def test_every_way_of_saying_stored(web, pacs, results, way):
    pacs.stow = way
    told = []
    assert web.store(results, advance=lambda *counts: told.append(counts)).stored == 3
    assert told == [(3, 3)]
    assert len(pacs.of_modality("SR")) == 3
    again = web.store(results)
    assert again.stored == 3
    assert again.present == (3 if way in ("duplicate", "45070") else 0)


def test_a_conflict_without_a_word_is_success_only_where_the_server_holds_the_objects(web, pacs, results):
    pacs.stow = "409"
    with pytest.raises(PacsRefusedError, match=r"did not store 3 of 3 results \(3 x no reason given\).*PACS_REFUSED"):
        web.store(results)
    for path in results:
        pacs.add(path.read_bytes())
    assert web.store(results).present == 3
    pacs.holds_search = False
    with pytest.raises(PacsRefusedError, match="did not store 3 of 3"):
        web.store(results)


@pytest.mark.parametrize(
    ("way", "error", "message"),
    [
        ("failed", PacsRefusedError, r"3 of 3 results \(3 x reason 0110H\)"),
        ("failed-200", PacsRefusedError, r"3 of 3 results \(3 x reason 0110H\)"),
        ("too-large", PacsRefusedError, r"no request as large as that of 1 results \(HTTP 413\)"),
        ("list-failed", PacsRefusedError, r"3 of 3 results \(3 x reason 0110H\)"),
        ("400", PacsRefusedError, "3 of 3 results"),
        ("html", PacsAnswerError, "is XML but no DICOM"),
    ],
)
def test_every_way_of_saying_not_stored(web, pacs, results, way, error, message):
    pacs.stow = way
    with pytest.raises(error, match=message):
        web.store(results)
    assert pacs.of_modality("SR") == []


@pytest.mark.parametrize("says_more", [True, False])
@pytest.mark.parametrize("xml", [True, False])
def test_all_pages_are_read_whether_announced_or_not(web, pacs, fill, tmp_path, says_more, xml):
    pacs.page_limit, pacs.says_more, pacs.xml = 3, says_more, xml
    for number in range(10):
        fill(f"1.2.{number}", images=1)
    fill("1.2.99", images=8)
    assert [one.uid for one in web.studies()] == [*(f"1.2.{number}" for number in range(10)), "1.2.99"]
    assert web.fetch_study("1.2.99", tmp_path).image_count == 8
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize("way", ["offset_within_limit", "ignores_offset"])
@pytest.mark.parametrize(("studies", "most_requests"), [(99, 2), (100, 3), (235, 5), (300, 5)])
def test_full_pages_that_end_are_no_proof_of_the_end(web, pacs, fill, way, studies, most_requests):
    setattr(pacs, way, True)
    pacs.says_more = False
    for number in range(studies):
        fill(f"1.2.{number}", images=1)
    pacs.requests.clear()
    assert len(web.studies()) == studies
    assert len(pacs.requests) <= most_requests


def test_a_server_that_refuses_larger_limits_keeps_what_it_gave(web, pacs, fill):
    pacs.most_limit = 200
    for number in range(200):
        fill(f"1.2.{number}", images=1)
    assert len(web.studies()) == 200


def test_a_server_that_has_more_and_does_not_give_it(web, pacs, fill, tmp_path):
    pacs.page_limit, pacs.ignores_offset = 3, True
    fill("1.2.3", images=8)
    with pytest.raises(PacsIncompleteError, match=r"says that there are more than the 3 results.*PACS_INCOMPLETE"):
        web.fetch_study("1.2.3", tmp_path)
    pacs.says_more = False
    with pytest.raises(PacsIncompleteError, match="counts 8 images in a CT series and lists 3"):
        web.fetch_study("1.2.3", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("counts", ["+2", "-2"])
def test_a_count_that_differs_from_the_list_is_not_whole(web, pacs, fill, tmp_path, counts):
    fill("1.2.3", images=8)
    pacs.counts = counts
    with pytest.raises(PacsIncompleteError, match=r"counts (6|10) images in a CT series and lists 8"):
        web.fetch_study("1.2.3", tmp_path)


def test_series_missing_from_the_list_are_seen_by_the_studys_count(web, pacs, fill, tmp_path):
    fill("1.2.3", images=1)
    pacs.add(ct_file("1.2.3", "1.2.3.9", 1, modality="SR"))
    pacs.page_limit, pacs.says_more, pacs.ignores_offset = 1, False, True
    with pytest.raises(PacsIncompleteError, match="counts 2 objects in the study and 1 in the 1 series"):
        web.listing(web.study("1.2.3"))


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": "none"},
        {"states_modality": False},
        {"refuses_limit": True},
        {"ignores_filters": True},
        {"page_limit": 3, "counts": "none", "says_more": False},
    ],
)
def test_servers_that_say_less_than_they_should(web, pacs, fill, tmp_path, changes):
    for name, value in changes.items():
        setattr(pacs, name, value)
    fill("1.2.4", images=1)
    fill("1.2.3", images=7)
    pacs.add(ct_file("1.2.3", "1.2.3.9", 1, modality="SR"))
    assert web.fetch_study("1.2.3", tmp_path).image_count == 7
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {
        content for key, content in pacs.instances.items() if key[1] == "1.2.3.1"
    }


@pytest.mark.parametrize("arriving", [True, False])
def test_a_study_that_changes_while_it_is_fetched_is_not_whole(web, pacs, fill, tmp_path, arriving):
    fill("1.2.3", images=4)

    def change(method, path):
        if path.endswith("instances/1.2.3.1.3"):
            pacs.on_request = None
            if arriving:
                fill("1.2.3", images=5)
            else:
                del pacs.instances["1.2.3", "1.2.3.1", "1.2.3.1.1"]

    pacs.on_request = change
    with pytest.raises(PacsIncompleteError, match="the study changed while it was fetched"):
        web.fetch_study("1.2.3", tmp_path)
    assert web.fetch_study("1.2.3", tmp_path).image_count == (5 if arriving else 3)
    assert len(list(tmp_path.iterdir())) == (5 if arriving else 3), "what the study lost is removed"


def test_a_study_that_is_gone(web, pacs, fill, tmp_path):
    with pytest.raises(PacsGoneError, match=r"HTTP 404|lists no series"):
        web.fetch_study("1.2.3", tmp_path)


@pytest.mark.parametrize("wado", ["quoted", "unquoted", "upper", "preamble", "bare", "lf", "length", "picky"])
def test_every_way_of_sending_a_file(web, pacs, fill, tmp_path, wado):
    pacs.wado = wado
    fill("1.2.3", images=2)
    web.fetch_study("1.2.3", tmp_path)
    assert {path.read_bytes() for path in tmp_path.iterdir()} == set(pacs.instances.values())


@pytest.mark.parametrize(
    ("wado", "error", "message"),
    [
        ("cut", PacsUnavailableError, "ProtocolError"),
        ("short", PacsAnswerError, "a part of the PACS's answer has .* bytes and states"),
        ("html", PacsAnswerError, "something else than a DICOM file"),
    ],
)
def test_files_that_arrive_damaged(web, pacs, fill, tmp_path, wado, error, message):
    pacs.wado = wado
    fill("1.2.3", images=2)
    with pytest.raises(error, match=message):
        web.fetch_study("1.2.3", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("study", "number", "patient"), [("1.2.4", 2, "ONE"), ("1.2.3", 3, "ONE"), ("1.2.3", 2, "TWO")]
)
def test_images_that_are_others_than_the_server_lists_are_not_believed(web, pacs, tmp_path, study, number, patient):
    for one in (1, 2):
        pacs.add(ct_file("1.2.3", "1.2.3.1", one, patient="ONE"))
    pacs.patient["1.2.3"] = "ONE"
    right = pacs.instances["1.2.3", "1.2.3.1", "1.2.3.1.2"]
    pacs.instances["1.2.3", "1.2.3.1", "1.2.3.1.2"] = ct_file(study, "1.2.3.1", number, patient=patient)
    with pytest.raises(PacsAnswerError, match="1 of 2 images that the PACS sent state another study, patient or SOP"):
        web.fetch_study("1.2.3", tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    pacs.instances["1.2.3", "1.2.3.1", "1.2.3.1.2"] = right
    assert web.fetch_study("1.2.3", tmp_path).image_count == 2


@pytest.mark.parametrize("patient", ["", "患者 1", "A\\B"])
def test_images_that_state_the_listed_patient_or_none_are_believed(web, pacs, tmp_path, patient):
    pacs.add(ct_file("1.2.3", "1.2.3.1", 1, patient=patient))
    pacs.patient["1.2.3"] = patient.partition("\\")[0] or "ONE"
    assert web.fetch_study("1.2.3", tmp_path).image_count == 1


def test_identifiers_that_are_not_valid_are_fetched_and_not_told(web, pacs, tmp_path, caplog):
    with pydicom_config.disable_value_validation():
        pacs.add(ct_file("1.2.03", "1.2.03.1", 1))
        assert web.fetch_study("1.2.03", tmp_path / "own rules").image_count == 1
    assert web.fetch_study("1.2.03", tmp_path / "pydicom's").image_count == 1
    assert "1.2.03" not in caplog.text


def test_a_server_that_asks_to_wait_is_waited_for_within_reason(web, pacs, waits):
    pacs.failures, pacs.failure, pacs.retry_after = 1, 429, "7"
    web.studies()
    pacs.failures, pacs.retry_after = 1, "864000"
    web.studies()
    pacs.failures, pacs.retry_after = 1, "tomorrow"
    web.studies()
    pacs.failures, pacs.retry_after = 1, "Wed, 21 Oct 2015 07:28:00 GMT"
    web.studies()
    assert waits == [7, 300, 1.0, 1.0]


def test_the_longest_wait_bounds_the_growing_ones_too(pacs, waits):
    pacs.failures = 4
    client = DicomWeb(PacsServer(pacs.url, backoff_s=2, longest_wait_s=5), sleep=waits.append)
    assert client.studies() == []
    assert waits == [2, 4, 5, 5]
    client.close()


@pytest.mark.parametrize("wado", ["cut", "quoted"])
def test_what_is_tried_again_is_not_told_with_its_address(web, pacs, fill, tmp_path, caplog, wado, waits):
    fill("1.2.3", images=1)
    pacs.wado = wado
    if wado == "quoted":
        pacs.failures, pacs.failure = 3, 500
    with caplog.at_level("INFO"), pytest.raises(PacsUnavailableError) as caught:
        web.fetch_study("1.2.3", tmp_path)
    assert waits == [1.0, 2.0]
    assert "1.2.3" not in caplog.text + str(caught.value)


def test_an_answer_without_end_is_left(pacs, fill, monkeypatch):
    fill("1.2.3")
    monkeypatch.setattr("jcs_ct.pacs.dicomweb._SEARCH_BYTES", 10)
    client = DicomWeb(PacsServer(pacs.url, retries=0))
    with pytest.raises(PacsAnswerError, match="larger than 0 MiB"):
        client.studies()
    client.close()


@pytest.mark.parametrize(("part", "reason"), [("drip", "Timeout"), ("drip-head", "ConnectionError")])
def test_an_answer_that_drips_is_left_when_its_time_is_over(pacs, fill, tmp_path, part, reason):
    fill("1.2.3", images=1)
    pacs.wado = part
    client = DicomWeb(PacsServer(pacs.url, retries=0, answer_s=0.5, timeout_s=30.0))
    started = time.monotonic()
    with pytest.raises(PacsUnavailableError, match=reason):
        client.fetch_study("1.2.3", tmp_path)
    assert time.monotonic() - started < 5, "the whole would take longer"
    client.close()


_BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel>&b;</NativeDicomModel>'


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_BOMB, "XML that cannot be read"),
        (b"<NativeDicomModel>", "XML that cannot be read"),
        (b"{", "no JSON and no XML"),
        (b"[1]", "no list of data sets"),
        (b"<html></html>", r"XML but no DICOM \('html'\)"),
    ],
)
def test_searches_that_are_answered_with_something_else(web, pacs, answer, message):
    pacs.garbled = answer
    with pytest.raises(PacsAnswerError, match=message):
        web.studies()


@pytest.mark.parametrize(
    ("status", "error"), [(404, PacsGoneError), (410, PacsGoneError), (403, PacsDeniedError), (501, PacsRefusedError)]
)
def test_refusals_have_their_error(web, pacs, waits, status, error):
    pacs.failures, pacs.failure = 1, status
    with pytest.raises(error, match=f"HTTP {status}"):
        web.studies()
    assert waits == []


def test_studies_are_chosen_by_date_body_part_and_description(web, pacs, fill):
    from datetime import date

    for number, day in enumerate(("20200101", "20260101", "2026.01.02"), start=1):
        fill(f"1.2.{number}", images=1)
        pacs.date[f"1.2.{number}"] = day
    fill("1.2.9", images=1)
    pacs.ignores_filters = True
    query = StudyQuery(since=date(2026, 1, 1), body_parts=("chest",), description="Covid")
    found = web.studies(query)
    assert [one.uid for one in found] == ["1.2.2", "1.2.3", "1.2.9"]
    pacs.body_part["1.2.2.1"], pacs.body_part["1.2.3.1"] = "HEAD", "CHEST"
    pacs.description |= {"1.2.9.1": "CHEST COVID 1.0", "1.2.3": "covid", "1.2.2": "covid"}
    wanted = [one.uid for one in web.studies(query) if query.admits(one, web.listing(one))]
    assert wanted == ["1.2.3", "1.2.9"]


def test_identifiers_that_would_leave_the_address_are_refused(web, tmp_path):
    for uid in ("../admin", "1.2/../../x", "1..2", ".", "1.2.", ""):
        with pytest.raises(ConfigError, match="letters that no UID has"):
            web.fetch_study(uid, tmp_path)


def test_a_long_list_is_not_kept_as_it_came(web, monkeypatch):
    def result(number):
        uid = {"0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]}}
        return uid | {f"0009{tag:04X}": {"vr": "LO", "Value": [f"{number}"]} for tag in range(16, 36)}

    def page(path, parameters, offset, limit):
        return [result(number) for number in range(offset, min(offset + limit, 1_000))], False

    monkeypatch.setattr(web, "_page", page)
    tracemalloc.start()
    try:
        assert len(web.studies()) == 1_000
        assert tracemalloc.get_traced_memory()[1] < 4e6, "the answers themselves are some 10 MB"
    finally:
        tracemalloc.stop()
