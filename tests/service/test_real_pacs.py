"""The page beside a real Orthanc: a study is picked, read, corrected and sent back; what Orthanc then holds."""

from __future__ import annotations

import io

import httpx2
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage

from ..pacs.needs_orthanc import Orthanc, needs_orthanc
from .conftest import Server, add_users, serve_command
from .placing import seg_places, viewer_places
from .screen import drag, log_in, mask_of, open_study

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(600), needs_orthanc]


def held(orthanc: Orthanc, study_uid: str) -> list[Dataset]:
    """Every object of a study, by Orthanc's own interface."""
    asked = {"Level": "Instance", "Query": {"StudyInstanceUID": study_uid}}
    names = httpx2.post(f"{orthanc.url}/tools/find", json=asked).json()
    return [dcmread(io.BytesIO(httpx2.get(f"{orthanc.url}/instances/{name}/file").content)) for name in names]


@pytest.fixture
def orthanc(tmp_path, phantom_folder):
    (tmp_path / "orthanc").mkdir()
    server = Orthanc(tmp_path / "orthanc")
    server.start()
    for path in sorted(phantom_folder.iterdir()):
        httpx2.post(f"{server.url}/instances", content=path.read_bytes()).raise_for_status()
    yield server
    server.stop()


def test_a_study_of_orthanc_is_read_corrected_and_sent_back(
    chromium, orthanc, random_models, phantom_folder, tmp_path
):
    source = [dcmread(path, stop_before_pixels=True) for path in sorted(phantom_folder.iterdir())]
    folder = tmp_path / "serve"
    folder.mkdir()
    add_users(folder)
    server = Server(folder, serve_command(folder, models=random_models, pacs=f"{orthanc.url}/dicom-web"))
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(120_000)
    try:
        log_in(page, server, "jane")
        page.get_by_label("Name of the study").fill("From Orthanc")
        page.get_by_text("From the PACS").click()
        page.get_by_label("Patient ID").fill("somebody else")
        page.get_by_role("button", name="Search").click()
        page.get_by_text("holds no CT study for that patient").wait_for()
        page.get_by_label("Patient ID").fill(source[0].PatientID)
        page.get_by_role("button", name="Search").click()
        page.get_by_role("button", name="Fetch and read").click()
        open_study(page, "From Orthanc")
        page.get_by_role("button", name="Send the automatic results to the PACS").click()
        page.get_by_text("objects are in the PACS").wait_for()
        machine = {one.SOPInstanceUID for one in held(orthanc, source[0].StudyInstanceUID)}

        page.evaluate("scrollTo(0, 0)")  # the button lay below
        page.keyboard.press("e")
        drag(page, (0.42, 0.45), (0.55, 0.6))
        painted = mask_of(page)
        grid = page.evaluate("jcsState.viewer.grid")
        page.get_by_role("button", name="Save as a new version").click()
        page.wait_for_url("**version=1")
        page.locator("body[data-viewer=ready]").wait_for()
        for _ in range(2):
            with page.expect_response("**/send?version=1") as answer:
                page.get_by_role("button", name="Send version 1 to the PACS").click()
            assert answer.value.json()["stored"] == 2
    finally:
        page.close()
        server.kill()

    objects = held(orthanc, source[0].StudyInstanceUID)
    assert len({one.SOPInstanceUID for one in objects}) == len(objects), "none twice"
    assert {one.PatientID for one in objects} == {source[0].PatientID}
    assert {one.StudyInstanceUID for one in objects} == {source[0].StudyInstanceUID}
    images = [one for one in objects if one.SOPClassUID == CTImageStorage]
    assert {one.SOPInstanceUID for one in images} == {one.SOPInstanceUID for one in source}, "as they were"
    corrected = {one.Modality: one for one in objects if one.SOPInstanceUID not in machine}
    assert set(corrected) == {"SEG", "SR"}
    assert str(corrected["SEG"].ContentCreatorName) == "jane"
    [observer] = [one.PersonName for one in corrected["SR"].ContentSequence if one.ValueType == "PNAME"]
    assert str(observer) == "jane"
    named = {
        one.ReferencedSOPInstanceUID
        for one in corrected["SEG"].ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert named <= {one.SOPInstanceUID for one in source}
    corrected["SEG"].save_as(tmp_path / "seg.dcm")
    assert seg_places(tmp_path / "seg.dcm") == viewer_places(grid, np.asarray(painted))
    print(
        {modality: sum(one.Modality == modality for one in objects) for modality in {one.Modality for one in objects}}
    )
