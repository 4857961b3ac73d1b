"""The report of one study: a page, the same as data, two volumes, DICOM results, and the record of the run."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from jcs_ct.beside import Beside
from jcs_ct.errors import ConfigError
from jcs_ct.files import staged_folder, write_bytes, write_text
from jcs_ct.imaging.earlier_results import RUN_RECORD
from jcs_ct.imaging.nifti_writing import write_label_volume
from jcs_ct.progress import Progress
from jcs_ct.reporting.dicom_results import REJECTION_NAME, RESULT_PATTERNS, write_dicom_results
from jcs_ct.reporting.language import Words
from jcs_ct.reporting.page_pictures import PagePictures
from jcs_ct.reporting.report_html import checked_label, render_report
from jcs_ct.reporting.report_json import report_dict
from jcs_ct.reporting.report_parts import FORMATS, Format, ReportParts, geometry_note
from jcs_ct.reporting.run_record import write_run_record

if TYPE_CHECKING:
    from jcs_ct.choices import ReportLanguage
    from jcs_ct.imaging.study import Study
    from jcs_ct.reading.diagnosis import Diagnosis

logger = logging.getLogger(__name__)

REPORT_HTML = "report.html"
REPORT_JSON = "report.json"
LESIONS = "lesions.nii.gz"
DENSITIES = "densities.nii.gz"
ACTIVATION = "activation.nii.gz"
#: Names that a report's outputs have, DICOM results included.
_NAMES = (
    *(REPORT_HTML, REPORT_JSON, LESIONS, DENSITIES, ACTIVATION),
    *RESULT_PATTERNS.values(),
    REJECTION_NAME,
)
_PROGRESS_STEPS = 100


@dataclass(frozen=True)
class ReportPaths:
    """Where the outputs of one report are; None for a format that was not asked for."""

    folder: Path
    run: Path
    html: Path | None = None
    json: Path | None = None
    lesions: Path | None = None
    densities: Path | None = None
    activation: Path | None = None
    dicom: tuple[Path, ...] = ()

    @classmethod
    def in_folder(cls, folder: Path, formats: Collection[Format]) -> Self:
        """Where the outputs of these formats lie in a folder; without DICOM results."""
        nifti = "nifti" in formats
        return cls(
            folder=folder,
            run=folder / RUN_RECORD,
            html=folder / REPORT_HTML if "html" in formats else None,
            json=folder / REPORT_JSON if "json" in formats else None,
            lesions=folder / LESIONS if nifti else None,
            densities=folder / DENSITIES if nifti else None,
            activation=folder / ACTIVATION if nifti else None,
        )

    def written(self) -> tuple[Path, ...]:
        """Every output but the run record, in the order of writing."""
        single = (self.json, self.lesions, self.densities, self.activation, self.html)
        return (*(path for path in single if path is not None), *self.dicom)


def write_report(
    study: Study,
    diagnosis: Diagnosis,
    folder: Path,
    *,
    formats: Collection[Format] = FORMATS,
    dicom: bool = False,
    language: ReportLanguage = "en",
    label: str | None = None,
    command: Sequence[str] | None = None,
    parts: ReportParts | None = None,
    progress: Progress | None = None,
) -> ReportPaths:
    """Write the report of one study into ``folder``.

    The report appears whole or not at all: its files are written beside and moved in together, ``run.json`` taken
    away first and put in place last. Where that stands, the outputs beside it are complete and belong together; a
    report that fails or is interrupted leaves the earlier one as it was. Outputs of an earlier report in the same
    folder that are not written anew are removed.

    Args:
        study: What was read.
        diagnosis: What was found.
        folder: Made when missing.
        formats: Any of ``json``, ``nifti``, ``html``; ``run.json`` is always written.
        dicom: Whether to write the DICOM results too (see ``write_dicom_results``); the study must come from DICOM.
        language: What the page is written in; every other output stays English.
        label: The reader's own name of the study. It stands on the page only: never in another output or a log.
        command: Arguments of the process for the record (default: this process's); names and paths are left out.
        parts: Of this study, where someone began to make them while it was read.
        progress: Called as ``progress("report", done, total)``.

    Raises:
        ConfigError: an unknown format or language, a label that cannot stand in a heading, or DICOM results of a
            study that was not read from DICOM files.
        OutputError: the folder cannot be written or the disk is full.
        ValueError: the diagnosis is not of this study.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise ConfigError(f"unknown report format {', '.join(unknown)}; choose from {', '.join(FORMATS)}")
    words = Words.of(language)
    label = None if label is None else checked_label(label)
    _check_belongs(study, diagnosis)
    started = time.perf_counter()
    # Without a run record files of these names are somebody else's.
    stale = _NAMES if (folder / RUN_RECORD).exists() else ()
    with staged_folder(folder, last=RUN_RECORD, stale=stale) as staging:
        paths = ReportPaths.in_folder(staging, formats)
        parts = parts or ReportParts(study, formats)
        with Beside("volumes") as beside:  # packing and hashing hold no interpreter's lock
            volumes = beside.start(_write_volumes, study, diagnosis, paths)
            parts.begin_rest(diagnosis, beside)
            _write_texts(study, diagnosis, paths, words, label, parts.pictures, progress)
            if paths.activation is not None:
                write_bytes(paths.activation, parts.activation(diagnosis))
            volumes.result()
        if dicom:
            paths = replace(paths, dicom=write_dicom_results(study, diagnosis, staging))
        write_run_record(
            paths.run,
            study,
            timings_s={**diagnosis.timings_s, "report": time.perf_counter() - started},
            execution=diagnosis.execution,
            outputs=paths.written(),
            command=command,
            voxels=parts.voxels(),
        )
    if progress is not None:
        progress("report", _PROGRESS_STEPS, _PROGRESS_STEPS)
    dicom_paths = tuple(folder / path.relative_to(staging) for path in paths.dicom)
    paths = replace(ReportPaths.in_folder(folder, formats), dicom=dicom_paths)
    logger.info("report of study %s written: %d files", study.identifier, len(paths.written()) + 1)
    return paths


def _check_belongs(study: Study, diagnosis: Diagnosis) -> None:
    shape = study.volume.shape
    for name, array in (("lesion_labels", diagnosis.lesion_labels), ("activation", diagnosis.activation)):
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, the study {shape}: not the same study")
    if len(diagnosis.slices) != shape[0]:
        raise ValueError(f"{len(diagnosis.slices)} slice predictions for a study of {shape[0]} slices")


def _write_texts(
    study: Study,
    diagnosis: Diagnosis,
    paths: ReportPaths,
    words: Words,
    label: str | None,
    pictures: PagePictures,
    progress: Progress | None,
) -> None:
    def advance(done: float) -> None:
        if progress is not None:
            progress("report", round(done), _PROGRESS_STEPS)

    advance(0)
    if paths.json is not None:
        text = json.dumps(report_dict(study, diagnosis), indent=2, allow_nan=False, ensure_ascii=False)
        write_text(paths.json, text + "\n")
    advance(5)
    if paths.html is not None:
        page = render_report(
            study,
            diagnosis,
            language=words.language,
            label=label,
            pictures=pictures,
            progress=lambda done, of: advance(5 + 90 * done / of),
        )
        write_text(paths.html, page)


def _write_volumes(study: Study, diagnosis: Diagnosis, paths: ReportPaths) -> None:
    """Labels of lesions and densities."""
    if paths.lesions is None or paths.densities is None:
        return
    affine = study.source_affine
    state = "lesion_id, 0 none" if diagnosis.segmented else "not segmented, all 0"
    write_label_volume(
        paths.lesions,
        study.on_source_grid(diagnosis.lesion_labels),
        affine,
        description=f"jcs-ct lesions: {state}{geometry_note(affine)}",
    )
    densities, split = diagnosis.density_labels, "1 ground glass, 2 consolidation"
    if densities is None:
        densities, split = np.zeros(study.volume.shape, dtype=np.uint8), "not split, all 0"
    write_label_volume(
        paths.densities,
        study.on_source_grid(densities),
        affine,
        description=f"jcs-ct densities: {split}{geometry_note(affine)}",
    )
