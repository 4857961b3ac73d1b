"""Hints that a person is given once and not with every run."""

from __future__ import annotations

import logging

import typer

from jcs_ct.cli.common_options import shown
from jcs_ct.engine.cache import cache_folder

logger = logging.getLogger(__name__)


def hint_once(name: str, text: str) -> None:
    """Say something on stderr the first time that it applies; never with -q or --json.

    That it was said is kept beside the compiled networks; where there is no such folder it is not said at all.

    Args:
        name: Of the hint, a file name.
        text: One line.
    """
    folder = cache_folder()
    if shown().quiet or shown().as_json or folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.said").touch(exist_ok=False)
    except FileExistsError:
        return
    except OSError as error:
        logger.info("%s is not said: %s", name, error)
        return
    typer.echo(f"hint: {text}", err=True)
