"""One study from its path to its report: the one place that says what is done beside what.

=====================  =============================================  =======================================
while this is done     this is done beside it                         by
=====================  =============================================  =======================================
networks made ready    files are read by decoding children            a thread of the caller's
classify               lungs are found                                ``diagnose``
lungs                  slices that are likely infected are segmented  ``diagnose``
segment                the page's pictures of the CT are drawn        a thread
findings               map packed and drawn, lesions outlined         the same thread
report                 volumes are packed, pictures drawn             ``write_report``
=====================  =============================================  =======================================

Every thread belongs to a :class:`~jcs_ct.beside.Beside`: an error or Ctrl-C anywhere ends them all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from jcs_ct.beside import Beside
from jcs_ct.errors import ConfigError, StudyError
from jcs_ct.imaging import Study
from jcs_ct.imaging.nifti_writing import nifti_library
from jcs_ct.progress import Progress, silent
from jcs_ct.reading.diagnosis import Diagnosis, diagnose, prepare_networks
from jcs_ct.reading.stage_clock import StageClock
from jcs_ct.reporting.dicom_results import require_dicom_source
from jcs_ct.reporting.report import ReportPaths, write_report
from jcs_ct.reporting.report_parts import FORMATS, Format, ReportParts

if TYPE_CHECKING:
    from jcs_ct.checkpoints import Models
    from jcs_ct.choices import MapVariant, ReportLanguage, SegmentRule
    from jcs_ct.engine import Execution
    from jcs_ct.reading.lesions import Lesion

#: Whether DICOM results are written: never, always (another study is refused), or for studies that allow it.
DicomWanted = Literal["no", "yes", "where possible"]


@dataclass(frozen=True)
class ReportedStudy:
    """A study that was read, what was found, and where its report lies."""

    study: Study
    diagnosis: Diagnosis
    paths: ReportPaths


def read_and_report(
    opening: Future[Study],
    output: Path,
    models: Models,
    *,
    execution: Execution,
    segment: SegmentRule = "positive",
    map_variant: MapVariant = "paper",
    formats: Collection[Format] = FORMATS,
    dicom: DicomWanted = "no",
    language: ReportLanguage = "en",
    label: str | None = None,
    command: Sequence[str] | None = None,
    progress: Progress = silent,
) -> ReportedStudy:
    """Diagnose and report one study that is being opened, each core busy as long as there is work for it.

    Args:
        opening: ``open_study``, begun in a thread.
        output, formats, language, label, command: As of ``write_report``.
        models, execution, segment, map_variant: As of ``diagnose``.
        dicom: Whether DICOM results are written.
        progress: Called as the work goes on, by the calling thread; what it raises stops the work.

    Raises:
        JCSError: as ``open_study``, ``diagnose`` and ``write_report``.
    """
    clock = StageClock(progress)
    with clock.stage("read", 1):
        prepare_networks(models, execution)
        if "nifti" in formats:
            nifti_library()
        study = opening.result()
        with_dicom = _is_dicom_written(study, dicom)
    parts = ReportParts(study, formats)
    with Beside("parts") as beside:
        diagnosis = diagnose(
            study,
            models,
            segment=segment,
            map_variant=map_variant,
            execution=execution,
            onlooker=_PartsBegun(parts, beside),
            progress=progress,
        )
        diagnosis = replace(diagnosis, timings_s={**clock.seconds, **diagnosis.timings_s})
        paths = write_report(
            study,
            diagnosis,
            output,
            formats=formats,
            dicom=with_dicom,
            language=language,
            label=label,
            command=command,
            parts=parts,
            progress=progress,
        )
    return ReportedStudy(study, diagnosis, paths)


@dataclass(frozen=True)
class _PartsBegun:
    """Begins each part of the report as soon as what it needs stands."""

    parts: ReportParts
    beside: Beside

    def lungs_found(self) -> None:
        self.parts.begin_with_study(self.beside)

    def segmented(self, activation: NDArray[np.float16]) -> None:
        self.parts.begin_with_activation(activation, self.beside)

    def found(self, lungs: NDArray[np.uint8], labels: NDArray[np.uint16], lesions: tuple[Lesion, ...]) -> None:
        self.parts.begin_with_lesions(lungs, labels, lesions, self.beside)


def _is_dicom_written(study: Study, wanted: DicomWanted) -> bool:
    if wanted == "no":
        return False
    try:
        require_dicom_source(study)
    except (ConfigError, StudyError):
        if wanted == "yes":
            raise
        return False
    return True
