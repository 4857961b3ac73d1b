"""The tables of labels that public sets come with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jcs_ct.data.manifest.table_files import read_table
from jcs_ct.errors import ConfigError

#: What cells of a public set's table may hold.
_KNOWN_CELLS = {"label": ("0", "1"), "covid": ("0", "1"), "group_fold": tuple("01234")}


def read_labels(path: Path, *needed: str) -> list[Mapping[str, str]]:
    """The lines of a data set's own table of labels.

    Raises:
        ConfigError: no such table, columns that it lacks, cells of them that are empty, labels that are not 0 or 1.
    """
    table = read_table(path, what="table of labels")
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise ConfigError(f"the table of labels {path} lacks the column(s) {', '.join(missing)}")
    problems = list(table.problems)
    for where, values in table:
        problems += [f"{where}: {name} is empty" for name in needed if not values[name]]
        problems += [
            f"{where}: {name} must be one of {', '.join(known)}, got {values[name]!r}"
            for name, known in _KNOWN_CELLS.items()
            if name in needed and values[name] and values[name] not in known
        ]
    if problems or not table.rows:
        raise ConfigError(
            "\n  ".join([f"the table of labels {path} cannot be used:", *(problems or ["it has no rows"])])
        )
    return [values for _, values in table]
