"""Anyone's table of slices or studies -> a manifest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jcs_ct.data.manifest import COLUMNS, ManifestRow
from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind, refuse
from jcs_ct.data.manifest.parsing import Cells, parse_row
from jcs_ct.data.manifest.table_files import TextTable, read_table
from jcs_ct.data.sources.file_places import Place, find_places
from jcs_ct.data.sources.own_manifest import MadeManifest, Making, make_manifest
from jcs_ct.data.sources.patient_names import compile_patient_pattern, patient_in, suggested_pattern
from jcs_ct.data.sources.table_headings import SPLIT_WORDS, find_columns, label_words
from jcs_ct.preprocessing import Window
from jcs_ct.progress import CountProgress

#: Columns of numbers that nothing but statistics depends on.
_STATISTICS = ("age", "thickness_mm")


@dataclass(frozen=True, kw_only=True)
class OwnTable:
    """How a table is to be read.

    Args:
        columns: The table's column by the manifest's name (``path``, ``patient``, ``label``, ``mask``, ...).
        root: What images count from; None is the table's folder, or the one folder below it that holds all.
        mask_root: What masks count from; None is ``root``.
        patient_pattern: Regular expression whose first group, found in an image's path as typed, is the patient.
        label_words: 1 or 0 by the word in the table.
        source: Name of the data set, where the table has no such column or another name is wanted.
        lesion_labels: Values of the masks that are lesion.
        window: What the grey levels show, where the table does not say.
        deal: Whether splits are dealt though the table has some, or folds.

    Raises:
        ConfigError: a pattern that is none, or has no group.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None
    mask_root: Path | None = None
    patient_pattern: str | None = None
    label_words: Mapping[str, int] = field(default_factory=dict)
    source: str = ""
    lesion_labels: tuple[int, ...] = ()
    window: Window | None = None
    deal: bool = False

    def __post_init__(self) -> None:
        if self.patient_pattern is not None:
            compile_patient_pattern(self.patient_pattern)


@dataclass(frozen=True)
class MadeTable:
    """A manifest and how the table was understood.

    Args:
        made: The manifest, and what its maker must know.
        columns: The table's column by the manifest's name.
        meanings: What each word of the label column was taken for, and on how many lines it stands.
        unread_columns: Columns of the table that are not kept.
    """

    made: MadeManifest
    columns: Mapping[str, str]
    meanings: Mapping[str, tuple[int | None, int]]
    unread_columns: tuple[str, ...]


def make_table(
    path: Path, wanted: OwnTable, making: Making | None = None, *, progress: CountProgress | None = None
) -> MadeTable:
    """Read a table and make a manifest of it; columns that a manifest has, such as ``age`` or ``fold``, are kept.

    Where the table has no split and no folds, patients are dealt (:func:`deal_splits`) after those who share slices
    were put together. ``progress`` is called with (rows read, total).

    Raises:
        ManifestError: columns, lines, labels, patients, files, masks and leaks that cannot be used, all at once.
    """
    making = making or Making()
    table = read_table(path, what="table", may_be_foreign=True)
    found = find_columns(table, wanted.columns, has_patients=wanted.patient_pattern is not None)
    columns = {name: column for name, column in found.columns.items() if column in table.columns}
    problems = [*found.problems, *(ManifestProblem(ProblemKind.LINE, problem) for problem in table.problems)]
    given = {"split", "fold"} & set(columns)
    if wanted.deal:
        columns = {name: column for name, column in columns.items() if name not in given}
    cells = [values[columns["label"]] for _, values in table] if "label" in columns else []
    meanings, unclear = label_words(cells, wanted.label_words)
    problems += unclear
    places = find_places(path.parent, _names(table, columns), {"path": wanted.root, "mask": wanted.mask_root})
    problems += places.problems
    table, emptied = _statistics_as_numbers(table, columns)
    rows, others = _read_rows(table, columns, meanings, places.by_column, wanted)
    problems += others
    if any(problem.kind is ProblemKind.PATIENT for problem in found.problems):
        problems = [_with_pattern(problem, rows) for problem in problems]
    if not table.rows and not problems:
        problems.append(ManifestProblem(ProblemKind.LINE, "it has no rows"))
    if "path" not in columns:
        refuse(f"the table {path} cannot be used, {{count}} problem(s); nothing is written:", problems)
    made = make_manifest(
        f"the table {path}",
        rows,
        making,
        deal=wanted.deal or not given,
        problems=problems,
        progress=progress,
    )
    counts = Counter(cells)
    return MadeTable(
        replace(made, notes=(*filter(None, [table.note]), *places.notes, *emptied, *made.notes)),
        columns={name: table.typed(columns[name]) for name in COLUMNS if name in columns},
        meanings={word: (meanings[word], count) for word, count in counts.items()},
        unread_columns=tuple(table.typed(name) for name in table.columns if name and name not in columns.values()),
    )


