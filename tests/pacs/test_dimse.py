"""Searching, fetching and storing over DIMSE: a server in this process, with and without TLS, and a real Orthanc."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import threading
import time
from datetime import date
from io import BytesIO

import numpy as np
import pytest
from pydicom import config as pydicom_config
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.jobs import JobKey, RetryPolicy
from jcs_ct.pacs.association import DimseServer
from jcs_ct.pacs.dimse import Dimse
from jcs_ct.pacs.remote import RemoteStudy, StudyQuery
from jcs_ct.pacs.server import (
    PacsCertificateError,
    PacsDeniedError,
    PacsGoneError,
    PacsIncompleteError,
    PacsRefusedError,
    PacsUnavailableError,
)
from jcs_ct.pacs.watch import WatchSettings
from jcs_ct.pacs.watcher_setup import open_watcher

from .fake_dimse import FakeDimse, serving
from .fake_pacs import ct_file
from .needs_orthanc import Orthanc, needs_orthanc
from .played_readings import PlayedWorker
from .test_tls import make_certificate

#: pynetdicom closes the socket of a connection that was refused by letting go of it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning"),
    pytest.mark.usefixtures("sockets_left_open_are_collected"),
]


@pytest.fixture
def pacs():
    with serving(FakeDimse()) as held:
        yield held


def client(held, *, title="PACS", **options):
    options = {"retries": 0, "timeout_s": 10.0, **options}
    return Dimse(DimseServer(f"dimse://{title}@127.0.0.1:{held.port}", **options), sleep=lambda seconds: None)


def fill(held, study="1.2.3", images=3):
    for number in range(1, images + 1):
        held.add(ct_file(study, f"{study}.1", number))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(params=["get", "move"])
def way(request, pacs):
    """Options of a client that fetches by C-GET, or by C-MOVE."""
    if request.param == "get":
        return {}
    port = free_port()
    pacs.destinations["JCS"] = port
    return {"move_port": port}


def numbers_in(folder):
    return sorted(int(dcmread(path).InstanceNumber) for path in folder.glob("*.dcm"))


def test_studies_are_found_by_modality_day_and_identifier(pacs):
    fill(pacs)
    pacs.add(ct_file("1.2.4", "1.2.4.1", 1, modality="SR"))
    fill(pacs, "1.2.5", images=1)
    for one in pacs.instances.values():
        one.StudyDate, one.PatientID = ("20200102" if one.StudyInstanceUID == "1.2.5" else "20260101"), "P"
    found = client(pacs).studies(StudyQuery(since=date(2025, 1, 1)))
    assert [(one.uid, one.instance_count, one.date) for one in found] == [("1.2.3", 3, "20260101")]
    assert found[0].patient_key
    assert found[0].patient_key != "P"
    assert client(pacs).study("1.2.5").instance_count == 1
    assert client(pacs).study("1.2.6") == RemoteStudy("1.2.6")
    assert client(pacs).answers()


def test_a_study_is_fetched_as_it_is_stored_and_goes_on_where_it_was_cut(pacs, way, tmp_path):
    fill(pacs)
    compressed = pacs.instances["1.2.3.1.2"]
    compressed.Rows = compressed.Columns = 4
    compressed.SamplesPerPixel, compressed.PhotometricInterpretation, compressed.PixelRepresentation = (
        1,
        "MONOCHROME2",
        0,
    )
    compressed.BitsAllocated, compressed.BitsStored, compressed.HighBit = 16, 16, 15
    compressed.PixelData = np.arange(16, dtype=np.uint16).tobytes()
    compressed.compress(RLELossless)
    pacs.add(ct_file("1.2.3", "1.2.3.9", 1, modality="SR"))
    told = []
    archive = client(pacs, **way)
    listing = archive.fetch_study("1.2.3", tmp_path, advance=lambda done, total: told.append((done, total)))
    assert listing.image_count == 3
    assert numbers_in(tmp_path) == [1, 2, 3]
    assert told[-1] == (3, 3)
    (as_stored,) = [one for one in map(dcmread, tmp_path.glob("*.dcm")) if one.InstanceNumber == 2]
    assert as_stored.file_meta.TransferSyntaxUID == RLELossless
    assert (as_stored.pixel_array == np.arange(16).reshape(4, 4)).all()
    assert not [path for path in tmp_path.iterdir() if "1.2.3" in path.name]
    next(tmp_path.glob("*.dcm")).unlink()
    pacs.requests.clear()
    archive.fetch_study("1.2.3", tmp_path)
    assert numbers_in(tmp_path) == [1, 2, 3]
    assert [level for kind, level in pacs.requests if kind == "retrieve"] == ["IMAGE"]


def test_a_dose_page_of_modality_ct_is_none_of_the_images(pacs, way, tmp_path):
    fill(pacs)
    page = dcmread(BytesIO(ct_file("1.2.3", "1.2.3.2", 1)))
    page.SOPClassUID = page.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    pacs.instances["1.2.3.2.1"] = page
    assert client(pacs, **way).fetch_study("1.2.3", tmp_path).image_count == 3
    assert numbers_in(tmp_path) == [1, 2, 3]


def test_what_a_series_left_out_is_asked_for_alone_and_what_nobody_asked_for_is_refused(pacs, way, tmp_path):
    fill(pacs)
    pacs.sends_at_most = 2
    client(pacs, **way).fetch_study("1.2.3", tmp_path / "cut")
    assert numbers_in(tmp_path / "cut") == [1, 2, 3]
    pacs.sends_wrong = True
    with pytest.raises(PacsIncompleteError, match="files lie on disk after a fetch of 3 images"):
        client(pacs, **way).fetch_study("1.2.3", tmp_path / "wrong")


def test_a_full_disk_ends_a_fetch(pacs, way, tmp_path, monkeypatch):
    def full(path, content):
        raise OutputError("the disk is full (DISK_FULL)")

    fill(pacs)
    monkeypatch.setattr("jcs_ct.pacs.dimse.write_bytes", full)
    with pytest.raises(OutputError, match="DISK_FULL"):
        client(pacs, **way).fetch_study("1.2.3", tmp_path)


def test_lists_that_are_cut_are_refused(pacs):
    fill(pacs)
    fill(pacs, "1.2.4")
    pacs.count_error = 2
    with pytest.raises(PacsIncompleteError, match="counts 5 images in a CT series and lists 3"):
        client(pacs).listing(RemoteStudy("1.2.3"))
    pacs.count_error, pacs.stops_after = 0, 1
    for status in (0xA700, 0xFE00):
        pacs.stops_with = status
        with pytest.raises(PacsIncompleteError, match="stops its list after 1 results"):
            client(pacs).studies()
    pacs.stops_with = 0xC001
    with pytest.raises(PacsRefusedError, match="refuses a search"):
        client(pacs).studies()
    pacs.stops_after, pacs.states_counts = 10, False
    assert client(pacs).listing(RemoteStudy("1.2.3")).image_count == 3
    with pytest.raises(PacsGoneError, match="lists no series"):
        client(pacs).listing(RemoteStudy("1.2.9"))


def test_servers_that_do_not_answer_refuse_us_or_know_no_way_to_send(pacs, tmp_path):
    fill(pacs)
    with pytest.raises(PacsDeniedError, match="'OTHER' refuses 'JCS': it is not called so"):
        client(pacs, title="OTHER").studies()
    with pytest.raises(PacsDeniedError, match="does not know the calling AE title"):
        client(pacs, ae_title="STRANGER").studies()
    with pytest.raises(PacsRefusedError, match="knows no destination 'JCS'"):
        client(pacs, move_port=free_port()).fetch_study("1.2.3", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} for what the PACS sends cannot be opened"):
            client(pacs, move_port=port).fetch_study("1.2.3", tmp_path)
    waits = []
    nobody = Dimse(DimseServer(f"dimse://PACS@127.0.0.1:{free_port()}", retries=2), sleep=waits.append)
    with pytest.raises(PacsUnavailableError, match="does not answer"):
        nobody.studies()
    assert waits == [1.0, 2.0]
    assert not nobody.answers()


def test_a_server_that_drips_is_left():
    """It accepts an association a byte at a time: each comes in time, the whole never."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip():
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(bytes([2, 0]) + (1 << 19).to_bytes(4, "big"))
                for _ in range(200):
                    connection.sendall(b"\0")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        slow = Dimse(DimseServer(f"dimse://PACS@127.0.0.1:{listening.getsockname()[1]}", retries=0, timeout_s=0.5))
        started = time.monotonic()
        with pytest.raises(PacsUnavailableError):
            slow.studies()
        thread.join()
        assert time.monotonic() - started < 5


