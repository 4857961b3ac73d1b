"""Hounsfield units of DICOM slices. Runs in the decoding child; nothing here trusts the file.

Only :func:`decode_slices` is meant to be called, through ``sandbox``; a slice is turned into HU with the rescale
values of its own header, never with its neighbour's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import get_j2k_parameters
from pydicom.uid import UID, JPEG2000TransferSyntaxes

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging.elements import DAMAGED_FILE_ERRORS
from jcs_ct.imaging.headers import UNCOMPRESSED_SYNTAXES, SliceHeader
from jcs_ct.volume import BACKGROUND_HU, PADDING_HU

#: A declared padding value is believed only where it cannot be tissue: at or below this, in HU.
_HIGHEST_PADDING_HU = -1000


def hounsfield(stored: NDArray[Any], header: SliceHeader) -> NDArray[np.float32]:
    """HU = slope * stored + intercept with this slice's own values (PS3.3 C.11.1.1.2); padding is ``BACKGROUND_HU``.

    A declared padding value counts only where it lies at or below -1000 HU: some headers declare 0, which is water
    once rescaled. Values at or below -2000 HU are padding even when undeclared.

    Args:
        stored: Stored values, any shape.
        header: The slice's header; its slope and intercept must be known.

    Returns:
        float32, same shape.
    """
    if header.slope is None or header.intercept is None:
        raise StudyError(GateCode.NO_HU, "the slice has no rescale slope or intercept")
    hu = stored.astype(np.float32) * np.float32(header.slope) + np.float32(header.intercept)
    outside = hu <= PADDING_HU
    if header.padding is not None:
        low, high = sorted((header.padding, header.padding if header.padding_limit is None else header.padding_limit))
        if header.slope * high + header.intercept <= _HIGHEST_PADDING_HU:
            outside |= (stored >= low) & (stored <= high)
    hu[outside] = BACKGROUND_HU
    return hu


def _stored_values(dataset: Dataset, header: SliceHeader) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """(frames, rows, columns) stored values, and where padding stands in bits that store no value."""
    if header.transfer_syntax in UNCOMPRESSED_SYNTAXES:
        dataset.pixel_array_options(correct_unused_bits=False)  # what stands in them is looked at here
    stored: NDArray[Any] = np.asarray(dataset.pixel_array).reshape(header.frames, header.rows, header.columns)
    unused = header.bits_allocated - header.bits_stored
    if stored.dtype.kind not in "iu" or not 0 < unused < 8 * stored.dtype.itemsize == header.bits_allocated:
        return stored, None
    if header.transfer_syntax in UNCOMPRESSED_SYNTAXES:
        stored = right_justified(stored, header)
    return within_bits_stored(stored, header)


def right_justified(stored: NDArray[Any], header: SliceHeader) -> NDArray[Any]:
    """Values down to bit 0 where High Bit lies above Bits Stored - 1, as ACR-NEMA and early DICOM allow.

    Raises:
        StudyError: NO_HU when pixels fill more bits than Bits Stored, so that neither reading fits.
    """
    shift = 0 if header.high_bit is None else header.high_bit + 1 - header.bits_stored
    if not 0 < shift <= header.bits_allocated - header.bits_stored:
        return stored
    bits = stored.view(f"u{stored.dtype.itemsize}")
    if not (bits & ((1 << shift) - 1)).any():
        return stored >> shift
    if (bits >> header.bits_stored).any():
        message = (
            f"pixels fill more than the {header.bits_stored} bits up to High Bit {header.high_bit} that the header "
            "states; grey levels cannot become HU, export the series again"
        )
        raise StudyError(GateCode.NO_HU, message)
    return stored


def within_bits_stored(stored: NDArray[Any], header: SliceHeader) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Values of Bits Stored bits, and where padding lies outside them.

    What stands in the bits above is padding where it is declared so or is one single value; a number that outgrew
    Bits Stored where all others keep their sign in those bits, or where it goes on from the numbers beside it, as
    metal does; else an old overlay (PS3.5 8.1.1), which is dropped.

    Raises:
        StudyError: NO_HU when as many of the lowest bits are empty: the pixels lie left and High Bit says otherwise.
    """
    unused = header.bits_allocated - header.bits_stored
    low = (stored << unused) >> unused
    beyond = low != stored
    if not beyond.any():
        return low, None
    values = np.unique(stored[beyond])
    outgrown = _goes_on(stored, low, beyond)
    if (values.size == 1 and not outgrown) or (header.padding is not None and bool((values == header.padding).all())):
        return low, beyond
    if stored.dtype.kind == "i" and bool((stored[~beyond] < 0).any()) and bool((stored[beyond] >= 0).all()):
        return stored, None
    if not (stored.view(f"u{stored.dtype.itemsize}") & ((1 << unused) - 1)).any():
        message = (
            f"pixels use the {unused} bits above the {header.bits_stored} that the header states and none of the "
            f"lowest {unused}: they lie left in their words, and High Bit does not say so; export the series again"
        )
        raise StudyError(GateCode.NO_HU, message)
    padded = beyond & (stored == header.padding) if header.padding is not None else None
    return (stored if outgrown else low), padded


