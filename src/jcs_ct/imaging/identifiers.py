"""Elements of DICOM headers, read in the decoding child: what results copy of their source, which object is which."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging.elements import DAMAGED_FILE_ERRORS, to_text, with_points
from jcs_ct.imaging.sandbox import Outcome, run_in_child

_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


@dataclass(frozen=True)
class ObjectIdentifiers:
    """SOP Class, SOP Instance, Series Instance and Study Instance UID, as stated."""

    sop_class: str
    instance: str
    series: str
    study: str


def read_identifiers(paths: Sequence[Path]) -> list[ObjectIdentifiers]:
    """Identifiers of DICOM files, in their order.

    Raises:
        StudyError: a file cannot be read (UNREADABLE), or is no DICOM (NO_IMAGES).
    """
    headers = read_elements(paths, _IDENTIFIERS)
    return [ObjectIdentifiers(*(to_text(header.get(keyword)) for keyword in _IDENTIFIERS)) for header in headers]


def read_elements(paths: Sequence[Path], keywords: Sequence[str]) -> list[Dataset]:
    """Elements of the headers of DICOM files, in their order; those whose value nobody can read are left out.

    The files are parsed in the decoding child; what comes back is the DICOM JSON model of the elements.

    Raises:
        StudyError: a file is gone or damaged (UNREADABLE), or no DICOM (NO_IMAGES).
    """
    outcomes = run_in_child("elements", [{"path": str(path.absolute())} for path in paths], {"keywords": [*keywords]})
    return [_dataset(outcome, number, len(paths)) for number, outcome in enumerate(outcomes, start=1)]


def _dataset(outcome: Outcome, number: int, count: int) -> Dataset:
    if outcome.code is not None:
        raise StudyError(outcome.code, f"source file {number} of {count} cannot be used: {outcome.message}")
    dataset: Dataset = Dataset.from_json(outcome.value)
    return dataset


def elements_of(path: Path, keywords: Sequence[str]) -> dict[str, Any]:
    """What the child answers for one file: the DICOM JSON model (PS3.18 F) of the elements that can be read.

    Raises:
        StudyError: it cannot be read (UNREADABLE), or is no DICOM (NO_IMAGES).
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    found: dict[str, Any] = {}
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
        for tag in list(header.keys()):
            found |= _json_of(header, tag)
    except InvalidDicomError as error:
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
