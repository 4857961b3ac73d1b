"""A package sent to the page is judged by the names in it, not by the numbers it is unpacked under."""

import zipfile

import pytest

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging import open_study
from jcs_ct.service.tasks import _unpacked


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
