"""Reading one study as a task of the study's process: what ``jcs diagnose`` does, and its key in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jcs_ct import __version__
from jcs_ct.beside import Beside
from jcs_ct.choices import Backend, MapVariant, Precision, SegmentRule
from jcs_ct.jobs.job import JobKey, digest

if TYPE_CHECKING:
    from jcs_ct.checkpoints import Models
    from jcs_ct.imaging import Study
    from jcs_ct.progress import Progress
    from jcs_ct.reading.diagnosis import Diagnosis
    from jcs_ct.reporting import ReportPaths
    from jcs_ct.reporting.report_parts import Format

#: Name of :func:`read_study` for :class:`~jcs_ct.jobs.worker.StudyWorker`.
READ_STUDY = "jcs_ct.jobs.study_reading:read_study"


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How studies are read; the options of ``jcs diagnose``.

    Args:
        models: ``compact``, or a folder made by ``jcs calibrate``.
        segment: ``positive``, ``always`` or ``never``.
        map_variant: ``paper`` or ``grad_cam``.
        threshold: Replaces the stored rule, when given.
        dicom: Whether DICOM results are written.
        formats: Which of ``html``, ``json`` and ``nifti`` are written.
        lenient, allow_deflated: See ``open_study``.
        device, backend, precision, batch_size: See ``Execution``.
    """

    models: str = "compact"
    segment: SegmentRule = "positive"
    map_variant: MapVariant = "paper"
    threshold: int | None = None
    dicom: bool = False
    formats: tuple[Format, ...] = ("json", "nifti", "html")
    lenient: bool = False
    allow_deflated: bool = False
    device: str = "auto"
    backend: Backend = "auto"
    precision: Precision = "auto"
    batch_size: int = 8

    def to_arguments(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "formats": list(self.formats)}


@dataclass(frozen=True)
class ReadingRequest(ReadingOptions):
    """One study to read; one that is no DICOM is refused where DICOM results are asked for.

    Args:
        study: Folder, file or archive.
        output: Folder for the report.
        series: Identifier of the series, None for the best.
        dicom_where_possible: Write DICOM results of studies that allow it, and read the others without.
    """

    study: str
    output: str
    series: str | None = None
    dicom_where_possible: bool = False

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> ReadingRequest:
        """From JSON values."""
        return cls(**{**arguments, "formats": tuple(arguments.get("formats", cls.formats))})


def reading_key(study: str, models: Models, *, threshold: int | None = None) -> JobKey:
    """Key of reading a study with these networks and rule, by this version."""
    weights = digest(f"{models.classifier.sha256}|{models.segmenter.sha256}")
    return JobKey(study, weights, digest(repr(_with_threshold(models, threshold).operating_point)), __version__)


def read_study(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The task: read, report, and return the facts that a list of studies shows."""
    request = ReadingRequest.from_arguments(arguments)
    study, diagnosis, paths = read_as_requested(request, progress)
    return reading_facts(study, diagnosis, paths)


def read_as_requested(request: ReadingRequest, progress: Progress) -> tuple[Study, Diagnosis, ReportPaths]:
    """Open one study and have it read and reported, by networks that stay loaded between studies.

    Raises:
        JCSError: as ``open_study``, ``load_models``, ``diagnose`` and ``write_report``.
    """
    from jcs_ct.engine import Execution
    from jcs_ct.imaging import open_study
    from jcs_ct.reporting.read_and_report import read_and_report

    models = _with_threshold(_loaded_models(request.models), request.threshold)
    with Beside("read") as beside:
        opening = beside.start(
            open_study,
            request.study,
            series=request.series,
            lenient=request.lenient,
            allow_deflated=request.allow_deflated,
        )
        reported = read_and_report(
            opening,
            Path(request.output),
            models,
            execution=Execution(
                device=request.device,
                backend=request.backend,
                precision=request.precision,
                batch_size=request.batch_size,
            ),
            segment=request.segment,
            map_variant=request.map_variant,
            formats=request.formats,
            dicom="yes" if request.dicom else "where possible" if request.dicom_where_possible else "no",
            command=["jcs", "diagnose"],
            progress=progress,
        )
    return reported.study, reported.diagnosis, reported.paths


def reading_facts(study: Study, diagnosis: Diagnosis, paths: ReportPaths) -> dict[str, Any]:
    """What a list of studies shows, as JSON values without anything that identifies a patient."""
    burden = diagnosis.burden
    return {
        "identifier": study.identifier,
        "verdict": str(diagnosis.verdict),
        "positive_slice_count": diagnosis.positive_slice_count,
        "positive_slice_threshold": diagnosis.positive_slice_threshold,
        "lung_slice_count": diagnosis.lung_slice_count,
        "slice_count": study.volume.shape[0],
        "segmented": diagnosis.segmented,
        "lesion_count": len(diagnosis.lesions) if diagnosis.segmented else None,
        "opacification_volume_ml": burden.opacification_volume_ml if burden else None,
        "percent_opacity": burden.percent_opacity if burden else None,
        "flags": [str(flag.code) for flag in diagnosis.flags],
        "timings_s": dict(diagnosis.timings_s),
        "files": sorted(path.relative_to(paths.folder).as_posix() for path in (*paths.written(), paths.run)),
    }


def _loaded_models(name: str) -> Models:
    """Networks by name, loaded once; a folder's are loaded anew when its files changed."""
    folder = Path(name)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    return _load_once(name, stamps)


@cache
def _load_once(name: str, stamps: tuple[tuple[str, int, int], ...]) -> Models:
    from jcs_ct.checkpoints import load_models

    return load_models(name)


def _with_threshold(models: Models, threshold: int | None) -> Models:
    """Models under a threshold that is taken literally."""
    if threshold is None:
        return models
    return replace(models, operating_point=models.operating_point.with_threshold(threshold))