def test_a_server_without_c_get_says_what_to_do(tmp_path):
    with serving(FakeDimse(offers_get=False)) as held:
        fill(held)
        with pytest.raises(PacsRefusedError, match="--move-port"):
            client(held).fetch_study("1.2.3", tmp_path)


def test_results_are_stored_and_refusals_told(pacs, tmp_path):
    path = tmp_path / "one.dcm"
    path.write_bytes(ct_file("1.2.3", "1.2.3.9", 1, modality="SR"))
    archive = client(pacs)
    for status, present, warned in ((0x0000, 0, 0), (0xB000, 0, 1), (0x0111, 1, 0)):
        pacs.store_status = status
        receipt = archive.store([path])
        assert (receipt.stored, receipt.present, receipt.warned) == (1, present, warned)
    assert len(pacs.of_modality("SR")) == 1
    pacs.store_status = 0xA700
    with pytest.raises(PacsRefusedError, match=r"did not store 1 of 1 results .*A700H"):
        archive.store([path])


def overlay_in(folder):
    """A Secondary Capture image in RLE, as overlays are written; its pixels."""
    pixels = np.random.default_rng(3).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    dataset = dcmread(BytesIO(ct_file("1.2.3", "1.2.3.8", 1, modality="OT")))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.set_pixel_data(pixels, "RGB", 8, generate_instance_uid=False)
    dataset.compress(RLELossless, generate_instance_uid=False)
    path = folder / "slice-0001.sc.dcm"
    dataset.save_as(path)
    return path, pixels


