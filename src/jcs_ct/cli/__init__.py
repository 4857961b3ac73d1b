"""The command line: one module per command; each parses, calls one function and prints."""

from __future__ import annotations

import sys

import typer

from jcs_ct import NOTICE, __version__
from jcs_ct.errors import JCSError

app = typer.Typer(
    name="jcs",
    help=f"Read chest CT studies for COVID-19 opacifications, with reasons a radiologist can check.\n\n{NOTICE}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"jcs-ct {__version__} - {NOTICE}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Version and notice."),
) -> None:
    """Options of every command."""


def main() -> None:
    """Entry point: a JCSError becomes its message and exit code, never a traceback."""
    try:
        app()
    except JCSError as error:
        typer.echo(f"jcs: {error}", err=True)
        sys.exit(error.exit_code)
