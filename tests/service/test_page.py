"""A study's way through the page: sent, read, looked at, corrected, taken away; and who may not."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import nibabel
import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydicom import dcmread

from jcs_ct.data.manifest import Manifest, read_manifest, read_mask
from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.jobs import State
from jcs_ct.service import pages
from jcs_ct.service.describing import result_files
from jcs_ct.service.users import Role, User

from .conftest import LIMITS, PASSWORDS, Browser, painted
from .hostile import HOSTILE
from .placing import seg_places, viewer_places


def logged_in(app, name: str) -> Browser:
    return Browser(TestClient(app, base_url="http://127.0.0.1")).login(name)


@pytest.fixture(scope="module")
def read_study(app, phantom_folder):
    """Name of a study of jane's that was read."""
    jane = logged_in(app, "jane")
    study_id = jane.send_folder(phantom_folder, "Phantom <i>5</i>")
    assert jane.wait(study_id)["state"] == "done"
    return study_id


def volume(answer) -> np.ndarray:
    return np.asanyarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(answer.content)).dataobj)


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_folder_is_read_and_described(browser, read_study):
    jane = browser("jane")
    study = jane.study(read_study)
    facts = study["facts"]
    assert (study["state"], facts["verdict"], facts["kind"]) == ("done", "positive", "dicom")
    assert {"report.html", "report.json", "lesions.nii.gz", "lesions.seg.dcm", "run.json"} <= set(study["files"])
    assert not [name for name in study["files"] if name.startswith(("viewer", "state"))]
    report = jane.ask("GET", f"/api/v1/studies/{read_study}/report.json").json()
    assert report["verdict"]["positive_slice_count"] == facts["positive_slice_count"]
    page = jane.ask("GET", f"/studies/{read_study}", headers={"Accept": "text/html"}).text
    assert "Phantom &lt;i&gt;5&lt;/i&gt;" in page
    assert "<i>5</i>" not in page
    assert study["attempts"] == 1
    data = json.loads(page.split('id="page-data">')[1].split("</script>")[0])
    assert [patient["source"] for patient in data["validation"]] == ["a", "b", "b"]


@pytest.fixture(scope="module")
def listed_study(app, incoming):
    """Name of a study of jane's that lies, zipped, in the folder that the administrator listed."""
    jane = logged_in(app, "jane")
    shown = jane.ask("GET", "/api/v1/folders").json()["folders"]
    assert [(one["folder"], study["name"], study["kind"]) for one in shown for study in one["studies"]] == [
        ("incoming", "phantom.zip", "file")
    ]
    picked = jane.ask("POST", "/api/v1/studies", json={"folder": "incoming", "name": "phantom.zip"})
    assert picked.status_code == 201, picked.text
    return picked.json()["study_id"]


@pytest.fixture(scope="module")
def fetched_study(app, fake_pacs, turned_folder):
    """Name of a later study of the same patient, stored a quarter turn round, that jane had fetched from the PACS."""
    for path in sorted(turned_folder.iterdir()):
        fake_pacs.add(path.read_bytes())
    header = dcmread(path, stop_before_pixels=True)
    fake_pacs.patient[header.StudyInstanceUID] = header.PatientID
    jane = logged_in(app, "jane")
    found = jane.ask("GET", f"/api/v1/pacs/studies?patient_id={header.PatientID}").json()["studies"]
    assert [one["object_count"] for one in found] == [10]
    body = {"label": "Later", "study_uid": found[0]["study_uid"]}
    return jane.ask("POST", "/api/v1/studies", json=body).json()["study_id"]


def test_a_zip_of_a_listed_folder_is_read_like_what_is_sent(browser, read_study, listed_study, incoming):
    jane = browser("jane")
    study = jane.wait(listed_study)
    assert study["state"] == "done", study["message"]
    assert study["facts"]["identifier"] == jane.study(read_study)["facts"]["identifier"]
    assert "lesions.seg.dcm" in study["files"]
    assert "job.json" not in study["files"]
    reports = [jane.ask("GET", f"/api/v1/studies/{name}/report.json").content for name in (read_study, listed_study)]
    assert reports[0] == reports[1]
    assert (incoming / "phantom.zip").is_file()


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"folder": "incoming", "name": "../phantom.zip"}, (404, "UNKNOWN_ENTRY")),
        ({"folder": "..", "name": "phantom.zip"}, (404, "UNKNOWN_FOLDER")),
        ({"folder": "/etc", "name": "passwd"}, (404, "UNKNOWN_FOLDER")),
    ],
)
def test_only_what_was_listed_is_picked(browser, body, answer):
    assert code(browser("jane").ask("POST", "/api/v1/studies", json=body)) == answer


@pytest.mark.parametrize(
    "body", [{}, {"folder": "incoming"}, {"study_uid": "1.2/../3"}, {"study_uid": "1.2", "folder": "a", "name": "b"}]
)
def test_one_place_is_picked_from(browser, body):
    assert browser("jane").ask("POST", "/api/v1/studies", json=body).status_code == 422


