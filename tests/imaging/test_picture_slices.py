"""Pictures: grey levels under an assumed window, in name order."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging import list_series, open_study
from jcs_ct.imaging.gate_inverted import check_inverted
from jcs_ct.imaging.grey_levels import grey_to_hu


def save(folder, levels, pattern="slice{}.png"):
    for number, grey in enumerate(levels, start=1):
        Image.fromarray(grey).save(folder / pattern.format(number))


def random_levels(count, dtype=np.uint8, high=256):
    return np.random.default_rng(0).integers(0, high, size=(count, 12, 10)).astype(dtype)


def test_grey_to_hu_is_the_stated_window():
    assert grey_to_hu(np.array([0, 255], np.uint8)) == pytest.approx([-1350, 150])
    assert grey_to_hu(np.array([0, 65535], np.uint16)) == pytest.approx([-1350, 150])
    assert grey_to_hu(np.array([24, 1024, 4095], np.uint16)) == pytest.approx([-1000, 0, 3071])


def test_eight_bit_folder_in_natural_order(tmp_path):
    levels = random_levels(12)
    save(tmp_path, levels)  # slice10 sorts after slice9
    study = open_study(tmp_path)
    assert np.allclose(study.volume.hu, grey_to_hu(levels))
    assert study.volume.affine is None
    assert study.volume.hu_is_assumed
    assert [str(flag.code) for flag in study.flags] == ["ASSUMED_HU", "NO_POSITION", "ASSUMED_AXES", "ASSUMED_ORDER"]
    assert "8-bit grey levels were taken as a lung window (level -600, width 1500 HU)" in study.flags[0].message
    assert [path.name for path in study.paths][8:10] == ["slice9.png", "slice10.png"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_read_as_they_are_shown(tmp_path, orientation):
    levels = random_levels(6, np.uint16 if orientation % 2 else np.uint8)
    upright = [Image.fromarray(plane) for plane in levels]
    turn_back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF 2.32: the Transpose that stores it that way
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number, picture in enumerate(upright, start=1):
        stored = picture if orientation == 1 else picture.transpose(Image.Transpose(turn_back[orientation]))
        stored.save(tmp_path / f"slice{number}.png", exif=exif)
    study = open_study(tmp_path)
    assert np.allclose(study.volume.hu, grey_to_hu(levels))
    assert study.volume.axes_are_assumed


def test_sixteen_bit_slices_as_shifted_hu(tmp_path):
    levels = random_levels(6, np.uint16, 4096)
    save(tmp_path, levels)
    study = open_study(tmp_path)
    assert np.allclose(study.volume.hu, levels.astype(np.float32) - 1024)
    assert "HU + 1024" in study.flags[0].message


def test_one_jpeg_is_read_and_flagged(tmp_path):
    Image.fromarray(np.repeat(random_levels(1)[0][..., None], 3, axis=2)).save(tmp_path / "one.jpg", quality=95)
    study = open_study(tmp_path / "one.jpg")
    assert study.volume.shape == (1, 12, 10)
    assert "TOO_FEW_SLICES" in [str(flag.code) for flag in study.flags]


def coloured(folder):
    Image.fromarray(np.full((12, 10, 3), (200, 30, 30), np.uint8)).save(folder / "slice3.png")


def larger(folder):
    Image.fromarray(np.zeros((20, 10), np.uint8)).save(folder / "slice3.png")


def cut_off(folder):
    path = folder / "slice3.png"
    path.write_bytes(path.read_bytes()[:80])


def broken(folder):
    (folder / "slice3.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"garbage" * 20)


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        (coloured, GateCode.NOT_CT, "picture 3 of 6 (in name order) is coloured (channels differ by 170 of 255"),
        (larger, GateCode.MIXED_SIZE, "slices differ: picture 3 has 20x10 pixels of 8 bits, the first 12x10 of 8"),
        (cut_off, GateCode.TRUNCATED, "picture 3 of 6 (in name order) is cut off"),
        (broken, GateCode.UNREADABLE, "picture 3 of 6 (in name order) cannot be read"),
    ],
)
def test_damaged_pictures_are_refused(tmp_path, damage, code, message):
    save(tmp_path, random_levels(6))
    damage(tmp_path)
    with pytest.raises(StudyError, match=re.escape(message)) as refused:
        open_study(tmp_path)
    assert refused.value.code is code
    (listed,) = list_series(tmp_path)
    assert listed.code is code


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (np.arange(1600) % 256, "8-bit grey in 16 bits"),
        ((np.arange(1600) % 1800 - 1000) & 0xFFFF, "HU whose numbers below zero were stored as if all were positive"),
    ],
)
def test_16_bit_levels_that_were_written_as_something_else(levels, message):
    with pytest.raises(StudyError, match=message) as refused:
        grey_to_hu(levels.reshape(40, 40).astype(np.uint16))
    assert refused.value.code is GateCode.NO_HU


def test_levels_of_16_bits_that_are_counted_from_white(tmp_path):
    levels = random_levels(6, np.uint16, 65536)
    for number, grey in enumerate(levels):
        tifffile.imwrite(tmp_path / f"{number}.tif", 65535 - grey, photometric="miniswhite")
    assert np.allclose(open_study(tmp_path).volume.hu, grey_to_hu(levels))


@pytest.mark.parametrize(
    ("grey", "options", "code", "message"),
    [
        (np.linspace(0, 1, 1600, dtype=np.float32), {"photometric": "miniswhite"}, "NO_HU", "whose lowest is white"),
        (4095 - np.arange(1600, dtype=np.uint16), {"photometric": "miniswhite"}, "NO_HU", "neither air nor lung"),
        ((np.arange(1600) % 256 - 128).astype(np.int8), {}, "NO_HU", "real or signed values from -128 to 127"),
    ],
    ids=["real numbers from white", "12 bits from white", "signed 8 bits"],
)
def test_numbers_of_a_tiff_that_mean_nothing_here(tmp_path, grey, options, code, message):
    for number in range(6):
        tifffile.imwrite(tmp_path / f"{number}.tif", np.roll(grey, number).reshape(40, 40), **options)
    with pytest.raises(StudyError, match=message) as refused:
        open_study(tmp_path)
    assert refused.value.code == code


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_in_a_png_are_not_read_by_half(tmp_path, colour, channels):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = np.repeat(random_levels(1, np.uint16, 4096)[0][..., None], channels, axis=2).astype(">u2")
    head = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 16, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    with pytest.raises(StudyError, match="colours of 16 bits, of which 8 would be read") as refused:
        open_study(path)
    assert refused.value.code is GateCode.UNSUPPORTED


def body(count=12, size=64):
    """(count, size, size) uint8: lungs in a body before air, in a lung window."""
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    hu = np.full((count, size, size), -1000.0)
    hu[:, (columns / 0.85) ** 2 + (rows / 0.7) ** 2 < 1] = 40.0
    for number in range(count):
        for side in (-0.4, 0.4):
            hu[number][((columns - side) / (0.2 + 0.01 * number)) ** 2 + (rows / 0.45) ** 2 < 1] = -850.0
    grey = (hu + np.random.default_rng(0).normal(0, 12, hu.shape) + 1350) / 1500 * 255
    return grey.clip(0, 255).astype(np.uint8)


def test_black_and_white_exchanged(tmp_path):
    save(tmp_path, 255 - body())
    for lenient in (False, True):
        with pytest.raises(StudyError, match="100% of the pictures a dark body with bright lungs") as refused:
            open_study(tmp_path, lenient=lenient)
        assert refused.value.code is GateCode.NO_HU


@pytest.mark.parametrize("part", [np.s_[:, :, :], np.s_[:, 16:48, 12:52], np.s_[:, 20:44, 32:52]])
def test_a_body_and_cut_outs_of_it_are_not_inverted(part):
    assert check_inverted(np.kron(body()[part], np.ones((2, 2), np.uint8))) == []
