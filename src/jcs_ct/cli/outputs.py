"""Where a command's results go: nothing empty is left of what failed, and nothing lies among what was read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jcs_ct.errors import ConfigError


@contextmanager
def no_empty_folder_left(output: Path | None) -> Iterator[None]:
    """Take folders away again that were made for the results of what failed, as far as they are empty.

    Args:
        output: The folder, or a file in it; with all above it.
    """
    made = () if output is None else tuple(place for place in (output, *output.parents) if not place.exists())
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # it was never made, or is not empty: something to keep lies in it
                folder.rmdir()
        raise


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
