"""`jcs features`: first-stage features, the form COVID-CS is public in; written from slices, and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.console import print_json, stage_progress
from jcs_ct.cli.inputs import SOME_INPUT
from jcs_ct.cli.outputs import FOLDER_OUTPUT

app = typer.Typer(name="features", help="Write and check first-stage features (COVID-CS).", no_args_is_help=True)


@app.command("write")
def write(
    manifest: Annotated[Path, typer.Argument(help="CSV of slices, from `jcs data make`."), SOME_INPUT],
    network: Annotated[
        Path, typer.Option(help="Checkpoint whose first stage runs: a classifier or a segmenter."), SOME_INPUT
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for features/, masks/ and the lists."), FOLDER_OUTPUT
    ],
    half_size: Annotated[
        bool, typer.Option("--half-size", help="Halve the slices' rows and columns first: a quarter of the storage.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One record a slice as JSON.")] = False,
) -> None:
    """Make feature files of slices: uint8 = floor(20 * value), saturating at 255, with a flag that tells.

    Example:  jcs features write slices.csv --network joint.safetensors -o covid-cs
    """
    from jcs_ct.checkpoints import load_checkpoint
    from jcs_ct.data.covid_cs.feature_writing import write_feature_set
    from jcs_ct.data.manifest import read_manifest

    with stage_progress(quiet=as_json) as progress:
        records = write_feature_set(
            read_manifest(manifest),
            load_checkpoint(network),
            output,
            half_size=half_size,
            progress=lambda done, total: progress("features", done, total),
        )
    if as_json:
        print_json(records)
        return
    cut = [record for record in records if record["saturated"]]
    typer.echo(f"{len(records)} slices -> {output}; values above 12.75 were cut in {len(cut)} of them")


@app.command("check")
def check(
    listed: Annotated[
        Path, typer.Argument(metavar="LIST", help="Text file: features and mask (or 0, 1) a line."), SOME_INPUT
    ],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder that the list's names count from; the list's own when not given."),
        SOME_INPUT,
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Annotations (CSV or JSON) to hold against the masks."), SOME_INPUT
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One record a slice as JSON.")] = False,
) -> None:
    """Read every file of a list, report all problems at once, and say which values may have wrapped around.

    Example:  jcs features check covid-cs/train.txt
    """
    from jcs_ct.data.covid_cs.release_checks import check_annotations, check_list

    records = check_list(listed, root)
    if annotations is not None:
        check_annotations(listed, annotations, root)
    if as_json:
        print_json(records)
        return
    sizes = sorted({(record["rows"], record["columns"]) for record in records})
    silent = sum(record["saturated"] is None for record in records)
    typer.echo(f"{len(records)} slices of {', '.join(f'{rows}x{columns}' for rows, columns in sizes)} pixels")
    typer.echo(f"values cut at 255: {sum(record['saturated'] or 0 for record in records)}")
    if silent:
        typer.echo(
            f"{silent} file(s) do not say whether values above 12.75 were cut: there they may have wrapped around"
        )
