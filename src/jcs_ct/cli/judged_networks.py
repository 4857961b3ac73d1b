"""What the commands that judge trained networks share: which checkpoints, what the reader must know, the page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jcs_ct.cli.console import print_tables
from jcs_ct.cli.documents import say_result
from jcs_ct.cli.endings import START_OVER, earlier_or_new, stoppable
from jcs_ct.cli.inputs import named_file, named_folders
from jcs_ct.cli.used_manifests import open_used

if TYPE_CHECKING:
    from jcs_ct.choices import NetworkTask, SplitName
    from jcs_ct.data.manifest import Manifest
    from jcs_ct.evaluation.pages.page import Evaluation
    from jcs_ct.experiments.judged_slices import CaseSet
    from jcs_ct.experiments.lesion_predictions import Predictions

#: An evaluation's files are put in place together: on Ctrl-C the earlier ones are there, or the new ones.
stoppable_evaluation = stoppable(lambda options: earlier_or_new(options["output"] / "index.html", "evaluation"))


def _kept_folds(options: Mapping[str, Any]) -> Callable[[], str]:
    """What is left of an experiment that is stopped: the folds that are trained stay."""
    folder: Path = options["output"]

    def left() -> str:
        if not _holds_something(folder):
            return f"nothing was written to {folder}"
        return f"folds that are done, and the state of the one in work, are in {folder}"

    return left


def _how_to_go_on(options: Mapping[str, Any]) -> str:
    return "the same command goes on from what was saved" if _holds_something(options["output"]) else START_OVER


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


stoppable_experiment = stoppable(_kept_folds, _how_to_go_on)

#: Tables of more rows are not printed.
MOST_ROWS_PRINTED = 20


def named_checkpoints(given: list[str], task: NetworkTask) -> list[tuple[str, Path]]:
    """NAME=FILE or FILE -> name and file; a run folder's name for its best.safetensors; ``compact`` is in the box."""
    from jcs_ct.checkpoints import shipped_checkpoint
    from jcs_ct.errors import ConfigError
    from jcs_ct.experiments.methods import require_own_folders

    found = []
    for text in given:
        name, file = named_file(text)
        path = shipped_checkpoint(task) if file == "compact" else Path(file)
        stem = path.parent.name if path.stem in ("best", "last") and path.parent.name else path.stem
        found.append((name or ("compact" if file == "compact" else stem), path))
    names = [name for name, _ in found]
    if len(set(names)) < len(names):
        raise ConfigError(f"checkpoints need names of their own, got {', '.join(names)}; use NAME=FILE")
    require_own_folders(names)
    return found


def given_predictions(given: Sequence[str], cases: CaseSet) -> list[Predictions]:
    """NAME=FOLDER, FOLDER or NAME=FOLDER+FOLDER -> predictions.

    Raises:
        ConfigError: as ``read_given``.
    """
    from jcs_ct.experiments.lesion_predictions import read_given

    named = [named_folders(text) for text in given]
    return [read_given(folders, cases, name=name) for name, folders in named]


def judged_manifest(path: Path, split: SplitName | None, *, accept_leaks: bool) -> tuple[Manifest, list[str]]:
    """A manifest that was looked at, and what the page must say of it; without a split all of it is judged.

    Raises:
        ManifestError: wrong labels, masks or images of the split, or leaks that are not accepted.
    """
    from jcs_ct.data.manifest.usable import few_patients_warning

    found = open_used(path, used=None if split is None else (split,), accept_leaks=accept_leaks)
    few = [] if split is None else few_patients_warning(found.manifest, split)
    return found.manifest, [*found.warnings, *few]


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
