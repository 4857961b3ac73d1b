"""A table of labels beside a folder of DICOM studies: which line belongs to which study, no identity kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jcs_ct.data.manifest import SPLITS
from jcs_ct.data.manifest.parsing import LABELS, Cells
from jcs_ct.data.manifest.table_files import read_table
from jcs_ct.errors import ConfigError
from jcs_ct.imaging.headers import identity_hash

#: Columns of which a table has one, to say whose label a line is.
KEYS = ("patient", "study", "folder")


@dataclass(frozen=True)
class StudyLabel:
    """What a line says of the studies it belongs to.

    Args:
        where: The line, as errors name it; what stands in it may be an identity.
        label: 1 infected, 0 not, None unknown.
        mask: NIfTI volume on the CT's grid or DICOM Segmentation of it, or None.
        split: ``train``, ``val``, ``test``, or empty.
        lesion_labels: Values of the mask, or numbers of its segments, that are lesion; none for all.
    """

    where: str
    label: int | None = None
    mask: Path | None = None
    split: str = ""
    lesion_labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class StudyLabels:
    """The lines of a table by what they name.

    Args:
        key: ``patient`` (PatientID), ``study`` (Study Instance UID) or ``folder``.
        hashed: Lines by the :func:`identity_hash` of what they name; of ``patient`` and ``study``.
        folders: Lines by folder; of ``folder``.
    """

    key: str
    hashed: dict[str, StudyLabel] = field(default_factory=dict)
    folders: dict[Path, StudyLabel] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.hashed) + len(self.folders)

    def of(self, *, patient_key: str, study_key: str, path: Path) -> StudyLabel | None:
        """The line of a study, None where the table has none; the deepest folder counts."""
        if self.key != "folder":
            return self.hashed.get(patient_key if self.key == "patient" else study_key)
        place = path.resolve()
        return next((self.folders[one] for one in (place, *place.parents) if one in self.folders), None)


def read_study_labels(path: Path, root: Path) -> StudyLabels:
    """Read labels, CSV or Parquet.

    Columns: one of ``patient``, ``study``, ``folder``; ``label``; perhaps ``mask``, ``lesion_labels``, ``split``.

    Args:
        path: The table; masks count from its folder.
        root: What ``folder`` counts from.

    Raises:
        ConfigError: columns that are missing, or every line that cannot be used, all at once; never what it names.
    """
    table = read_table(path, what="table of labels")
    keys = [name for name in KEYS if name in table.columns]
    if len(keys) != 1 or "label" not in table.columns:
        raise ConfigError(
            f"the table of labels {path} needs the column label and one of {', '.join(KEYS)}; "
            f"it has {', '.join(table.columns) or 'none'}"
        )
    labels = StudyLabels(keys[0])
    problems = list(table.problems)
    for where, values in table:
        named, label, split = (values.get(name, "") for name in (keys[0], "label", "split"))
        cells = Cells(values)
        lesion_labels = cells.labels("lesion_labels")
        wrong = _wrong(keys[0], named, label, split)
        if wrong or cells.problems:
            problems += [f"{where}: {one}" for one in (wrong, *cells.problems) if one]
            continue
        mask = path.parent / values["mask"] if values.get("mask") else None
        line = StudyLabel(where, LABELS[label.lower()], mask, split.lower(), lesion_labels)
        known: StudyLabel | None
        if labels.key == "folder":
            known = labels.folders.setdefault((root / named).resolve(), line)
        else:
            known = labels.hashed.setdefault(identity_hash(named), line)
        if known is not line:
            problems.append(f"{where}: the same {labels.key} as {known.where}")
    if problems:
        raise ConfigError("\n  ".join([f"the table of labels {path} has {len(problems)} problem(s):", *problems]))
    return labels


def _wrong(key: str, named: str, label: str, split: str) -> str:
    """What cannot be in a line; empty where nothing is wrong."""
    if not named:
        return f"{key} must not be empty"
    if label.lower() not in LABELS:
        return f"label must be 0, 1 or empty, got {label!r}"
    if split.lower() not in ("", *SPLITS):
        return f"split must be one of {', '.join(SPLITS)}, or empty, got {split!r}"
    return ""


def unmatched(labels: StudyLabels, used: Sequence[StudyLabel]) -> int:
    """How many lines belong to no study."""
    seen = {id(one) for one in used}
    return sum(id(one) not in seen for one in (*labels.hashed.values(), *labels.folders.values()))
