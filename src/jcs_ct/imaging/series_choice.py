"""Which DICOM series is read, and why not the others.

The rule: among the series that the gate accepts (axial CT, not a localizer), the first by

1. stored as axial slices before coronal and sagittal ones,
2. no geometry fault (matters only when lenient),
3. not derived (reformatted, averaged) before derived,
4. most slices,
5. thinner steps between slices,
6. sharper kernel (lung before soft tissue).

A coronal or sagittal series is read only where no axial one lies beside it, or when it is asked for by name. Two
series that tie on all six, or candidates from different studies, are not chosen between: MIXED_SERIES asks for
``series=``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jcs_ct.errors import ConfigError, GateCode, StudyError
from jcs_ct.imaging.gate import Examination
from jcs_ct.imaging.gate_finding import Finding
from jcs_ct.imaging.series import DicomSeries, DicomSurvey
from jcs_ct.imaging.study import (
    QualityFlag,
    SeriesFate,
    SeriesInfo,
)


def choose_series(survey: DicomSurvey, wanted: str | None, *, lenient: bool) -> DicomSeries:
    """Apply the module's rule, or take the series whose identifier starts with ``wanted``.

    Raises:
        ConfigError: no series, or several, with such an identifier.
        StudyError: every series is refused (with the reason of the best one), or the choice is not obvious.
    """
    if wanted is not None:
        return _named_series(survey, wanted, lenient=lenient)
    usable = [one for one in survey.series if not one.examination.refusals(lenient=lenient)]
    if any(one.is_axial and one.is_ct for one in survey.series):
        usable = [one for one in usable if one.is_axial]
    if not usable:
        raise _refusal(survey, lenient=lenient)
    best = [one for one in usable if one.rank() == usable[0].rank()]
    studies = {(one.headers[0].patient_key, one.headers[0].study_key) for one in usable}
    if len(best) > 1 or len(studies) > 1:
        shown = best if len(best) > 1 else usable
        listed = "; ".join(series_in_words(one) for one in shown[:6])
        what = (
            f"{len(best)} series are equally good" if len(best) > 1 else f"series of {len(studies)} studies lie here"
        )
        raise StudyError(
            GateCode.MIXED_SERIES,
            f"{what}, choose one with --series: {listed}",
            remedy="choose one with --series, by an identifier that the message lists",
        )
    return usable[0]


def series_in_words(one: DicomSeries) -> str:
    """A series by its identifier, its count of slices, its step and its kernel."""
    step = one.examination.stack.step_mm if one.examination.stack is not None else None
    facts = [f"{len(one.headers)} slices"]
    if step:
        facts.append(f"every {step:.2f} mm")
    if one.headers[0].kernel:
        facts.append(f"kernel {one.headers[0].kernel}")
    return f"{one.identifier} ({', '.join(facts)})"


def _named_series(survey: DicomSurvey, wanted: str, *, lenient: bool) -> DicomSeries:
    found = [one for one in survey.series if wanted and one.identifier.startswith(wanted.lower())]
    if len(found) != 1:
        listed = "; ".join(series_in_words(one) for one in survey.series[:12])
        how_many = "no series has" if not found else f"{len(found)} series have"
        raise ConfigError(f"{how_many} an identifier that starts with {wanted!r}; there are: {listed}")
    refusals = found[0].examination.refusals(lenient=lenient)
    if refusals:
        raise refuse(refusals)
    return found[0]


def refuse(findings: Sequence[Finding]) -> StudyError:
    """One error for all findings; the first is named last, where its code becomes the error's."""
    first, *others = findings
    if not others:
        return StudyError(GateCode(first.code), first.message)
    before = "".join(f"{finding.message} ({finding.code}); " for finding in others)
    return StudyError(GateCode(first.code), f"{len(findings)} faults: {before}{first.message}")


def _refusal(survey: DicomSurvey, *, lenient: bool) -> StudyError:
    """Why nothing can be read: the reason of the series with the most slices that comes nearest to an axial CT."""
    if not survey.series:
        if survey.damaged:
            return refuse(survey.damaged[:3])
        return StudyError(
            GateCode.NO_IMAGES, "there are DICOM files but no images; give the folder with the CT series"
        )
    hopeless = {GateCode.NOT_CT: 3, GateCode.LOCALIZER: 2, GateCode.NOT_AXIAL: 1}
    refused = [(one, refusals) for one in survey.series if (refusals := one.examination.refusals(lenient=lenient))]
    refused.sort(key=lambda pair: (min(hopeless.get(GateCode(f.code), 0) for f in pair[1]), -len(pair[0].headers)))
    error = refuse(refused[0][1])
    if len(refused) == 1:
        return error
    message = str(error).removesuffix(f" ({error.code})")
    return StudyError(error.code, f"none of {len(refused)} series can be read; the best: {message}")


def describe_series(survey: DicomSurvey, wanted: str | None, *, lenient: bool) -> tuple[SeriesInfo, ...]:
    """Every series, whether it is read, and why."""
    chosen: DicomSeries | None = None
    undecided = ""
    try:
        chosen = choose_series(survey, wanted, lenient=lenient)
    except StudyError as error:
        undecided = str(error) if error.code is GateCode.MIXED_SERIES and wanted is None else ""
    why = "ranks first by the selection rule" if wanted is None else "asked for"
    listed = tuple(_info(one, chosen, why, undecided, lenient=lenient) for one in survey.series)
    return not_read_after_all(listed, refuse(survey.damaged[:3])) if survey.damaged and not lenient else listed


def not_read_after_all(listed: Sequence[SeriesInfo], error: StudyError) -> tuple[SeriesInfo, ...]:
    """The chosen series among ``listed`` as refused, by what was found in its voxels or in files beside it."""
    return tuple(
        replace(one, fate=SeriesFate.REFUSED, code=error.code, message=f"{one.message}, and is refused: {error}")
        if one.fate is SeriesFate.CHOSEN
        else one
        for one in listed
    )


def _info(one: DicomSeries, chosen: DicomSeries | None, why: str, undecided: str, *, lenient: bool) -> SeriesInfo:
    first, examination = one.headers[0], one.examination
    refusals = examination.refusals(lenient=lenient)
    code: GateCode | None = None
    if refusals:
        error = refuse(refusals)
        fate, code, message = SeriesFate.REFUSED, error.code, str(error)
    elif one is chosen:
        fate, message = SeriesFate.CHOSEN, f"chosen: {why}"
    else:
        fate, message = SeriesFate.CANDIDATE, undecided or "could be read with --series"
    stack = examination.stack
    spacing = None
    if examination.is_measurable and stack is not None and stack.affine is not None:
        slice_mm, row_mm, column_mm = np.linalg.norm(stack.affine[:3, :3], axis=0)
        spacing = (float(slice_mm), float(row_mm), float(column_mm))
    same_size = len({(header.rows, header.columns) for header in one.headers}) == 1
    return SeriesInfo(
        identifier=one.identifier,
        kind="dicom",
        fate=fate,
        file_count=len({header.file_index for header in one.headers}),
        slice_count=len(one.headers),
        code=code,
        message=message,
        modality=first.modality,
        shape=(first.rows, first.columns) if same_size else None,
        spacing_mm=spacing,
        extent_mm=stack.extent_mm if stack is not None else None,
        kernel=first.kernel,
        flags=quality_flags(examination, refusals),
    )


def quality_flags(examination: Examination, refusals: Sequence[Finding]) -> tuple[QualityFlag, ...]:
    """Findings that are no refusals, as readers of a study see them."""
    return tuple(QualityFlag(f.code, f.message) for f in examination.findings if f not in refusals)
