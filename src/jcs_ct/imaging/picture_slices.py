"""Slices as pictures (PNG, JPEG, TIFF). For a study, reading runs in the decoding child."""

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
from PIL.TiffImagePlugin import TiffImageFile

from jcs_ct.disk_space import GIB
from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging.compression import first_bytes
from jcs_ct.imaging.gate_pictures import check_masks
from jcs_ct.imaging.grey_levels import grey_meaning, grey_to_hu
from jcs_ct.imaging.headers import MAXIMUM_DECODED_BYTES
from jcs_ct.imaging.whole_pictures import filled_rows, lost_part

#: What Pillow may take a picture for.
FORMATS = ("PNG", "JPEG", "TIFF")
#: Mean difference of the colour channels (of 255) up to which a picture is grey; JPEG leaves a little.
_GREY_TOLERANCE = 6.0
#: The same where one tint lies over all of it, as on a photograph of a screen, and what it leaves unexplained.
_TINT_TOLERANCE, _UNTINTED = 20.0, 8.0
_MAXIMUM_SIDE = 8192
#: Where a PNG states its bit depth, and TIFF tags with their values (TIFF 6.0, sections 8 and 19).
_PNG_DEPTH = 24
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, (2,)
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


def open_picture(path: Path, *, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """One decoded picture, turned as its EXIF orientation says.

    Raises:
        StudyError: UNREADABLE, TRUNCATED, or UNSUPPORTED (several pictures in a file), without the path.
    """
    try:
        with Image.open(path, formats=formats) as picture:
            if max(picture.size) > _MAXIMUM_SIDE:
                columns, rows = picture.size
                message = f"states {rows}x{columns} pixels, at most {_MAXIMUM_SIDE} a side are read"
                raise StudyError(GateCode.UNREADABLE, message)
            if getattr(picture, "n_frames", 1) > 1:
                message = f"holds {getattr(picture, 'n_frames', 1)} pictures; export one a file"
                raise StudyError(GateCode.UNSUPPORTED, message)
            picture.load()
            if lost := lost_part(path, picture):
                raise StudyError(GateCode.TRUNCATED, f"{lost}: it was written in part; copy or export it again")
            ImageOps.exif_transpose(picture, in_place=True)
            return picture
    except _DAMAGED as error:
        cut = "truncated" in str(error)
        code = GateCode.TRUNCATED if cut else GateCode.UNREADABLE
        reason = "is cut off" if cut else f"cannot be read ({type(error).__name__})"
        raise StudyError(code, f"{reason}; copy or export it again") from error


def read_picture(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]:
    """One slice as (rows, columns) grey levels: uint8, uint16, or float32 where they are real or signed numbers.

    Raises:
        StudyError: as :func:`open_picture`, TRUNCATED (its end is filled up), NOT_CT (a coloured picture),
            UNSUPPORTED (colours of 16 bits) or NO_HU (values that are not finite, or real ones counted from white).
    """
    grey = _grey_levels(path)
    if rows := filled_rows(grey):
        message = (
            f"ends in {rows} rows of one grey: its end was never written and a program filled it up, or a frame lies "
            "below it; export it again, without a frame"
        )
        raise StudyError(GateCode.TRUNCATED, message)
    return grey


def _grey_levels(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]:
    picture = open_picture(path)
    bits = _bits(path, picture)
    tags = picture.tag_v2 if isinstance(picture, TiffImageFile) else {}
    if picture.mode.startswith(("I", "F")):
        levels = _numbers(np.asarray(picture))
        return _counted_from_white(levels, bits) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else levels
    if picture.mode == "L" and tags.get(_SAMPLE_FORMAT) == _SIGNED:
        return _numbers(np.asarray(picture).view(np.int8))
    if picture.mode in ("L", "1"):
        return np.asarray(picture.convert("L"))
    if bits > 8:
        message = (
            f"has colours of {bits} bits, of which 8 would be read; export it in grey, one channel of {bits} bits"
        )
        raise StudyError(GateCode.UNSUPPORTED, message)
    colours = np.asarray(picture.convert("RGB")).astype(np.float32)
    grey = colours @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    spread = _spread(colours)
    if spread > _TINT_TOLERANCE or (spread > _GREY_TOLERANCE and _spread(_untinted(colours, grey)) > _UNTINTED):
        message = f"is coloured (channels differ by {spread:.0f} of 255 on average), a CT slice is grey"
        raise StudyError(GateCode.NOT_CT, message)
    return np.rint(grey).astype(np.uint8)


def _bits(path: Path, picture: Image.Image) -> int:
    """Bits of a number as the file states them (PNG 11.2.1; TIFF 6.0, BitsPerSample): of colours Pillow keeps 8."""
    if picture.format == "PNG":
        return first_bytes(path, _PNG_DEPTH + 1)[_PNG_DEPTH]
    return max(picture.tag_v2.get(_BITS_PER_SAMPLE, (1,))) if isinstance(picture, TiffImageFile) else 8


def _counted_from_white(
    levels: NDArray[np.uint16] | NDArray[np.float32], bits: int
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Levels of more than 8 bits whose lowest is white (TIFF 6.0, WhiteIsZero), counted from black as others are."""
    if levels.dtype != np.uint16:
        message = (
            "has real or signed numbers whose lowest is white (PhotometricInterpretation WhiteIsZero), and nothing "
            "says which is black; export it with BlackIsZero"
        )
        raise StudyError(GateCode.NO_HU, message)
    return ((1 << bits) - 1 - levels).astype(np.uint16)


def _spread(colours: NDArray[np.float32]) -> float:
    """Mean difference of the largest and the smallest channel, (rows, columns, 3)."""
    return float((colours.max(axis=2) - colours.min(axis=2)).mean())


def _untinted(colours: NDArray[np.float32], grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """What of (rows, columns, 3) colours no tint explains: every channel less its line over the grey."""
    apart = grey - grey.mean()
    centred = colours - colours.mean(axis=(0, 1))
    gains = np.einsum("rc,rck->k", apart, centred) / max(float(np.einsum("rc,rc->", apart, apart)), 1.0)
    rest: NDArray[np.float32] = centred - apart[..., None] * gains.astype(np.float32)
    return rest


def _numbers(values: NDArray[Any]) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Levels of more than 8 bits; signed whole numbers become real ones."""
    if values.dtype.kind == "u":
        return values.astype(np.uint16)
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise StudyError(GateCode.NO_HU, "has values that are not finite (NaN or infinite), which are no HU")
    return numbers


def read_pictures(paths: Sequence[Path], fd: int) -> dict[str, Any]:
    """Read slices in the given order and write them to ``fd`` as (slices, rows, columns) float32 HU.

    Returns:
        ``shape``, ``dtype``, ``bits`` (8, 16 or 32), ``meaning`` (what the levels were taken as), ``findings``
        (code, message) that a lenient reading may pass, ``identifier``.

    Raises:
        StudyError: what :func:`read_picture` raises, with the file's number, MIXED_SIZE, or what
            :func:`~jcs_ct.imaging.grey_levels.grey_meaning` raises.
    """
    shape: tuple[int, ...] | None = None
    digest = hashlib.sha256()
    bits = 8
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
            limit = MAXIMUM_DECODED_BYTES / GIB
            raise StudyError(GateCode.UNSUPPORTED, f"the slices take more than {limit:.0f} GiB once decoded")
        bits = 8 * grey.itemsize
        digest.update(grey.tobytes())
        levels.append(grey)
    volume = np.stack(levels)
    with os.fdopen(fd, "r+b", closefd=False) as out:
        out.write(grey_to_hu(volume).tobytes())
    return {
        "shape": volume.shape,
        "dtype": "<f4",
        "bits": bits,
        "meaning": grey_meaning(volume),
        "findings": [(finding.code, finding.message) for finding in check_masks(levels)],
        "identifier": digest.hexdigest()[:16],
    }
