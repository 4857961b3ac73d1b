"""Splits and folds of patients, drawn from a seed: a patient's slices stay together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from jcs_ct.data.manifest.rows import Manifest, ManifestRow
from jcs_ct.errors import ConfigError

#: Patients of a kind from which on each split gets one.
_LEAST_OF_A_KIND = 3


def patient_folds(rows: Iterable[ManifestRow], count: int, *, seed: int) -> dict[str, int]:
    """The fold, from 0 on, of every patient, or of every group of patients.

    Patients with the same sources and labels are ordered by a hash of their name and the seed and dealt to the folds
    in turn, so that each fold gets its share of every source and label. A patient's slices stay together, whatever
    sources they come from.

    Raises:
        ConfigError: fewer than three folds (one is held out, one chooses, one trains), or fewer patients than folds.
    """
    kinds: dict[str, set[tuple[str, int | None]]] = defaultdict(set)
    for row in rows:
        kinds[row.unit].add((row.source, row.label))
    if count < 3 or len(kinds) < count:
        raise ConfigError(
            f"needs at least three folds (one is held out, the next chooses, the others train) and a patient for "
            f"each; got {count} fold(s) and {len(kinds)} patient(s)"
        )
    strata: dict[tuple[tuple[str, int | None], ...], list[str]] = defaultdict(list)
    for patient, kind in kinds.items():
        strata[tuple(sorted(kind, key=str))].append(patient)
    folds: dict[str, int] = {}
    for stratum in sorted(strata, key=str):
        for patient in sorted(strata[stratum], key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest()):
            # Dealing goes on where the last stratum ended: no fold gets the odd patient of every one.
            folds[patient] = len(folds) % count
    return folds


def split_by_patient(manifest: Manifest, count: int, *, seed: int) -> Manifest:
    """The same rows with new splits: of ``count`` folds of patients one tests, one validates, the others train.

    Raises:
        ConfigError: as :func:`patient_folds`.
    """
    splits = {0: "test", 1: "val"}
    fold_of = patient_folds(manifest, count, seed=seed)
    return Manifest(tuple(replace(row, split=splits.get(fold_of[row.unit], "train")) for row in manifest))


def fold_by_patient(manifest: Manifest, count: int, *, seed: int, keep_test: bool = False) -> Manifest:
    """The same rows, each in one of ``count`` folds of patients and in the split ``train``.

    Args:
        manifest: Its own folds and splits are forgotten.
        count: Folds.
        seed: Another seed, other folds.
        keep_test: Rows of the test split stay there, in no fold.

    Raises:
        ConfigError: as :func:`patient_folds`.
    """
    held = {row.unit for row in manifest if keep_test and row.split == "test"}
    fold_of = patient_folds((row for row in manifest if row.unit not in held), count, seed=seed)
    return Manifest(
        tuple(
            replace(row, fold=fold_of.get(row.unit), split="test" if row.unit in held else "train")
            for row in manifest
        )
    )


def assign_splits(rows: Iterable[ManifestRow], *, val: float, test: float, seed: int) -> tuple[ManifestRow, ...]:
    """Split by patient: a patient's place follows from a hash of its name and ``seed``, not from the others.

    Only where a split would get no patient of a kind (by the labels of its slices), it gets one after all; val and
    test only of a kind that has three or more. So a small set can be trained and judged, too.

    Args:
        rows: Rows whose split is to be set.
        val, test: Shares of patients.
        seed: Another seed, another split.
    """
    rows = tuple(rows)
    labels: dict[str, set[int | None]] = {}
    for row in rows:
        labels.setdefault(row.unit, set()).add(row.label)
    kinds: dict[tuple[bool, bool], list[str]] = {}
    for patient, found in labels.items():
        kinds.setdefault((0 in found, 1 in found), []).append(patient)

    def draw(patient: str) -> float:
        return int.from_bytes(hashlib.sha256(f"{seed}/{patient}".encode()).digest()[:8], "big") / 2**64

    place: dict[str, str] = {}
    for patients in kinds.values():
        ordered = sorted(patients, key=draw)
        least = 1 if len(ordered) >= _LEAST_OF_A_KIND else 0
        least_tests, least_vals = (least if share > 0 else 0 for share in (test, val))
        most = len(ordered) - 1  # one trains
        tests = min(max(sum(draw(one) < test for one in ordered), least_tests), most - least_vals)
        vals = min(max(sum(draw(one) < test + val for one in ordered) - tests, least_vals), most - tests)
        for number, patient in enumerate(ordered):
            place[patient] = "test" if number < tests else "val" if number < tests + vals else "train"
    return tuple(replace(row, split=place[row.unit]) for row in rows)
