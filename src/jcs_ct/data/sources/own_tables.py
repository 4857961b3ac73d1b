"""Anyone's table of slices or studies -> a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jcs_ct.data.manifest import COLUMNS, SPLITS, Manifest, ManifestRow, split_by_patient, split_problems
from jcs_ct.data.manifest.parsing import LABELS, Cells, parse_row
from jcs_ct.data.manifest.table_files import TextTable, read_table
from jcs_ct.data.sources.patient_names import compile_patient_pattern, patient_in
from jcs_ct.errors import ConfigError
from jcs_ct.preprocessing import Window

#: Names that columns have where none is given, by what they hold; the first that the table has counts.
USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "image", "file", "filename", "file_name", "image_path", "slice"),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id", "case"),
    "label": ("label", "infected", "covid", "class", "target"),
    "mask": ("mask", "mask_path", "segmentation"),
}
_SPLIT_WORDS = {
    **{name: name for name in ("", *SPLITS)},
    **{"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"},
}
#: Endings that are tried where a cell names none.
_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nii.gz", ".nii")
#: Parts that patients are dealt to where the table gives no split: one tests, one validates.
_PARTS = 5
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class OwnTable:
    """How a table is to be read.

    Args:
        columns: The table's column by the manifest's name (``path``, ``patient``, ``label``, ``mask``, ...).
        root: What images count from; None is the table's folder.
        mask_root: What masks count from; None is ``root``.
        patient_pattern: Regular expression whose first group, found in an image's path as typed, is the patient.
        label_words: 1 or 0 by the word in the table.
        source: Name of the data set, where the table has no such column or another name is wanted.
        lesion_labels: Values of the masks that are lesion.
        window: What the grey levels show, where the table does not say.
        seed: Of the split, where the table has none.

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
    seed: int = 0

    def __post_init__(self) -> None:
        if self.patient_pattern is not None:
            compile_patient_pattern(self.patient_pattern)


@dataclass(frozen=True)
class MadeManifest:
    """A manifest and how the table was understood.

    Args:
        manifest: The rows.
        columns: The table's column by the manifest's name.
        unread_columns: Columns of the table that are not kept.
        split_is_drawn: Whether the table gave no split.
    """

    manifest: Manifest
    columns: Mapping[str, str]
    unread_columns: tuple[str, ...]
    split_is_drawn: bool


def make_table(path: Path, wanted: OwnTable) -> MadeManifest:
    """Read a table and make a manifest of it; columns that a manifest has, such as ``age`` or ``fold``, are kept.

    Where the table has no split, patients are dealt 60/20/20, each part with its share of every label; with fewer
    than five patients all train.

    Raises:
        ConfigError: columns that are missing, or every line, label, patient and file that cannot be used, at once.
    """
    table = read_table(path, what="table")
    columns = _find_columns(path, table, wanted)
    root = path.parent if wanted.root is None else wanted.root
    roots = {"path": root, "mask": root if wanted.mask_root is None else wanted.mask_root}
    problems = list(table.problems)
    unknown_labels: Counter[str] = Counter()
    rows: list[ManifestRow] = []
    for where, values in table:
        cells = Cells(_translated({name: values[column] for name, column in columns.items()}, roots, wanted))
        if cells.text("label").lower() not in LABELS:
            unknown_labels[cells.text("label")] += 1
            continue
        rows.append(parse_row(cells, Path()))
        problems += [f"{where}: {problem}" for problem in cells.problems]
    problems += _label_problems(unknown_labels)
    if wanted.patient_pattern is not None:
        nameless = [row.path.name for row in rows if not row.patient]
        if nameless:
            problems.append(f"the patient pattern is not found in {len(nameless)} path(s), as {nameless[0]}")
    problems += _absent_files(rows, roots)
    problems += [] if problems else split_problems(rows)
    if problems or not rows:
        listed = "\n  ".join(problems or ["it has no rows"])
        raise ConfigError(f"the table {path} cannot be used:\n  {listed}")
    drawn = "split" not in columns and "fold" not in columns and len({row.unit for row in rows}) >= _PARTS
    manifest = Manifest(tuple(rows))
    return MadeManifest(
        manifest=split_by_patient(manifest, _PARTS, seed=wanted.seed) if drawn else manifest,
        columns=columns,
        unread_columns=tuple(name for name in table.columns if name and name not in columns.values()),
        split_is_drawn=drawn,
    )


