"""Which object a DICOM file is: its class and its identifiers, read in the decoding child."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jcs_ct.errors import StudyError
from jcs_ct.imaging.sandbox import run_in_child


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
        StudyError: a file is no DICOM (UNREADABLE).
    """
    outcomes = run_in_child("identifiers", [{"path": str(path.absolute())} for path in paths])
    for number, outcome in enumerate(outcomes, start=1):
        if outcome.code is not None:
            raise StudyError(outcome.code, f"file {number} of {len(paths)}: {outcome.message}")
    return [ObjectIdentifiers(**outcome.value) for outcome in outcomes]


def identify(path: Path) -> dict[str, str]:
    """What the child answers for one file.

    Raises:
        StudyError: it is no DICOM (UNREADABLE).
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    from jcs_ct.errors import GateCode

    keywords = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError) as error:
        raise StudyError(GateCode.UNREADABLE, f"no DICOM header can be read ({type(error).__name__})") from error
    return asdict(ObjectIdentifiers(*(str(header.get(keyword) or "") for keyword in keywords)))
