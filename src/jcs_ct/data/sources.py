"""Makers: public data sets in the form they are handed out -> manifests, split by patient."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jcs_ct.choices import CT100Folds
from jcs_ct.data.manifest import Manifest, ManifestRow, assign_splits, read_mask, split_problems
from jcs_ct.data.patient_folds import split_by_patient
from jcs_ct.data.table_files import read_table
from jcs_ct.errors import ConfigError
from jcs_ct.preprocessing import Window

#: The window of grey levels (HU + 1100) * 255 / 1500.
_FROM_1100 = Window(-350.0, 1500.0)
#: Both have slices with and without a lesion, as five of the other six have.
_ZENODO20_VALIDATES = ("c06", "c09")
#: What cells of a public set's table may hold.
_KNOWN_CELLS = {"label": ("0", "1"), "group_fold": tuple("01234")}


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
    for fold in range(5):
        for number in splits[wanted][f"val{fold}"]:
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
    try:
        splits = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    missing = [name for name in (wanted, "same_acquisition_groups") if name not in splits]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}")
    return dict(splits)


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
        for record in _records(folder / "labels.csv", "file", "mask", "patient", "label")
    ]
    return Manifest(tuple(rows))


def sarscov2(folder: Path) -> Manifest:
    """SARS-CoV-2 CT-scan data set (thorax crops, both labels from one hospital network), by its published groups.

    A patient is a group of slices whose numbers follow each other or that are nearly the same. Groups stand in folds;
    the first fold tests and the second validates. The window of the grey levels is not known.
    """
    rows = []
    for record in _records(folder / "labels.csv", "file", "label", "patient", "group_fold"):
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
    """IQ-OTH/NCCD: slices from before COVID with a finding (normal, benign, malignant), split 60/20/20 by patient."""
    return _not_covid(folder, "iq-othnccd", seed)


def pneumonia224(folder: Path, *, seed: int = 0) -> Manifest:
    """Pneumonia that is not COVID, 224 x 224 pixels, split 60/20/20 by patient; some slices show none of it."""
    return _not_covid(folder, "pneumonia224", seed)


def _not_covid(folder: Path, source: str, seed: int) -> Manifest:
    """Slices labelled 0 with a finding of their own; the window of their grey levels is not known."""
    rows = [
        ManifestRow(
            folder / record["file"],
            f"{source}-{record['patient']}",
            int(record["label"]),
            source=source,
            finding=record["finding"],
        )
        for record in _records(folder / "labels.csv", "file", "label", "patient", "finding")
    ]
    # So few patients are dealt out: drawn one by one, all may miss the test split.
    return split_by_patient(Manifest(tuple(rows)), 5, seed=seed)


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


def images(folder: Path, *, seed: int = 0) -> Manifest:
    """A plain folder: ``images/`` and ``masks/`` with equal stems, split 70/15/15 by patient.

    A folder below ``images/`` is a patient; slices that lie in ``images/`` itself are a patient each. A slice is
    infected when its mask has a pixel; without a mask its label is not known.
    """
    rows = []
    root = folder / "images"
    for path in sorted(found for found in root.rglob("*") if found.suffix.lower() in _IMAGE_SUFFIXES):
        inside = path.relative_to(root)
        mask = folder / "masks" / inside.with_suffix(".png")
        known = mask.is_file()
        patient = str(inside.parent) if inside.parent != Path() else inside.stem
        label = int(read_mask(mask).any()) if known else None
        rows.append(ManifestRow(path, patient, label, mask if known else None, source=folder.name))
    if not rows:
        raise ConfigError(f"no image in {root}; it takes images/ and masks/, with a folder for each patient in both")
    return Manifest(assign_splits(rows, val=0.15, test=0.15, seed=seed))


_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def covid_cs(folder: Path) -> Manifest:
    """Lists as COVID-CS hands them out: ``train*.txt`` and ``test*.txt``, one ``image mask`` pair a line.

    Paths count from the folder. The patient is the folder that an image lies in; lists that name images of one folder
    in both are refused. Validation patients are taken from the training lists.
    """
    rows: list[ManifestRow] = []
    problems: list[str] = []
    for path in sorted(folder.glob("*.txt")):
        split = next((name for name in ("train", "test") if path.name.startswith(name)), None)
        if split is None:
            continue
        for number, line in enumerate(_read(path).splitlines(), start=1):
            parts = line.split()
            if len(parts) not in (0, 2):
                problems.append(f"{path.name}, line {number}: expected an image and a mask, got {len(parts)} part(s)")
            elif parts:
                image, mask = folder / parts[0], folder / parts[1]
                patient = str(Path(parts[0]).parent)
                label = int(read_mask(mask).any())
                rows.append(ManifestRow(image, patient, label, mask, split, "covid-cs"))
    if problems or not rows:
        raise ConfigError("\n  ".join([f"the lists in {folder} cannot be used:", *(problems or ["there are none"])]))
    training = assign_splits([row for row in rows if row.split == "train"], val=0.1, test=0.0, seed=0)
    joined = (*training, *(row for row in rows if row.split == "test"))
    shared = split_problems(joined)
    if shared:
        raise ConfigError("\n  ".join([f"the lists in {folder} cannot be used:", *shared]))
    return Manifest(joined)


MAKERS: dict[str, Callable[[Path], Manifest]] = {
    "ct100": ct100,
    "ucsd": ucsd,
    "lungs267": lungs267,
    "zenodo20": zenodo20,
    "sarscov2": sarscov2,
    "iq-othnccd": iq_othnccd,
    "pneumonia224": pneumonia224,
    "phantom": phantom,
    "images": images,
    "covid-cs": covid_cs,
}


def combine(*manifests: Manifest) -> Manifest:
    """One manifest of several; patients keep their splits."""
    return Manifest(tuple(row for manifest in manifests for row in manifest))


def _records(path: Path, *needed: str) -> list[Mapping[str, str]]:
    """The lines of a data set's own table of labels.

    Raises:
        ConfigError: no such table, columns that it lacks, cells of them that are empty, labels that are not 0 or 1.
    """
    table = read_table(path, what="table of labels")
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise ConfigError(f"the table of labels {path} lacks the column(s) {', '.join(missing)}")
    problems = []
    for where, values in table:
        problems += [f"{where}: {name} is empty" for name in needed if not values[name]]
        problems += [
            f"{where}: {name} must be one of {', '.join(known)}, got {values[name]!r}"
            for name, known in _KNOWN_CELLS.items()
            if name in needed and values[name] and values[name] not in known
        ]
    if problems or not table.rows:
        raise ConfigError(
            "\n  ".join([f"the table of labels {path} cannot be used:", *(problems or ["it has no rows"])])
        )
    return [values for _, values in table]


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
