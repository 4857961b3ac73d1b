"""Studies in folders of the server and in a PACS: what is shown, and what is not."""

from __future__ import annotations

import pytest

from jcs_ct.errors import ConfigError
from jcs_ct.service.listed_studies import ListedFolders, check_pacs, find_in_pacs
from jcs_ct.service.problems import Problem
from jcs_ct.service.settings import PacsAddress

from ..pacs.fake_pacs import ct_file


@pytest.fixture
def listed(tmp_path):
    root = tmp_path / "incoming"
    for name in ("case-1", "case-2"):
        (root / name).mkdir(parents=True)
    (root / "case-3.zip").write_bytes(b"PK")
    (root / "notes.txt").write_text("x")
    (root / ".hidden").mkdir()
    (tmp_path / "secret").mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    return ListedFolders([root])


def test_folders_and_archives_are_shown_and_nothing_else(listed):
    assert listed.names == ["incoming"]
    assert {one.name: one.kind for one in listed.entries("incoming")} == {
        "case-1": "folder",
        "case-2": "folder",
        "case-3.zip": "file",
    }


def test_what_is_moved_away_while_the_folder_is_listed_is_not_shown(listed, tmp_path, monkeypatch):
    root = tmp_path / "incoming"
    here = [*root.iterdir(), root / "moved.zip"]
    monkeypatch.setattr(type(root), "iterdir", lambda folder: iter(here))
    assert sorted(one.name for one in listed.entries("incoming")) == ["case-1", "case-2", "case-3.zip"]
    with pytest.raises(Problem, match="UNKNOWN_ENTRY"):
        listed.find("incoming", "moved.zip")


def test_a_folder_that_is_no_longer_mounted_is_said(listed, tmp_path, caplog):
    (tmp_path / "incoming").rename(tmp_path / "elsewhere")
    for ask in (listed.entries, lambda folder: listed.find(folder, "case-1")):
        with pytest.raises(Problem, match="FOLDER_GONE") as raised:
            ask("incoming")
        assert raised.value.status == 503
        assert str(tmp_path) not in raised.value.message
    assert "No such file" in caplog.text


@pytest.mark.parametrize(
    "name", ["..", ".", "", "/etc", "../secret", "link", "case-1/..", "notes.txt", ".hidden", "case-1\0", "CASE-1"]
)
def test_no_name_leads_out_of_a_listed_folder(listed, name):
    with pytest.raises(Problem) as raised:
        listed.find("incoming", name)
    assert raised.value.code == "UNKNOWN_ENTRY"


def test_folders_that_were_not_listed_are_unknown(listed):
    for name in ("secret", "..", "/", ""):
        with pytest.raises(Problem) as raised:
            listed.entries(name)
        assert raised.value.code == "UNKNOWN_FOLDER"


def test_folders_must_be_there_and_have_their_own_names(tmp_path):
    with pytest.raises(ConfigError, match="no folder of studies"):
        ListedFolders([tmp_path / "absent"])
    (tmp_path / "a" / "x").mkdir(parents=True)
    (tmp_path / "b" / "x").mkdir(parents=True)
    with pytest.raises(ConfigError, match="one name"):
        ListedFolders([tmp_path / "a" / "x", tmp_path / "b" / "x"])


@pytest.fixture
def pacs(fake_pacs):
    for study, patient, date in (("1.2", "P1", "20240102"), ("1.3", "P2", "20240103"), ("1.4", "P1", "20240301")):
        fake_pacs.add(ct_file(study, f"{study}.1", 1))
        fake_pacs.patient[study], fake_pacs.date[study] = patient, date
    fake_pacs.requests.clear()
    return fake_pacs


def test_a_patients_studies_are_found_even_where_the_pacs_ignores_who_was_asked_for(pacs):
    found = find_in_pacs(PacsAddress(pacs.url), patient_id=" P1 ", accession_number="")
    assert [(one["study_uid"], one["date"]) for one in found] == [("1.4", "20240301"), ("1.2", "20240102")]
    assert set(found[0]) == {"study_uid", "date", "description", "object_count"}, "nothing that names the patient"
    assert find_in_pacs(PacsAddress(pacs.url), patient_id="P9", accession_number="") == []


@pytest.mark.parametrize("asked", ["", " ", "*", "P?", "a\\b", "x" * 65, "P\n1"])
def test_the_pacs_is_not_listed(pacs, asked):
    with pytest.raises(Problem) as raised:
        find_in_pacs(PacsAddress(pacs.url), patient_id=asked, accession_number="")
    assert raised.value.code in ("TOO_WIDE", "BAD_SEARCH")
    assert pacs.requests == []


def test_an_absent_pacs_is_said_at_once(pacs):
    pacs.failures = 1
    with pytest.raises(Problem) as raised:
        find_in_pacs(PacsAddress(pacs.url), patient_id="P1", accession_number="")
    assert (raised.value.status, raised.value.code) == (502, "PACS_UNAVAILABLE")
    assert raised.value.message.endswith("check the address, and that it runs"), "the code stands beside it"


def test_an_address_that_is_none_is_refused_at_the_start():
    with pytest.raises(ConfigError, match="PACS address"):
        check_pacs(PacsAddress("ftp://pacs"))