@pytest.mark.parametrize(
    ("taken", "came"),
    [
        ((ExplicitVRLittleEndian, RLELossless), RLELossless),
        ((RLELossless,), RLELossless),
        ((ExplicitVRLittleEndian,), ExplicitVRLittleEndian),
    ],
)
def test_overlays_are_stored_in_rle_or_unpacked_where_the_server_does_not_take_it(tmp_path, taken, came):
    path, pixels = overlay_in(tmp_path)
    with serving(FakeDimse(pictures_in=taken)) as held:
        assert client(held).store([path]).stored == 1
    (stored,) = held.instances.values()
    assert (stored.file_meta.TransferSyntaxUID, stored.SOPInstanceUID) == (came, "1.2.3.8.1")
    np.testing.assert_array_equal(stored.pixel_array, pixels)


def test_a_file_without_a_transfer_syntax_is_refused_before_anything_is_sent(pacs, tmp_path):
    path, _ = overlay_in(tmp_path)
    dataset = dcmread(path)
    del dataset.file_meta.TransferSyntaxUID
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    with pytest.raises(ConfigError, match=r"slice-0001\.sc\.dcm states no transfer syntax"):
        client(pacs).store([path])


def test_nothing_is_stored_where_the_server_does_not_take_some_kind_of_result(pacs, tmp_path):
    report = tmp_path / "one.dcm"
    report.write_bytes(ct_file("1.2.3", "1.2.3.9", 1, modality="SR"))
    with pytest.raises(PacsRefusedError, match="take Secondary Capture Image Storage in RLE Lossless; nothing was"):
        client(pacs).store([report, overlay_in(tmp_path)[0]])
    assert not pacs.instances


def test_the_watcher_reads_each_study_once_over_dimse(pacs, way, tmp_path):
    fill(pacs)
    now = [1e9]
    settings = WatchSettings(outage_wait_s=0.0, least_free_bytes=0)
    key = JobKey("any", "weights", "point", "1.0")
    with open_watcher(
        client(pacs, **way), tmp_path, key, settings=settings, settle_s=30.0, retries=RetryPolicy(first_wait_s=0.0)
    ) as watcher:
        watcher.worker = worker = PlayedWorker()
        watcher.clock = watcher.survey.clock = lambda: now[0]
        for _ in range(4):
            watcher.look()
            now[0] += 31
        assert [(str(job.state), job.code) for job in watcher.ledger.jobs()] == [("done", "")]
        assert [one["images"] for one in worker.readings] == [3]
        assert len(pacs.of_modality("SR")) == len(pacs.of_modality("SEG")) == 1
        fill(pacs, images=4)
        for _ in range(3):
            now[0] += 31
            watcher.look()
        assert [one["images"] for one in worker.readings] == [3, 4]
        assert len(worker.readings[1]["supersedes"]) == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
@pytest.mark.parametrize("by_move", [False, True])
def test_tls_both_ways(tmp_path, by_move):
    theirs, ours, other = (
        make_certificate(tmp_path, name, subject)
        for name, subject in (("pacs", "IP:127.0.0.1"), ("jcs", "IP:127.0.0.1"), ("other", "DNS:pacs.example"))
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs, theirs.with_suffix(".key"))
    context.load_verify_locations(ours)
    context.verify_mode = ssl.CERT_REQUIRED
    sends = ssl.create_default_context(cafile=str(ours))
    sends.load_cert_chain(theirs, theirs.with_suffix(".key"))
    port = free_port() if by_move else None
    held = FakeDimse(destinations={"JCS": port or 0}, destination_tls=sends)
    options = {
        "certificate": ours,
        "key": ours.with_suffix(".key"),
        "move_port": port,
        "retries": 0,
        "timeout_s": 5.0,
    }
    with serving(held, tls=context):
        fill(held)
        address = f"dimses://PACS@127.0.0.1:{held.port}"
        archive = Dimse(DimseServer(address, ca_bundle=str(theirs), **options))
        archive.fetch_study("1.2.3", tmp_path / "fetched")
        assert numbers_in(tmp_path / "fetched") == [1, 2, 3]
        with pytest.raises(PacsCertificateError, match="not trusted"):
            Dimse(DimseServer(address, ca_bundle=str(other), **options)).studies()
        with pytest.raises(PacsUnavailableError):  # it wants our certificate
            Dimse(DimseServer(address, ca_bundle=str(theirs), retries=0, timeout_s=5.0)).studies()


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("dimse://127.0.0.1:104", {}, "dimse://TITLE@host:port"),
        ("dimse://A@B@host:104", {}, "dimse://TITLE@host:port"),
        (f"dimse://{'A' * 17}@host:104", {}, "1 to 16 printable ASCII"),
        ("dimse://PACS@host:104", {"ae_title": ""}, "1 to 16 printable ASCII"),
        ("dimse://PACS@host:104", {"certificate": "a.pem"}, "belong together"),
        ("dimses://PACS@host:104", {"move_port": 104}, "makes us a server, too"),
        ("dimses://PACS@host:104", {"ca_bundle": __file__}, "TLS files cannot be used"),
        ("dimse://PACS@host:104", {"timeout_s": 0}, "greater than 0"),
    ],
)
def test_addresses_that_cannot_be_used(url, options, message):
    with pytest.raises(ConfigError, match=message):
        DimseServer(url, **options)


