"""Values of DICOM elements as a file that nobody vouches for states them: usable, or not there."""

from __future__ import annotations

import math
import re
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from jcs_ct.errors import GateCode, StudyError

#: Everything that pydicom and its plugins are known to raise on damaged files.
DAMAGED_FILE_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    pydicom.errors.InvalidDicomError,
    pydicom.errors.BytesLengthException,
)

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


def to_number(value: Any) -> float | None:
    """A finite float, or None; the first of several. Some exporters write the decimal comma of their country."""
    if isinstance(value, (MultiValue, list, tuple)):
        value = value[0] if len(value) else None
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    stated = value if isinstance(value, str) else str(getattr(value, "original_string", None) or "")
    if "_" in stated or not stated.isascii():  # numbers to Python (1_3 is 13), no decimal strings (DS, PS3.5 6.2)
        return None
    if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value.strip()):
        value = value.replace(",", ".")
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def to_numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Exactly ``count`` finite floats, or None; a backslash too many at the end is passed over."""
    if not isinstance(value, (MultiValue, list, tuple)):
        return None
    value = list(value)
    while len(value) > count and value[-1] in (None, ""):
        value.pop()
    if len(value) != count:
        return None
    found = [to_number(item) for item in value]
    return None if any(item is None for item in found) else tuple(float(item) for item in found if item is not None)


def with_points(dataset: Dataset) -> Dataset:
    """The dataset, its decimal commas and backslashes too many put right in place, those of its sequences too.

    What is no decimal string (DS, PS3.5 6.2) then either, stays as it is.
    """
    for element in dataset.iterall():
        if element.VR != "DS" or element.is_empty:
            continue
        stated = list(element.value) if element.VM > 1 else [element.value]
        while len(stated) > 1 and stated[-1] in (None, ""):
            stated.pop()
        numbers = [to_number(one) for one in stated]
        repaired = any(isinstance(one, str) for one in stated) or len(stated) != element.VM
        if repaired and None not in numbers:
            element.value = [str(one).strip().replace(",", ".") for one in stated]
    return dataset


def to_integer(value: Any) -> int | None:
    """:func:`to_number` without what comes behind the point."""
    found = to_number(value)
    return None if found is None else int(found)


def to_text(value: Any) -> str:
    """Text without space around it; several values with the backslash between them, none as the empty string."""
    if isinstance(value, (MultiValue, list, tuple)):
        return "\\".join(str(item) for item in value).strip()
    return "" if value is None else str(value).strip()


def has_controls(text: str) -> bool:
    """Whether a line of text holds control characters or line ends (PS3.5 6.1.3), or what UTF-8 cannot carry.

    ``str.isprintable`` refuses more: the ideographic space of Japanese names, the joiners of Persian ones.
    """
    return any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def to_seconds(value: Any) -> float | None:
    """Seconds of the day of a time (TM) or date and time (DT, PS3.5 6.2), with or without colons."""
    stated = re.fullmatch(r"(?:\d{8})?(\d\d):?(\d\d):?(\d\d(?:\.\d{1,6})?)?(?:[+-]\d{4})?", to_text(value))
    if stated is None:
        return None
    return int(stated[1]) * 3600.0 + int(stated[2]) * 60.0 + float(stated[3] or 0)


def functional_group(dataset: Dataset, frame: int, name: str) -> Dataset:
    """The first item of a functional group: the frame's own, else the shared one, else empty (PS3.3 C.7.6.16)."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (*per_frame[frame : frame + 1], *shared[:1]):
        sequence = groups.get(name)
        if sequence:
            item: Dataset = sequence[0]
            return item
    return Dataset()


def elements_of(path: Path, keywords: Sequence[str]) -> dict[str, Any]:
    """What the child answers for one file: the DICOM JSON model (PS3.18 F) of the elements that can be read.

    Raises:
        StudyError: it cannot be read (UNREADABLE), or is no DICOM (NO_IMAGES).
    """
    found: dict[str, Any] = {}
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
        for tag in list(header.keys()):
            found |= _json_of(header, tag)
    except pydicom.errors.InvalidDicomError as error:
        raise StudyError(GateCode.NO_IMAGES, "it is no DICOM file") from error
    except DAMAGED_FILE_ERRORS as error:
        message = f"no DICOM header can be read ({type(error).__name__}); keep the files until results are written"
        raise StudyError(GateCode.UNREADABLE, message) from error
    return found


def _json_of(header: Dataset, tag: Any) -> dict[str, Any]:
    """One element, or nothing where its value cannot be read."""
    one = Dataset()
    try:
        one[tag] = header[tag]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held: dict[str, Any] = with_points(one).to_json_dict(suppress_invalid_tags=True)
    except DAMAGED_FILE_ERRORS:
        return {}
    return held
