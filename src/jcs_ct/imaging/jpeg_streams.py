"""Whether the coded pixels of a JPEG are those that were written: it has no checksum, and decoders pass over damage.

Its pixels end where its bits do. Where bits were lost or overwritten anywhere before, the decoder falls out of step,
and has bits left over at the end or too few. References are to ITU-T T.81.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SEQUENTIAL, _PROGRESSIVE, _SCAN, _RESTART_INTERVAL = (0xC0, 0xC1), 0xC2, 0xDA, 0xDD
_STANDING_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_END_OF_IMAGE = b"\xff\xd9"
#: Bytes that are taken from the end of a scan, or put behind it, to see whether the decoder needs them: it reads up
#: to eight ahead.
_PROBE = 16
#: No scan of AC coefficients holds as many zero bytes in a row: each code in it has a bit set.
_MOST_ZEROS = 64


class _Segment(NamedTuple):
    """A marker's segment (B.1.1.4), and behind a start of scan its coded pixels from ``start`` to ``end``."""

    marker: int
    content: bytes
    start: int
    end: int


@dataclass
class _Frame:
    """What a start of frame says (B.2.2): size, sampling by component, and whether it is progressive."""

    rows: int
    columns: int
    sampling: dict[int, tuple[int, int]]
    progressive: bool

    @classmethod
    def of(cls, segment: _Segment) -> _Frame:
        _, rows, columns, count = struct.unpack(">BHHB", segment.content[:6])
        components = [segment.content[6 + 3 * number : 9 + 3 * number] for number in range(count)]
        sampling = {one[0]: (one[1] >> 4, one[1] & 15) for one in components}
        return cls(rows, columns, sampling, segment.marker == _PROGRESSIVE)

    def units(self, components: bytes) -> int:
        """How many minimum coded units a scan of these components has (A.2)."""
        widest, highest = (max(one[axis] for one in self.sampling.values()) for axis in (0, 1))
        if len(components) > 1:
            return -(-self.columns // (8 * widest)) * -(-self.rows // (8 * highest))
        across, down = self.sampling[components[0]]
        columns, rows = -(-self.columns * across // widest), -(-self.rows * down // highest)
        return -(-columns // 8) * -(-rows // 8)


def jpeg_lost(data: bytes, picture: Image.Image) -> str | None:
    """What of a JPEG is missing or was overwritten; None when it is whole.

    Args:
        data: The file.
        picture: What was decoded from it, not yet turned.
    """
    if data.rfind(_END_OF_IMAGE) < data.rfind(b"\xff\xda"):  # end of image behind the last start of scan (B.1.1.3)
        return "has no end"
    frame: _Frame | None = None
    interval = 0
    scans = []
    coarseness: dict[int, NDArray[np.int8]] = {}
    for segment in _segments(data):
        if segment.marker in (*_SEQUENTIAL, _PROGRESSIVE):
            frame = _Frame.of(segment)
            coarseness = {component: np.full(64, 99, dtype=np.int8) for component in frame.sampling}
        elif segment.marker == _RESTART_INTERVAL:
            (interval,) = struct.unpack(">H", segment.content[:2])
        elif segment.marker == _SCAN and frame is not None:
            scans.append(segment)
            if lost := _scan_lost(data, segment, frame, interval, coarseness):
                return lost
    if frame is None or not scans:
        return None  # lossless, hierarchical or arithmetic coding
    lacking = sum(int(np.count_nonzero(coarse)) for coarse in coarseness.values())
    if frame.progressive and lacking:
        return f"lacks scans of {lacking} of its {64 * len(coarseness)} coefficients"
    return _out_of_step(data, scans[-1], picture, progressive=frame.progressive)


def _scan_lost(
    data: bytes, scan: _Segment, frame: _Frame, interval: int, coarseness: dict[int, NDArray[np.int8]]
) -> str | None:
    """What a scan's own structure says; notes to which bit it states which coefficients (G.1.1.1)."""
    count = scan.content[0]
    components = scan.content[1 : 1 + 2 * count : 2]
    first, last, bits = scan.content[1 + 2 * count : 4 + 2 * count]
    for component in components:
        coarseness[component][first : last + 1] = bits & 15
    if frame.progressive and first > 0 and data.find(bytes(_MOST_ZEROS), scan.start, scan.end) >= 0:
        return f"has {_MOST_ZEROS} or more zeros in a row among its coded pixels"
    if not interval:
        return None
    markers = [marker[1] & 7 for marker in re.findall(rb"\xff[\xd0-\xd7]", data[scan.start : scan.end])]
    expected = -(-frame.units(components) // interval) - 1
    if markers == [number % 8 for number in range(expected)]:
        return None
    return f"lacks restart markers among its coded pixels ({len(markers)} of {expected}, or out of order)"


def _out_of_step(data: bytes, scan: _Segment, picture: Image.Image, *, progressive: bool) -> str | None:
    """Whether the decoder needs other bits than the last scan has."""
    decoded = np.asarray(picture)
    with_ones = data[: scan.end] + b"\xff\x00" * _PROBE + _END_OF_IMAGE
    if not np.array_equal(decoded, _decoded(with_ones)):
        return "has too few bits for its pixels"
    if progressive or scan.end - scan.start <= 4 * _PROBE:  # the last bits of a progressive one may change no pixel
        return None
    shorter = data[: scan.end - _PROBE] + _END_OF_IMAGE
    return "has bits left over behind its pixels" if np.array_equal(decoded, _decoded(shorter)) else None


def _decoded(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        return np.asarray(picture)


def _segments(data: bytes) -> Iterator[_Segment]:
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 4 <= len(data):
        marker = data[place + 1]
        if marker == _END_OF_IMAGE[1]:
            return
        if marker in (0x00, 0xFF) or marker in _STANDING_ALONE:  # fill bytes and what is no segment
            place += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", data[place + 2 : place + 4])
        start = place = place + 2 + length
        if marker == _SCAN:
            following = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]").search(data, start)
            place = len(data) if following is None else following.start()
        yield _Segment(marker, data[start - length + 2 : start], start, place)