def _names(table: TextTable, columns: Mapping[str, str]) -> dict[str, list[str]]:
    """The files that a table names, as typed, by the manifest's column."""
    return {
        name: [values[columns[name]] for _, values in table if values[columns[name]]]
        for name in ("path", "mask")
        if name in columns
    }


def _statistics_as_numbers(table: TextTable, columns: Mapping[str, str]) -> tuple[TextTable, list[str]]:
    """The table without cells of columns for statistics that are no numbers, and a note of each such column."""
    rows = table.rows
    notes = []
    for name in _STATISTICS:
        column = columns.get(name, "")
        odd = [values[column] for _, values in rows if column and not _is_number(values[column])]
        if odd:
            rows = tuple(
                (where, values if _is_number(values[column]) else {**values, column: ""}) for where, values in rows
            )
            notes.append(f"{column}: {len(odd)} cell(s) are no number, as {odd[0]!r}, and left empty")
    return replace(table, rows=rows), notes


def _is_number(cell: str) -> bool:
    try:
        return cell == "" or math.isfinite(float(cell))
    except ValueError:
        return False


def _read_rows(
    table: TextTable,
    columns: Mapping[str, str],
    meanings: Mapping[str, int | None],
    places: Mapping[str, Place],
    wanted: OwnTable,
) -> tuple[list[ManifestRow], list[ManifestProblem]]:
    """The lines that can be read as rows; where label or patient are not known the row stands in for its files."""
    rows: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    nameless: list[str] = []
    for where, values in table:
        typed = {name: values[column] for name, column in columns.items()}
        cells = Cells(_translated(typed, meanings, places, wanted))
        row = parse_row(cells, Path())
        if wanted.patient_pattern is not None and not row.patient:
            nameless.append(typed.get("path", ""))
        said = [problem for problem in cells.problems if not _is_said_elsewhere(problem, columns, wanted)]
        problems += [ManifestProblem(ProblemKind.LINE, problem, where) for problem in said]
        if cells.text("path"):
            rows.append(row)
    if nameless:
        what = f"the patient pattern is not found in {len(nameless)} path(s), as {nameless[0]}"
        problems.append(
            ManifestProblem(ProblemKind.PATIENT, what, remedy="--patient-pattern with one that fits every path")
        )
    return rows, problems


def _is_said_elsewhere(problem: str, columns: Mapping[str, str], wanted: OwnTable) -> bool:
    """Whether a line's problem is that of a column which was said for the table as a whole."""
    if problem.startswith("patient "):
        return "patient" not in columns or wanted.patient_pattern is not None
    return problem.startswith("path ") and "path" not in columns


def _translated(
    typed: Mapping[str, str], meanings: Mapping[str, int | None], places: Mapping[str, Place], wanted: OwnTable
) -> dict[str, str]:
    """The cells of a line in a manifest's words."""
    meaning = meanings.get(typed.get("label", ""))
    found = {**typed, "label": "" if meaning is None else str(meaning)}
    if wanted.patient_pattern is not None:
        found["patient"] = patient_in(typed.get("path", ""), compile_patient_pattern(wanted.patient_pattern))
    for name, place in places.items():
        if found.get(name):
            found[name] = str(place.file(found[name]))
    if "split" in found:
        found["split"] = SPLIT_WORDS.get(found["split"].lower(), found["split"])
    if wanted.source or not found.get("source"):
        found["source"] = wanted.source
    if wanted.window is not None and not found.get("level_hu"):
        found |= {"level_hu": str(wanted.window.level), "width_hu": str(wanted.window.width)}
    if wanted.lesion_labels and found.get("mask"):
        found["lesion_labels"] = " ".join(map(str, wanted.lesion_labels))
    return found


def _with_pattern(problem: ManifestProblem, rows: Sequence[ManifestRow]) -> ManifestProblem:
    """The problem that nothing says whose a slice is, with the pattern that the files' names suggest."""
    suggested = suggested_pattern(row.path for row in rows)
    if problem.kind is not ProblemKind.PATIENT or "recognised" not in problem.what or not suggested:
        return problem
    return replace(problem, remedy=f"--patient-column NAME, or, {suggested}")
