"""`jcs info`: what lies at a path, what would be read, and why the rest would not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jcs_ct.cli.console import print_json
from jcs_ct.cli.documents import print_document
from jcs_ct.cli.endings import REFUSED, ending
from jcs_ct.cli.inputs import STUDY_INPUT
from jcs_ct.cli.options import DeflatedOption

if TYPE_CHECKING:
    from jcs_ct.imaging import SeriesInfo, Study


def info(
    study: Annotated[
        Path,
        typer.Argument(help="DICOM folder or file, NIfTI volume, folder of PNG/JPEG/TIFF slices, or archive."),
        STUDY_INPUT,
    ],
    series: Annotated[
        str | None, typer.Option(help="Identifier (or its beginning) of the series to look at instead of the best.")
    ] = None,
    lenient: Annotated[bool, typer.Option("--lenient", help="Judge as `jcs diagnose --lenient` would.")] = False,
    allow_deflated: DeflatedOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List the series of a study and whether each would be read, and the geometry of the one that would be.

    Nothing is written and no network runs. Exit code 0: a series can be read, 2: usage, 3: the gate refuses them all,
    with its code, the numbers and what to do.

    Example:  jcs info my-study/
    """
    from jcs_ct.errors import StudyError
    from jcs_ct.imaging import inspect_study

    found = inspect_study(study, series=series, lenient=lenient, allow_deflated=allow_deflated)
    listed = [_series_facts(one) for one in found.series]
    if isinstance(found.result, StudyError):
        if as_json:
            refused = found.result
            said = ending(refused.exit_code, str(refused.code), str(refused), refused.remedy)
            print_document({"usable": False, "series": listed, **said}, outcome=REFUSED)
        else:
            _print_table(found.series)
        raise found.result
    if as_json:
        print_json({"usable": True, "series": listed, "study": _study_facts(found.result)})
        return
    _print_table(found.series)
    _print_study(found.result)


def _series_facts(one: SeriesInfo) -> dict[str, Any]:
    return {
        "identifier": one.identifier,
        "kind": one.kind,
        "fate": str(one.fate),
        "code": None if one.code is None else str(one.code),
        "message": one.message,
        "file_count": one.file_count,
        "slice_count": one.slice_count,
        "modality": one.modality,
        "kernel": one.kernel,
        "rows_columns": one.shape,
        "spacing_mm": one.spacing_mm,
        "extent_mm": _extent_mm((one.slice_count, *(one.shape or ())), one.spacing_mm),
        "flags": [{"code": str(flag.code), "message": flag.message} for flag in one.flags],
    }


def _extent_mm(shape: Sequence[int], spacing_mm: Sequence[float] | None) -> list[float] | None:
    """Of slices, rows, columns, from edge to edge; None where a size or a spacing is not known."""
    if spacing_mm is None or len(shape) != len(spacing_mm):
        return None
    return [count * mm for count, mm in zip(shape, spacing_mm, strict=True)]


def _study_facts(opened: Study) -> dict[str, Any]:
    volume = opened.volume
    spacing = volume.spacing_mm
    return {
        "identifier": opened.identifier,
        "kind": opened.kind,
        "shape": volume.shape,
        "spacing_mm": spacing,
        "extent_mm": _extent_mm(volume.shape, spacing),
        "hu_minimum": float(volume.hu.min()),
        "hu_maximum": float(volume.hu.max()),
        "hu_is_assumed": volume.hu_is_assumed,
        "is_measurable": volume.is_measurable,
        "stored_directions": None if volume.axes_are_assumed else opened.turn.source_directions,
        "flags": [{"code": str(flag.code), "message": flag.message} for flag in opened.flags],
        "acquisition": dict(opened.acquisition),
        "header_windows": [asdict(window) for window in opened.header_windows],
    }


def _print_table(listed: tuple[SeriesInfo, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not listed:
        return
    table = Table()
    for name in ("series", "fate", "files", "slices", "rows x columns", "step mm", "kernel"):
        table.add_column(name, no_wrap=True)
    for one in listed:
        table.add_row(
            one.identifier or "-",
            str(one.fate) if one.code is None else f"{one.fate}: {one.code}",
            str(one.file_count),
            str(one.slice_count),
            "-" if one.shape is None else f"{one.shape[0]} x {one.shape[1]}",
            "-" if one.spacing_mm is None else f"{one.spacing_mm[0]:.2f}",
            one.kernel or "-",
        )
    # Never narrower than the identifiers: `--series` asks for them.
    Console(markup=False, width=max(Console().width, 110)).print(table)
    for one in listed:
        typer.echo(f"{one.identifier or one.kind}: {one.message}")


def _print_study(opened: Study) -> None:
    facts = _study_facts(opened)
    slices, rows, columns = opened.volume.shape
    typer.echo(f"volume              {slices} slices of {rows} x {columns} pixels ({opened.kind})")
    if facts["spacing_mm"] is None:
        typer.echo("spacing             not known: volumes and lengths are withheld")
    else:
        typer.echo(
            "spacing             {:.3f} x {:.3f} x {:.3f} mm (slices, rows, columns)".format(*facts["spacing_mm"])
        )
        typer.echo("extent              {:.0f} x {:.0f} x {:.0f} mm".format(*facts["extent_mm"]))
    if facts["stored_directions"] is not None and not opened.turn.is_identity:
        stored = "slices to {}, rows to {}, columns to {}".format(*facts["stored_directions"])
        typer.echo(f"stored              {stored}: turned to I, P, L; results lie on the stored grid")
    assumed = ", assumed" if facts["hu_is_assumed"] else ""
    typer.echo(f"HU                  {facts['hu_minimum']:.0f} to {facts['hu_maximum']:.0f}{assumed}")
    for name, value in opened.acquisition.items():
        typer.echo(f"{name:<19} {value}")
    if opened.header_windows:
        offered = ", ".join(f"{one.level_hu:g}/{one.width_hu:g}" for one in opened.header_windows)
        typer.echo(
            f"display windows     {offered} (level/width in HU, as the header offers them; not used for analysis)"
        )
    for flag in opened.flags:
        typer.echo(f"note: {flag.message} ({flag.code})")
