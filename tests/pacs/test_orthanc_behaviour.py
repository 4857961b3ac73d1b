"""What a real Orthanc does, line by line of the table in docs/reference/pacs-servers.md; readings are played."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing, contextmanager

import numpy as np
import pytest
import requests
from pydicom import dcmread
from pydicom.uid import RLELossless

from jcs_ct.jobs import JobKey, RetryPolicy
from jcs_ct.pacs.dicomweb import DicomWeb
from jcs_ct.pacs.server import PacsGoneError, PacsServer, PacsUnavailableError
from jcs_ct.pacs.watch import WatchSettings
from jcs_ct.pacs.watcher_setup import open_watcher

from .fake_pacs import ct_file
from .needs_orthanc import Orthanc, needs_orthanc
from .played_readings import PlayedWorker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), needs_orthanc]

KEY = JobKey("any", "weights", "point", "1.0")


@pytest.fixture
def orthanc(tmp_path):
    server = Orthanc(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def web(orthanc):
    with closing(DicomWeb(PacsServer(f"{orthanc.url}/dicom-web", retries=0))) as client:
        yield client


@pytest.fixture
def worker():
    return PlayedWorker()


def put(orthanc, *files):
    with requests.Session() as session:
        for content in files:
            session.post(f"{orthanc.url}/instances", data=content, timeout=60).raise_for_status()


def images(study, *numbers, patient="P"):
    return [ct_file(study, f"{study}.1", number, patient=patient) for number in numbers]


def delete_everything(orthanc):
    for one in requests.get(f"{orthanc.url}/studies", timeout=60).json():
        requests.delete(f"{orthanc.url}/studies/{one}", timeout=60).raise_for_status()


def held(orthanc):
    """How many objects of each modality lie there."""
    found = Counter()
    for one in requests.get(f"{orthanc.url}/series?expand", timeout=60).json():
        found[one["MainDicomTags"]["Modality"]] += len(one["Instances"])
    return dict(found)


@contextmanager
def watching(orthanc, folder, worker, settle_s=0.0):
    settings = WatchSettings(outage_wait_s=0.0, least_free_bytes=0)
    with (
        closing(DicomWeb(PacsServer(f"{orthanc.url}/dicom-web", retries=0))) as client,
        open_watcher(
            client, folder, KEY, settle_s=settle_s, settings=settings, retries=RetryPolicy(first_wait_s=0.0)
        ) as watcher,
    ):
        watcher.worker = worker
        yield watcher


def test_orthanc_lists_every_study_though_it_cuts_its_pages(orthanc, web):
    put(orthanc, *(ct_file(f"1.2.{number}", f"1.2.{number}.1", 1) for number in range(230)))
    put(orthanc, ct_file("1.3.1", "1.3.1.1", 1, modality="SR"))
    assert sorted(one.uid for one in web.studies()) == sorted(f"1.2.{number}" for number in range(230))


def test_orthanc_lists_every_image_of_a_long_series(orthanc, web):
    put(orthanc, *images("1.2.3", *range(230)))
    (series,) = web.listing(web.study("1.2.3")).series
    assert (series.instance_count, len(series.images)) == (230, 230)


def test_orthanc_counts_what_has_arrived_and_a_study_is_read_at_rest(orthanc, worker, tmp_path):
    now = [1e9]
    with watching(orthanc, tmp_path / "watched", worker, settle_s=30.0) as watcher:
        watcher.clock = watcher.survey.clock = lambda: now[0]
        for number in range(1, 5):
            put(orthanc, *images("1.2.3", number))
            watcher.look()
            now[0] += 29
        assert worker.calls == 0
        now[0] += 2
        watcher.look()
        assert [one["images"] for one in worker.readings] == [4]
        now[0] += 60
        watcher.look()
        assert worker.calls == 1
    assert held(orthanc) == {"CT": 4, "SEG": 1, "SR": 1}


def test_orthanc_takes_a_duplicate_and_keeps_the_first(orthanc, web, tmp_path):
    path = tmp_path / "sr.dcm"
    path.write_bytes(ct_file("1.2.3", "1.2.3.9", 1, modality="SR"))
    for _ in range(3):
        assert web.store([path]).stored == 1
    assert held(orthanc) == {"SR": 1}


def test_orthanc_gives_compressed_images_as_they_are_stored(orthanc, web, tmp_path):
    first = tmp_path / "first.dcm"
    first.write_bytes(images("1.2.3", 1)[0])
    image = dcmread(first)
    image.Rows = image.Columns = 4
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelData = np.arange(16, dtype=np.uint16).tobytes()
    image.compress(RLELossless)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.3.1.1"
    image.save_as(first)
    put(orthanc, first.read_bytes())
    web.fetch_study("1.2.3", tmp_path / "in")
    (fetched,) = (tmp_path / "in").iterdir()
    assert dcmread(fetched).file_meta.TransferSyntaxUID == RLELossless
    assert (dcmread(fetched).pixel_array == np.arange(16).reshape(4, 4)).all()


def test_orthanc_gets_late_images_and_the_old_results_are_superseded(orthanc, worker, tmp_path):
    put(orthanc, *images("1.2.3", 1, 2))
    with watching(orthanc, tmp_path / "watched", worker) as watcher:
        watcher.look()
        first = {one.instance for one in watcher.book.results("1.2.3")}
        put(orthanc, *images("1.2.3", 3))
        watcher.look()
        watcher.look()
        assert [one["images"] for one in worker.readings] == [2, 3]
        assert {one["instance"] for one in worker.readings[1]["supersedes"]} == first
    assert held(orthanc) == {"CT": 3, "SEG": 2, "SR": 2}


def test_orthanc_forgets_a_deleted_study_and_so_do_we(orthanc, web, worker, tmp_path):
    put(orthanc, *images("1.2.3", 1, 2))
    with watching(orthanc, tmp_path / "watched", worker) as watcher:
        watcher.look()
        delete_everything(orthanc)
        watcher.look()
        assert watcher.book.sightings() == {}
        with pytest.raises(PacsGoneError):
            web.fetch_study("1.2.3", tmp_path / "in")
        put(orthanc, *images("1.2.3", 1, 2))
        watcher.look()
    assert worker.calls == 2
    assert held(orthanc) == {"CT": 2, "SEG": 1, "SR": 1}


def test_orthanc_gets_a_used_identifier_for_another_patient(orthanc, worker, tmp_path):
    put(orthanc, *images("1.2.3", 1, 2, patient="ONE"))
    with watching(orthanc, tmp_path / "watched", worker) as watcher:
        watcher.look()
        delete_everything(orthanc)
        put(orthanc, *images("1.2.3", 1, 2, patient="TWO"))
        watcher.look()
        watcher.look()
        assert worker.calls == 2
        assert [str(job.state) for job in watcher.ledger.jobs()] == ["done", "done"]
    assert held(orthanc) == {"CT": 2, "SEG": 1, "SR": 1}


def test_orthanc_serves_two_watchers_and_holds_one_result_set(orthanc, tmp_path):
    put(orthanc, *images("1.2.3", 1, 2))
    both_have_read = threading.Barrier(2, timeout=60)

    def watch(name):
        worker = PlayedWorker(ending=lambda: (both_have_read.wait(), None)[1])
        with watching(orthanc, tmp_path / name, worker) as watcher:
            watcher.look()
            states.append([str(job.state) for job in watcher.ledger.jobs()])

    states = []
    threads = [threading.Thread(target=watch, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == [["done"], ["done"]]
    assert held(orthanc) == {"CT": 2, "SEG": 1, "SR": 1}


def test_orthanc_that_is_down_costs_no_attempt(orthanc, worker, tmp_path):
    put(orthanc, *images("1.2.3", 1, 2))
    with watching(orthanc, tmp_path / "watched", worker) as watcher:
        worker.ending = orthanc.stop
        watcher.look()
        (job,) = watcher.ledger.jobs()
        assert (str(job.state), job.code, job.attempts) == ("read", PacsUnavailableError.code, 0)
        assert not watcher.look()
        orthanc.start()
        watcher.look()
        (job,) = watcher.ledger.jobs()
        assert str(job.state) == "done"
    assert worker.calls == 1
    assert held(orthanc) == {"CT": 2, "SEG": 1, "SR": 1}