def _goes_on(stored: NDArray[Any], low: NDArray[Any], beyond: NDArray[np.bool_]) -> bool:
    """Whether numbers beyond Bits Stored are nearer to those beside them whole than without the bits above."""
    as_stored, without = [], []
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:, :, :-1], np.s_[:, :, 1:])):
        for one, other in ((first, second), (second, first)):
            at_edge = beyond[one] & ~beyond[other]
            beside = stored[other][at_edge].astype(np.int64)
            as_stored.append(np.abs(stored[one][at_edge] - beside))
            without.append(np.abs(low[one][at_edge] - beside))
    whole, bits = np.concatenate(as_stored), np.concatenate(without)
    return bool(whole.size) and bool(np.median(whole) < np.median(bits))


def check_sign(stored: NDArray[Any], headers: Sequence[SliceHeader], stream_signed: bool | None = None) -> None:
    """Refuse numbers that Pixel Representation makes negative and that are not: then the densest become air.

    A JPEG 2000 stream states its own sign (ITU-T T.800 A.5.1), which shall be the header's (PS3.5 A.4.4). Where it is
    not, both say the same of small numbers, and padding may be meant as the header has it.

    Args:
        stored: (frames, rows, columns) as the header has them.
        headers: Of the frames that are read.
        stream_signed: What the pixels' own stream states; None where it cannot.

    Raises:
        StudyError: NO_HU.
    """
    contradicted = stream_signed is not None and stream_signed != headers[0].signed
    for header in headers:
        numbers = stored[max(header.frame - 1, 0)][None]
        slope, intercept = header.slope or 1.0, header.intercept or 0.0
        if contradicted:
            other = numbers < 0 if header.signed else numbers >= 1 << (header.bits_stored - 1)
            if (other & (slope * numbers + intercept > PADDING_HU)).any():
                stated = "signed" if stream_signed else "unsigned"
                raise _sign_is_wrong(f"the JPEG 2000 stream states {stated} numbers and the header the other kind")
        if header.signed and slope * float(numbers.min()) + intercept <= PADDING_HU:
            below = (numbers < 0) & (slope * numbers + intercept <= PADDING_HU)
            values, counts = np.unique(numbers[below], return_counts=True)
            if values.size > 1 and _goes_on(
                np.where(below, numbers.astype(np.int64) + (1 << header.bits_stored), numbers),
                numbers,
                below & (numbers != values[counts.argmax()]),  # one value may be padding
            ):
                raise _sign_is_wrong("numbers turn negative where those beside them are the largest")


def _sign_is_wrong(why: str) -> StudyError:
    message = f"{why}: Pixel Representation is probably wrong; grey levels cannot become HU, export the series again"
    return StudyError(GateCode.NO_HU, message)


def _stream_signed(dataset: Dataset, header: SliceHeader) -> bool | None:
    """Whether a JPEG 2000 stream states signed numbers; None for other pixels."""
    if UID(header.transfer_syntax) not in JPEG2000TransferSyntaxes:
        return None
    frame = next(generate_frames(dataset.PixelData, number_of_frames=header.frames))
    stated = get_j2k_parameters(frame).get("is_signed")
    return None if stated is None else bool(stated)


def decode_slices(path: Path, headers: Sequence[SliceHeader]) -> NDArray[np.float32]:
    """The slices of one file that ``headers`` name, in their order.

    Returns:
        (slices, rows, columns) float32 in HU.

    Raises:
        StudyError: UNSUPPORTED (no decoder for the transfer syntax), TRUNCATED, UNREADABLE or NO_HU.
    """
    try:
        dataset = pydicom.dcmread(path)
        stored, padded = _stored_values(dataset, headers[0])
        stream_signed = _stream_signed(dataset, headers[0])
    except NotImplementedError as error:
        syntax = UID(headers[0].transfer_syntax).name
        raise StudyError(
            GateCode.UNSUPPORTED,
            f"no decoder for the transfer syntax {syntax}; convert it to Explicit VR Little Endian",
        ) from error
    except DAMAGED_FILE_ERRORS as error:
        raise StudyError(
            GateCode.UNREADABLE, f"the pixel data cannot be decoded ({type(error).__name__}); export the file again"
        ) from error
    check_sign(stored, headers, stream_signed)
    hu = np.stack([hounsfield(stored[max(header.frame - 1, 0)], header) for header in headers])
    if padded is not None:
        hu[padded[[max(header.frame - 1, 0) for header in headers]]] = BACKGROUND_HU
    return hu
