"""Training reads a picture as diagnosis does."""

import numpy as np
import pytest
from PIL import Image

from jcs_ct.data.manifest import read_grey, read_hu, read_mask
from jcs_ct.errors import ConfigError
from jcs_ct.imaging import open_study
from jcs_ct.preprocessing import Window

HU = np.linspace(-1000.0, 150.0, 120).reshape(10, 12)
GREY = np.rint((HU + 1350) / 1500 * 255).astype(np.uint8)


def turned(path, plane, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(plane).save(path, exif=exif)


WRITERS = {
    "grey8.png": lambda path: Image.fromarray(GREY).save(path),
    "grey16.png": lambda path: Image.fromarray(GREY.astype(np.uint16) * 257).save(path),
    "rgb.png": lambda path: Image.fromarray(GREY).convert("RGB").save(path),
    "palette.png": lambda path: Image.fromarray(GREY).convert("P").save(path),
    "alpha.png": lambda path: Image.fromarray(GREY).convert("RGBA").save(path),
    "tinted.png": lambda path: Image.fromarray(np.dstack([GREY, GREY, 0.95 * GREY]).astype(np.uint8)).save(path),
    "plus1024.png": lambda path: Image.fromarray((HU + 1024).astype(np.uint16)).save(path),
    "plus1024.tif": lambda path: Image.fromarray((HU + 1024).astype(np.uint16)).save(path),
    "plus32768.png": lambda path: Image.fromarray((HU + 32768).astype(np.uint16)).save(path),
    "hu_f32.tif": lambda path: Image.fromarray(HU.astype(np.float32)).save(path),
    "hu_i32.tif": lambda path: Image.fromarray(HU.astype(np.int32)).save(path),
    "unit_f32.tif": lambda path: Image.fromarray((GREY / 255).astype(np.float32)).save(path),
    "exif6.png": lambda path: turned(path, np.rot90(GREY), 6),
    "exif3.png": lambda path: turned(path, np.rot90(GREY, 2), 3),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_picture_is_the_same_in_training_and_in_diagnosis(tmp_path, name):
    WRITERS[name](tmp_path / name)
    tolerance = 15.0 if name == "tinted.png" else 3.0  # a level is 5.9 HU
    assert np.abs(read_hu(tmp_path / name) - HU).max() <= tolerance
    assert read_hu(tmp_path / name) == pytest.approx(open_study(tmp_path / name).volume.hu[0], abs=1e-3)
    assert read_grey(tmp_path / name) == pytest.approx(GREY / 255, abs=0.011)


def test_a_stated_window_counts_whatever_the_levels_are(tmp_path):
    for name, levels, white in (("a.png", GREY, 255), ("b.png", GREY.astype(np.uint16) * 20, 65535)):
        Image.fromarray(levels).save(tmp_path / name)
        expected = levels / white * 400 - 160
        assert read_hu(tmp_path / name, Window(40.0, 400.0)) == pytest.approx(expected, abs=1e-3)
    Image.fromarray(HU.astype(np.float32)).save(tmp_path / "hu.tif")
    with pytest.raises(ConfigError, match="a window is stated, but the values are HU"):
        read_hu(tmp_path / "hu.tif", Window(40.0, 400.0))


@pytest.mark.parametrize("name", [r"C:\D\a.png", r"\\server\share\a.png"])
def test_a_whole_path_of_windows_is_not_mended_by_its_slashes(tmp_path, name):
    with pytest.raises(ConfigError, match=r"no such file; a path with a drive letter or a server's name is another"):
        read_grey(tmp_path / name)


def coloured(path):
    Image.fromarray(np.dstack([GREY, GREY // 2, 0 * GREY])).save(path)


def not_finite(path):
    Image.fromarray(np.where(HU < -900, np.nan, HU).astype(np.float32)).save(path, format="TIFF")


def scored(path):
    Image.fromarray(((HU - HU.mean()) / HU.std()).astype(np.float32)).save(path, format="TIFF")


def moved_left(path):
    Image.fromarray(((HU + 3000).astype(np.uint16) * 16).astype(np.uint16)).save(path)


def half_way(path):
    Image.fromarray(((HU + 1000) * 16.03).astype(np.uint16)).save(path)


def two_pages(path):
    page = Image.fromarray(GREY)
    page.save(path, format="TIFF", save_all=True, append_images=[page])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (coloured, "is coloured"),
        (not_finite, "not finite"),
        (scored, "neither HU"),
        (moved_left, "multiples of 16"),
        (half_way, "too much for HU \\+ 1024 .* too little for a lung window"),
        (two_pages, "holds 2 pictures"),
    ],
)
def test_what_diagnosis_refuses_is_refused_in_training(tmp_path, write, said):
    write(tmp_path / "a.png")
    for read in (read_hu, read_grey):
        with pytest.raises(ConfigError, match=rf"a\.png: .*{said}"):
            read(tmp_path / "a.png")
    with pytest.raises(Exception, match=said):
        open_study(tmp_path / "a.png")


def test_a_study_is_no_slice(tmp_path):
    for read in (read_hu, read_mask):
        with pytest.raises(ConfigError, match="write its slices with `jcs data slices`"):
            read(tmp_path)
