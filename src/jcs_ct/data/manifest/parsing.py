"""A table on disk -> a manifest, or every problem of the table at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from jcs_ct.data.manifest.rows import SPLITS, Manifest, ManifestRow
from jcs_ct.data.manifest.table_files import read_table
from jcs_ct.errors import ConfigError

_REQUIRED = ("path", "patient", "label")


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, CSV or Parquet; relative paths count from the manifest's folder.

    Raises:
        ConfigError: with every problem of the table at once (files are looked at by ``checking.check_manifest``).
    """
    rows, problems = parse_manifest(path)
    refuse_problems(path, problems)
    return Manifest(tuple(rows))


def parse_manifest(path: Path) -> tuple[list[ManifestRow], list[str]]:
    """The rows that can be read, and every problem of the table.

    Raises:
        ConfigError: no table at all.
    """
    table = read_table(path)
    missing = [name for name in _REQUIRED if name not in table.columns]
    if missing:
        raise ConfigError(
            f"the manifest {path} lacks the column(s) {', '.join(missing)}; it needs path, patient, label"
        )
    rows: list[ManifestRow] = []
    problems: list[str] = []
    for where, values in table:
        try:
            rows.append(_parse_row(values, path.parent))
        except ValueError as error:
            problems.append(f"{where}: {error}")
    problems += split_problems(rows)
    if not rows and not problems:
        problems.append("it has no rows")
    return rows, problems


def _parse_row(values: Mapping[str, str], folder: Path) -> ManifestRow:
    if not values["path"] or not values["patient"]:
        raise ValueError("path and patient must not be empty")
    label = values["label"].strip()
    if label not in ("", "0", "1"):
        raise ValueError(f"label must be 0, 1 or empty, got {label!r}")
    split = values.get("split") or "train"
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    fold = (values.get("fold") or "").strip()
    if fold and not fold.isdecimal():
        raise ValueError(f"fold must be a whole number from 0 on, or empty, got {fold!r}")
    return ManifestRow(
        path=folder / values["path"],
        patient=values["patient"],
        label=int(label) if label else None,
        mask=folder / values["mask"] if values.get("mask") else None,
        split=split,
        source=values.get("source") or "",
        scanner=values.get("scanner") or "",
        age=_number(values, "age"),
        sex=values.get("sex") or "",
        thickness_mm=_number(values, "thickness_mm"),
        level_hu=_number(values, "level_hu"),
        width_hu=_number(values, "width_hu"),
        series=values.get("series") or "",
        fold=int(fold) if fold else None,
        finding=values.get("finding") or "",
    )


def _number(values: Mapping[str, str], name: str) -> float | None:
    return float(values[name]) if values.get(name) else None


def split_problems(rows: Iterable[ManifestRow]) -> list[str]:
    """One line for every patient that stands in more than one split."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits[row.patient].add(row.split)
    return [
        f"patient {patient!r} is in the splits {', '.join(sorted(names))}: a patient belongs to one split only"
        for patient, names in sorted(splits.items())
        if len(names) > 1
    ]


def refuse_problems(path: Path, problems: list[str]) -> None:
    """Raise one ConfigError that lists all problems of a manifest, when there are any."""
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"the manifest {path} has {len(problems)} problem(s):\n{listed}")
