"""Manifests that a command trains or judges with: looked at first, refused if they leak unless that is accepted."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from jcs_ct.cli.console import stage_progress

if TYPE_CHECKING:
    from jcs_ct.data.manifest import Manifest
    from jcs_ct.data.manifest.usable import UsableManifest


def open_used(path: Path, *, used: Collection[str] | None = None, accept_leaks: bool = False) -> UsableManifest:
    """A manifest that may be used, with what its page must say; the warnings are said on stderr at once, too.

    Args:
        path: CSV or Parquet.
        used: Splits that are drawn from or judged; all without it.
        accept_leaks: Whether leaks are said and not refused.

    Raises:
        ManifestError: what is wrong with it, all at once.
    """
    from jcs_ct.data.manifest.usable import usable_manifest

    with stage_progress() as progress:
        found = usable_manifest(
            path,
            used=used,
            accept_leaks=accept_leaks,
            progress=lambda done, total: progress("look at files", done, total),
        )
    for warning in found.warnings:
        typer.echo(f"note: {warning}", err=True)
    return found


def kept_together(manifest: Manifest, *, accept_leaks: bool) -> tuple[Manifest, list[str]]:
    """A manifest whose patients are dealt to folds next: those who share slices in one group, and a note of it.

    With ``accept_leaks`` patients are taken as they are named, and the note says who shares slices.
    """
    from jcs_ct.data.manifest.leaks import join_duplicates

    joined = join_duplicates(manifest)
    new = {row.group for row in joined} - {row.group for row in manifest}
    if not new:
        return manifest, []
    patients = len({row.patient for row in joined if row.group in new})
    done = (
        "and may be parted, as leaks are accepted" if accept_leaks else f"and stay together, in {len(new)} group(s)"
    )
    note = f"{patients} patients share slices that are near-duplicates, {done}"
    typer.echo(f"note: {note}", err=True)
    return manifest if accept_leaks else joined, [note]
