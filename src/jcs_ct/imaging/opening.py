"""`open_study` and `list_series`: from a path to a study, whatever lies there."""

from __future__ import annotations

from pathlib import Path

from jcs_ct.errors import ConfigError, GateCode, StudyError
from jcs_ct.imaging.series import DicomSurvey, describe_series, read_dicom, survey_dicom
from jcs_ct.imaging.sources import SourceFiles, find_files
from jcs_ct.imaging.study import QualityFlag, SeriesInfo, Study


def open_study(
    path: str | Path, *, series: str | None = None, lenient: bool = False, allow_deflated: bool = False
) -> Study:
    """Read one chest CT series through the geometry gate.

    Args:
        path: DICOM folder or file, NIfTI volume, folder of PNG/JPEG slices or one such slice, .zip or .tar of them.
        series: Identifier (or its beginning) of the series to read, as :func:`list_series` gives it.
        lenient: Turn geometry faults into flags and withhold the affine; slices can still be read.
        allow_deflated: Read DICOM in the deflated transfer syntax, which can unpack to a thousand times its size.

    Raises:
        ConfigError: nothing at ``path``, or ``series`` names none.
        StudyError: the gate refuses, with its code, the numbers and what to do.
    """
    source = find_files(Path(path))
    if source.dicom:
        return read_dicom(_survey(source, allow_deflated=allow_deflated), series, lenient=lenient)
    raise _nothing(source)


def list_series(path: str | Path, *, lenient: bool = False, allow_deflated: bool = False) -> tuple[SeriesInfo, ...]:
    """Every series at ``path``, the best first, with its fate and why.

    Raises:
        ConfigError: nothing at ``path``.
        StudyError: there are no images at all.
    """
    source = find_files(Path(path))
    if source.dicom:
        survey = _survey(source, allow_deflated=allow_deflated)
        return describe_series(survey, None, lenient=lenient)
    raise _nothing(source)


def _survey(source: SourceFiles, *, allow_deflated: bool) -> DicomSurvey:
    survey = survey_dicom(source.dicom, allow_deflated=allow_deflated)
    beside = len(source.others) + len(source.pictures) + len(source.nifti) + len(source.archives)
    if not beside:
        return survey
    note = QualityFlag("OTHER_FILES", f"{beside} file(s) beside the DICOM files were ignored")
    return DicomSurvey(survey.files, survey.series, survey.damaged, (note,))


def _nothing(source: SourceFiles) -> StudyError | ConfigError:
    accepted = "DICOM (with its preamble), NIfTI (.nii, .nii.gz), PNG or JPEG slices, .zip or .tar of these"
    if source.root.is_file():
        suffix = source.root.suffix.lower()
        converted = suffix in (".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".img")
        if converted:
            return StudyError(GateCode.UNSUPPORTED, f"{suffix} is not read; convert the volume to NIfTI (.nii.gz)")
        return StudyError(GateCode.UNREADABLE, f"{source.root.name} is no image that is read here: {accepted}")
    count = len(source.others)
    return StudyError(GateCode.NO_IMAGES, f"none of {count} file(s) is an image that is read here: {accepted}")
