"""Damaged pictures that decoders pass in silence: whether a PNG or JPEG holds all pixels as they were written."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jcs_ct.imaging.jpeg_streams import jpeg_lost

#: Rows of one grey at the lower edge are what a decoder made of pixels that were never written, where they are at
#: least this many and neither as dark as air nor white, as shares of 255 (of the picture's own range with more than
#: 8 bits). Of 3 285 real pictures (seven sets) none ends in more than 3 such rows.
LEAST_FILLED_ROWS, _DARKEST, _BRIGHTEST = 8, 0.15, 0.97
_SAMPLES_PER_PIXEL = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def lost_part(path: Path, picture: Image.Image) -> str | None:
    """What of a decoded picture's file was never written, or was overwritten; None when it is whole."""
    if picture.format == "PNG":
        return _rows_lost(path.read_bytes())
    return jpeg_lost(path.read_bytes(), picture) if picture.format == "JPEG" else None


def filled_rows(grey: NDArray[Any]) -> int:
    """How many rows at the lower edge of (rows, columns) hold one grey between air and white; 0 for a few."""
    low, high = (0.0, 255.0) if grey.dtype == np.uint8 else (float(grey.min()), float(grey.max()))
    last = float(grey[-1, 0])
    if not _DARKEST < (last - low) / max(high - low, 1e-6) < _BRIGHTEST:
        return 0
    other = np.flatnonzero((grey != grey[-1, 0]).any(axis=1))
    count = len(grey) - 1 - int(other[-1]) if len(other) else len(grey)
    return count if count >= LEAST_FILLED_ROWS else 0


def _rows_lost(data: bytes) -> str | None:
    """A PNG whose unpacked pixels are fewer than its header states (PNG 11.2.3); interlaced ones are not counted."""
    packed, stated = bytearray(), 0
    rows = 0
    for kind, chunk in _png_chunks(data):
        if kind == b"IHDR":
            columns, rows, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunk[:13])
            row_bytes = 1 + (columns * depth * _SAMPLES_PER_PIXEL.get(colour, 1) + 7) // 8
            stated = 0 if interlaced else rows * row_bytes
        elif kind == b"IDAT":
            packed += chunk
    if not stated:
        return None
    unpacked = len(zlib.decompressobj().decompress(bytes(packed), stated))
    return None if unpacked >= stated else f"holds {unpacked * rows // stated} of its {rows} rows"


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += 12 + length