def test_a_study_comes_from_the_pacs_and_its_results_go_back(browser, service, fetched_study, fake_pacs):
    jane = browser("jane")
    study = jane.wait(fetched_study)
    assert study["state"] == "done", study["message"]
    before = len(fake_pacs.instances)
    sent = jane.ask("POST", f"/api/v1/studies/{fetched_study}/send")
    dicom = sum(name.endswith(".dcm") for name in study["files"])
    assert (sent.status_code, sent.json()) == (200, {"stored": dicom, "present": 0, "changed": 0})
    assert len(fake_pacs.instances) == before + dicom
    actions = [entry.action for entry in service.audit.entries(study_id=fetched_study)]
    assert {"fetch", "send"} <= set(actions)
    fake_pacs.authorization = "Bearer other"
    try:
        refused = jane.ask("POST", f"/api/v1/studies/{fetched_study}/send")
    finally:
        fake_pacs.authorization = ""
    assert code(refused) == (502, "PACS_FAILED")
    assert "PACS_CREDENTIALS" in refused.json()["message"]


def test_studies_of_one_patient_stand_side_by_side(browser, read_study, fetched_study):
    jane, joe = browser("jane"), browser("joe")
    jane.wait(fetched_study)
    page = jane.ask("GET", f"/studies/{fetched_study}", headers={"Accept": "text/html"}).text
    assert f"beside={read_study}" in page
    compared = jane.ask("GET", f"/studies/{fetched_study}?beside={read_study}", headers={"Accept": "text/html"}).text
    assert "canvas-beside" in compared
    assert "Earlier study" in compared
    assert compared.index("2099-01-01, this</th>") < compared.index(">Change</th>")
    backwards = jane.ask("GET", f"/studies/{read_study}?beside={fetched_study}", headers={"Accept": "text/html"}).text
    assert "Later study" in backwards
    columns = [backwards.index(title) for title in (", this</th>", ">2099-01-01</th>", ">Change</th>")]
    assert columns == sorted(columns), "time runs to the right whichever study is open"
    assert "+0.0" in compared or "-0.0" in compared, "the same patient turned round: nothing changed"
    assert "different networks" not in compared
    flags = jane.study(read_study)["facts"]["flags"]
    assert flags
    assert all(f"<code>{flag}</code>" in compared.partition('id="flags-beside"')[2] for flag in flags)
    key = jane.study(read_study)["facts"]["patient_key"]
    assert key == jane.study(fetched_study)["facts"]["patient_key"]
    assert "PHANTOM" not in key
    assert joe.ask("GET", f"/studies/{fetched_study}?beside={read_study}").status_code == 404
    stranger = jane.ask("GET", f"/studies/{read_study}?beside={'0' * 24}", headers={"Accept": "text/html"}).text
    assert "canvas-beside" not in stranger


def test_what_is_no_ct_is_refused_with_its_code(browser):
    jane = browser("jane")
    study = jane.wait(jane.send({"letter.txt": b"Dear colleague", "note.txt": b"x"}))
    assert (study["state"], study["code"], study["attempts"]) == ("refused", "NO_IMAGES", 1)
    page = jane.ask("GET", f"/studies/{study['study_id']}").text
    assert "This study was refused" in page
    assert "NO_IMAGES" in page
    assert study["remedy"] in page
    assert "give a folder or file with a CT study" in page
    assert "Try again" in page
    assert code(jane.ask("GET", f"/api/v1/studies/{study['study_id']}/report.json")) == (409, "NOT_READ")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused(browser, service, name):
    jane = browser("jane")
    content, gate_code, words = HOSTILE[name]
    study = jane.wait(jane.send({"study.zip": content()}))
    assert (study["state"], study["code"]) == ("refused", gate_code)
    assert words in study["message"]
    left = sum(path.stat().st_size for path in (service.settings.folder / "sent").rglob("*") if path.is_file())
    assert left < 150 << 20


@pytest.mark.parametrize("study", ["read_study", "fetched_study"], ids=["axial", "turned"])
def test_what_is_painted_is_what_the_segmentation_holds(browser, study, request, tmp_path):
    jane = browser("jane")
    study_id = request.getfixturevalue(study)
    assert jane.wait(study_id)["state"] == "done"
    grid = jane.ask("GET", f"/api/v1/studies/{study_id}/viewer/grid.json").json()
    shape = grid["shape"]
    mask = np.zeros(shape, dtype=bool)
    mask[4:9, 6:12, 2:5] = True  # no symmetry on any axis
    mask[20:22, 30:31, 7] = True
    answer = jane.ask("POST", f"/api/v1/studies/{study_id}/corrections?parent=0&note=boxes", content=painted(mask))
    assert answer.status_code == 201, answer.text
    facts = answer.json()["facts"]
    assert (facts["lesion_count"], facts["voxel_count"]) == (2, 92)
    seg = tmp_path / "seg.dcm"
    seg.write_bytes(jane.ask("GET", f"/api/v1/studies/{study_id}/files/lesions.seg.dcm?version=1").content)
    assert seg_places(seg) == viewer_places(grid, mask)
    shown = volume(jane.ask("GET", f"/api/v1/studies/{study_id}/viewer/lesions.nii.gz?version=1"))
    np.testing.assert_array_equal(shown.astype(bool), mask)
    ct = volume(jane.ask("GET", f"/api/v1/studies/{study_id}/viewer/ct.nii.gz"))
    assert ct.shape == tuple(shape)


def test_both_scans_of_one_patient_look_alike_in_the_viewer(browser, read_study, fetched_study):
    jane = browser("jane")
    jane.wait(fetched_study)
    for name in ("ct", "activation"):
        paths = [f"/api/v1/studies/{study}/viewer/{name}.nii.gz" for study in (read_study, fetched_study)]
        first, second = (volume(jane.ask("GET", path)) for path in paths)
        assert first.shape == second.shape
        if name == "ct":
            np.testing.assert_array_equal(first, second)