def test_the_commands_take_dimse_addresses(pacs, tmp_path):
    fill(pacs)
    address, runner = f"dimse://PACS@127.0.0.1:{pacs.port}", CliRunner()
    said = runner.invoke(app, ["pacs", "fetch", address, "1.2.3", "-o", str(tmp_path / "in")])
    assert said.exit_code == 0, said.output
    assert "3 CT images" in said.output
    assert "images: 3/3 in " in said.stderr
    (tmp_path / "sr.dcm").write_bytes(ct_file("1.2.3", "1.2.3.9", 1, modality="SR"))
    said = runner.invoke(app, ["pacs", "send", address, str(tmp_path / "sr.dcm"), "--any-dicom"])
    assert "1 object stored\n" in said.output
    assert "objects: 1/1 in " in said.stderr
    pacs.store_status = 0xB000
    said = runner.invoke(app, ["pacs", "send", address, str(tmp_path / "sr.dcm"), "--any-dicom"])
    assert "1 object stored, the PACS warns that it changed 1 of them; see its log" in said.output


def test_the_structured_report_is_sent_last(pacs, tmp_path):
    for number, name in enumerate(("findings.sr.dcm", "lesions.seg.dcm", "report.pdf.dcm"), start=1):
        (tmp_path / name).write_bytes(ct_file("1.2.3", "1.2.3.9", number, modality="SR"))
    address = f"dimse://PACS@127.0.0.1:{pacs.port}"
    assert CliRunner().invoke(app, ["pacs", "send", address, str(tmp_path), "--any-dicom"]).exit_code == 0
    assert [int(one.InstanceNumber) for one in pacs.instances.values()] == [2, 3, 1]


def test_an_identifier_that_is_no_uid_is_fetched_and_not_told(pacs, tmp_path, caplog, recwarn):
    with pydicom_config.disable_value_validation():
        fill(pacs, study="1.2.03")
    arguments = ["pacs", "fetch", f"dimse://PACS@127.0.0.1:{pacs.port}", "1.2.03", "-o", str(tmp_path)]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 0, said.output
    assert "3 CT images" in said.output
    assert "1.2.03" not in said.stderr + caplog.text + "".join(str(one.message) for one in recwarn)


@needs_orthanc
@pytest.mark.slow
@pytest.mark.parametrize("by_move", [False, True])
def test_a_real_server(tmp_path, by_move):
    port = free_port()
    server = Orthanc(tmp_path, callers={"JCS": port})
    server.start()
    try:
        archive = Dimse(
            DimseServer(f"dimse://ORTHANC@127.0.0.1:{server.dicom_port}", move_port=port if by_move else None)
        )
        sent = [tmp_path / f"{number}.dcm" for number in range(12)]
        for number, path in enumerate(sent):
            path.write_bytes(ct_file("1.2.3", "1.2.3.1", number))
        assert archive.store(sent).stored == 12
        assert archive.store(sent).stored == 12
        (study,) = archive.studies()
        assert (study.uid, study.instance_count) == ("1.2.3", 12)
        assert archive.fetch_study("1.2.3", tmp_path / "in").image_count == 12
        assert numbers_in(tmp_path / "in") == list(range(12))
        held = {one.SOPInstanceUID: one for one in map(dcmread, (tmp_path / "in").glob("*.dcm"))}
        assert all(held[one.SOPInstanceUID] == one for one in map(dcmread, sent))
        with pytest.raises(PacsGoneError):
            archive.fetch_study("1.2.4", tmp_path / "none")
    finally:
        server.stop()
