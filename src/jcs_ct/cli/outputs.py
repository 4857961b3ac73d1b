"""Where a command's results go: nothing empty is left of what failed, and nothing lies among what was read."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.files import explain_unwritable, prepare_output_folder


@dataclass(frozen=True)
class Output:
    """Names what the command writes, in a parameter's annotation: it is tried out before the work begins."""

    is_folder: bool


FOLDER_OUTPUT = Output(is_folder=True)
FILE_OUTPUT = Output(is_folder=False)

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote there.")]


@contextmanager
def prepared_outputs(parameters: Mapping[str, inspect.Parameter], values: Mapping[str, Any]) -> Iterator[None]:
    """Make the folders that results go to, and take those away again that are empty when the command fails.

    Args:
        parameters: Of the command, with resolved annotations.
        values: By their names.

    Raises:
        OutputError: one cannot be made or written, or a file is in its way; or a folder in that of a file.
    """
    given = [
        (values[name], output)
        for name, parameter in parameters.items()
        for output in getattr(parameter.annotation, "__metadata__", ())
        if isinstance(output, Output) and values.get(name) is not None
    ]
    made = [place for path, _ in given for place in (path, *path.parents) if not place.exists()]
    try:
        for path, output in given:
            if not output.is_folder and path.is_dir():
                raise explain_unwritable(path, IsADirectoryError(errno.EISDIR, ""))
            prepare_output_folder(path if output.is_folder else path.parent)
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # it was never made, or is not empty: something to keep lies in it
                folder.rmdir()
        raise


def refuse_to_overwrite(files: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to replace what the same command cannot be trusted to make again, unless that is asked for.

    Raises:
        OutputError: some of them are there, and ``overwrite`` is not given.
    """
    there = [str(file) for file in files if file.exists()]
    if there and not overwrite:
        are = "is" if len(there) == 1 else "are"
        remedy = "name another place, or give --overwrite"
        raise OutputError(f"{' and '.join(there)} {are} there already; {remedy}", remedy=remedy)


def require_apart(output: Path, source: Path) -> None:
    """Refuse to write results among the files they come from.

    Below them they may lie: results of earlier readings are left out when the folder is read again.

    Raises:
        ConfigError: ``output`` is the folder that is read.
    """
    if source.is_dir() and output.is_dir() and output.samefile(source):
        raise ConfigError(
            f"--output {output} is the folder that is read: results would lie among its files; "
            f"name a folder of their own, such as {output / 'report'}"
        )
