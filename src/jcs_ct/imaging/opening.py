"""`open_study`, `list_series` and `inspect_study`: from a path to a study, whatever lies there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from jcs_ct.errors import ConfigError, GateCode, StudyError
from jcs_ct.imaging.gate_finding import Finding
from jcs_ct.imaging.gate_pictures import check_picture_names
from jcs_ct.imaging.series import DicomSurvey, survey_dicom
from jcs_ct.imaging.series_choice import describe_series, not_read_after_all
from jcs_ct.imaging.series_reading import read_dicom
from jcs_ct.imaging.single import describe_single, open_nifti, open_pictures
from jcs_ct.imaging.study import QualityFlag, SeriesInfo, Study
from jcs_ct.imaging.study_files import SourceFiles, find_files, no_images
from jcs_ct.imaging.unpacking import unpacked


def open_study(
    path: str | Path, *, series: str | None = None, lenient: bool = False, allow_deflated: bool = False
) -> Study:
    """Read one chest CT series through the geometry gate.

    Args:
        path: DICOM folder or file, NIfTI volume, PNG, JPEG or TIFF slices, .zip or .tar of these.
        series: Identifier (or its beginning) of the series to read, as :func:`list_series` gives it.
        lenient: Turn geometry faults into flags and withhold the affine; slices can still be read.
        allow_deflated: Read DICOM in the deflated transfer syntax, which can unpack to a thousand times its size.

    Returns:
        The study; ``paths`` of one out of an archive is the archive.

    Raises:
        ConfigError: nothing at ``path``, or ``series`` names none.
        StudyError: the gate refuses, with its code, the numbers and what to do.
    """
    path = Path(path)
    with _source(path) as source:
        if source.dicom:
            study = read_dicom(_survey(source, allow_deflated=allow_deflated), series, lenient=lenient)
        else:
            study = _open_single(source, lenient=lenient)
            _check_wanted(study, series)
        return study if source.root == path else replace(study, paths=(path,))


def list_series(path: str | Path, *, lenient: bool = False, allow_deflated: bool = False) -> tuple[SeriesInfo, ...]:
    """Every series at ``path``, the best first, whether it is read, and why.

    Raises:
        ConfigError: nothing at ``path``.
        StudyError: there are no images at all.
    """
    with _source(Path(path)) as source:
        if source.dicom:
            return describe_series(_survey(source, allow_deflated=allow_deflated), None, lenient=lenient)
        return _inspect_single(source, None, lenient=lenient).series


@dataclass(frozen=True, eq=False)
class Inspection:
    """What lies at a path and what would be read.

    Args:
        series: Every series, the best first, whether it is read, and why; empty when there are no images at all.
        result: The study, or why it is refused.
    """

    series: tuple[SeriesInfo, ...]
    result: Study | StudyError


def inspect_study(
    path: str | Path, *, series: str | None = None, lenient: bool = False, allow_deflated: bool = False
) -> Inspection:
    """What :func:`list_series` and :func:`open_study` say, reading every header once.

    Raises:
        ConfigError: nothing at ``path``, or ``series`` names none.
    """
    path = Path(path)
    try:
        with _source(path) as source:
            if source.dicom:
                survey = _survey(source, allow_deflated=allow_deflated)
                inspection = _inspect_dicom(survey, series, lenient=lenient)
            else:
                inspection = _inspect_single(source, series, lenient=lenient)
    except StudyError as error:
        return Inspection((), error)
    if isinstance(inspection.result, StudyError) or source.root == path:
        return inspection
    return replace(inspection, result=replace(inspection.result, paths=(path,)))


def _inspect_dicom(survey: DicomSurvey, series: str | None, *, lenient: bool) -> Inspection:
    listed = describe_series(survey, series, lenient=lenient)
    try:
        return Inspection(listed, read_dicom(survey, series, lenient=lenient))
    except StudyError as error:
        return Inspection(not_read_after_all(listed, error), error)


def _inspect_single(source: SourceFiles, series: str | None, *, lenient: bool) -> Inspection:
    _one_kind(source)
    kind = "nifti" if source.nifti else "slices"
    try:
        study = _open_single(source, lenient=lenient)
    except StudyError as error:
        return Inspection((describe_single(kind, len(source.nifti or source.pictures), error),), error)
    _check_wanted(study, series)
    return Inspection((describe_single(kind, len(study.paths), study),), study)


def _check_wanted(study: Study, series: str | None) -> None:
    """Refuse an identifier that is not that of the only series."""
    if series is not None and not study.identifier.startswith(series.lower()):
        raise ConfigError(f"no series has an identifier that starts with {series!r}; there is {study.identifier}")


@contextmanager
def _source(path: Path) -> Iterator[SourceFiles]:
    """The files at ``path``; an archive is unpacked for as long as they are needed."""
    source = find_files(path)
    if len(source.archives) == 1 and not (source.dicom or source.nifti or source.pictures):
        with unpacked(source.archives[0]) as (folder, names):
            yield find_files(folder, names)
    else:
        yield source


def _survey(source: SourceFiles, *, allow_deflated: bool) -> DicomSurvey:
    survey = survey_dicom(source.dicom, allow_deflated=allow_deflated)
    beside = len(source.others) + len(source.pictures) + len(source.nifti) + len(source.archives)
    notes = (QualityFlag("OTHER_FILES", f"{beside} file(s) beside the DICOM files were ignored"),) if beside else ()
    return replace(survey, damaged=(*survey.damaged, *_lost_images(source)), notes=notes)


def _lost_images(source: SourceFiles) -> list[Finding]:
    """UNREADABLE: files called as the images are that hold none; one of the study's slices may have been lost."""
    if not source.lost:
        return []
    empty = sum(path.stat().st_size == 0 for path in source.lost)
    of_them = f", {empty} of them empty" if empty else ""
    message = (
        f"{len(source.lost)} file(s) are called as the study's images are and hold none that is read{of_them}: "
        "slices may be lost; copy the study again from its source, give all slices as one kind of file, or take the "
        "files out if they are none of its images"
    )
    return [Finding(GateCode.UNREADABLE, message)]


def _open_single(source: SourceFiles, *, lenient: bool) -> Study:
    _one_kind(source)
    if source.nifti:
        study = open_nifti(source.nifti[0], lenient=lenient)
    else:
        names = [source.name_of(path) for path in source.pictures]
        findings = [*check_picture_names(names), *_lost_images(source)]
        study = open_pictures(source.pictures, findings, lenient=lenient)
    ignored = len(source.others) + len(source.archives)
    if not ignored:
        return study
    note = QualityFlag("OTHER_FILES", f"{ignored} file(s) that are no images were ignored")
    return replace(study, flags=(*study.flags, note))


def _one_kind(source: SourceFiles) -> None:
    """Refuse what holds no image, several volumes, or volumes beside pictures."""
    if not source.nifti and not source.pictures:
        raise no_images(source)
    if len(source.nifti) > 1 or (source.nifti and source.pictures):
        count = len(source.nifti) + len(source.pictures)
        message = f"the folder holds {count} NIfTI volumes and pictures; give the file of the one to read"
        raise StudyError(GateCode.MIXED_SERIES, message, remedy="give the file of the one to read")
