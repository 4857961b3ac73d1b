"""A table on disk -> a manifest, or every problem of the table at once."""

from __future__ import annotations

import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind, refuse
from jcs_ct.data.manifest.rows import COLUMNS, SPLITS, Manifest, ManifestRow
from jcs_ct.data.manifest.table_files import read_table
from jcs_ct.errors import ConfigError

_REQUIRED = ("path", "patient", "label")
#: What a label's cell may say: 1 infected, 0 not, empty unknown; and as data frames write it.
LABELS: Mapping[str, int | None] = {"": None, "0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
_SPLIT_NAMES: dict[str, str] = {"": "train", **{name: name for name in SPLITS}}

T = TypeVar("T")


@dataclass(frozen=True)
class ParsedManifest:
    """What a table on disk holds.

    Args:
        rows: The rows that can be read.
        problems: Every problem of the table.
        unread_columns: Columns that no manifest has.
    """

    rows: tuple[ManifestRow, ...]
    problems: tuple[ManifestProblem, ...]
    unread_columns: tuple[str, ...]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, CSV or Parquet; relative paths count from the manifest's folder.

    Raises:
        ConfigError: with every problem of the table at once (``manifest_checks.check_manifest`` looks at its files).
    """
    parsed = parse_manifest(path)
    refuse_problems(path, parsed.problems)
    return Manifest(parsed.rows)


def parse_manifest(path: Path) -> ParsedManifest:
    """The rows that can be read, and every problem of the table.

    Raises:
        ConfigError: no table at all.
    """
    table = read_table(path)
    missing = [name for name in _REQUIRED if name not in table.columns]
    if missing:
        raise ConfigError(
            f"the manifest {path} lacks the column(s) {', '.join(missing)}; it needs {', '.join(_REQUIRED)} and has "
            f"{', '.join(table.columns) or 'none'}"
        )
    rows: list[ManifestRow] = []
    problems = [ManifestProblem(ProblemKind.LINE, problem) for problem in table.problems]
    for where, values in table:
        cells = Cells(values)
        row = parse_row(cells, path.parent)
        if cells.problems:
            problems += [ManifestProblem(ProblemKind.LINE, problem, where) for problem in cells.problems]
        else:
            rows.append(row)
    problems += [ManifestProblem(ProblemKind.PARTED, problem) for problem in split_problems(rows)]
    if not rows and not problems:
        problems.append(ManifestProblem(ProblemKind.LINE, "it has no rows"))
    unread = tuple(name for name in table.columns if name and name not in COLUMNS)
    return ParsedManifest(tuple(rows), tuple(problems), unread)


class Cells:
    """The cells of a line by column; what is wrong with them is gathered, not raised."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.problems: list[str] = []

    def text(self, name: str) -> str:
        """A cell, empty where the table has no such column."""
        return self._values.get(name, "")

    def named(self, name: str) -> str:
        """A cell that must say something."""
        if self.text(name).lower() in ("", "nan", "none"):
            self.problems.append(f"{name} must not be empty, got {self.text(name)!r}")
        return self.text(name)

    def choice(self, name: str, choices: Mapping[str, T], said: str) -> T | None:
        """What a cell stands for, large and small letters alike."""
        if self.text(name).lower() not in choices:
            self.problems.append(f"{name} must be {said}, got {self.text(name)!r}")
        return choices.get(self.text(name).lower())

    def number(self, name: str) -> float | None:
        """A finite number, None where the cell is empty."""
        text = self.text(name)
        try:
            number = float(text or "0")
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.problems.append(f"{name} must be a number with a decimal point, or empty, got {text!r}")
        return number if text else None

    def labels(self, name: str) -> tuple[int, ...]:
        """Whole numbers from 1 on, parted by blanks; none where the cell is empty."""
        words = self.text(name).removesuffix(".0").split()
        if any(not word.isdecimal() or int(word) == 0 for word in words):
            self.problems.append(f"{name} must be whole numbers from 1 on parted by blanks, got {self.text(name)!r}")
            return ()
        return tuple(int(word) for word in words)

    def fold(self) -> int | None:
        """A whole number from 0 on, None where the cell is empty; with ``.0`` as data frames write it."""
        text = self.text("fold").removesuffix(".0")
        if text and not text.isdecimal():
            self.problems.append(f"fold must be a whole number from 0 on, or empty, got {text!r}")
            return None
        return int(text) if text else None


def parse_row(cells: Cells, folder: Path) -> ManifestRow:
    """A line as a row, paths from ``folder``; what is wrong with it stands in ``cells.problems``."""
    level, width = cells.number("level_hu"), cells.number("width_hu")
    if (level is None) != (width is None) or (width is not None and width <= 0):
        said = ", ".join(f"{name} {cells.text(name)!r}" for name in ("level_hu", "width_hu"))
        cells.problems.append(f"a window has both a level and a width greater than 0, got {said}")
    return ManifestRow(
        path=folder / cells.named("path"),
        patient=cells.named("patient"),
        label=cells.choice("label", LABELS, "0, 1 or empty"),
        mask=folder / cells.text("mask") if cells.text("mask") else None,
        split=cells.choice("split", _SPLIT_NAMES, f"one of {', '.join(SPLITS)}") or "train",
        source=cells.text("source"),
        scanner=cells.text("scanner"),
        age=cells.number("age"),
        sex=cells.text("sex"),
        thickness_mm=cells.number("thickness_mm"),
        level_hu=level,
        width_hu=width,
        series=cells.text("series"),
        fold=cells.fold(),
        finding=cells.text("finding"),
        lesion_labels=cells.labels("lesion_labels"),
        group=cells.text("group"),
    )


def split_problems(rows: Iterable[ManifestRow]) -> list[str]:
    """One line for every patient, and every group of patients, that stands in more than one split.

    Blanks, large letters, marks that are not seen and other ways to write the same letter (Unicode's NFKC) make no
    other patient of a name.
    """
    rows = list(rows)
    groups: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        groups[row.patient].add(row.group)
    several = [
        f"patient {patient!r} is in the groups {', '.join(repr(name) for name in sorted(names))}: one is expected"
        for patient, names in sorted(groups.items())
        if len(names) > 1
    ]
    return [*_parted(rows, "patient"), *_parted([row for row in rows if row.group], "group"), *several]


def _parted(rows: Iterable[ManifestRow], kind: Literal["patient", "group"]) -> list[str]:
    splits: dict[str, set[str]] = defaultdict(set)
    spellings: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        said = row.patient if kind == "patient" else row.group
        key = _seen(said)
        splits[key].add(row.split)
        spellings[key].add(said)
    return [
        f"{kind} {' or '.join(repr(name) for name in sorted(spellings[key]))} is in the splits "
        f"{', '.join(sorted(names))}: a {kind} belongs to one split only"
        for key, names in sorted(splits.items())
        if len(names) > 1
    ]


def _seen(name: str) -> str:
    """A name as a reader sees it: without blanks, cases and controls that make no difference to the eye."""
    shown = "".join(sign for sign in name if unicodedata.category(sign) not in ("Cf", "Cc"))
    return " ".join(unicodedata.normalize("NFKC", shown).casefold().split())


def refuse_problems(path: Path, problems: Sequence[ManifestProblem]) -> None:
    """Raise one ManifestError that lists all problems of a manifest, when there are any."""
    refuse(f"the manifest {path} has {{count}} problem(s):", problems)
