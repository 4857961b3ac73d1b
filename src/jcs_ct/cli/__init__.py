"""The command line: one module per command; each parses, calls one function and prints.

Commands import what they need when they run, so that ``jcs --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import typer

from jcs_ct import NOTICE, __version__
from jcs_ct.cli import (
    ablate,
    batch,
    calibrate,
    compare,
    crossval,
    data,
    diagnose,
    doctor,
    endings,
    evaluate,
    evaluate_classifier,
    evaluate_speed,
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
from jcs_ct.cli.common_options import (
    Quiet,
    Verbose,
    log_verbosely,
    log_warnings,
    showing,
    shown,
    with_common_options,
)

app = typer.Typer(
    name="jcs",
    help=f"Read chest CT studies for COVID-19 opacifications, with reasons a radiologist can check.\n\n{NOTICE}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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
evaluate.app.command("speed")(evaluate_speed.speed)
evaluate.app.command("classifier")(evaluate_classifier.classifier)
evaluate.app.command("shortcuts")(evaluate_classifier.shortcuts)
evaluate.app.command("trivial")(evaluate_classifier.trivial)
app.add_typer(evaluate.app, rich_help_panel="Evaluation")
app.command("compare", rich_help_panel="Evaluation")(compare.compare)
app.command("crossval", rich_help_panel="Evaluation")(crossval.crossval)
app.command("transfer", rich_help_panel="Evaluation")(transfer.transfer)
app.command("ablate", rich_help_panel="Evaluation")(ablate.ablate)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"jcs-ct {__version__} - {NOTICE}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Version and notice."),
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Options of every command; they may stand behind its name, too."""
    log_warnings()
    if verbose:
        log_verbosely()
    if quiet:
        context.with_resource(showing(replace(shown(), quiet=True)))


with_common_options(app)


def main(early: Sequence[int] = ()) -> None:
    """Entry point: an error becomes its message, its exit code and, with --json, its document on stdout.

    Args:
        early: Signals that came before, and are answered now.
    """
    sys.exit(endings.run(app, sys.argv[1:], early))
