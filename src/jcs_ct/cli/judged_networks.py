"""What the commands that judge trained networks share: which checkpoints, what the reader must know, the page."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jcs_ct.cli.console import print_tables
from jcs_ct.cli.documents import say_result
from jcs_ct.cli.endings import earlier_or_new, stoppable
from jcs_ct.cli.used_manifests import open_used

if TYPE_CHECKING:
    from jcs_ct.choices import NetworkTask, SplitName
    from jcs_ct.data.manifest import Manifest
    from jcs_ct.evaluation.pages.page import Evaluation

#: An evaluation's files are put in place together: on Ctrl-C the earlier ones are there, or the new ones.
stoppable_evaluation = stoppable(lambda options: earlier_or_new(options["output"] / "index.html", "evaluation"))

#: So of experiments: the folds that are trained stay.
stoppable_experiment = stoppable(
    lambda options: lambda: f"folds that are done, and the state of the one in work, are in {options['output']}",
    "the same command goes on from what was saved",
)

#: Tables of more rows are not printed.
MOST_ROWS_PRINTED = 20


def named_checkpoints(given: list[str], task: NetworkTask) -> list[tuple[str, Path]]:
    """NAME=FILE or FILE -> name and file; a run folder's name for its best.safetensors; ``compact`` is in the box."""
    from jcs_ct.checkpoints import shipped_checkpoint
    from jcs_ct.errors import ConfigError
    from jcs_ct.experiments.methods import require_own_folders

    found = []
    for text in given:
        name, separator, file = text.rpartition("=")
        path = shipped_checkpoint(task) if file == "compact" else Path(file)
        stem = path.parent.name if path.stem in ("best", "last") and path.parent.name else path.stem
        found.append((name if separator else "compact" if file == "compact" else stem, path))
    names = [name for name, _ in found]
    if len(set(names)) < len(names):
        raise ConfigError(f"checkpoints need names of their own, got {', '.join(names)}; use NAME=FILE")
    require_own_folders(names)
    return found


def judged_manifest(path: Path, split: SplitName | None, *, accept_leaks: bool) -> tuple[Manifest, list[str]]:
    """A manifest that was looked at, and what the page must say of it; without a split all of it is judged.

    Raises:
        ManifestError: wrong labels, masks or images of the split, or leaks that are not accepted.
    """
    from jcs_ct.data.manifest.usable import few_patients_warning

    found = open_used(path, used=None if split is None else (split,), accept_leaks=accept_leaks)
    few = [] if split is None else few_patients_warning(found.manifest, split)
    return found.manifest, [*found.warnings, *few]


def split_warnings(split: str) -> list[str]:
    """Whether the split was unseen in training."""
    if split == "test":
        return []
    return [f"the split {split!r} was looked at in training: these figures are not of unseen slices"]


def manifest_warnings(name: str, provenance: Any, table: Manifest) -> list[str]:
    """Whether the network was trained with this very manifest, so that its test split is known to be unseen."""
    if provenance.get("manifest_sha256") in (table.sha256, table.with_masks().sha256):
        return []
    return [f"{name} was trained with another manifest: whether it has seen these slices is not known"]


def write_page(
    output: Path,
    evaluation: Evaluation,
    *,
    beside: Callable[[Path], None] | None = None,
    printed: Collection[str] = (),
) -> None:
    """Write the evaluation; warnings to stderr, tables and the path to stdout; with ``--json`` the same as JSON.

    Args:
        output: Folder of the page.
        evaluation: What is written.
        beside: As of ``write_evaluation``.
        printed: Names of the tables to print; without them those of few rows.
    """
    from jcs_ct.evaluation.pages.page import DATA, write_evaluation

    page = write_evaluation(output, evaluation, beside=beside)
    tables = [
        table
        for table in evaluation.tables
        if (table.name in printed if printed else len(table.rows) <= MOST_ROWS_PRINTED)
    ]
    say_result(
        {
            "page": str(page),
            "evaluation": str(output / DATA),
            "warnings": list(evaluation.warnings),
            "tables": {table.name: table.to_dict()["rows"] for table in tables},
        }
    )
    for warning in evaluation.warnings:
        typer.echo(f"note: {warning}", err=True)
    print_tables(tables)
    typer.echo(f"page: {page}")
