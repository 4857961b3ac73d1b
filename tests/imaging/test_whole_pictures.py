"""Pictures that were half written or damaged, which Pillow passes in silence, are refused; whole ones are not."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging.picture_slices import read_picture
from jcs_ct.imaging.whole_pictures import filled_rows, lost_part

GREY = np.add.outer(np.arange(96), np.arange(80)).astype(np.uint8) + np.random.default_rng(3).integers(
    0, 60, (96, 80), dtype=np.uint8
)


def encoded(name: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, name, **options)
    return buffer.getvalue()


def overwritten(data: bytes, count: int) -> bytes:
    """A block in the middle that a disk or a transfer lost."""
    start = len(data) // 2
    return data[:start] + bytes(count) + data[start + count :]


def png_of(rows: int, *, interlaced: bool = False) -> bytes:
    """A PNG of valid chunks whose image data end after some rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + line.tobytes() for line in GREY[:rows])
    header = struct.pack(">IIBBBBB", GREY.shape[1], GREY.shape[0], 8, 0, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b""))
    )


def half_grey(level: int) -> bytes:
    grey = GREY.copy()
    grey[48:] = level
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


JPEG, PROGRESSIVE = encoded("JPEG", quality=90), encoded("JPEG", quality=90, progressive=True)
OPTIMISED, RESTARTING = (
    encoded("JPEG", quality=90, optimize=True),
    encoded("JPEG", quality=90, restart_marker_rows=1),
)
STORED_PNG = encoded("PNG", compress_level=0)
HALF = len(JPEG) // 2
END = b"\xff\xd9"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (JPEG[:HALF] + END, "too few bits"),
        (JPEG[:HALF] + bytes(HALF), "is cut off|has no end"),
        (JPEG[:HALF], "is cut off"),
        (PROGRESSIVE[: len(PROGRESSIVE) // 2] + END, "lacks scans of .* of its 64 coefficients"),
        (png_of(48), "holds 48 of its 96 rows"),
        (png_of(95), "holds 95 of its 96 rows"),
        (half_grey(128), "ends in 48 rows of one grey"),
        (half_grey(200), "ends in 48 rows of one grey"),
        (overwritten(JPEG, 64), "bits"),
        (overwritten(JPEG, 512), "bits"),
        (overwritten(OPTIMISED, 256), "bits"),
        (overwritten(PROGRESSIVE, 256), "64 or more zeros in a row"),
        (overwritten(RESTARTING, 1024), "lacks restart markers"),
    ],
)
def test_damaged_ones_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "slice"
    path.write_bytes(data)
    with pytest.raises(StudyError, match=message) as caught:
        read_picture(path)
    assert caught.value.code is GateCode.TRUNCATED


def test_a_png_has_checksums(tmp_path: Path) -> None:
    path = tmp_path / "slice"
    path.write_bytes(overwritten(STORED_PNG, 512))
    with pytest.raises(StudyError) as caught:
        read_picture(path)
    assert caught.value.code is GateCode.UNREADABLE


@pytest.mark.parametrize(
    "data",
    [
        *(JPEG, PROGRESSIVE, OPTIMISED, RESTARTING, STORED_PNG, png_of(96), half_grey(0), half_grey(255)),
        *(JPEG + bytes(4096), encoded("JPEG", quality=100, subsampling=2), encoded("JPEG", quality=1)),
    ],
)
def test_whole_ones_are_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "slice"
    path.write_bytes(data)
    assert read_picture(path).shape == GREY.shape


def test_real_pictures_are_whole(shared_data: Path) -> None:
    for folder in ("ct100/images", "ucsd", "iq_othnccd"):
        paths = sorted(path for path in (shared_data / folder).rglob("*") if path.suffix in (".png", ".jpg"))
        assert paths
        for path in paths[::40]:
            with Image.open(path) as picture:
                assert lost_part(path, picture) is None, path
                assert filled_rows(np.asarray(picture.convert("L"))) == 0, path
