"""`jcs data`: manifests, the one table that training and evaluation read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.console import print_json

app = typer.Typer(name="data", help="Make, join and check manifests: tables of slices.", no_args_is_help=True)


@app.command("make")
def make(
    source: Annotated[str, typer.Argument(help="ct100, ucsd, lungs267, phantom, images or covid-cs.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the data set as it is handed out.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write.")],
) -> None:
    """Turn a public data set into a manifest, split by patient.

    Example:  jcs data make ct100 downloads/ct100 -o ct100.csv
    """
    from jcs_ct.data.sources import MAKERS
    from jcs_ct.errors import ConfigError

    if source not in MAKERS:
        raise ConfigError(f"unknown source {source!r}; choose one of {', '.join(MAKERS)}")
    manifest = MAKERS[source](folder)
    manifest.write(output)
    typer.echo(f"{len(manifest)} slices -> {output}")


@app.command("paint")
def paint(
    manifest: Annotated[Path, typer.Argument(help="Manifest whose uninfected slices are painted on.")],
    folder: Annotated[Path, typer.Option("--folder", "-f", help="Folder for the painted slices and their masks.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV of the painted slices.")],
    per_slice: Annotated[int, typer.Option(min=1, help="Copies of each slice, each with its own lesions.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other lesions.")] = 0,
) -> None:
    """Paint lesions into real uninfected slices, so that both labels come from one source.

    Ground glass, consolidation, crazy paving and bands of the phantom are painted into the lungs of slices whose
    window is known (level_hu, width_hu); the masks are exact. Patients and splits are kept.

    Example:  jcs data paint lungs267.csv -f painted -o painted.csv
    """
    from jcs_ct.cli.console import stage_progress
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.data.painting import paint_manifest

    with stage_progress() as progress:
        painted = paint_manifest(
            read_manifest(manifest),
            folder,
            per_slice=per_slice,
            seed=seed,
            progress=lambda done, total: progress("paint", done, total),
        )
    painted.write(output)
    typer.echo(f"{len(painted)} slices -> {output}")


@app.command("join")
def join(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests to join.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write.")],
) -> None:
    """Join manifests into one; a patient that stands in two splits is an error.

    Example:  jcs data join ct100.csv lungs267.csv -o slices.csv
    """
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.data.sources import combine

    combine(*(read_manifest(path) for path in manifests)).write(output)
    typer.echo(f"{len(read_manifest(output))} slices -> {output}")


@app.command("check")
def check(
    manifest: Annotated[Path, typer.Argument(help="CSV to check.")],
    as_json: Annotated[bool, typer.Option("--json", help="Counts as JSON.")] = False,
) -> None:
    """Read every file of a manifest and report all problems at once; then count slices and patients.

    Example:  jcs data check slices.csv
    """
    from jcs_ct.data.checking import check_manifest
    from jcs_ct.data.manifest import count_manifest

    counts = count_manifest(check_manifest(manifest))
    if as_json:
        print_json(counts)
        return
    typer.echo(f"{'split':<6} {'source':<12} {'patients':>8} {'infected':>9} {'uninfected':>10} {'with mask':>9}")
    for row in counts:
        typer.echo(
            f"{row['split']:<6} {row['source']:<12} {row['patients']:>8} {row['infected']:>9} "
            f"{row['uninfected']:>10} {row['with_mask']:>9}"
        )


@app.command("annotate")
def annotate(
    manifest: Annotated[Path, typer.Argument(help="CSV of slices with masks.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write, one row a lesion.")],
) -> None:
    """Write the paper's annotation fields (Fig. 6) of every lesion, from the masks.

    Example:  jcs data annotate ct100.csv -o annotations.csv
    """
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.data.slice_annotations import annotate_manifest, annotations_csv
    from jcs_ct.files import write_text

    found = annotate_manifest(read_manifest(manifest))
    write_text(output, annotations_csv(found))
    typer.echo(f"{sum(len(one.lesions) for one in found)} lesions on {len(found)} slices -> {output}")


@app.command("stats")
def stats(
    manifest: Annotated[Path, typer.Argument(help="CSV of slices.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for page, tables and figures.")],
) -> None:
    """Describe a data set as the paper does: ages and sexes, thickness, scanners, lesions (Table III, Fig. 7 and 8).

    Example:  jcs data stats ct100.csv -o statistics
    """
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.evaluation.page import write_evaluation
    from jcs_ct.evaluation.statistics import describe_manifest

    page = write_evaluation(output, describe_manifest(read_manifest(manifest), title=manifest.stem))
    typer.echo(f"page: {page}")
