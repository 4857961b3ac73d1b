"""Makers: public data sets in the form they are handed out -> manifests, split by patient."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from jcs_ct.data.manifest import Manifest, ManifestRow, assign_splits, read_mask
from jcs_ct.errors import ConfigError


def ct100(folder: Path, *, test_fold: int = 0, val_fold: int = 1) -> Manifest:
    """MedSeg COVID data set 1 (100 slices with lesion masks), by its patient-safe folds.

    Slices of one acquisition share a patient name; the slice with an empty mask is left out, as the published
    folds do.
    """
    splits = json.loads(_read(folder / "splits.json"))
    group = {number: min(members) for members in splits["same_acquisition_groups"] for number in members}
    rows = []
    for fold in range(5):
        split = {test_fold: "test", val_fold: "val"}.get(fold, "train")
        for number in splits["patient_safe_folds"][f"val{fold}"]:
            name = f"{number:04d}.png"
            rows.append(
                ManifestRow(
                    folder / "images" / name,
                    f"ct100-{group.get(number, number):04d}",
                    1,
                    folder / "masks" / name,
                    split,
                    "ct100",
                )
            )
    return Manifest(tuple(rows))


def ucsd(folder: Path, *, seed: int = 0) -> Manifest:
    """COVID-CT (746 figures of papers, cropped to the thorax), split 70/15/15 by patient."""
    rows = [
        ManifestRow(
            folder / record["path"],
            f"ucsd-{record['patient_id']}",
            int(record["covid"]),
            source="ucsd",
            age=_age(record["age"]),
            sex=record["gender"],
        )
        for record in csv.DictReader(_read(folder / "labels.csv").splitlines())
    ]
    return Manifest(assign_splits(rows, val=0.15, test=0.15, seed=seed))


def lungs267(folder: Path, *, seed: int = 0) -> Manifest:
    """Chest slices from before COVID, one a patient, split 70/15/15: "not COVID", not "healthy".

    Its grey levels are (HU + 1100) * 255 / 1500, a window of its own.
    """
    rows = [
        ManifestRow(path, f"lungs267-{path.stem}", 0, source="lungs267", level_hu=-350.0, width_hu=1500.0)
        for path in sorted((folder / "images").glob("*.png"))
    ]
    if not rows:
        raise ConfigError(f"no PNG in {folder / 'images'}; give the folder that holds images/ and lung_masks/")
    return Manifest(assign_splits(rows, val=0.15, test=0.15, seed=seed))


def phantom(folder: Path, *, seed: int = 0) -> Manifest:
    """Folders written by ``jcs phantom --format png`` below ``folder``, one patient each, split 90/10/0.

    A slice is infected when its lesion mask has a pixel.
    """
    rows = []
    for image in sorted(folder.rglob("images/*.png")):
        mask = image.parent.parent / "masks" / image.name
        infected = int(read_mask(mask).any())
        patient = f"phantom-{image.parent.parent.relative_to(folder)}"
        rows.append(ManifestRow(image, patient, infected, mask, source="phantom"))
    if not rows:
        raise ConfigError(f"no images/*.png below {folder}; make some with `jcs phantom OUT --format png`")
    return Manifest(assign_splits(rows, val=0.10, test=0.0, seed=seed))


MAKERS: dict[str, Callable[[Path], Manifest]] = {
    "ct100": ct100,
    "ucsd": ucsd,
    "lungs267": lungs267,
    "phantom": phantom,
}


def combine(*manifests: Manifest) -> Manifest:
    """One manifest of several; patients keep their splits."""
    return Manifest(tuple(row for manifest in manifests for row in manifest))


def _age(text: str) -> float | None:
    """Years; None where the paper that the figure comes from gives no number ("Young Child", "late 40s")."""
    try:
        return float(text)
    except ValueError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