def test_corrections_name_their_reader_and_keep_the_verdict(browser, read_study, tmp_path):
    jane = browser("jane")
    shape = jane.ask("GET", f"/api/v1/studies/{read_study}/viewer/grid.json").json()["shape"]
    before = jane.ask("GET", f"/api/v1/studies/{read_study}/report.json").json()
    mask = np.zeros(shape, dtype=bool)
    mask[10:14, 10:14, 4] = True
    latest = jane.study(read_study)["versions"]
    path = f"/api/v1/studies/{read_study}/corrections?parent={latest}"
    saved = jane.ask("POST", path, content=painted(mask)).json()
    package = jane.ask("GET", f"/api/v1/studies/{read_study}/results.zip?version={saved['version']}")
    with zipfile.ZipFile(io.BytesIO(package.content)) as names:
        assert {"findings.sr.dcm", "lesions.nii.gz", "lesions.seg.dcm", "report.json"} <= set(names.namelist())
        report = json.loads(names.read("report.json"))
        sr = dcmread(io.BytesIO(names.read("findings.sr.dcm")))
        seg = dcmread(io.BytesIO(names.read("lesions.seg.dcm")))
    assert report["verdict"] == before["verdict"]
    assert report["correction"] == {"reader": "jane", "version": saved["version"]}
    assert len(report["lesions"]) == 1
    assert report["burden"]["percent_opacity"] < before["burden"]["percent_opacity"]
    people = [
        str(item.PersonName)
        for item in sr.ContentSequence
        if item.ValueType == "PNAME" and item.ConceptNameCodeSequence[0].CodeValue == "121008"
    ]
    assert people == ["jane"]
    assert str(seg.ContentCreatorName) == "jane"
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
    machine = jane.ask("GET", f"/api/v1/studies/{read_study}/files/lesions.seg.dcm").content
    assert dcmread(io.BytesIO(machine)).SOPInstanceUID != seg.SOPInstanceUID


def test_two_readers_at_once_do_not_write_over_each_other(browser, read_study):
    jane, root = browser("jane"), browser("root")
    shape = jane.ask("GET", f"/api/v1/studies/{read_study}/viewer/grid.json").json()["shape"]
    latest = jane.study(read_study)["versions"]
    masks = [np.zeros(shape, dtype=bool) for _ in range(2)]
    masks[0][5, 5, 5] = masks[1][6, 6, 6] = True
    path = f"/api/v1/studies/{read_study}/corrections?parent={latest}"
    assert jane.ask("POST", path, content=painted(masks[0])).json()["version"] == latest + 1
    answer = root.ask("POST", path, content=painted(masks[1]))
    assert code(answer) == (409, "NEWER_VERSION")
    assert f"jane saved version {latest + 1}" in answer.json()["message"]
    beside = root.ask("POST", f"{path}&although_newer=true", content=painted(masks[1])).json()
    assert (beside["version"], beside["parent"]) == (latest + 2, latest)
    for version, mask in zip((latest + 1, latest + 2), masks, strict=True):
        shown = volume(jane.ask("GET", f"/api/v1/studies/{read_study}/viewer/lesions.nii.gz?version={version}"))
        np.testing.assert_array_equal(shown.astype(bool), mask)


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"short"), gzip.compress(b"\0" * 5_000_000)],
    ids=["empty", "no gzip", "short", "long"],
)
def test_masks_that_are_none_are_refused(browser, read_study, content):
    jane = browser("jane")
    latest = jane.study(read_study)["versions"]
    answer = jane.ask("POST", f"/api/v1/studies/{read_study}/corrections?parent={latest}", content=content)
    assert code(answer) == (422, "BAD_MASK")
    assert jane.study(read_study)["versions"] == latest


def test_drafts_are_kept_for_each_reader(browser, read_study):
    jane, root = browser("jane"), browser("root")
    path = f"/api/v1/studies/{read_study}/draft"
    assert jane.ask("GET", path).status_code == 204
    assert jane.ask("PUT", f"{path}?parent=0", content=b"my mask").status_code == 204
    kept = jane.ask("GET", path)
    assert (kept.content, kept.headers["X-Parent"]) == (b"my mask", "0")
    assert root.ask("GET", path).status_code == 204
    assert jane.ask("DELETE", path).status_code == 204
    assert jane.ask("GET", path).status_code == 204


def test_opinions_stand_beside_the_verdict(browser, read_study):
    jane = browser("jane")
    path = f"/api/v1/studies/{read_study}/opinions"
    assert code(jane.ask("POST", path, json={"agrees": False, "reason": " "})) == (422, "NO_REASON")
    assert jane.ask("POST", path, json={"agrees": False, "reason": "motion"}).status_code == 201
    assert jane.ask("POST", path, json={"agrees": "yes"}).status_code == 422
    study = jane.study(read_study)
    assert study["opinion"]["reason"] == "motion"
    assert study["facts"]["verdict"] == "positive"


def test_the_worklist_filters(browser, read_study):
    jane = browser("jane")

    def shown(**filters):
        return read_study in jane.client.get("/worklist", params=filters).text

    assert shown()
    assert shown(verdict="positive", state="done", least_percent="1", since="2020-01-01", reader="jane")
    for name, value in (
        ("verdict", "negative"),
        ("state", "refused"),
        ("least_percent", "101"),
        ("since", "2999-01-01"),
        ("reader", "root"),
        ("text", "no such name"),
    ):
        assert not shown(**{name: value}), name


