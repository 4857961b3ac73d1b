"""The command line: one module per command; each parses, calls one function and prints.

Commands import what they need when they run, so that ``jcs --help`` answers at once.
"""

from __future__ import annotations

import logging
import sys

import typer

from jcs_ct import NOTICE, __version__
from jcs_ct.cli import (
    batch,
    calibrate,
    compare,
    crossval,
    data,
    diagnose,
    doctor,
    evaluate,
    evaluate_classifier,
    export,
    features,
    info,
    pacs,
    pacs_watch,
    phantom,
    recipes,
    serve,
    train,
    transfer,
    weights,
)
from jcs_ct.errors import JCSError

app = typer.Typer(
    name="jcs",
    help=f"Read chest CT studies for COVID-19 opacifications, with reasons a radiologist can check.\n\n{NOTICE}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("diagnose", rich_help_panel="Reading studies")(diagnose.diagnose)
app.command("info", rich_help_panel="Reading studies")(info.info)
app.command("doctor", rich_help_panel="Reading studies")(doctor.doctor)
pacs.app.command("watch")(pacs_watch.watch)
pacs.app.command("jobs")(pacs_watch.jobs)
pacs.app.command("requeue")(pacs_watch.requeue)
app.add_typer(pacs.app, rich_help_panel="Reading studies")
app.add_typer(batch.app, rich_help_panel="Reading studies")
app.add_typer(serve.app, rich_help_panel="Reading studies")
app.command("phantom", rich_help_panel="Data")(phantom.phantom)
app.add_typer(data.app, rich_help_panel="Data")
app.add_typer(features.app, rich_help_panel="Data")
app.add_typer(recipes.app, rich_help_panel="Training")
app.add_typer(weights.app, rich_help_panel="Training")
app.add_typer(export.app, rich_help_panel="Training")
app.command("train", rich_help_panel="Training")(train.train)
app.command("calibrate", rich_help_panel="Training")(calibrate.calibrate)
evaluate.app.command("classifier")(evaluate_classifier.classifier)
evaluate.app.command("shortcuts")(evaluate_classifier.shortcuts)
evaluate.app.command("trivial")(evaluate_classifier.trivial)
app.add_typer(evaluate.app, rich_help_panel="Evaluation")
app.command("compare", rich_help_panel="Evaluation")(compare.compare)
app.command("crossval", rich_help_panel="Evaluation")(crossval.crossval)
app.command("transfer", rich_help_panel="Evaluation")(transfer.transfer)
app.command("ablate", rich_help_panel="Evaluation")(crossval.ablate)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"jcs-ct {__version__} - {NOTICE}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Version and notice."),
    verbose: bool = typer.Option(False, "--verbose", help="Log what is done (hashed identifiers only)."),
) -> None:
    """Options of every command."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


def main() -> None:
    """Entry point: a JCSError becomes its message and exit code, never a traceback."""
    try:
        app()
    except JCSError as error:
        typer.echo(f"jcs: {error}", err=True)
        sys.exit(error.exit_code)
