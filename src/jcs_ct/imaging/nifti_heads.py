"""What the first bytes of a NIfTI file tell, for whoever looks at many: its size, and whether it can be a CT."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from jcs_ct.imaging.compression import BZIP2, GZIP, first_bytes, first_unpacked_bytes

_HEAD_BYTES = 352
#: Where NIfTI-1 and NIfTI-2 keep dim[0:4], bitpix and scl_slope, and how (nifti1.h, nifti2.h).
_NIFTI_1 = ((40, "4h"), (72, "h"), (112, "f"))
_NIFTI_2 = ((16, "4q"), (14, "h"), (176, "d"))
_LABEL_BITS = 8


@dataclass(frozen=True)
class NiftiHead:
    """Facts of a header.

    Args:
        shape: (columns, rows, slices) as they are stored.
        bits: Of each number.
        is_scaled: Whether a slope turns the stored numbers into others.
    """

    shape: tuple[int, int, int]
    bits: int
    is_scaled: bool

    @property
    def is_labels(self) -> bool:
        """Whether its numbers are labels: 8 bits without a slope hold no HU."""
        return self.bits <= _LABEL_BITS and not self.is_scaled


def read_nifti_head(path: Path) -> NiftiHead | None:
    """The head of a NIfTI file, also through gzip and bzip2; None where there is none to read.

    Raises:
        OSError: the file cannot be opened.
    """
    head = first_bytes(path, _HEAD_BYTES)
    if head.startswith((GZIP, BZIP2)):
        head = first_unpacked_bytes(path, _HEAD_BYTES)
    if len(head) < _HEAD_BYTES:
        return None
    for order in "<>":
        size = struct.unpack_from(f"{order}i", head)[0]
        if size in (348, 540):
            places = _NIFTI_1 if size == 348 else _NIFTI_2
            dim, (bits,), (slope,) = (struct.unpack_from(order + kind, head, place) for place, kind in places)
            shape = tuple(max(1, int(one)) if number <= dim[0] else 1 for number, one in enumerate(dim[1:4], start=1))
            return NiftiHead((shape[0], shape[1], shape[2]), int(bits), slope not in (0.0, 1.0) and slope == slope)
    return None
