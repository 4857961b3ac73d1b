"""`open_study` and `list_series`: from a path to a study, whatever lies there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from jcs_ct.errors import ConfigError, GateCode, StudyError
from jcs_ct.imaging.archive import unpacked
from jcs_ct.imaging.series import DicomSurvey, describe_series, read_dicom, survey_dicom
from jcs_ct.imaging.single import describe_single, open_nifti, open_pictures
from jcs_ct.imaging.sources import SourceFiles, find_files
from jcs_ct.imaging.study import QualityFlag, SeriesInfo, Study


def open_study(
    path: str | Path,
    *,
    series: str | None = None,
    lenient: bool = False,
    allow_deflated: bool = False,
    listed: Callable[[tuple[SeriesInfo, ...]], None] | None = None,
) -> Study:
    """Read one chest CT series through the geometry gate.

    Args:
        path: DICOM folder or file, NIfTI volume, folder of PNG/JPEG slices or one such slice, .zip or .tar of them.
        series: Identifier (or its beginning) of the series to read, as :func:`list_series` gives it.
        lenient: Turn geometry faults into flags and withhold the affine; slices can still be read.
        allow_deflated: Read DICOM in the deflated transfer syntax, which can unpack to a thousand times its size.
        listed: Called with what :func:`list_series` would return, before one is read or refused.

    Returns:
        The study; ``paths`` of one out of an archive is the archive.

    Raises:
        ConfigError: nothing at ``path``, or ``series`` names none.
        StudyError: the gate refuses, with its code, the numbers and what to do.
    """
    path = Path(path)
    with _source(path) as source:
        if source.dicom:
            survey = _survey(source, allow_deflated=allow_deflated)
            if listed is not None:
                listed(describe_series(survey, None, lenient=lenient))
            study = read_dicom(survey, series, lenient=lenient)
        else:
            opened, info = _open_and_describe(source, lenient=lenient)
            if listed is not None:
                listed((info,))
            if isinstance(opened, StudyError):
                raise opened
            study = opened
            if series is not None and not study.identifier.startswith(series.lower()):
                raise ConfigError(
                    f"no series has an identifier that starts with {series!r}; there is {study.identifier}"
                )
        return study if source.root == path else replace(study, paths=(path,))


def list_series(path: str | Path, *, lenient: bool = False, allow_deflated: bool = False) -> tuple[SeriesInfo, ...]:
    """Every series at ``path``, the best first, with its fate and why.

    Raises:
        ConfigError: nothing at ``path``.
        StudyError: there are no images at all.
    """
    with _source(Path(path)) as source:
        if source.dicom:
            return describe_series(_survey(source, allow_deflated=allow_deflated), None, lenient=lenient)
        return (_open_and_describe(source, lenient=lenient)[1],)


@contextmanager
def _source(path: Path) -> Iterator[SourceFiles]:
    """The files at ``path``; an archive is unpacked for as long as they are needed."""
    source = find_files(path)
    if len(source.archives) == 1 and not (source.dicom or source.nifti or source.pictures):
        with unpacked(source.archives[0]) as folder:
            yield find_files(folder)
    else:
        yield source


def _survey(source: SourceFiles, *, allow_deflated: bool) -> DicomSurvey:
    survey = survey_dicom(source.dicom, allow_deflated=allow_deflated)
    beside = len(source.others) + len(source.pictures) + len(source.nifti) + len(source.archives)
    if not beside:
        return survey
    note = QualityFlag("OTHER_FILES", f"{beside} file(s) beside the DICOM files were ignored")
    return DicomSurvey(survey.files, survey.series, survey.damaged, (note,))


def _open_and_describe(source: SourceFiles, *, lenient: bool) -> tuple[Study | StudyError, SeriesInfo]:
    """What is no DICOM: the study, or why it is refused; and its line in the list."""
    _one_kind(source)
    kind = "nifti" if source.nifti else "slices"
    try:
        study = _open_single(source, lenient=lenient)
    except StudyError as error:
        return error, describe_single(kind, len(source.nifti or source.pictures), error)
    return study, describe_single(kind, len(study.paths), study)


def _open_single(source: SourceFiles, *, lenient: bool) -> Study:
    study = open_nifti(source.nifti[0], lenient=lenient) if source.nifti else open_pictures(source.pictures)
    ignored = len(source.others) + len(source.archives)
    if not ignored:
        return study
    note = QualityFlag("OTHER_FILES", f"{ignored} file(s) that are no images were ignored")
    return replace(study, flags=(*study.flags, note))


def _one_kind(source: SourceFiles) -> None:
    """Refuse what holds no image, several volumes, or volumes beside pictures."""
    if not source.nifti and not source.pictures:
        raise _no_images(source)
    if len(source.nifti) > 1 or (source.nifti and source.pictures):
        count = len(source.nifti) + len(source.pictures)
        message = f"the folder holds {count} NIfTI volumes and pictures; give the file of the one to read"
        raise StudyError(GateCode.MIXED_SERIES, message)


def _no_images(source: SourceFiles) -> StudyError:
    accepted = "DICOM (with its preamble), NIfTI (.nii, .nii.gz), PNG or JPEG slices, .zip or .tar of these"
    if source.archives:
        message = f"{len(source.archives)} archives lie here; give the one to read"
        return StudyError(GateCode.MIXED_SERIES, message)
    if source.root.is_file():
        suffix = source.root.suffix.lower()
        if suffix in (".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".img"):
            return StudyError(GateCode.UNSUPPORTED, f"{suffix} is not read; convert the volume to NIfTI (.nii.gz)")
        return StudyError(GateCode.UNREADABLE, f"the file is no image that is read here: {accepted}")
    count = len(source.others)
    return StudyError(GateCode.NO_IMAGES, f"none of {count} file(s) is an image that is read here: {accepted}")
