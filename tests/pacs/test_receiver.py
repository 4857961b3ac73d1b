"""C-STORE and C-ECHO on loopback: named callers only, hashed names, limits."""

from __future__ import annotations

import logging
from io import BytesIO

import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, Verification

from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.pacs.receiver import ReceiverSettings, receiving

from .fake_pacs import ct_file


def associate(port, caller="SCANNER", called="JCS"):
    entity = AE(ae_title=caller)
    for sop_class in (Verification, CTImageStorage, MRImageStorage):
        entity.add_requested_context(sop_class)
    return entity.associate("127.0.0.1", port, ae_title=called)


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


def test_a_port_that_is_taken(tmp_path):
    with receiving(settings(), tmp_path) as port, pytest.raises(OutputError, match=f"port {port} cannot be opened"):
        receiving(settings(port=port), tmp_path).__enter__()


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
