"""`jcs data`: manifests, the one table that training and evaluation read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli import data_check, data_export, data_make
from jcs_ct.cli.console import stage_progress
from jcs_ct.cli.inputs import SOME_INPUT
from jcs_ct.cli.outputs import FILE_OUTPUT, FOLDER_OUTPUT

app = typer.Typer(
    name="data", help="Make, join, check and export manifests: tables of slices or studies.", no_args_is_help=True
)
app.add_typer(data_make.app)
app.add_typer(data_export.app)
app.command("check")(data_check.check)


@app.command("split")
def split(
    manifest: Annotated[
        Path, typer.Argument(help="Manifest of slices or studies; its own splits are forgotten."), SOME_INPUT
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV or Parquet to write."), FILE_OUTPUT],
    parts: Annotated[
        int | None, typer.Option(min=3, help="Parts of the patients: one tests, one validates; 5 without it.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=3, help="Fill the column fold instead, for a cross-validation of so many folds.")
    ] = None,
    keep_test: Annotated[
        bool, typer.Option("--keep-test", help="With --folds: what is in the test split stays there, in no fold.")
    ] = False,
    join_duplicates: Annotated[
        bool,
        typer.Option("--join-duplicates", help="Keep patients together whose slices are near-duplicates."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another split.")] = 0,
) -> None:
    """Split a manifest anew, by patient, each part or fold with its share of every source and label.

    Example:  jcs data split slices.csv -o split.csv --parts 5

    Example:  jcs data split slices.csv -o folds.csv --folds 5
    """
    from jcs_ct.data.manifest import fold_by_patient, leaks, read_manifest, split_by_patient
    from jcs_ct.data.manifest.dealt_splits import split_remarks
    from jcs_ct.data.manifest.manifest_checks import class_notes
    from jcs_ct.errors import ConfigError

    if folds is not None and parts is not None:
        raise ConfigError("--parts makes splits and --folds makes folds: give one of them")
    if keep_test and folds is None:
        raise ConfigError("--keep-test goes with --folds")
    table = read_manifest(manifest)
    if join_duplicates:
        table = leaks.join_duplicates(table)
        groups = {row.group for row in table if row.group}
        typer.echo(
            f"{len(groups)} group(s) of {len({row.patient for row in table if row.group})} patients stay together"
        )
    if folds is None:
        divided = split_by_patient(table, parts or 5, seed=seed)
    else:
        divided = fold_by_patient(table, folds, seed=seed, keep_test=keep_test)
    divided.write(output)
    for name, rows in divided.parts().items():
        infected = sum(row.label == 1 for row in rows)
        typer.echo(f"{name}: {len({row.patient for row in rows})} patients, {len(rows)} rows, {infected} infected")
    for remark in (*class_notes(divided.rows), *split_remarks(divided)):
        typer.echo(f"note: {remark}", err=True)


@app.command("slices")
def slices(
    studies: Annotated[Path, typer.Argument(help="Manifest of studies (CSV or Parquet)."), SOME_INPUT],
    folder: Annotated[Path, typer.Option("--folder", "-f", help="Folder for the slices and their masks.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV or Parquet of the slices."), FILE_OUTPUT],
    level: Annotated[float, typer.Option(help="Centre of the HU that are kept.")] = -600.0,
    width: Annotated[float, typer.Option(min=1.0, help="How many HU around it are kept.")] = 1500.0,
    every: Annotated[int, typer.Option(min=1, help="Take every such slice only.")] = 1,
) -> None:
    """Write the slices of studies (DICOM series, NIfTI volumes) as 16-bit PNG that training and evaluation read.

    With a mask a slice is infected where the mask has a pixel; slices of an uninfected study are uninfected. Those of
    an infected study without a mask are not known one by one, and left out.

    Example:  jcs data slices studies.csv -f slices -o slices.csv
    """
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.data.study_slices import write_slices
    from jcs_ct.errors import ConfigError
    from jcs_ct.preprocessing import Window

    with stage_progress() as progress:
        written, unknown = write_slices(
            read_manifest(studies),
            folder,
            window=Window(level, width),
            every=every,
            progress=lambda done, total: progress("studies", done, total),
        )
    if not written.rows:
        raise ConfigError(f"{studies}: no slice has a label; give masks of infected studies, or uninfected studies")
    written.write(output)
    infected = sum(row.label == 1 for row in written)
    typer.echo(f"{len(written)} slices, {infected} infected -> {output}")
    if unknown:
        typer.echo(f"{unknown} slices left out: of infected or unlabelled studies without a mask")


@app.command("paint")
def paint(
    manifest: Annotated[Path, typer.Argument(help="Manifest whose uninfected slices are painted on."), SOME_INPUT],
    folder: Annotated[Path, typer.Option("--folder", "-f", help="Folder for the painted slices and their masks.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="CSV or Parquet of the painted slices."), FILE_OUTPUT
    ],
    per_slice: Annotated[int, typer.Option(min=1, help="Copies of each slice, each with its own lesions.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other lesions.")] = 0,
) -> None:
    """Paint lesions into real uninfected slices, so that both labels come from one source.

    Ground glass, consolidation, crazy paving and bands of the phantom are painted into the lungs of slices whose
    window is known (level_hu, width_hu); the masks are exact. Patients and splits are kept.

    Example:  jcs data paint lungs267.csv -f painted -o painted.csv
    """
    from jcs_ct.data.augmentation.painting import paint_manifest
    from jcs_ct.data.manifest import read_manifest

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
    manifests: Annotated[list[Path], typer.Argument(help="Manifests to join."), SOME_INPUT],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV or Parquet to write."), FILE_OUTPUT],
    prefix_source: Annotated[
        bool,
        typer.Option(
            "--prefix-source",
            help="Put the source (without one, the file's name) before patients' names: sources share no patient.",
        ),
    ] = False,
) -> None:
    """Join manifests into one; a patient that stands in two splits is an error.

    Example:  jcs data join ct100.csv lungs267.csv -o slices.csv
    """
    from jcs_ct.data.manifest import combine, read_manifest
    from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind
    from jcs_ct.data.manifest.parsing import refuse_problems, split_problems
    from jcs_ct.data.manifest.shared_names import prefix_sources, shared_name_notes

    tables = {str(path): read_manifest(path) for path in manifests}
    if prefix_source:
        tables = {name: prefix_sources(table, otherwise=Path(name).stem) for name, table in tables.items()}
    for note in shared_name_notes(tables):
        typer.echo(f"note: {note}", err=True)
    joined = combine(*tables.values())
    refuse_problems(output, [ManifestProblem(ProblemKind.PARTED, problem) for problem in split_problems(joined)])
    joined.write(output)
    typer.echo(f"{len(joined)} slices -> {output}")


@app.command("annotate")
def annotate(
    manifest: Annotated[Path, typer.Argument(help="CSV or Parquet of slices or studies with masks."), SOME_INPUT],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write, one row a lesion."), FILE_OUTPUT],
) -> None:
    """Write the paper's annotation fields (Fig. 6) of every lesion, from the masks.

    Example:  jcs data annotate ct100.csv -o annotations.csv
    """
    from jcs_ct.data.covid_cs.slice_annotations import annotate_manifest, annotations_csv
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.files import write_text

    with stage_progress() as progress:
        found = annotate_manifest(
            read_manifest(manifest), progress=lambda done, total: progress("masks", done, total)
        )
    write_text(output, annotations_csv(found))
    typer.echo(f"{sum(len(one.lesions) for one in found)} lesions on {len(found)} slices -> {output}")


@app.command("stats")
def stats(
    manifest: Annotated[Path, typer.Argument(help="CSV or Parquet of slices or studies."), SOME_INPUT],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for page, tables and figures."), FOLDER_OUTPUT
    ],
) -> None:
    """Describe a data set as the paper does: ages and sexes, thickness, scanners, lesions (Table III, Fig. 7 and 8).

    Example:  jcs data stats ct100.csv -o statistics
    """
    from jcs_ct.data.manifest import read_manifest
    from jcs_ct.evaluation.pages.data_statistics import describe_manifest
    from jcs_ct.evaluation.pages.page import write_evaluation

    with stage_progress() as progress:
        described = describe_manifest(
            read_manifest(manifest), title=manifest.stem, progress=lambda done, total: progress("masks", done, total)
        )
    page = write_evaluation(output, described)
    typer.echo(f"page: {page}")
