"""Folders of PNG or JPEG slices: grey levels under an assumed window. Reading runs in the decoding child."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging.headers import MAXIMUM_DECODED_BYTES

#: The window that 8-bit grey levels are taken to show: level and width in HU.
ASSUMED_LEVEL, ASSUMED_WIDTH = -600.0, 1500.0
#: 16-bit slices whose largest value is below this hold HU + 1024; others span the assumed window.
SHIFTED_HU_BELOW = 8192
#: Mean difference of the colour channels (of 255) up to which a picture is grey; JPEG leaves a little.
_GREY_TOLERANCE = 6.0
_MAXIMUM_SIDE = 8192
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Image.DecompressionBombError,
    UnidentifiedImageError,
    struct.error,
    zlib.error,
)


def grey_to_hu(grey: NDArray[Any]) -> NDArray[np.float32]:
    """Grey levels -> HU, any shape: the assumed window, or HU + 1024 for 16-bit slices of 12 or 13 bits.

    Args:
        grey: uint8 or uint16.
    """
    if grey.dtype == np.uint16 and int(grey.max(initial=0)) < SHIFTED_HU_BELOW:
        return grey.astype(np.float32) - np.float32(1024)
    white = 255.0 if grey.dtype == np.uint8 else 65535.0
    hu: NDArray[np.float32] = grey.astype(np.float32) * np.float32(ASSUMED_WIDTH / white)
    hu += np.float32(ASSUMED_LEVEL - ASSUMED_WIDTH / 2)
    return hu


def read_picture(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """One slice as (rows, columns) grey levels, uint8 or uint16, as it is shown (its EXIF orientation is followed).

    Raises:
        StudyError: UNREADABLE, TRUNCATED or NOT_CT (a coloured picture).
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            if max(picture.size) > _MAXIMUM_SIDE:
                columns, rows = picture.size
                message = f"states {rows}x{columns} pixels, at most {_MAXIMUM_SIDE} a side are read"
                raise StudyError(GateCode.UNREADABLE, message)
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            if picture.mode.startswith("I"):
                return np.clip(np.asarray(picture), 0, 65535).astype(np.uint16)
            if picture.mode in ("L", "1"):
                return np.asarray(picture.convert("L"))
            colours = np.asarray(picture.convert("RGB")).astype(np.float32)
    except _DAMAGED as error:
        cut = "truncated" in str(error)
        code = GateCode.TRUNCATED if cut else GateCode.UNREADABLE
        reason = "is cut off" if cut else f"cannot be read ({type(error).__name__})"
        raise StudyError(code, f"{reason}; copy or export it again") from error
    spread = float((colours.max(axis=2) - colours.min(axis=2)).mean())
    if spread > _GREY_TOLERANCE:
        message = f"is coloured (channels differ by {spread:.0f} of 255 on average), a CT slice is grey"
        raise StudyError(GateCode.NOT_CT, message)
    return np.rint(colours @ np.array([0.299, 0.587, 0.114], dtype=np.float32)).astype(np.uint8)


def read_pictures(paths: Sequence[Path], fd: int) -> dict[str, Any]:
    """Read slices in the given order and write them to ``fd`` as (slices, rows, columns) float32 HU.

    Returns:
        ``shape``, ``dtype``, ``bits`` (8 or 16), ``shifted`` (16-bit values are HU + 1024), ``identifier``.

    Raises:
        StudyError: what :func:`read_picture` raises, with the file's number, or MIXED_SIZE.
    """
    shape: tuple[int, ...] | None = None
    digest = hashlib.sha256()
    bits, largest = 8, 0
    levels: list[NDArray[Any]] = []
    for number, path in enumerate(paths, start=1):
        try:
            grey = read_picture(path)
        except StudyError as error:
            message = str(error).removesuffix(f" ({error.code})")
            raise StudyError(error.code, f"picture {number} of {len(paths)} (in name order) {message}") from error
        shape = shape or grey.shape
        if grey.shape != shape or (levels and grey.dtype != levels[0].dtype):
            what = f"{grey.shape[0]}x{grey.shape[1]} pixels of {8 * grey.itemsize} bits"
            first = f"{shape[0]}x{shape[1]} of {8 * levels[0].itemsize}"
            message = f"slices differ: picture {number} has {what}, the first {first}; export one series"
            raise StudyError(GateCode.MIXED_SIZE, message)
        if grey.size * 4 * len(paths) > MAXIMUM_DECODED_BYTES:
            limit = MAXIMUM_DECODED_BYTES / 1024**3
            raise StudyError(GateCode.UNSUPPORTED, f"the slices take more than {limit:.0f} GiB once decoded")
        bits, largest = 8 * grey.itemsize, max(largest, int(grey.max()))
        digest.update(grey.tobytes())
        levels.append(grey)
    volume = np.stack(levels)
    with os.fdopen(fd, "r+b", closefd=False) as out:
        out.write(grey_to_hu(volume).tobytes())
    return {
        "shape": volume.shape,
        "dtype": "<f4",
        "bits": bits,
        "shifted": bits == 16 and largest < SHIFTED_HU_BELOW,
        "identifier": digest.hexdigest()[:16],
    }
