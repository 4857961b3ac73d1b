"""A package sent to the page is judged by the names in it, not by the numbers it is unpacked under."""

import io
import shutil
import zipfile
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image

from jcs_ct.errors import GateCode, OutputError, StudyError
from jcs_ct.imaging import open_study
from jcs_ct.service.tasks import _unpacked

from .hostile import archive_of


def package(folder, images, extra):
    folder.mkdir()
    with zipfile.ZipFile(folder / "study.zip", "w") as sent:
        for path in sorted(images.iterdir()):
            sent.write(path, path.name)
        sent.writestr(extra, b"no image at all")
    return folder


def test_a_letter_beside_the_images_is_left_aside(phantom_folder, tmp_path):
    study = open_study(_unpacked(package(tmp_path / "sent", phantom_folder, "letter.txt")))
    assert "OTHER_FILES" in {flag.code for flag in study.flags}


def test_a_lost_image_is_missed(phantom_folder, tmp_path):
    lost = next(iter(sorted(phantom_folder.iterdir()))).name.replace("0", "9", 1)
    with pytest.raises(StudyError, match=r"1 file\(s\) are called as the study's images are") as caught:
        open_study(_unpacked(package(tmp_path / "sent", phantom_folder, lost)))
    assert caught.value.code is GateCode.UNREADABLE


def test_pictures_of_two_folders_in_a_package_are_two_studies(tmp_path):
    (tmp_path / "sent").mkdir()
    with zipfile.ZipFile(tmp_path / "sent" / "study.zip", "w") as sent:
        for number in range(6):
            picture = io.BytesIO()
            Image.fromarray(np.full((16, 16), number, np.uint8)).save(picture, "PNG")
            sent.writestr(f"patient{number % 2}/{number}.png", picture.getvalue())
    with pytest.raises(StudyError, match="the 6 pictures lie in 2 folders"):
        open_study(_unpacked(tmp_path / "sent"))
    assert "patient" not in "".join(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))


def test_nothing_is_kept_of_an_archive_that_is_refused(tmp_path):
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "000001.bin").write_bytes(archive_of("bomb.bin", b"\0" * (3 << 20)))
    with pytest.raises(StudyError, match="unpacks to more"):
        _unpacked(tmp_path / "sent")
    assert [path.name for path in tmp_path.iterdir()] == ["sent"]


def test_what_must_stay_free_on_the_disk_stays_free(phantom_folder, tmp_path, monkeypatch):
    sent = package(tmp_path / "sent", phantom_folder, "letter.txt")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 50, 50))
    with pytest.raises(OutputError, match="must stay free") as caught:
        _unpacked(sent, free_bytes=51)
    assert caught.value.code == "DISK_FULL"
    assert [path.name for path in tmp_path.iterdir()] == ["sent"]
    assert _unpacked(sent, free_bytes=50).name == "sent-unpacked"


def test_an_archive_without_files_holds_no_images(tmp_path):
    (tmp_path / "sent").mkdir()
    with zipfile.ZipFile(tmp_path / "sent" / "study.zip", "w"):
        pass
    with pytest.raises(StudyError) as caught:
        open_study(_unpacked(tmp_path / "sent"))
    assert caught.value.code is GateCode.NO_IMAGES
