"""Which files a table names, whatever way their paths were typed and wherever the whole set lies."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

#: Place below the deepest common folder, and size in bytes (None for what is no file).
FileIdentity = tuple[str, int | None]


def identify_files(files: Iterable[Path]) -> dict[Path, FileIdentity]:
    """The identity of every file by its path as it was typed; links to folders are followed."""
    files = set(files)
    folders = {folder: folder.resolve() for folder in {path.parent for path in files}}
    root = Path(os.path.commonpath(folders.values())) if folders else Path()
    return {
        path: (
            (folders[path.parent] / path.name).relative_to(root).as_posix(),
            path.stat().st_size if path.is_file() else None,
        )
        for path in files
    }
