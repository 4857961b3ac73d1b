"""What is judged: slices with their masks, the patient each belongs to, and the fold it was held out in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jcs_ct.choices import CT100Folds, EvaluationProtocol, SplitName
from jcs_ct.data.manifest import Manifest, ManifestRow, read_grey, read_manifest, read_mask
from jcs_ct.data.manifest.slice_names import slice_names
from jcs_ct.data.sources.public_sets import ct100
from jcs_ct.errors import ConfigError
from jcs_ct.preprocessing import Window

#: Subgroups of slices by whether their acquisition was parted by the folds.
WHOLE, PARTED = "in one fold", "in several folds"
#: Value of a patient whose rows state different ones.
SEVERAL = "several"
#: What names of pictures end in.
_PICTURES = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif"}
#: Width of the age bands that subgroups are made of, in years.
AGE_BAND = 20


@dataclass(frozen=True)
class Case:
    """One slice that is judged.

    Args:
        name: Stem of its prediction's file; unique among the cases.
        image: The slice, where it is known.
        mask: Its lesion mask; None for an uninfected slice, whose mask is empty.
        patient: Whose slice it is (or the acquisition): its slices may be a volume.
        fold: Name of the fold it is held out in; empty without folds.
        subgroups: Value by the name of a grouping, as ``sex`` or ``scanner``.
        window: Under which the grey levels were made, where it is known.
        lesion_labels: Values of the mask that are lesion; where there are none, every value but 0 is.
        unit: What is resampled as a whole: the group that splits keep together; empty: the patient.
        source: Data set that names the patient, where it is known.
    """

    name: str
    image: Path | None
    mask: Path | None
    patient: str
    fold: str = ""
    subgroups: Mapping[str, str] = field(default_factory=dict)
    window: Window | None = None
    lesion_labels: tuple[int, ...] = ()
    unit: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.image is None and self.mask is None:
            raise ValueError(f"case {self.name!r} has neither an image nor a mask")

    def read_mask(self) -> NDArray[np.bool_]:
        """(rows, columns) bool, empty where there is no mask file.

        Raises:
            ConfigError, MaskError: as :func:`jcs_ct.data.manifest.read_mask`.
        """
        if self.mask is not None:
            return read_mask(self.mask, self.lesion_labels)
        assert self.image is not None  # __post_init__
        return np.zeros(read_grey(self.image).shape, dtype=bool)


@dataclass(frozen=True)
class CaseSet:
    """The cases of one evaluation.

    Args:
        title: For tables: which data, which part of it.
        cases: In order.

    Raises:
        ValueError: names that repeat.
    """

    title: str
    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        repeated = [name for name, count in Counter(case.name for case in self.cases).items() if count > 1]
        if repeated:
            raise ValueError(f"case names must be unique, these repeat: {', '.join(repeated[:5])}")

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    @property
    def patients(self) -> tuple[tuple[str, str], ...]:
        """(source, patient) of every case: one name in two sources is two patients."""
        return tuple((case.source, case.patient) for case in self.cases)

    @property
    def units(self) -> tuple[str, ...]:
        """What every case is resampled with: its patient, or the group that splits keep together.

        One name in two sources is resampled together all the same: it may be one person.
        """
        return tuple(case.unit or case.patient for case in self.cases)

    @property
    def folds(self) -> dict[str, list[int]]:
        """Indices of the cases of every fold, by its name."""
        found: dict[str, list[int]] = {}
        for index, case in enumerate(self.cases):
            found.setdefault(case.fold, []).append(index)
        return dict(sorted(found.items()))


def ct100_cases(folder: Path, folds: CT100Folds = "patient-safe") -> CaseSet:
    """The 99 CT100 slices with a lesion, in its published or patient-safe folds.

    Raises:
        ConfigError: as :func:`jcs_ct.data.sources.public_sets.ct100`.
    """
    return manifest_cases(ct100(folder, folds=folds), None, title=f"CT100, {folds} folds")


def manifest_cases(manifest: Manifest, split: str | None = "test", *, title: str = "manifest") -> CaseSet:
    """The rows of a split whose lesion pixels are known: a mask file, or an uninfected slice.

    Args:
        manifest: Checked table of slices.
        split: None takes those that stand in a fold; all where none does.
        title: For tables.

    Raises:
        ConfigError: there is none.
    """
    chosen = manifest if split is None else manifest.split(split)
    if split is None and any(row.fold is not None for row in manifest):
        chosen = Manifest(tuple(row for row in manifest if row.fold is not None))
    rows = chosen.with_masks().rows
    if not rows:
        where = "the manifest" if split is None else f"the split {split!r} of the manifest"
        raise ConfigError(f"{where} has no slice whose lesion pixels are known")
    return slice_cases(rows, slice_names(manifest.rows), title=title if split is None else f"{title}, split {split}")


def slice_cases(rows: Sequence[ManifestRow], names: Mapping[Path, str], *, title: str) -> CaseSet:
    """Rows as cases; where folds part a patient's slices, a subgroup tells those from the others.

    On the others figures are as honest as those of patient-safe folds.

    Args:
        rows: With masks, or uninfected.
        names: By the image's path, see :func:`slice_names`.
        title: For tables.
    """
    folds: dict[str, set[int | None]] = defaultdict(set)
    for row in rows:
        folds[row.patient].add(row.fold)
    parted = {patient for patient, found in folds.items() if len(found) > 1}
    subgroups = [row_subgroups(row) for row in rows]
    if parted:
        for row, groups in zip(rows, subgroups, strict=True):
            groups["acquisition"] = PARTED if row.patient in parted else WHOLE
    cases = tuple(
        Case(
            name=names[row.path],
            image=row.path,
            mask=row.mask,
            patient=row.patient,
            fold="" if row.fold is None else fold_name(row.fold),
            subgroups=groups,
            window=row.window,
            lesion_labels=row.lesion_labels,
            unit=row.unit,
            source=row.source,
        )
        for row, groups in zip(rows, subgroups, strict=True)
    )
    return CaseSet(title, cases)


def fold_name(number: int) -> str:
    """A fold as tables and folders name it."""
    return f"fold{number}"


def row_subgroups(row: ManifestRow) -> dict[str, str]:
    """The groupings that a row has a value for: source, scanner, sex, and age in bands of 20 years."""
    found = {"source": row.source, "scanner": row.scanner, "sex": row.sex}
    if row.age is not None:
        low = int(row.age // AGE_BAND) * AGE_BAND
        found["age"] = f"{low} to {low + AGE_BAND - 1} years"
    return {name: value for name, value in found.items() if value}


def patient_subgroups(rows: Sequence[ManifestRow]) -> dict[str, str]:
    """As :func:`row_subgroups` of a patient's rows together; ``several`` where they state different values."""
    stated: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for name, value in row_subgroups(row).items():
            stated[name].add(value)
    return {name: values.pop() if len(values) == 1 else SEVERAL for name, values in stated.items()}


