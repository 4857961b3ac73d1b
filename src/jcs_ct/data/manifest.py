"""Manifests: one table of slices or studies with patient, label, mask and split; checked before training starts."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from jcs_ct.data.file_identity import identify_files
from jcs_ct.data.table_files import Cell, csv_text, read_table, write_table
from jcs_ct.errors import ConfigError, MaskError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ManifestRow:
    """One slice, or one study whose slices are still to be written (``jcs data slices``).

    Args:
        path: Image file (PNG or JPEG); of a study the folder of its DICOM series, or a NIfTI volume.
        patient: Whose slice it is, unique over all sources; splits never share a patient.
        label: 1 infected, 0 not, None unknown.
        mask: Lesion mask on the image's grid, or None. An uninfected slice needs none: its mask is empty.
        split: ``train``, ``val`` or ``test``.
        source: Data set the slice comes from.
        scanner, age, sex, thickness_mm: For statistics; empty when unknown.
        level_hu, width_hu: Window under which the grey levels were made, where it is known.
        series: Of a DICOM study: which series, as ``jcs info`` names it. Empty for everything else.
        fold: Of a cross-validation, from 0 on; None takes no part in one.
        finding: What the source says of the slice or its patient in its own words, such as ``malignant``.
    """

    path: Path
    patient: str
    label: int | None
    mask: Path | None = None
    split: str = "train"
    source: str = ""
    scanner: str = ""
    age: float | None = None
    sex: str = ""
    thickness_mm: float | None = None
    level_hu: float | None = None
    width_hu: float | None = None
    series: str = ""
    fold: int | None = None
    finding: str = ""

    @property
    def is_study(self) -> bool:
        """Whether the row is a whole study: it names a series, or a NIfTI volume."""
        return bool(self.series) or is_volume(self.path)


def is_volume(path: Path) -> bool:
    """Whether a file's name says NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


#: Columns in the order they are written, with their type.
COLUMNS: dict[str, type] = {
    **dict.fromkeys(("path", "patient"), str),
    "label": int,
    **dict.fromkeys(("mask", "split", "source", "scanner"), str),
    "age": float,
    "sex": str,
    **dict.fromkeys(("thickness_mm", "level_hu", "width_hu"), float),
    "series": str,
    "fold": int,
    "finding": str,
}
_REQUIRED = ("path", "patient", "label")


@dataclass(frozen=True)
class Manifest:
    """A checked table of slices, or of studies whose slices are still to be written."""

    rows: tuple[ManifestRow, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ManifestRow]:
        return iter(self.rows)

    def split(self, name: str) -> Manifest:
        """The rows of one split."""
        return Manifest(tuple(row for row in self.rows if row.split == name))

    def parts(self) -> dict[str, tuple[ManifestRow, ...]]:
        """The rows by ``train``, ``val``, ``test``; those that stand in folds by ``fold 0`` and so on."""
        names = {row: row.split if row.fold is None or row.split == "test" else f"fold {row.fold}" for row in self}
        known = [
            *SPLITS,
            *(f"fold {number}" for number in sorted({row.fold for row in self if row.fold is not None})),
        ]
        found = {name: tuple(row for row in self if names[row] == name) for name in known}
        return {name: rows for name, rows in found.items() if rows}

    def with_masks(self) -> Manifest:
        """The rows whose lesion pixels are known: a mask file, or an uninfected slice (empty mask)."""
        return Manifest(tuple(row for row in self.rows if row.mask is not None or row.label == 0))

    @cached_property
    def sha256(self) -> str:
        """Hash of which files these are and what the table says of them, for a checkpoint's metadata.

        Paths count from the deepest folder that holds all files, links to folders followed, and every file counts
        with its size: how paths were typed, where the whole set lies, and CSV or Parquet make no difference. Cells
        that are empty are left aside, so that a column of a later version changes no hash.
        """
        places = identify_files(path for row in self.rows for path in (row.path, row.mask) if path is not None)
        digest = hashlib.sha256()
        for row in self.rows:
            said = {name: getattr(row, name) for name in COLUMNS}
            named = {name: places.get(value, value) for name, value in said.items() if value not in (None, "")}
            digest.update(json.dumps(named, sort_keys=True).encode() + b"\n")
        return digest.hexdigest()

    def to_csv(self, folder: Path) -> str:
        """CSV text with paths relative to ``folder`` where they lie below it."""
        return csv_text(COLUMNS, self._cells(folder))

    def write(self, path: Path) -> None:
        """Write the table as CSV, or as Parquet by its ending; whole or not at all.

        Raises:
            ConfigError: Parquet without the extra ``parquet``.
            OutputError: the file cannot be written.
        """
        write_table(path, COLUMNS, self._cells(path.parent))

    def _cells(self, folder: Path) -> list[dict[str, Cell]]:
        return [{name: _cell(getattr(row, name), folder) for name in COLUMNS} for row in self.rows]


