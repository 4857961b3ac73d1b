"""Public data sets in the form they are handed out -> manifests, split by patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jcs_ct.choices import CT100Folds
from jcs_ct.data.manifest import Manifest, ManifestRow, assign_splits, split_by_patient
from jcs_ct.data.manifest.leaks import join_duplicates
from jcs_ct.data.sources.set_labels import read_labels
from jcs_ct.errors import ConfigError
from jcs_ct.files import read_json
from jcs_ct.preprocessing import Window

#: The window of grey levels (HU + 1100) * 255 / 1500.
_FROM_1100 = Window(-350.0, 1500.0)
#: Both have slices with and without a lesion, as five of the other six have.
_ZENODO20_VALIDATES = ("c06", "c09")


def ct100(folder: Path, *, folds: CT100Folds | None = None) -> Manifest:
    """MedSeg COVID data set 1 (99 slices with a lesion), slices of one acquisition under one patient name.

    Args:
        folder: Holds ``images/``, ``masks/`` and ``splits.json``.
        folds: None splits by the patient-safe folds: the first tests, the second validates. Otherwise every row
            stands in its fold, and none in a test split; in the order of the slices' numbers.

    Raises:
        ConfigError: ``splits.json`` is missing or lacks the folds.
    """
    wanted = "miniseg_folds" if folds == "miniseg" else "patient_safe_folds"
    splits = _read_splits(folder / "splits.json", wanted)
    group = {number: min(members) for members in splits["same_acquisition_groups"] for number in members}
    rows = []
    for fold, held_out in enumerate(splits[wanted].values()):
        for number in held_out:
            name = f"{number:04d}.png"
            row = ManifestRow(
                folder / "images" / name,
                f"ct100-{group.get(number, number):04d}",
                1,
                folder / "masks" / name,
                "train" if folds else {0: "test", 1: "val"}.get(fold, "train"),
                "ct100",
                fold=fold if folds else None,
            )
            rows.append(row)
    return Manifest(tuple(sorted(rows, key=lambda row: row.path.name) if folds else rows))


def _read_splits(path: Path, wanted: str) -> dict[str, Any]:
    splits = read_json(path)
    if not isinstance(splits, dict):
        raise ConfigError(f"{path} is no mapping of folds")
    missing = [name for name in (wanted, "same_acquisition_groups") if name not in splits]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}")
    folds, groups = splits[wanted], splits["same_acquisition_groups"]
    if not (isinstance(folds, dict) and isinstance(groups, list) and _are_numbers([*folds.values(), *groups])):
        raise ConfigError(f"{path}: {wanted} and same_acquisition_groups hold lists of the slices' numbers")
    return splits


def _are_numbers(lists: Sequence[Any]) -> bool:
    return all(isinstance(one, list) and all(isinstance(number, int) for number in one) for one in lists)


def ucsd(folder: Path, *, seed: int = 0) -> Manifest:
    """COVID-CT (746 figures of papers, cropped to the thorax), split 70/15/15 by patient."""
    rows = [
        ManifestRow(
            folder / record["path"],
            f"ucsd-{record['patient_id']}",
            int(record["covid"]),
            source="ucsd",
            age=_age(record.get("age", "")),
            sex=record.get("gender", ""),
        )
        for record in read_labels(folder / "labels.csv", "path", "patient_id", "covid")
    ]
    return Manifest(assign_splits(rows, val=0.15, test=0.15, seed=seed))


def lungs267(folder: Path, *, seed: int = 0) -> Manifest:
    """Chest slices from before COVID, one a patient, split 70/15/15: "not COVID", not "healthy".

    Its grey levels are (HU + 1100) * 255 / 1500, a window of its own.
    """
    rows = [
        ManifestRow(
            path, f"lungs267-{path.stem}", 0, source="lungs267", level_hu=_FROM_1100.level, width_hu=_FROM_1100.width
        )
        for path in sorted((folder / "images").glob("*.png"))
    ]
    if not rows:
        raise ConfigError(f"no PNG in {folder / 'images'}; give the folder that holds images/ and lung_masks/")
    return Manifest(assign_splits(rows, val=0.15, test=0.15, seed=seed))


def zenodo20(folder: Path) -> Manifest:
    """Every second slice of 8 whole COVID volumes with lesion masks (Zenodo 3757476), two patients validating.

    Slices of an infected patient without a lesion are uninfected slices here. The grey levels are
    (HU + 1100) * 255 / 1500, to about 10 HU; mask edges are good to about 2 px. Neighbouring slices are alike.
    """
    rows = [
        ManifestRow(
            folder / "images" / record["file"],
            f"zenodo20-{record['patient']}",
            int(record["label"]),
            folder / "masks" / record["mask"],
            "val" if record["patient"] in _ZENODO20_VALIDATES else "train",
            "zenodo20",
            level_hu=_FROM_1100.level,
            width_hu=_FROM_1100.width,
        )
        for record in read_labels(folder / "labels.csv", "file", "mask", "patient", "label")
    ]
    return Manifest(tuple(rows))


def sarscov2(folder: Path) -> Manifest:
    """SARS-CoV-2 CT-scan data set (thorax crops, both labels from one hospital network), by its published groups.

    A patient is a group of slices whose numbers follow each other or that are nearly the same. Groups stand in folds;
    the first fold tests and the second validates. The window of the grey levels is not known.
    """
    rows = []
    for record in read_labels(folder / "labels.csv", "file", "label", "patient", "group_fold"):
        fold = int(record["group_fold"])
        rows.append(
            ManifestRow(
                folder / record["file"],
                f"sarscov2-{record['patient']}",
                int(record["label"]),
                split={0: "test", 1: "val"}.get(fold, "train"),
                source="sarscov2",
                fold=fold,
            )
        )
    return Manifest(tuple(rows))


def iq_othnccd(folder: Path, *, seed: int = 0) -> Manifest:
    """IQ-OTH/NCCD: slices from before COVID with a finding (normal, benign, malignant), split 60/20/20 by patient.

    Patients with near-duplicate slices share a group, and so a split.
    """
    return split_by_patient(join_duplicates(_not_covid(folder, "iq-othnccd"), neighbours=False), 5, seed=seed)


def pneumonia224(folder: Path, *, seed: int = 0) -> Manifest:
    """Pneumonia that is not COVID, 224 x 224 pixels, split 60/20/20 by patient; some slices show none of it."""
    # So few patients are dealt out: drawn one by one, all may miss the test split.
    return split_by_patient(_not_covid(folder, "pneumonia224"), 5, seed=seed)


def _not_covid(folder: Path, source: str) -> Manifest:
    """Slices labelled 0 with a finding of their own; the window of their grey levels is not known."""
    rows = [
        ManifestRow(
            folder / record["file"],
            f"{source}-{record['patient']}",
            int(record["label"]),
            source=source,
            finding=record["finding"],
        )
        for record in read_labels(folder / "labels.csv", "file", "label", "patient", "finding")
    ]
    return Manifest(tuple(rows))


def _age(text: str) -> float | None:
    """Years; None where the paper that the figure comes from gives no number ("Young Child", "late 40s")."""
    try:
        return float(text)
    except ValueError:
        return None