def _find_columns(path: Path, table: TextTable, wanted: OwnTable) -> dict[str, str]:
    """The table's column by the manifest's name."""
    columns = {name: name for name in COLUMNS if name in table.columns}
    for name, usual in USUAL_NAMES.items():
        found = next((one for one in usual if one in table.columns), None)
        if found is not None:
            columns[name] = found
    columns |= {name: column.lower() for name, column in wanted.columns.items()}
    problems = [f"it has no column {column}" for column in columns.values() if column not in table.columns]
    for name in ("path", "label"):
        if name not in columns:
            option = "image" if name == "path" else name
            problems.append(f"say which column holds the {option}: --{option}-column")
    if "patient" not in columns and wanted.patient_pattern is None:
        problems.append(
            "say whose slice a line is: --patient-column, or --patient-pattern '(c[0-9]+)_' for names as c01_0088.jpg"
        )
    if problems:
        had = ", ".join(table.columns) or "none"
        raise ConfigError("\n  ".join([f"the table {path} has the columns {had}; it cannot be used:", *problems]))
    if wanted.patient_pattern is not None:
        columns.pop("patient", None)
    return columns


def _translated(cells: dict[str, str], roots: Mapping[str, Path], wanted: OwnTable) -> dict[str, str]:
    """The cells of a line in a manifest's words."""
    words = {word.lower(): str(value) for word, value in wanted.label_words.items()}
    found = {**cells, "label": words.get(cells["label"].lower(), cells["label"])}
    if wanted.patient_pattern is not None:
        found["patient"] = patient_in(cells["path"], compile_patient_pattern(wanted.patient_pattern))
    for name, root in roots.items():
        if found.get(name):
            found[name] = _located(root, found[name])
    if "split" in found:
        found["split"] = _SPLIT_WORDS.get(found["split"].lower(), found["split"])
    if wanted.source or not found.get("source"):
        found["source"] = wanted.source
    if wanted.window is not None and not found.get("level_hu"):
        found |= {"level_hu": str(wanted.window.level), "width_hu": str(wanted.window.width)}
    if wanted.lesion_labels and found.get("mask"):
        found["lesion_labels"] = " ".join(map(str, wanted.lesion_labels))
    return found


def _located(root: Path, name: str) -> str:
    """A file's whole path, with the ending that it has on disk where the table leaves it out."""
    endings = ("", *_ENDINGS)
    return str(next((root / (name + one) for one in endings if (root / (name + one)).exists()), root / name))


#: What a word most likely means, for the example of an error alone: labels are taken from the user, never guessed.
_LIKELY_LABEL = {
    **dict.fromkeys(
        ("no", "n", "negative", "neg", "normal", "healthy", "false", "control", "non-covid", "noncovid"), "0"
    ),
    **dict.fromkeys(("yes", "y", "positive", "pos", "infected", "true", "covid", "covid-19"), "1"),
}


def _label_problems(unknown: Mapping[str, int]) -> list[str]:
    """One line for all words that are no labels."""
    if not unknown:
        return []
    listed = ", ".join(f"{word!r} ({count} lines)" for word, count in sorted(unknown.items())[:_SHOWN])
    example = ",".join(f"{word}={_LIKELY_LABEL.get(word.strip().lower(), '?')}" for word in sorted(unknown)[:2])
    return [f"label must be 0 (not infected), 1 or empty, and is {listed}; say what each means: --labels {example}"]


def _absent_files(rows: Iterable[ManifestRow], roots: Mapping[str, Path]) -> list[str]:
    """The first files that are not there, and where a file of such a name lies instead."""
    rows = list(rows)
    files = {"path": [row.path for row in rows], "mask": [row.mask for row in rows if row.mask is not None]}
    lines: list[str] = []
    for name, option in (("path", "--root"), ("mask", "--mask-root")):
        absent = [file for file in files[name] if not file.exists()]
        lines += [f"{file} does not exist" for file in absent[:_SHOWN]]
        if len(absent) > _SHOWN:
            lines.append(f"and {len(absent) - _SHOWN} more of {len(files[name])} do not exist")
        elsewhere = next((found for found in roots[name].rglob(absent[0].name)), None) if absent else None
        if elsewhere is not None:
            lines.append(f"there is {elsewhere}: say from which folder names count with {option}")
    return lines
