"""`jcs data check`: every file of a manifest is read, and what is wrong or leaks is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jcs_ct.cli.console import print_json, stage_progress
from jcs_ct.cli.inputs import SOME_INPUT

if TYPE_CHECKING:
    from jcs_ct.data.manifest import Manifest

AcceptLeaks = Annotated[bool, typer.Option("--accept-leaks", help="Report leaks of splits or folds and continue.")]
CheckOption = Annotated[
    bool,
    typer.Option(
        "--check/--no-check",
        help="Read every file; else nothing is known of masks and of slices that patients share.",
    ),
]


def check(
    manifest: Annotated[Path, typer.Argument(help="CSV or Parquet to check."), SOME_INPUT],
    as_json: Annotated[bool, typer.Option("--json", help="Counts, notes and leaks as JSON.")] = False,
    accept_leaks: AcceptLeaks = False,
) -> None:
    """Read every file of a manifest and report all problems at once; then count slices and patients.

    Leaks are near-duplicates, and neighbours by name that look alike, in different splits or folds, and patients in
    several folds: what a network is judged on, it would have seen.

    Example:  jcs data check slices.csv
    """
    look(manifest, as_json=as_json, accept_leaks=accept_leaks)


def look(manifest: Path, *, as_json: bool = False, accept_leaks: bool = False) -> None:
    """Check a manifest and print what was found.

    Raises:
        ManifestError: what cannot be used, or leaks that are not accepted.
    """
    from jcs_ct.data.manifest import count_manifest
    from jcs_ct.data.manifest.manifest_checks import check_manifest, leak_problems
    from jcs_ct.data.manifest.manifest_problems import refuse
    from jcs_ct.data.manifest.usable import remember_clean

    with stage_progress() as progress:
        checked = check_manifest(manifest, progress=lambda done, total: progress("files", done, total))
    records = [leak.record() for leak in checked.leaks]
    if not accept_leaks:
        remedy = f"jcs data split {manifest} -o NEW.csv --join-duplicates deals anew; --accept-leaks goes on as it is"
        refuse(f"the manifest {manifest} has {{count}} leak(s):", leak_problems(checked.leaks, remedy), records)
    if not records:
        remember_clean(checked.manifest)
    if as_json:
        print_json({"counts": count_manifest(checked.manifest), "notes": checked.notes, "leaks": records})
        return
    for note in (*checked.notes, *map(str, checked.leaks)):
        typer.echo(f"note: {note}", err=True)
    show_counts(checked.manifest)


def show_counts(manifest: Manifest) -> None:
    """Print patients, labels and masks by split and source."""
    from jcs_ct.data.manifest import count_manifest

    typer.echo(f"{'split':<6} {'source':<12} {'patients':>8} {'infected':>9} {'uninfected':>10} {'with mask':>9}")
    for row in count_manifest(manifest):
        typer.echo(
            f"{row['split']:<6} {row['source']:<12} {row['patients']:>8} {row['infected']:>9} "
            f"{row['uninfected']:>10} {row['with_mask']:>9}"
        )
