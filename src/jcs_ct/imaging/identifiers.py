"""What results copy of their source's headers, and which object is which; read in the decoding child."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import config as pydicom_config
from pydicom.dataset import Dataset

from jcs_ct.errors import StudyError
from jcs_ct.imaging.elements import to_text
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
    outcomes = _outcomes(paths, keywords)
    return [_dataset(outcome, number, len(paths)) for number, outcome in enumerate(outcomes, start=1)]


def readable_elements(paths: Sequence[Path], keywords: Sequence[str]) -> list[Dataset | None]:
    """The same; None for a file that cannot be read."""
    outcomes = _outcomes(paths, keywords)
    return [None if one.code is not None else _from_json(one) for one in outcomes]


def _outcomes(paths: Sequence[Path], keywords: Sequence[str]) -> list[Outcome]:
    return run_in_child("elements", [{"path": str(path.absolute())} for path in paths], {"keywords": [*keywords]})


def _dataset(outcome: Outcome, number: int, count: int) -> Dataset:
    if outcome.code is not None:
        raise StudyError(outcome.code, f"source file {number} of {count} cannot be used: {outcome.message}")
    return _from_json(outcome)


def _from_json(outcome: Outcome) -> Dataset:
    """The elements, as they are stated: what pydicom says of a value that is not valid holds the value."""
    with pydicom_config.disable_value_validation():
        dataset: Dataset = Dataset.from_json(outcome.value)
        return dataset