def _cell(value: Path | Cell, folder: Path) -> Cell:
    """A cell as it is written; a path that is not below ``folder`` is absolute, whatever the working folder is."""
    if not isinstance(value, Path):
        return value
    absolute, base = Path(os.path.abspath(value)), os.path.abspath(folder)
    return str(absolute.relative_to(base)) if absolute.is_relative_to(base) else str(absolute)


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


def count_manifest(manifest: Manifest) -> list[dict[str, str | int]]:
    """One record per split and source: patients, infected and uninfected slices, slices with a mask file."""
    counts: list[dict[str, str | int]] = []
    for split in SPLITS:
        rows = manifest.split(split).rows
        for source in sorted({row.source for row in rows}):
            part = [row for row in rows if row.source == source]
            counts.append(
                {
                    "split": split,
                    "source": source,
                    "patients": len({row.patient for row in part}),
                    "infected": sum(row.label == 1 for row in part),
                    "uninfected": sum(row.label == 0 for row in part),
                    "with_mask": sum(row.mask is not None for row in part),
                }
            )
    return counts


def _open(path: Path) -> Image.Image:
    if is_volume(path) or path.is_dir():
        raise ConfigError(f"{path}: a study, not a slice; write its slices with `jcs data slices` and use those")
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable image ({error})") from error
    return image


def read_grey(path: Path) -> NDArray[np.float32]:
    """An 8- or 16-bit image file -> (rows, columns) grey in [0, 1].

    Raises:
        ConfigError: missing, damaged, or with values that are not finite.
    """
    image = _open(path)
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        grey = np.asarray(image, dtype=np.float32) / 65535.0
    elif image.mode == "F":
        grey = np.asarray(image, dtype=np.float32)
    else:
        grey = np.asarray(image.convert("L"), dtype=np.float32) / 255.0
    if not np.isfinite(grey).all():
        raise ConfigError(f"{path}: the image has values that are not finite (NaN or infinite)")
    return np.clip(grey, 0.0, 1.0)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask file of two values (0/1, 0/255 or a two-colour palette) -> (rows, columns) bool.

    Raises:
        MaskError: more than two values, or a single value that is not 0.
        ConfigError: missing or damaged.
    """
    image = _open(path)
    values = np.asarray(image if image.mode in ("L", "1", "P") else image.convert("L"))
    present = np.unique(values)
    if present.size > 2 or (present.size == 2 and present[0] != 0):
        shown = ", ".join(str(value) for value in present[:6])
        raise MaskError(f"{path}: a lesion mask has the value 0 and one other, this one has {present.size}: {shown}")
    mask: NDArray[np.bool_] = values > 0
    return mask


def assign_splits(rows: Iterable[ManifestRow], *, val: float, test: float, seed: int) -> tuple[ManifestRow, ...]:
    """Split by patient: a patient's place follows from a hash of its name and ``seed``, not from the others.

    Args:
        rows: Rows whose split is to be set.
        val, test: Shares of patients.
        seed: Another seed, another split.
    """

    def place(patient: str) -> str:
        draw = int.from_bytes(hashlib.sha256(f"{seed}/{patient}".encode()).digest()[:8], "big") / 2**64
        return "test" if draw < test else "val" if draw < test + val else "train"

    return tuple(replace(row, split=place(row.patient)) for row in rows)
