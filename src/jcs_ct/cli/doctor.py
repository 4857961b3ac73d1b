"""`jcs doctor`: is this machine ready, and what will be used on it?"""

from __future__ import annotations

from typing import Annotated

import typer

from jcs_ct import NOTICE, __version__
from jcs_ct.cli.console import print_json


def doctor(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Check the installation: versions, decoders, device, precision, memory and the shipped weights.

    Exit code 0 when a DICOM study can be diagnosed, 5 when something needed is missing.

    Example:  jcs doctor
    """
    from jcs_ct.installation import examine

    checks = examine()
    if as_json:
        print_json({"version": __version__, "checks": [vars(item) for item in checks], "notice": NOTICE})
    else:
        typer.echo(f"jcs-ct {__version__}")
        for item in checks:
            typer.echo(f"{'ok  ' if item.ok else 'FAIL'} {item.name:<18} {item.detail}")
        typer.echo(NOTICE)
    if not all(item.ok for item in checks):
        raise typer.Exit(5)