def test_a_study_is_shared_by_its_owner_alone(browser, read_study):
    joe, jane = browser("joe"), browser("jane")
    assert joe.ask("GET", "/api/v1/studies").json()["total"] == 0
    assert jane.ask("POST", f"/api/v1/studies/{read_study}/shares", json={"user": "joe"}).status_code == 201
    assert joe.study(read_study)["label"].startswith("Phantom")
    assert code(joe.ask("DELETE", f"/api/v1/studies/{read_study}")) == (403, "NOT_YOURS")
    further = joe.ask("POST", f"/api/v1/studies/{read_study}/shares", json={"user": "root"})
    assert code(further) == (403, "NOT_YOURS"), "not by those it is shared with"
    assert 'id="share"' not in joe.client.get(f"/studies/{read_study}").text
    assert 'id="share"' in jane.client.get(f"/studies/{read_study}").text
    share = f"/api/v1/studies/{read_study}/shares/joe"
    assert code(joe.ask("DELETE", share)) == (403, "NOT_YOURS")
    assert jane.ask("DELETE", share).json() == {"shared_with": []}
    assert code(joe.ask("GET", f"/api/v1/studies/{read_study}")) == (404, "UNKNOWN_STUDY")
    assert code(jane.ask("DELETE", share)) == (404, "NOT_SHARED")


def test_a_study_says_what_its_verdict_cannot_tell(browser, read_study):
    jane = browser("jane")
    page = jane.client.get(f"/studies/{read_study}").text
    report = jane.ask("GET", f"/api/v1/studies/{read_study}/report.html").text
    box = page.partition('id="limits"')[2].partition("</details>")[0]
    said = re.findall(r"<p>(.*?)</p>", box, re.DOTALL)
    assert any("COVID-19 or another pneumonia" in text and "can look the same as COVID-19" in text for text in said)
    assert all(text in report for text in said), "as the report says it"
    assert len(said) > 1


def test_both_pages_offer_the_same_windows(browser, read_study):
    jane = browser("jane")
    page = jane.client.get(f"/studies/{read_study}").text
    report = jane.ask("GET", f"/api/v1/studies/{read_study}/report.html").text
    offered = re.findall(r'data-window="[^>]*>([^<]*) <small>([^<]*)</small>', page)
    assert offered[0] == ("Lung", "−600 / 1500")
    assert offered == re.findall(r'name="window"[^>]*> ([^<]*) <small>([^<]*)</small>', report)[: len(offered)]
    assert len(offered) == 4


def test_small_and_negative_figures_are_written_as_such():
    for value, text in ((0.04, "< 0.1"), (0.05, "0.1"), (0.0, "0.0"), (-2.34, "−2.3"), (None, "not measured")):
        assert pages._templates.filters["one_digit"](value) == text
    assert [pages._templates.filters["signed"](value) for value in (-1.25, 1.0, None)] == ["−1.2", "+1.0", "–"]


@pytest.mark.parametrize(
    "name",
    [
        "../../service.sqlite",
        "..%2f..%2fservice.sqlite",
        "/etc/passwd",
        "viewer/grid.json",
        "state/diagnosis.npz",
        ".",
        "",
    ],
)
def test_paths_lead_nowhere_else(browser, read_study, name):
    root = browser("root")
    for path in (f"/api/v1/studies/{read_study}/files/{name}", f"/api/v1/studies/{read_study}/viewer/{name}x"):
        answer = root.ask("GET", path)
        assert answer.status_code == 404, path
        assert b"SQLite" not in answer.content
    for odd in ("..", "%2e%2e", "x/../y", "%00"):
        assert root.ask("GET", f"/api/v1/studies/{odd}").status_code in (404, 405)
    assert root.ask("GET", "/static/../pages.py").status_code == 404
    assert root.ask("GET", "/static/..%2fpages.py").status_code == 404
    assert root.ask("GET", f"/api/v1/studies/{read_study}/report.json?version=99").status_code == 404
    assert root.ask("GET", f"/api/v1/studies/{read_study}/report.json?version=-1").status_code == 422


def test_a_forged_login_is_refused(browser):
    form = {"name": "jane", "password": "battery staple"}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert code(browser().client.post("/login", data=form, headers=headers)) == (403, "FORGED")


def test_pages_lead_to_the_login_and_sessions_end(browser):
    stranger = browser()
    page = stranger.client.get("/", headers={"Accept": "text/html"}, follow_redirects=False)
    assert (page.status_code, page.headers["Location"]) == (303, "/login")
    rows = stranger.client.get("/worklist", headers={"Accept": "text/html, */*", "HX-Request": "true"})
    assert (rows.status_code, rows.headers["HX-Redirect"]) == (401, "/login"), "not the login inside the worklist"
    jane = browser("jane")
    assert jane.ask("POST", "/logout").status_code == 204
    assert jane.ask("GET", "/api/v1/studies").status_code == 401
    wrong = stranger.client.post("/login", data={"name": "jane", "password": "wrong"})
    assert wrong.status_code == 401
    assert "Wrong name or password." in wrong.text


