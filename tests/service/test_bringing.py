"""What a study's process brings in itself is bounded as what readers send is."""

from __future__ import annotations

import errno
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


@pytest.mark.parametrize(("size", "free_bytes"), [(1, 2), (3, 0)], ids=["kept free", "its own size"])
def test_a_full_disk_is_told_by_its_code(tmp_path, monkeypatch, size, free_bytes):
    (tmp_path / "image.dcm").write_bytes(bytes(size))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    source = {**BOUNDS, "place": str(tmp_path / "image.dcm"), "free_bytes": free_bytes}
    with pytest.raises(OutputError) as caught:
        bring_in(source, tmp_path / "study", progress)
    assert caught.value.code == "DISK_FULL"
    assert [path.name for path in tmp_path.iterdir()] == ["image.dcm"], "nothing of it is kept"


def test_what_is_changed_in_a_listed_folder_later_is_not_changed_on_the_page(tmp_path):
    image = tmp_path / "DOE JANE" / "series" / "image.dcm"
    image.parent.mkdir(parents=True)
    image.write_text("as it was read")
    bring_in({**BOUNDS, "place": str(tmp_path / "DOE JANE")}, tmp_path / "study", progress)
    with image.open("r+") as stream:  # in place, as pydicom saves
        stream.write("changed")
    (kept,) = (path for path in (tmp_path / "study").rglob("*") if path.is_file())
    assert kept.read_text() == "as it was read"


def test_a_file_that_cannot_be_read_is_said_without_its_name(tmp_path, monkeypatch):
    (tmp_path / "DOE JANE.dcm").write_bytes(b"x")

    def gone(source, target):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(source))

    monkeypatch.setattr(shutil, "copyfile", gone)
    with pytest.raises(StudyError, match="cannot be read in its folder any more") as caught:
        bring_in({**BOUNDS, "place": str(tmp_path / "DOE JANE.dcm")}, tmp_path / "study", progress)
    assert "DOE" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["DOE JANE.dcm"]
