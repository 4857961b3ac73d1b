"""The watcher against a real Orthanc on loopback: results arrive once, whatever is killed or down."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import pytest
import requests
from pydicom import dcmread

from jcs_ct.jobs import Ledger
from jcs_ct.pacs.dicomweb import DicomWeb
from jcs_ct.pacs.server import PacsServer
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom

from .needs_orthanc import Orthanc, needs_orthanc

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), needs_orthanc]


@pytest.fixture
def orthanc(tmp_path):
    server = Orthanc(tmp_path)
    server.start()
    yield server
    server.stop()


def watch(orthanc, folder, models, *options):
    command = [sys.executable, "-m", "jcs_ct", "--verbose", "pacs", "watch", f"{orthanc.url}/dicom-web"]
    command += ["--folder", str(folder), "--models", str(models), "--every-s", "0.5", "--settle-s", "1", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def state_of(folder):
    if not (folder / "jobs.sqlite").exists():
        return ""
    with Ledger(folder / "jobs.sqlite") as ledger:
        states = [str(job.state) for job in ledger.jobs()]
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
        if any((folder / "studies").glob("*/results/*")):  # it is being read: the server is down when it is done
            orthanc.stop()
            break
        time.sleep(0.05)
    kept = tmp_path / "kept"
    while second.poll() is None and state_of(folder) != "read":
        time.sleep(0.05)
    shutil.copytree(next((folder / "studies").glob("*/results")), kept)
    orthanc.start()
    _, said = second.communicate(timeout=900)
    assert second.returncode == 0, said
    assert state_of(folder) == "done"
    assert not list((folder / "studies").iterdir()), "nothing of the patient stays on disk"

    files = {str(dcmread(path).SOPInstanceUID): path for path in kept.rglob("*.dcm")}
    third = watch(orthanc, folder, random_models, "--once")
    _, said = third.communicate(timeout=900)
    assert third.returncode == 0, said
    check_held(orthanc, files)


def check_held(orthanc, files):
    """QIDO finds exactly the results, and WADO returns the bytes that were sent."""
    web = DicomWeb(PacsServer(f"{orthanc.url}/dicom-web"))
    (study,) = (one.uid for one in web.studies())
    held: dict[str, bytes] = {}
    for series in web.listing(web.study(study)).series:
        if series.modality != "CT":
            held |= {uid: web.instance(series, uid) for uid in web._instances_of(series)}
    web.close()
    assert set(held) == set(files)
    assert [uid for uid, path in files.items() if path.read_bytes() != held[uid]] == []