def test_a_login_leads_on_to_the_page_that_was_asked_for(browser, read_study):
    asked = f"/studies/{read_study}?version=0"
    stranger = browser().client
    sent = stranger.get(asked, headers={"Accept": "text/html"}, follow_redirects=False)
    assert (sent.status_code, sent.headers["Location"]) == (303, f"/login?{urlencode({'next': asked})}")
    form = stranger.get(sent.headers["Location"]).text
    assert f'name="next" value="{asked}"' in form
    wrong = stranger.post("/login", data={"name": "jane", "password": "wrong", "next": asked})
    assert f'name="next" value="{asked}"' in wrong.text, "also after a slip"
    login = {"name": "jane", "password": PASSWORDS["jane"]}
    into = stranger.post("/login", data={**login, "next": asked}, follow_redirects=False)
    assert into.headers["Location"] == asked


def test_a_link_elsewhere_leads_to_the_page_of_those_who_are_logged_in(browser):
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "cross-site"}  # a browser keeps its cookie for itself
    for asked, again in (("/studies/0?version=0", "/studies/0?version=0"), ("/?a=%22&b=c", "/?a=%22&amp;b=c")):
        answer = browser().client.get(asked, headers=headers, follow_redirects=False)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert f'<meta http-equiv="refresh" content="0; url={again}">' in answer.text


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "/\t/evil.example/",
        "\\\\evil.example",
        "javascript:alert(1)",
        "evil.example",
        "/login?next=/login",
        "/\r\nSet-Cookie: a=b",
    ],
)
def test_a_login_leads_nowhere_else(browser, target):
    form = {"name": "jane", "password": PASSWORDS["jane"], "next": target}
    answer = browser().client.post("/login", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    page = browser().client.get("/login", params={"next": target}).text
    assert 'name="next" value="/"' in page


def test_the_cookie_and_the_headers_are_strict(browser):
    stranger = browser()
    answer = stranger.client.post(
        "/login", data={"name": "jane", "password": "battery staple"}, follow_redirects=False
    )
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


def test_reports_run_without_an_origin(browser, read_study):
    answer = browser("jane").ask("GET", f"/api/v1/studies/{read_study}/report.html")
    assert "sandbox allow-scripts" in answer.headers["Content-Security-Policy"]
    assert "connect-src" not in answer.headers["Content-Security-Policy"]


def test_packages_leave_nothing_behind(browser, service, read_study):
    jane = browser("jane")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert jane.ask("GET", f"/api/v1/studies/{read_study}/results.zip").content.startswith(b"PK")
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert list(service.packages.folder.iterdir()) == []


def test_administrators_only(browser):
    jane, root = browser("jane"), browser("root")
    for path in ("/api/v1/audit", "/audit", "/metrics"):
        assert code(jane.ask("GET", path)) == (403, "ADMIN_ONLY")
        assert root.ask("GET", path).status_code == 200


def test_the_log_names_what_was_done(browser, read_study):
    jane, root = browser("jane"), browser("root")
    study = f"/api/v1/studies/{read_study}"
    shape = jane.ask("GET", f"{study}/viewer/grid.json").json()["shape"]
    correction = f"{study}/corrections?parent={jane.study(read_study)['versions']}"
    for answer in (
        jane.ask("GET", f"/studies/{read_study}"),
        jane.ask("POST", correction, content=painted(np.zeros(shape, dtype=bool))),
        jane.ask("POST", f"{study}/opinions", json={"agrees": True}),
        jane.ask("GET", f"{study}/results.zip"),
        jane.ask("POST", f"{study}/shares", json={"user": "joe"}),
    ):
        assert answer.is_success, answer.text
    log = root.ask("GET", "/api/v1/audit?limit=10000").json()
    assert log["first_broken"] is None
    done = {entry["action"] for entry in log["entries"]}
    assert {"login", "upload", "view", "correction", "opinion", "export", "share"} <= done


@pytest.mark.parametrize("part", ["report.json", "report.html", "viewer/ct.nii.gz"])
def test_nobody_takes_a_study_away_without_a_line_in_the_log(browser, service, read_study, part):
    token = service.users.add_token("jane")
    service.audit._viewed.clear()
    before = len(service.audit.entries(study_id=read_study, limit=10_000))
    for _ in range(2):
        path = f"/api/v1/studies/{read_study}/{part}"
        assert browser().client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    after = service.audit.entries(study_id=read_study, limit=10_000)
    assert [(entry.user, entry.action) for entry in after[: len(after) - before]] == [("jane", "view")]


def test_metrics_and_health(browser):
    root = browser("root")
    lines = root.ask("GET", "/metrics").text.splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(figures['jcs_jobs{state="done"}']) >= 1
    assert float(figures["jcs_reading_seconds_sum"]) > 0
    types = {line.split(" ")[2]: line.split(" ")[3] for line in lines if line.startswith("# TYPE")}
    assert types.keys() == {name.partition("{")[0] for name in figures}
    assert set(types.values()) == {"gauge"}, "deleted studies leave every figure: none only ever grows"
    assert root.client.get("/health").json()["ok"] is True


def test_programs_use_tokens_and_the_interface_is_described(browser, service, phantom_folder):
    token = service.users.add_token("jane")
    program = browser()
    headers = {"Authorization": f"Bearer {token}"}
    assert program.client.get("/api/v1/studies", headers=headers).status_code == 200
    files = {"label": "x", "files": [{"name": "a", "size": 3}]}
    made = program.client.post("/api/v1/uploads", headers=headers, json=files).json()
    path = f"/api/v1/uploads/{made['upload_id']}"
    assert program.client.put(f"{path}?offset=0", headers=headers, content=b"abc").json() == {"received": 3}
    assert program.client.get(path, headers=headers).json()["received"] == 3
    assert program.client.delete(path, headers=headers).status_code == 204
    bad = program.client.get("/api/v1/studies", headers={"Authorization": "Bearer guess"})
    assert code(bad) == (401, "BAD_TOKEN")
    described = program.client.get("/api/v1/openapi.json").json()
    assert {"/api/v1/uploads", "/api/v1/studies/{study_id}"} <= set(described["paths"])
    assert "/login" not in described["paths"]
    bodies = described["paths"]["/api/v1/uploads/{upload_id}"]["put"]["requestBody"]["content"]
    assert list(bodies) == ["application/octet-stream"]
    assert {"state", "facts", "seconds_left", "files"} <= set(
        described["components"]["schemas"]["WholeStudy"]["properties"]
    )


def test_waiting_studies_have_a_place_and_can_be_cancelled(browser, service, read_study, monkeypatch):
    jane = browser("jane")
    with monkeypatch.context() as held:
        held.setattr(service.work._runner, "work_once", lambda: None)  # nothing is taken from the queue
        names = [jane.send({"letter.txt": b"x"}, f"n{number}") for number in range(3)]
        service.waiting._looked_at = 0.0  # the study that was read is known
        waiting = [jane.study(name) for name in names]
        assert [study["state"] for study in waiting] == ["queued"] * 3
        assert [study["place"] for study in waiting] == [1, 2, 3]
        assert waiting[2]["seconds_left"] >= 10
        assert jane.ask("POST", f"/api/v1/studies/{names[0]}/cancel").status_code == 200
        assert jane.study(names[0])["state"] == "cancelled"
        assert jane.study(names[1])["place"] == 1
        assert jane.ask("POST", f"/api/v1/studies/{names[0]}/retry").status_code == 200
        assert jane.study(names[0])["place"] == 1, "in its old place"
    assert [jane.wait(name)["code"] for name in names] == ["NO_IMAGES"] * 3
    assert code(jane.ask("POST", f"/api/v1/studies/{names[0]}/cancel")) == (409, "NOT_OPEN")
    assert code(jane.ask("POST", f"/api/v1/studies/{read_study}/retry")) == (409, "NOT_STOPPED")


@pytest.mark.slow
def test_corrected_studies_become_training_data(browser, service, read_study, tmp_path, jcs):
    jane = browser("jane")
    shape = jane.ask("GET", f"/api/v1/studies/{read_study}/viewer/grid.json").json()["shape"]
    latest = jane.study(read_study)["versions"]
    mask = np.zeros(shape, dtype=bool)
    mask[10:20, 10:16, 4] = True
    path = f"/api/v1/studies/{read_study}/corrections?parent={latest}"
    assert jane.ask("POST", path, content=painted(mask)).status_code == 201
    output = tmp_path / "corrected"
    result = jcs("serve", "export", "-o", output, "--folder", service.settings.folder)
    assert result.exit_code == 0, result.output
    rows = {row.path.name: row for row in read_manifest(output / "manifest.csv")}
    assert rows[read_study].label == 1
    assert "-> " in result.output
    sliced = jcs("data", "slices", output / "manifest.csv", "-f", tmp_path / "slices", "-o", tmp_path / "slices.csv")
    assert sliced.exit_code == 0, sliced.output
    of_study = [row for row in read_manifest(tmp_path / "slices.csv") if row.patient == rows[read_study].patient]
    infected = [row for row in of_study if row.label == 1 and row.mask is not None]
    pixels = [int(np.count_nonzero(read_mask(row.mask))) for row in infected]
    assert 60 in pixels
    for manifest in (output / "manifest.csv", tmp_path / "slices.csv"):
        checked = jcs("data", "check", manifest)
        assert checked.exit_code == 0, checked.output
    again = jcs("serve", "export", "-o", output, "--folder", service.settings.folder)
    assert isinstance(again.exception, ConfigError)

    # The loop is closed: a network is trained on the corrected slices, and chosen on those of another patient.
    others, known = tmp_path / "others", tmp_path / "others.csv"
    for name, lesions in (("sick", ("--lesions", "4")), ("well", ("--negative",))):
        drawn = jcs("phantom", "-o", others / name, "--slices", "8", "--size", "64", *lesions, "--format", "png")
        assert drawn.exit_code == 0, drawn.output
    assert jcs("data", "make", "phantom", others, "-o", known).exit_code == 0
    for table, part in ((known, "val"), (tmp_path / "slices.csv", "train")):
        manifest = read_manifest(table)
        Manifest(tuple(replace(row, split=part) for row in manifest)).write(table)
    joined = jcs("data", "join", tmp_path / "slices.csv", known, "-o", tmp_path / "all.csv")
    assert joined.exit_code == 0, joined.output
    short = [
        part
        for name in ("steps=2", "validate_every=2", "batch_size=4", "optimiser.warmup_steps=1")
        for part in ("--set", name)
    ]
    trained = jcs("train", "compact-classifier", "-m", tmp_path / "all.csv", "-o", tmp_path / "run", *short)
    assert trained.exit_code == 0, trained.output
    assert (tmp_path / "run" / "best.safetensors").is_file()


def test_deleting_leaves_nothing_but_the_log(browser, service, listed_study, incoming):
    jane, study_id = browser("jane"), listed_study
    jane.wait(study_id)
    shape = jane.ask("GET", f"/api/v1/studies/{study_id}/viewer/grid.json").json()["shape"]
    empty = painted(np.zeros(shape, dtype=bool))
    saved = jane.ask("POST", f"/api/v1/studies/{study_id}/corrections?parent=0", content=empty).json()
    assert saved["facts"]["lesion_count"] == 0
    record = service.studies.get(User("root", Role.ADMIN), study_id)
    assert jane.ask("DELETE", f"/api/v1/studies/{study_id}").status_code == 204
    assert jane.ask("GET", f"/api/v1/studies/{study_id}").status_code == 404
    left = list(Path(service.settings.folder).rglob(f"*{study_id}*"))
    assert left == []
    assert service.results.find(record.job_id) is None
    assert service.ledger.job(record.job_id) is None
    assert service.audit.entries(study_id=study_id)[0].action == "delete"
    assert (incoming / "phantom.zip").is_file(), "what the administrator listed is not the page's to delete"


def test_what_a_killed_server_left_is_removed_at_the_start(browser, service, read_study):
    folder = service.settings.folder
    record = service.studies.get(User("root", Role.ADMIN), read_study)
    orphans = [
        folder / "sent" / ("a" * 24),
        folder / "sent" / f"{'a' * 24}-unpacked",
        folder / "sent" / f"{'b' * 24}-unpacked.part",
        folder / "corrections" / ("a" * 24),
        folder / "results" / ("c" * 24),
        folder / "corrections" / read_study / "0099.part",
        folder / "corrections" / read_study / ".0123abcd.part",
    ]
    for place in orphans:
        place.mkdir(parents=True)
        (place / "file").touch()
    drafts = [folder / "corrections" / read_study / f"draft-{name}.bin" for name in ("jane", "a.partner", "0.part")]
    for draft in drafts:
        draft.touch()
    assert service.studies.remove_orphans() == 7
    assert all(draft.exists() for draft in drafts)
    assert not any(place.exists() for place in orphans)
    assert service.studies.sent(read_study).is_dir()
    assert service.results.find(record.job_id) is not None
    assert service.studies.remove_orphans() == 0
    for draft in drafts:
        draft.unlink()


def test_old_studies_are_deleted_when_that_is_asked_for(browser, service, phantom_folder):
    jane = browser("jane")
    old, new = (jane.send({"letter.txt": b"x"}) for _ in range(2))
    jane.wait(old)
    jane.wait(new)
    service.database.change("UPDATE studies SET added_at = added_at - 864000 WHERE study_id = ?", (old,))
    service.work._keep_days = 5.0
    try:
        service.work.tidy(at_once=True)
    finally:
        service.work._keep_days = None
    assert jane.ask("GET", f"/api/v1/studies/{old}").status_code == 404
    assert jane.study(new)["state"] == "refused"
    assert service.audit.entries(study_id=old)[0].user == "retention"


def test_a_fault_of_the_software_does_not_end_the_queue(browser, service, monkeypatch):
    faults = []

    def faulty():
        faults.append(1)
        raise RuntimeError("not foreseen")

    with monkeypatch.context() as patch:
        patch.setattr("jcs_ct.service.work._WAIT_AFTER_FAULT_S", 0.01)
        patch.setattr(service.work._runner, "work_once", faulty)
        deadline = time.monotonic() + 60
        while len(faults) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(faults) >= 2, "it goes on"
    jane = browser("jane")
    assert jane.client.get("/health").json()["ok"] is True
    assert jane.wait(jane.send({"letter.txt": b"x"}))["code"] == "NO_IMAGES"


def test_throttled_logins_add_nothing_to_the_log(browser, service):
    stranger = browser()
    form = {"name": "nobody at all", "password": "a guess"}
    try:
        assert stranger.client.post("/login", data=form).status_code == 401
        noted = len(service.audit.entries(limit=10_000))
        service.database.change("UPDATE login_failures SET not_before = ?", (time.time() + 900,))
        assert stranger.client.post("/login", data=form).status_code == 429
        assert len(service.audit.entries(limit=10_000)) == noted
    finally:
        service.database.change("DELETE FROM login_failures")


def test_events_tell_what_changes(app, browser, read_study):
    jane = browser("jane")
    from jcs_ct.service import events

    described = events._describe(app.state.service, User("jane", Role.READER), read_study, 1)
    assert json.loads(described[read_study])["state"] == State.DONE
    assert events._describe(app.state.service, User("stranger", Role.READER), None, 1) == {}
    assert jane.study(read_study)["place"] is None


def test_a_link_to_what_is_not_there_leads_a_person_to_a_page(browser):
    joe = browser("joe")
    page = joe.client.get("/studies/0123456789abcdef", headers={"accept": "text/html,*/*"})
    assert page.status_code == 404
    assert "There is no such study, or it is not shared with you." in page.text
    assert page.headers["content-type"].startswith("text/html")
    assert code(joe.ask("GET", "/studies/0123456789abcdef")) == (404, "UNKNOWN_STUDY")


def test_streams_share_what_is_described_at_a_moment(app, monkeypatch, read_study):
    from jcs_ct.service import events

    described = []
    real = events.describe_visible
    monkeypatch.setattr(
        events, "describe_visible", lambda service, records: described.append(len(records)) or real(service, records)
    )
    service, jane = app.state.service, User("jane", Role.READER)
    first = events._describe(service, jane, None, "now")
    assert events._describe(service, jane, read_study, "now") == {read_study: first[read_study]}
    assert described == [len(first)]
    assert events._describe(service, jane, read_study, "later") == {read_study: first[read_study]}
    assert described == [len(first), 1]


def test_the_worklist_describes_no_more_than_it_shows(app, monkeypatch, read_study, browser):
    from jcs_ct.service import pages

    jane = browser("jane")
    others = [jane.send({"letter.txt": b"x"}, f"Letter {number}") for number in range(3)]
    described = []
    real = pages.describe_visible
    monkeypatch.setattr(
        pages, "describe_visible", lambda service, records: described.append(len(records)) or real(service, records)
    )
    monkeypatch.setattr(pages, "_MOST_ROWS", 2)
    shown = jane.client.get("/worklist", params={"text": "letter"}).text
    assert described == [2]
    assert "The newest 2 of 3 are shown" in shown
    assert "The newest" not in jane.client.get("/worklist", params={"text": "letter 1"}).text
    for study_id in others:
        jane.wait(study_id)
        jane.ask("DELETE", f"/api/v1/studies/{study_id}")


def test_one_reader_does_not_take_every_stream(browser, read_study, monkeypatch):
    from jcs_ct.service import events

    path = f"/api/v1/events?study_id={read_study}"
    monkeypatch.setitem(events._listening, "jane", events.MOST_STREAMS_OF_ONE)
    assert code(browser("jane").ask("GET", path)) == (429, "TOO_MANY_STREAMS")
    monkeypatch.setitem(events._listening, "others", events.MOST_STREAMS)
    assert code(browser("root").ask("GET", path)) == (503, "TOO_MANY_STREAMS")


def test_a_study_without_a_job_does_not_hide_the_others(browser, service, read_study):
    """As for a moment while it is deleted: its job goes before its row."""
    from jcs_ct.service import events

    jane = browser("jane")
    going = jane.send({"letter.txt": b"x"}, "Going")
    jane.wait(going)
    record = service.studies.find(going)
    assert service.ledger.remove(record.job_id)
    try:
        listed = [study["study_id"] for study in jane.ask("GET", "/api/v1/studies").json()["studies"]]
        assert read_study in listed
        assert going not in listed
        assert read_study in jane.client.get("/worklist").text
        assert going not in events._describe(service, User("jane", Role.READER), None, 2)
    finally:
        service.studies.delete(record, by="jane")


def test_an_upload_that_is_completed_again_is_the_same_study(browser, service, monkeypatch):
    jane = browser("jane")
    upload_id = jane.announce({"letter.txt": b"x"}).json()["upload_id"]
    path = f"/api/v1/uploads/{upload_id}"
    assert jane.ask("PUT", f"{path}?offset=0", content=b"x").status_code == 200

    def full(*_, **options):
        raise OutputError("the disk is full", code="DISK_FULL")

    for part, act in ((service.studies, "record"), (service.uploads, "drop"), (service.studies, "queue")):
        with monkeypatch.context() as patch:  # as if the server were killed there, or the disk full
            patch.setattr(part, act, full)
            assert code(jane.ask("POST", f"{path}/complete")) == (507, "DISK_FULL")
    done = [jane.ask("POST", f"{path}/complete") for _ in range(2)]
    assert [answer.status_code for answer in done] == [201, 201]
    [study_id] = {answer.json()["study_id"] for answer in done}
    assert jane.wait(study_id)["code"] == "NO_IMAGES", "its files are there, and it was queued"
    assert [entry.action for entry in service.audit.entries(study_id=study_id)] == ["upload"]
    assert code(browser("joe").ask("POST", f"{path}/complete")) == (404, "UNKNOWN_UPLOAD")
    assert jane.ask("DELETE", f"/api/v1/studies/{study_id}").status_code == 204


def test_limits_of_uploads_hold_over_http(browser):
    jane = browser("jane")
    answer = jane.ask("POST", "/api/v1/uploads", json={"files": [{"name": "a", "size": 20 * 1024**3}]})
    assert code(answer) == (413, "UPLOAD_TOO_LARGE")
    made = jane.announce({"a": b"abc"}).json()
    path = f"/api/v1/uploads/{made['upload_id']}"
    assert code(jane.ask("PUT", f"{path}?offset=0", content=b"abcd")) == (413, "CHUNK_TOO_LARGE")
    assert jane.ask("PUT", f"{path}?offset=-1", content=b"a").status_code == 422
    assert code(browser("joe").ask("PUT", f"{path}?offset=0", content=b"abc")) == (404, "UNKNOWN_UPLOAD")
    assert code(jane.ask("POST", f"{path}/complete")) == (409, "INCOMPLETE")
    assert jane.ask("DELETE", path).status_code == 204
    assert LIMITS.open_uploads_of_one == 4


def test_result_files_never_list_what_is_the_pages_own(tmp_path):
    for name in (
        "report.json",
        "viewer/ct.nii.gz",
        "state/diagnosis.npz",
        "overlay/slice-1.sc.dcm",
        "state/painted.gz",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert result_files(tmp_path) == ["overlay/slice-1.sc.dcm", "report.json"]
