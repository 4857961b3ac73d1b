"""The watcher against a real Orthanc on loopback: results arrive once, whatever is killed or down."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
import requests
from pydicom import dcmread

from jcs_ct.pacs.jobs import JobStore
from jcs_ct.pacs.web import DicomWeb, PacsServer, RemoteSeries
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.dicom import write_dicom

from .orthanc_server import Orthanc, needs_orthanc

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), needs_orthanc]


@pytest.fixture
def orthanc(tmp_path):
    server = Orthanc(tmp_path)
    server.start()
    yield server
    server.stop()


def watch(orthanc, folder, models, *options):
    command = [sys.executable, "-m", "jcs_ct", "--verbose", "pacs", "watch", f"{orthanc.url}/dicom-web"]
    command += ["--folder", str(folder), "--models", str(models), "--every-s", "0.5", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def state_of(folder):
    if not (folder / "jobs.sqlite").exists():
        return ""
    store = JobStore(folder / "jobs.sqlite")
    states = [str(job.state) for job in store.all_jobs()]
    store.close()
    return states[0] if states else ""


def test_results_arrive_once_whatever_is_killed_or_down(orthanc, random_models, tmp_path):
    write_dicom(make_phantom(PhantomConfig(slices=8, size=64, lesions=2, seed=5)), tmp_path)
    for path in sorted((tmp_path / "dicom").iterdir()):
        requests.post(f"{orthanc.url}/instances", data=path.read_bytes(), timeout=60).raise_for_status()
    folder = tmp_path / "watched"

    first = watch(orthanc, folder, random_models)
    while state_of(folder) != "queued":
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)  # in the middle of fetching or reading
    first.communicate()
    assert state_of(folder) == "queued"

    second = watch(orthanc, folder, random_models, "--once")
    while state_of(folder) == "queued" and second.poll() is None:
        orthanc_may_go_down = (folder / "studies").exists() and any((folder / "studies").glob("*/results/*"))
        if orthanc_may_go_down:
            orthanc.stop()
            break
        time.sleep(0.05)
    time.sleep(3)
    orthanc.start()
    _, said = second.communicate(timeout=900)
    assert second.returncode == 0, said
    assert state_of(folder) == "stored"

    (results,) = (folder / "studies").glob("*/results")
    files = {str(dcmread(path).SOPInstanceUID): path for path in results.rglob("*.dcm")}
    third = watch(orthanc, folder, random_models, "--once")
    _, said = third.communicate(timeout=900)
    assert third.returncode == 0, said
    check_held(orthanc, files)


def check_held(orthanc, files):
    """QIDO finds exactly the results, and WADO returns the bytes that were sent."""
    web = DicomWeb(PacsServer(f"{orthanc.url}/dicom-web"))
    (study,) = web.ct_studies()
    held: dict[str, bytes] = {}
    for item in web._query(f"/studies/{study}/series", {}):
        modality, series = item["00080060"]["Value"][0], item["0020000E"]["Value"][0]
        if modality != "CT":
            remote = RemoteSeries(study, series, 0)
            held |= {uid: web.instance(remote, uid) for uid in web.instances(remote)}
    web.close()
    assert set(held) == set(files)
    assert [uid for uid, path in files.items() if path.read_bytes() != held[uid]] == []
