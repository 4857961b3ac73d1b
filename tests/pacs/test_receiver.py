"""C-STORE and C-ECHO on loopback: named callers only, hashed names, limits."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, Verification

from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.pacs.receiver import ReceiverSettings, TlsFiles, receiving

from .fake_pacs import ct_file
from .test_tls import make_certificate

pytestmark = pytest.mark.usefixtures("sockets_left_open_are_collected")


def associate(port, caller="SCANNER", called="JCS", **options):
    entity = AE(ae_title=caller)
    for sop_class in (Verification, CTImageStorage, MRImageStorage):
        entity.add_requested_context(sop_class)
    return entity.associate("127.0.0.1", port, ae_title=called, **options)


def settings(**changes):
    return ReceiverSettings(**{"ae_title": "JCS", "callers": ("SCANNER",), "port": 0, **changes})


def test_images_of_a_named_caller_are_written_as_they_came(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="jcs_ct")
    with receiving(settings(), tmp_path) as port:
        association = associate(port)
        assert association.is_established
        assert association.send_c_echo().Status == 0
        for number in range(3):
            status = association.send_c_store(dcmread(BytesIO(ct_file("1.2.77", "1.2.77.1", number))))
            assert status.Status == 0
        association.release()
    files = sorted(tmp_path.rglob("*.dcm"))
    assert len(files) == 3
    assert len({path.parent for path in files}) == 1
    assert {dcmread(path).InstanceNumber for path in files} == {0, 1, 2}
    assert not [path for path in tmp_path.rglob("*") if "77" in path.name and "1.2" in path.name]
    assert "1.2.77" not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("jcs"))


@pytest.mark.parametrize("way", ["abort", "hang up", "release"])
def test_a_folder_of_an_association_that_was_cut_off_is_named(tmp_path, caplog, way):
    with receiving(settings(), tmp_path) as port:
        association = associate(port)
        assert association.send_c_store(dcmread(BytesIO(ct_file("1.2", "1.2.1", 1)))).Status == 0
        if way == "release":
            association.release()
        elif way == "abort":
            association.abort()
        else:
            association.dul.socket.close()
        deadline = time.monotonic() + 10
        while way != "release" and "cut off" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
    (folder,) = tmp_path.iterdir()
    said = f"cut off after 1 objects: folder {folder.name} may hold a part of a study"
    assert (said in caplog.text) == (way != "release")
    assert len(list(folder.iterdir())) == 1, "what was answered with success is kept"


@pytest.mark.parametrize(("caller", "called"), [("STRANGER", "JCS"), ("SCANNER", "OTHER")])
def test_strangers_are_refused(tmp_path, caller, called):
    with receiving(settings(), tmp_path) as port:
        assert not associate(port, caller, called).is_established


def test_what_is_no_ct_is_not_accepted(tmp_path):
    with receiving(settings(), tmp_path) as port:
        association = associate(port)
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        association.release()
    assert accepted == {Verification, CTImageStorage}


def test_limits(tmp_path):
    with receiving(settings(object_bytes=100), tmp_path) as port:
        association = associate(port)
        assert association.send_c_store(dcmread(BytesIO(ct_file("1.2", "1.2.1", 1)))).Status == 0xA700
        association.release()
    assert list(tmp_path.rglob("*.dcm")) == []


def test_the_limit_of_the_folder_holds_for_several_associations_at_once(tmp_path):
    size = len(ct_file("1.2", "1.2.1", 1)) - 300
    with receiving(settings(folder_bytes=5 * size, associations=4), tmp_path) as port:

        def send(number):
            association = associate(port)
            statuses = [
                association.send_c_store(dcmread(BytesIO(ct_file("1.2", f"1.2.{number}", image)))).Status
                for image in range(4)
            ]
            association.release()
            return statuses

        with ThreadPoolExecutor(4) as pool:
            statuses = [status for several in pool.map(send, range(4)) for status in several]
    files = list(tmp_path.rglob("*.dcm"))
    assert set(statuses) == {0, 0xA700}
    assert len(files) == statuses.count(0)
    assert sum(path.stat().st_size for path in files) <= 5 * size


def test_what_lies_there_counts_and_a_duplicate_does_not_count_twice(tmp_path):
    image = dcmread(BytesIO(ct_file("1.2", "1.2.1", 1)))
    with receiving(settings(), tmp_path) as port:
        association = associate(port)
        association.send_c_store(image)
        association.release()
    (held,) = tmp_path.rglob("*.dcm")
    size = held.stat().st_size
    with receiving(settings(folder_bytes=int(3.5 * size)), tmp_path) as port:
        association = associate(port)
        assert [association.send_c_store(image).Status for _ in range(6)] == [0] * 6
        association.release()
        for status in (0, 0xA700):
            association = associate(port)
            assert association.send_c_store(image).Status == status
            association.release()
    assert len({path.parent for path in tmp_path.rglob("*.dcm")}) == 3, "each association has a folder of its own"


def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path, monkeypatch):
    image = dcmread(BytesIO(ct_file("1.2", "1.2.1", 1)))

    def full(path, content):
        raise OutputError("the disk is full (DISK_FULL)")

    with receiving(settings(), tmp_path) as port:
        association = associate(port)
        with monkeypatch.context() as patched:
            patched.setattr("jcs_ct.pacs.receiver.write_bytes", full)
            assert association.send_c_store(image).Status == 0xA700
        assert association.send_c_store(image).Status == 0
        association.release()
    with receiving(settings(least_free_bytes=1 << 60), tmp_path) as port:
        association = associate(port)
        assert association.send_c_store(image).Status == 0xA700
        association.release()


def test_half_open_peers_give_their_places_back(tmp_path):
    with receiving(settings(associations=2, timeout_s=0.5), tmp_path) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        deadline = time.monotonic() + 20
        while not (association := associate(port)).is_established:
            assert time.monotonic() < deadline, "silent peers hold every place"
            time.sleep(0.1)
        association.release()
        for one in silent:
            one.close()


def test_a_caller_above_the_limit_of_associations_is_refused_until_one_ends(tmp_path):
    with receiving(settings(associations=2), tmp_path) as port:
        first, second = associate(port), associate(port)
        assert first.is_established
        assert second.is_established
        assert associate(port).is_rejected
        first.release()
        deadline = time.monotonic() + 10
        while not (third := associate(port)).is_established:
            assert time.monotonic() < deadline, "a place that was given back stays taken"
            time.sleep(0.05)
        third.release()
        second.release()


def test_a_peer_that_drips_gives_its_place_back(tmp_path):
    """A request of a megabyte, a byte at a time: each byte comes in time, the whole never."""
    with receiving(settings(associations=1, timeout_s=0.5), tmp_path) as port:
        slow = socket.create_connection(("127.0.0.1", port))
        slow.sendall(bytes([1, 0]) + (1 << 20).to_bytes(4, "big"))
        deadline = time.monotonic() + 10
        while not (association := associate(port)).is_established:
            assert time.monotonic() < deadline, "a slow peer holds the only place"
            with contextlib.suppress(OSError):
                slow.sendall(b"\0")
            time.sleep(0.1)
        association.release()
        slow.close()


def test_a_peer_that_announces_gigabytes_is_left_at_once(tmp_path):
    with receiving(settings(), tmp_path) as port, socket.create_connection(("127.0.0.1", port), 10) as peer:
        peer.sendall(bytes([1, 0]) + (1 << 31).to_bytes(4, "big"))
        assert peer.recv(1) == b""


def test_an_object_without_end_ends_its_association(tmp_path, monkeypatch):
    monkeypatch.setattr("jcs_ct.pacs.receiver._REFUSED_BYTES", 100_000)
    image = dcmread(BytesIO(ct_file("1.2", "1.2.1", 1)))
    image.BitsAllocated = 16
    with receiving(settings(object_bytes=100_000), tmp_path) as port:
        for count, status in ((90_000, 0), (150_000, 0xA700)):
            image.PixelData = bytes(count)
            association = associate(port)
            assert association.send_c_store(image).Status == status
            association.release()
        image.PixelData = bytes(300_000)
        association = associate(port)
        assert "Status" not in association.send_c_store(image), "the association is lost"
        association.abort()
    assert len(list(tmp_path.rglob("*.dcm"))) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
def test_tls_wants_a_certificate_of_the_caller(tmp_path):
    ours, callers = (make_certificate(tmp_path, name, "IP:127.0.0.1") for name in ("ours", "caller"))
    tls = TlsFiles(ours, ours.with_suffix(".key"), callers)
    with (
        receiving(settings(tls=tls), tmp_path / "in") as port,
        socket.create_connection(("127.0.0.1", port)),  # says nothing, and stops nobody
    ):
        assert not associate(port).is_established
        context = ssl.create_default_context(cafile=str(ours))
        assert not associate(port, tls_args=(context, "127.0.0.1")).is_established
        context.load_cert_chain(callers, callers.with_suffix(".key"))
        association = associate(port, tls_args=(context, "127.0.0.1"))
        assert association.is_established
        assert association.send_c_store(dcmread(BytesIO(ct_file("1.2", "1.2.1", 1)))).Status == 0
        association.release()
    with pytest.raises(ConfigError, match="TLS files cannot be used"):
        TlsFiles(ours, callers, callers)


def test_a_port_that_is_taken(tmp_path):
    with (
        receiving(settings(), tmp_path) as port,
        pytest.raises(ConfigError, match=f"port {port} cannot") as caught,
    ):
        receiving(settings(port=port), tmp_path).__enter__()
    assert "folder" not in caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"callers": ()}, "name the callers"),
        ({"callers": ("A" * 17,)}, "1 to 16 printable ASCII"),
        ({"ae_title": ""}, "1 to 16 printable ASCII"),
        ({"associations": 0}, "greater than 0"),
    ],
)
def test_settings_that_cannot_be_used(changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(**changes)
