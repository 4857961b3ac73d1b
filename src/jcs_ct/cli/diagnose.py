"""`jcs diagnose`: a study in, a report out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jcs_ct import NOTICE
from jcs_ct.choices import ReportLanguage
from jcs_ct.cli.console import print_json, stage_progress
from jcs_ct.cli.endings import earlier_or_new, stoppable
from jcs_ct.cli.inputs import STUDY_INPUT
from jcs_ct.cli.options import (
    BackendOption,
    BatchSizeOption,
    DeflatedOption,
    DeviceOption,
    LenientOption,
    MapOption,
    ModelsOption,
    PrecisionOption,
    ReferenceSpacingOption,
    SegmentOption,
    ThresholdOption,
)
from jcs_ct.cli.outputs import FOLDER_OUTPUT, require_apart

if TYPE_CHECKING:
    from jcs_ct.imaging import Study
    from jcs_ct.reading.diagnosis import Diagnosis
    from jcs_ct.reporting import ReportPaths
    from jcs_ct.reporting.read_and_report import ReportedStudy


@stoppable(lambda options: earlier_or_new(options["output"] / "run.json", "report"))
def diagnose(
    study: Annotated[
        Path,
        typer.Argument(help="DICOM folder or file, NIfTI volume, folder of PNG/JPEG/TIFF slices, or archive."),
        STUDY_INPUT,
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the report; made when missing."), FOLDER_OUTPUT
    ],
    models: ModelsOption = "compact",
    series: Annotated[
        str | None, typer.Option(help="Identifier (or its beginning) of the series to read, as `jcs info` lists it.")
    ] = None,
    segment: SegmentOption = "positive",
    map_variant: MapOption = "paper",
    threshold: ThresholdOption = None,
    reference_spacing_mm: ReferenceSpacingOption = None,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Write DICOM results too: SEG, Parametric Map, SR, overlays, PDF.")
    ] = False,
    language: Annotated[ReportLanguage, typer.Option(help="What report.html is written in.")] = "en",
    label: Annotated[
        str | None,
        typer.Option(help="Your own name of the study, on report.html only: never in other outputs or logs."),
    ] = None,
    lenient: LenientOption = False,
    allow_deflated: DeflatedOption = False,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    batch_size: BatchSizeOption = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Result on stdout and progress on stderr as JSON.")] = False,
) -> None:
    """Read a chest CT study: verdict, lesions, burden and a report to check them by.

    Writes report.html, report.json, lesions.nii.gz, densities.nii.gz, activation.nii.gz and run.json; --dicom adds
    lesions.seg.dcm, activation.pm.dcm, findings.sr.dcm, overlay/ and report.pdf.dcm. Exit code 0: done (positive or
    negative), 2: usage, 3: the study is refused, with its code and what to do, 5: something else went wrong, with its
    code and what to do, 130: interrupted.

    Example:  jcs diagnose my-study/ -o report/
    """
    require_apart(output, study)
    from jcs_ct.beside import Beside
    from jcs_ct.imaging.sandbox import kept_warm

    def opened() -> Study:
        with kept_warm():  # decoding children are made ready while NumPy and the like are imported
            from jcs_ct.imaging import open_study

            return open_study(study, series=series, lenient=lenient, allow_deflated=allow_deflated)

    with Beside("read") as beside:
        opening = beside.start(opened)  # meanwhile what the networks and the report need is imported

        from dataclasses import replace

        from jcs_ct.checkpoints import load_models
        from jcs_ct.engine import Execution, choose
        from jcs_ct.reporting.read_and_report import read_and_report
        from jcs_ct.reporting.report_html import checked_label

        execution = Execution(device=device, precision=precision, batch_size=batch_size, backend=backend)
        choose(execution)
        if label is not None:
            checked_label(label)
        ready = load_models(models)
        if threshold is not None or reference_spacing_mm is not None:
            stored = ready.operating_point
            count = stored.positive_slice_threshold if threshold is None else threshold
            ready = replace(ready, operating_point=stored.with_threshold(count, reference_spacing_mm))
        with stage_progress(as_json=as_json) as progress:
            reported = read_and_report(
                opening,
                output,
                ready,
                execution=execution,
                segment=segment,
                map_variant=map_variant,
                dicom="yes" if dicom else "no",
                language=language,
                label=label,
                progress=progress,
            )
    result, paths = reported.diagnosis, reported.paths
    if as_json:
        print_json(_result_facts(result, paths))
    else:
        _print_result(reported)


def _result_facts(result: Diagnosis, paths: ReportPaths) -> dict[str, Any]:
    burden = result.burden
    return {
        "verdict": str(result.verdict),
        "basis": str(result.basis),
        "positive_slice_count": result.positive_slice_count,
        "positive_slice_threshold": result.positive_slice_threshold,
        "lung_slice_count": result.lung_slice_count,
        "positive_fraction": round(result.positive_fraction, 4),
        "lesion_count": len(result.lesions) if result.segmented else None,
        "opacification_volume_ml": burden.opacification_volume_ml if burden else None,
        "percent_opacity": burden.percent_opacity if burden else None,
        "flags": [{"code": str(flag.code), "message": flag.message} for flag in result.flags],
        "timings_s": dict(result.timings_s),
        "execution": dict(result.execution),
        "report": str(paths.html),
        "dicom": [str(path) for path in paths.dicom],
        "notice": NOTICE,
    }


def _print_result(reported: ReportedStudy) -> None:
    result, paths = reported.diagnosis, reported.paths
    from jcs_ct.cli.hints import hint_once
    from jcs_ct.engine.execution import FASTER_WITH_OPENVINO, WITHOUT_OPENVINO

    counts = f"{result.positive_slice_count} of {result.lung_slice_count} lung slices infected"
    threshold = result.positive_slice_threshold
    rule = "too few for a verdict on the patient" if threshold is None else f"positive above {threshold}"
    typer.echo(f"{result.verdict.upper()}: {counts} ({result.positive_fraction:.0%}); {rule}")
    if result.segmented:
        volume_ml = result.burden.opacification_volume_ml if result.burden else None
        percent = result.burden.percent_opacity if result.burden else None
        measured = "" if volume_ml is None else f", {volume_ml:.1f} ml"
        share = "" if percent is None else f", {percent:.1f} % of the lungs"
        typer.echo(f"{len(result.lesions)} lesion(s){measured}{share}")
    for flag in result.flags:
        typer.echo(f"note: {flag.message} ({flag.code})")
    ran = result.execution
    notes = [note for note in ran["notes"] if note != WITHOUT_OPENVINO]
    typer.echo("; ".join([f"computed with {ran['backend']}, {ran['device']}, {ran['precision']}", *notes]))
    if len(notes) < len(ran["notes"]):
        hint_once("faster-with-openvino", FASTER_WITH_OPENVINO)
    typer.echo(f"report: {paths.html}")
    if paths.dicom:
        typer.echo(f"DICOM results: {len(paths.dicom)} objects in {paths.folder}")
        if _are_of_another_study(reported):
            typer.echo(
                "note: the source's Study Instance UID is none by DICOM's rules and was replaced: a PACS will file "
                "the results as a study of their own"
            )
    typer.echo(NOTICE)


def _are_of_another_study(reported: ReportedStudy) -> bool:
    """Whether the DICOM results carry another Study Instance UID than their source."""
    from jcs_ct.imaging.identifiers import read_identifiers

    source, result = read_identifiers([reported.study.paths[0], reported.paths.dicom[0]])
    return source.study != result.study
