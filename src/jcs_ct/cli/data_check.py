"""`jcs data check`, and the same look at a manifest that was just made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from jcs_ct.cli.console import print_json, stage_progress
from jcs_ct.cli.inputs import SOME_INPUT
from jcs_ct.errors import ConfigError

AcceptLeaks = Annotated[bool, typer.Option("--accept-leaks", help="Say leaks between splits or folds, and go on.")]
CheckOption = Annotated[
    bool, typer.Option("--check/--no-check", help="Read every file of what was made, as `jcs data check` does.")
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
        ConfigError: what cannot be used, or leaks that are not accepted.
    """
    from jcs_ct.data.manifest import count_manifest
    from jcs_ct.data.manifest.manifest_checks import check_manifest

    with stage_progress() as progress:
        checked = check_manifest(manifest, progress=lambda done, total: progress("files", done, total))
    if checked.leaks and not accept_leaks:
        listed = "\n  ".join(_first(checked.leaks))
        raise ConfigError(
            f"the manifest {manifest} has {len(checked.leaks)} leak(s):\n  {listed}\nname the patients or groups "
            "that they belong to and split anew (`jcs data split --join-duplicates`), or go on with --accept-leaks"
        )
    counts = count_manifest(checked.manifest)
    if as_json:
        print_json({"counts": counts, "notes": checked.notes, "leaks": checked.leaks})
        return
    for note in (*checked.notes, *_first(checked.leaks)):
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{'split':<6} {'source':<12} {'patients':>8} {'infected':>9} {'uninfected':>10} {'with mask':>9}")
    for row in counts:
        typer.echo(
            f"{row['split']:<6} {row['source']:<12} {row['patients']:>8} {row['infected']:>9} "
            f"{row['uninfected']:>10} {row['with_mask']:>9}"
        )


def look_at_made(output: Path, *, wanted: bool, accept_leaks: bool) -> None:
    """Check what was just written, if it is wanted.

    Raises:
        ConfigError: as :func:`look`; the manifest stays, to be looked at.
    """
    if not wanted:
        typer.echo(f"not checked; read every file with: jcs data check {output}")
        return
    try:
        look(output, accept_leaks=accept_leaks)
    except ConfigError as error:
        raise ConfigError(f"{output} is written, and is not fit for use: {error}") from error


def _first(lines: Sequence[str], most: int = 20) -> list[str]:
    """The first lines, and how many more there are."""
    return [*lines[:most], *([f"and {len(lines) - most} more"] if len(lines) > most else [])]
