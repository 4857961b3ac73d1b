"""Where a cohort comes from: a folder tree, a list, an address of an object store, or a PACS."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from jcs_ct.batch.addresses import find_at, is_address
from jcs_ct.batch.cohort_manifest import FoundStudy, Kind
from jcs_ct.batch.local_studies import (
    FILES_AT_ONCE,
    Gate,
    find_in_folder,
    row_of_survey,
    single_study,
    study_of_files,
)
from jcs_ct.data.manifest.table_files import is_parquet, read_table
from jcs_ct.errors import ConfigError, GateCode, NotFoundError, StudyError, needing_extra
from jcs_ct.imaging.series import DicomSeries, survey_dicom
from jcs_ct.imaging.study_files import find_files

if TYPE_CHECKING:
    from jcs_ct.pacs.dicomweb import DicomWeb
    from jcs_ct.pacs.remote import RemoteStudy

_LISTS = (".csv", ".tsv", ".parquet", ".pq")
#: Told how many files or studies were looked at.
Looked = Callable[[int], None]


def find_studies(
    source: str, gate: Gate, *, since: date | None = None, progress: Looked | None = None
) -> Iterator[FoundStudy]:
    """Every study of a cohort.

    Args:
        source: Folder, CSV or Parquet list, address such as ``s3://bucket/cohort``, or DICOMweb root (``https://...``).
        gate: How strictly headers are judged.
        since: Earliest Study Date, for a DICOMweb root only.
        progress: Called with a count that grows.

    Raises:
        ConfigError: there is nothing to read, or it cannot be read; lists every problem of a list at once.
    """
    if since is not None and not _is_web(source):
        raise ConfigError("a first day can be asked of a DICOMweb server only; leave --since out")
    if _is_web(source):
        return _find_on_server(source, since)
    if is_address(source):
        return iter(find_at(source, gate, progress=progress))
    path = Path(source)
    if path.is_file() and path.suffix.lower() in _LISTS:
        return _read_or_said(map(_as_asked, _find_in_list(path, gate, progress)), path)
    return iter(find_in_folder(path, gate, progress=progress))


def _is_web(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _find_on_server(url: str, since: date | None) -> Iterator[FoundStudy]:
    """CT studies of a DICOMweb server, with what it lists of them; the gate sees them when they are fetched."""
    from jcs_ct.pacs.remote import StudyQuery

    with closing(connect(url)) as web:
        for remote in web.studies(StudyQuery(since)):
            yield _listed(web, remote, f"{url.rstrip('/')}/studies/{remote.uid}")


def _listed(web: DicomWeb, remote: RemoteStudy, where: str) -> FoundStudy:
    """What the server lists of a study; one that it fails on has the code, and the others are looked at.

    Raises:
        PacsUnavailableError: it answers nothing at all.
    """
    from jcs_ct.pacs.server import PacsError, PacsUnavailableError

    try:
        listing = web.listing(remote)
    except PacsError as error:
        if isinstance(error, PacsUnavailableError) and not web.answers():
            raise
        return FoundStudy(_hash(remote.uid), Kind.DICOMWEB, where, code=error.code, message=str(error))
    found = FoundStudy(
        _hash(f"{remote.uid}|{listing.fingerprint}"), Kind.DICOMWEB, where, slice_count=listing.image_count
    )
    if not listing.image_count:
        message = f"the server lists no CT images of the study ({GateCode.NO_IMAGES})"
        return replace(found, code=str(GateCode.NO_IMAGES), message=message)
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def connect(url: str) -> DicomWeb:
    """The DICOMweb server at a URL, with the credentials of the environment.

    Raises:
        ConfigError: the extra ``pacs`` is not installed, or the credentials cannot be used.
    """
    with needing_extra("a DICOMweb server", "pacs", ("requests", "defusedxml")):
        from jcs_ct.pacs.dicomweb import DicomWeb
        from jcs_ct.pacs.server import PacsServer
    return DicomWeb(PacsServer.from_environment(url, os.environ.get("JCS_PACS_CA", "")))


def _read_or_said(studies: Iterator[FoundStudy], path: Path) -> Iterator[FoundStudy]:
    """The studies of a list; one whose files or folder cannot be read is named."""
    try:
        yield from studies
    except OSError as error:
        named, reason = error.filename or "a study", error.strerror or type(error).__name__
        raise ConfigError(f"{named} cannot be read: {reason}; mend it, or leave it out of the list {path}") from error


def _find_in_list(path: Path, gate: Gate, progress: Looked | None) -> Iterator[FoundStudy]:
    """A study a line: column ``study`` (path beside the list, or address), optional column ``series``."""
    table = read_table(path, what="list of studies")
    problems = list(table.problems)
    if "study" not in table.columns:
        kind = "Parquet" if is_parquet(path) else "CSV"
        raise ConfigError(f"the list {path} ({kind}) has no column study; it holds {', '.join(table.columns)}")
    places: list[tuple[str, str]] = []
    for where, row in table:
        place = row["study"]
        if not is_address(place):
            place = str((path.parent / place).absolute())
            if not row["study"] or not Path(place).exists():
                problems.append(f"{where}: no study at {row['study'] or 'an empty path'}")
        places.append((place, row.get("series", "")))
    if problems:
        raise ConfigError("\n  ".join([f"the list {path} cannot be used:", *problems]))
    waiting: list[_Line] = []
    for done, (place, series) in enumerate(places, start=1):
        if is_address(place):
            yield _one_at(place, series, gate)
        else:
            yield from _looked_at(Path(place), series, path.parent, waiting)
        if sum(len(line.files) for line in waiting) >= FILES_AT_ONCE or done == len(places):
            yield from _judged(waiting, gate)
            waiting = []
        if progress is not None:
            progress(done)


def _as_asked(found: FoundStudy) -> FoundStudy:
    """A study of which a line wants a series: with another one wanted it is another study to be read."""
    return replace(found, study=_hash(f"{found.study}|series {found.series}")) if found.series else found


@dataclass(frozen=True)
class _Line:
    """A line of a list whose study is DICOM files."""

    where: Path
    series: str
    files: tuple[Path, ...]


def _one_at(address: str, series: str, gate: Gate) -> FoundStudy:
    """The study at an address of a list; none and several are refused, since the line means one."""
    try:
        found = find_at(address, gate)
    except NotFoundError:
        found = []
    if len(found) == 1:
        return replace(found[0], series=series)
    code, advice = GateCode.MIXED_SERIES, "give one line for each"
    if not found:
        code, advice = GateCode.NO_IMAGES, "mend the address, or leave the line out"
    message = f"{len(found) or 'no'} studies lie at this address of the list; {advice} ({code})"
    return FoundStudy(_hash(address), Kind.SINGLE, address, series=series, code=str(code), message=message)


def _looked_at(place: Path, series: str, root: Path, waiting: list[_Line]) -> Iterator[FoundStudy]:
    """A study that is no DICOM, or one that cannot be; DICOM files wait to be read together with others."""
    try:
        files = find_files(place)
    except StudyError as error:
        row = FoundStudy(_hash(str(place)), Kind.SINGLE, str(place), series=series)
        yield replace(row, code=str(error.code), message=str(error))
        return
    if files.dicom:
        waiting.append(_Line(place, series, files.dicom))
        return
    everything = (*files.nifti, *files.pictures, *files.archives, *files.others)
    yield replace(single_study(place, root, everything), series=series)


def _judged(lines: Sequence[_Line], gate: Gate) -> Iterator[FoundStudy]:
    """What the gate says of each line; headers of all are read in one child where lines do not share series."""
    if not lines:
        return
    files = [path for line in lines for path in line.files]
    survey = survey_dicom(files, allow_deflated=gate.allow_deflated, digest_pixels=True)
    owner = [number for number, line in enumerate(lines) for _ in line.files]
    mine: list[list[DicomSeries]] = [[] for _ in lines]
    apart = not survey.damaged
    for one in survey.series:
        owners = {owner[header.file_index] for header in one.headers}
        apart = apart and len(owners) == 1
        mine[owners.pop()].append(one)
    for line, series in zip(lines, mine, strict=True):
        if apart and series:
            yield row_of_survey(replace(survey, series=tuple(series)), line.where, gate, line.series)
        else:
            yield study_of_files(line.files, line.where, gate, series=line.series)