def folder_cases(masks: Path) -> CaseSet:
    """Every PNG of a folder of masks; each slice counts as its own patient, which tables say.

    Raises:
        ConfigError: no PNG in it, pictures that are none and would not be judged, or two of one name.
    """
    pictures = sorted(path for path in masks.iterdir() if path.suffix.lower() in _PICTURES)
    found = [path for path in pictures if path.suffix.lower() == ".png"]
    if not found:
        raise ConfigError(f"no PNG in {masks}; give a folder of masks, a CT100 folder or a manifest (CSV)")
    names = Counter(path.stem for path in found)
    left = [path.name for path in pictures if path not in found or names[path.stem] > 1]
    if left:
        raise ConfigError(
            f"{masks} holds {len(left)} picture(s) that are no PNG or share a name, as {', '.join(left[:3])}: each "
            "would be left out; convert or move them, or give a manifest, whose masks may be of any kind"
        )
    return CaseSet(f"{masks.name}, every slice its own patient", tuple(Case(p.stem, None, p, p.stem) for p in found))


def open_cases(reference: Path, *, protocol: EvaluationProtocol = "image", split: SplitName | None = None) -> CaseSet:
    """Cases from what a user points at: a manifest (CSV), a CT100 folder, or a folder of masks.

    Args:
        reference: One of the three.
        protocol: ``miniseg`` and ``patient-safe`` choose the folds of a CT100 folder; others take patient-safe ones.
        split: Of a manifest; by default what stands in folds, and where none does the test split.

    Raises:
        ConfigError: none of the three, or a protocol with folds for a reference that has none.
    """
    if reference.is_dir() and (reference / "splits.json").is_file():
        return ct100_cases(reference, "miniseg" if protocol == "miniseg" else "patient-safe")
    manifest = None if reference.is_dir() else read_manifest(reference)
    has_folds = manifest is not None and any(row.fold is not None for row in manifest)
    if protocol in ("miniseg", "patient-safe") and not has_folds:
        raise ConfigError(
            f"protocol {protocol} needs folds: give the CT100 folder, with masks/ and splits.json, or a manifest "
            "with the column fold"
        )
    if manifest is None:
        return folder_cases(reference)
    return manifest_cases(manifest, split or (None if has_folds else "test"), title=reference.stem)
