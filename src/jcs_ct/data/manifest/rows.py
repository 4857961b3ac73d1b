"""A row of a manifest, the manifest, and what it counts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

from jcs_ct.choices import SplitName
from jcs_ct.data.manifest.file_identity import identify_files
from jcs_ct.data.manifest.table_files import Cell, csv_text, write_table
from jcs_ct.preprocessing import Window

SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True)
class ManifestRow:
    """One slice, or one study whose slices are still to be written (``jcs data slices``).

    Args:
        path: Image file (PNG, JPEG or TIFF); of a study the folder of its DICOM series, or a NIfTI volume.
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
        lesion_labels: Values of the mask that are lesion; where there are none, every value but 0 is.
        group: Patients that splits keep together, as near-duplicates of each other; perhaps empty.
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
    lesion_labels: tuple[int, ...] = ()
    group: str = ""

    @property
    def unit(self) -> str:
        """What splits and folds keep together: the row's group, or its patient where it has none."""
        return self.group or self.patient

    @property
    def is_study(self) -> bool:
        """Whether the row is a whole study: it names a series, or a NIfTI volume."""
        return bool(self.series) or is_volume(self.path)

    @property
    def window(self) -> Window | None:
        """The window of the grey levels; None where it is not known."""
        known = self.level_hu is not None and self.width_hu is not None
        return Window(self.level_hu or 0.0, self.width_hu or 0.0) if known else None


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
    **dict.fromkeys(("lesion_labels", "group"), str),
}


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
            named = {name: places.get(value, value) for name, value in said.items() if value not in (None, "", ())}
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


def _cell(value: Path | tuple[int, ...] | Cell, folder: Path) -> Cell:
    """A cell as it is written; a path that is not below ``folder`` is absolute, whatever the working folder is."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if not isinstance(value, Path):
        return value
    absolute, base = Path(os.path.abspath(value)), os.path.abspath(folder)
    return str(absolute.relative_to(base)) if absolute.is_relative_to(base) else str(absolute)


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


def combine(*manifests: Manifest) -> Manifest:
    """One manifest of several; patients keep their splits and folds."""
    return Manifest(tuple(row for manifest in manifests for row in manifest))
