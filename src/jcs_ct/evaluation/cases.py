"""What is judged: slices with their masks, the patient each belongs to, and the fold it was held out in."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest import Manifest, ManifestRow, read_grey, read_manifest, read_mask
from jcs_ct.errors import ConfigError
from jcs_ct.preprocessing import Window

#: Folds of CT100 by the protocol that uses them.
FOLDS_OF = {"miniseg": "miniseg_folds", "patient-safe": "patient_safe_folds"}
#: Subgroups of slices by whether their acquisition was parted by the folds.
WHOLE, PARTED = "in one fold", "in several folds"
#: Width of the age bands that subgroups are made of, in years.
AGE_BAND = 20


@dataclass(frozen=True)
class Case:
    """One slice that is judged.

    Args:
        name: Stem of its prediction's file; unique among the cases.
        image: The slice, where it is known.
        mask: Its lesion mask; None for an uninfected slice, whose mask is empty.
        patient: Whose slice it is (or the acquisition): resampled as a whole.
        fold: Name of the fold it is held out in; empty without folds.
        subgroups: Value by the name of a grouping, as ``sex`` or ``scanner``.
        window: Under which the grey levels were made, where it is known.
        lesion_labels: Values of the mask that are lesion; where there are none, every value but 0 is.
    """

    name: str
    image: Path | None
    mask: Path | None
    patient: str
    fold: str = ""
    subgroups: Mapping[str, str] = field(default_factory=dict)
    window: Window | None = None
    lesion_labels: tuple[int, ...] = ()

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
    def patients(self) -> tuple[str, ...]:
        """The patient of every case."""
        return tuple(case.patient for case in self.cases)

    @property
    def folds(self) -> dict[str, list[int]]:
        """Indices of the cases of every fold, by its name."""
        found: dict[str, list[int]] = {}
        for index, case in enumerate(self.cases):
            found.setdefault(case.fold, []).append(index)
        return dict(sorted(found.items()))


def ct100_cases(folder: Path, protocol: str = "patient-safe") -> CaseSet:
    """The 99 CT100 slices with a lesion, in the folds of a protocol; slices of one acquisition share a patient.

    Args:
        folder: Holds ``masks/``, ``images/`` (if known) and ``splits.json``.
        protocol: ``miniseg`` (the published folds) or ``patient-safe`` (acquisitions kept together). The published
            folds part some acquisitions: there the subgroup ``acquisition`` tells their slices from the others, on
            which figures are as honest as those of patient-safe folds.

    Raises:
        ConfigError: no such protocol, or ``splits.json`` is missing or lacks the folds.
    """
    if protocol not in FOLDS_OF:
        raise ConfigError(f"unknown protocol {protocol!r} for folds; choose one of {', '.join(FOLDS_OF)}")
    splits = _read_splits(folder / "splits.json", FOLDS_OF[protocol])
    group = {number: min(members) for members in splits["same_acquisition_groups"] for number in members}
    cases = [
        Case(
            name=f"{number:04d}",
            image=folder / "images" / f"{number:04d}.png",
            mask=folder / "masks" / f"{number:04d}.png",
            patient=f"ct100-{group.get(number, number):04d}",
            fold=fold,
        )
        for fold, numbers in splits[FOLDS_OF[protocol]].items()
        for number in numbers
    ]
    parted = _parted_patients(cases)
    if parted:
        cases = [
            replace(case, subgroups={"acquisition": PARTED if case.patient in parted else WHOLE}) for case in cases
        ]
    return CaseSet(f"CT100, {protocol} folds", tuple(sorted(cases, key=lambda case: case.name)))


def _parted_patients(cases: Sequence[Case]) -> set[str]:
    """Patients with slices in more than one fold."""
    folds: dict[str, set[str]] = {}
    for case in cases:
        folds.setdefault(case.patient, set()).add(case.fold)
    return {patient for patient, found in folds.items() if len(found) > 1}


def _read_splits(path: Path, wanted: str) -> dict[str, Any]:
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give the folder that holds masks/ too") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    missing = [name for name in (wanted, "same_acquisition_groups") if name not in splits]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}")
    return dict(splits)


def manifest_cases(manifest: Manifest, split: str | None = "test", *, title: str = "manifest") -> CaseSet:
    """The rows of a split whose lesion pixels are known: a mask file, or an uninfected slice.

    Args:
        manifest: Checked table of slices.
        split: None takes all.
        title: For tables.

    Raises:
        ConfigError: there is none.
    """
    rows = (manifest if split is None else manifest.split(split)).with_masks().rows
    if not rows:
        where = "the manifest" if split is None else f"the split {split!r} of the manifest"
        raise ConfigError(f"{where} has no slice whose lesion pixels are known")
    name_of = case_names(rows)
    cases = tuple(
        Case(name_of(row), row.path, row.mask, row.patient, "", row_subgroups(row), row.window, row.lesion_labels)
        for row in rows
    )
    return CaseSet(title if split is None else f"{title}, split {split}", cases)


def case_names(rows: tuple[ManifestRow, ...]) -> Callable[[ManifestRow], str]:
    """Names of prediction files: the image's stem, and where stems repeat a hash of patient and path behind it.

    Never the patient: a name may be an identity.
    """
    stems = Counter(row.path.stem for row in rows)

    def name(row: ManifestRow) -> str:
        if stems[row.path.stem] == 1:
            return row.path.stem
        place = "/".join((row.source, row.patient, *row.path.parts[-4:]))
        digest = hashlib.sha256(place.encode()).hexdigest()
        return f"{row.path.stem}-{digest[:8]}"

    return name


def row_subgroups(row: ManifestRow) -> dict[str, str]:
    """The groupings that a row has a value for: source, scanner, sex, and age in bands of 20 years."""
    found = {"source": row.source, "scanner": row.scanner, "sex": row.sex}
    if row.age is not None:
        low = int(row.age // AGE_BAND) * AGE_BAND
        found["age"] = f"{low} to {low + AGE_BAND - 1} years"
    return {name: value for name, value in found.items() if value}


def folder_cases(masks: Path) -> CaseSet:
    """Every PNG of a folder of masks; each slice counts as its own patient, which tables say.

    Raises:
        ConfigError: no PNG in it.
    """
    found = sorted(masks.glob("*.png"))
    if not found:
        raise ConfigError(f"no PNG in {masks}; give a folder of masks, a CT100 folder or a manifest (CSV)")
    return CaseSet(f"{masks.name}, every slice its own patient", tuple(Case(p.stem, None, p, p.stem) for p in found))


def open_cases(reference: Path, *, protocol: str = "image", split: str | None = "test") -> CaseSet:
    """Cases from what a user points at: a manifest (CSV), a CT100 folder, or a folder of masks.

    Args:
        reference: One of the three.
        protocol: ``miniseg`` and ``patient-safe`` choose the folds of a CT100 folder; others take patient-safe ones.
        split: Of a manifest.

    Raises:
        ConfigError: none of the three, or a protocol with folds for a reference that has none.
    """
    if reference.is_dir() and (reference / "splits.json").is_file():
        return ct100_cases(reference, protocol if protocol in FOLDS_OF else "patient-safe")
    if protocol in FOLDS_OF:
        raise ConfigError(f"protocol {protocol} needs folds: give the CT100 folder, with masks/ and splits.json")
    if reference.is_dir():
        return folder_cases(reference)
    return manifest_cases(read_manifest(reference), split, title=reference.stem)
