"""What a study's process brings in itself is bounded as what readers send is."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest

from jcs_ct.errors import GateCode, OutputError, StudyError
from jcs_ct.service import bringing
from jcs_ct.service.bringing import bring_in

from ..pacs.fake_pacs import ct_file

BOUNDS = {"most_files": 100, "most_bytes": 1 << 20, "free_bytes": 0}


def progress(stage: str, done: int, total: int) -> None:
    assert stage == "fetch"


@pytest.fixture
def in_pacs(fake_pacs):
    """A study of four images, and how many bytes they have."""
    files = [ct_file("1.9", "1.9.1", number) for number in range(1, 5)]
    for content in files:
        fake_pacs.add(content)
    yield {"url": fake_pacs.url, "ca_bundle": "", "study_uid": "1.9"}, sum(len(content) for content in files)
    fake_pacs.remove("1.9")


def test_a_study_of_the_pacs_is_brought_in(in_pacs, tmp_path):
    source, size = in_pacs
    bring_in({**source, **BOUNDS, "most_bytes": size}, tmp_path / "study", progress)
    assert len(list((tmp_path / "study").iterdir())) == 4


@pytest.mark.parametrize("every", [1, 1000], ids=["on the way", "at the end"])
def test_a_study_of_the_pacs_may_be_too_large(in_pacs, tmp_path, monkeypatch, every):
    monkeypatch.setattr(bringing, "_WEIGHED_EVERY", every)
    source, size = in_pacs
    with pytest.raises(StudyError, match="may be read at a time") as caught:
        bring_in({**source, **BOUNDS, "most_bytes": size - 1}, tmp_path / "study", progress)
    assert caught.value.code is GateCode.UNSUPPORTED
    assert list(tmp_path.iterdir()) == [], "nothing of it is kept"


def test_a_full_disk_is_told_by_its_code(tmp_path, monkeypatch):
    (tmp_path / "image.dcm").write_bytes(b"x")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    source = {**BOUNDS, "place": str(tmp_path / "image.dcm"), "free_bytes": 2}
    with pytest.raises(OutputError) as caught:
        bring_in(source, tmp_path / "study", progress)
    assert caught.value.code == "DISK_FULL"
