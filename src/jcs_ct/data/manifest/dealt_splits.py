"""Train, val and test of one's own patients: each with both labels where there are enough patients for it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from jcs_ct.data.manifest.rows import SPLITS, Manifest, ManifestRow

#: Shares of the slices that a split is dealt, patient by patient.
SHARES: Mapping[str, float] = {"train": 0.6, "val": 0.2, "test": 0.2}
#: Patients of a label below which a split's figures are remarked to say little.
FEW_PATIENTS = 5


def deal_splits(rows: Sequence[ManifestRow], *, seed: int) -> tuple[ManifestRow, ...]:
    """The rows with new splits, drawn by patient (or group of patients).

    First train, then val, then test get a patient of each label, as long as there are any; the others follow in the
    order of a hash of their name and ``seed``, each to the split that is furthest below its share (60/20/20) of the
    slices of the same source and labels.

    Args:
        rows: Their splits are forgotten.
        seed: Another seed, other splits.
    """
    units: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        units[row.unit].append(row)
    waiting = sorted(units, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    place = _first_of_each_label({unit: _labels(units[unit]) for unit in waiting})
    kinds = {unit: frozenset((row.source, row.label) for row in own) for unit, own in units.items()}
    short: dict[frozenset[tuple[str, int | None]], dict[str, float]] = defaultdict(lambda: dict.fromkeys(SHARES, 0.0))
    for unit, own in units.items():
        for split, share in SHARES.items():
            short[kinds[unit]][split] += share * len(own)
    for unit in [*place, *(unit for unit in waiting if unit not in place)]:
        lacking = short[kinds[unit]]
        split = place.setdefault(unit, max(SHARES, key=lambda name: lacking[name]))
        lacking[split] -= len(units[unit])
    return tuple(replace(row, split=place[row.unit]) for row in rows)


def split_remarks(manifest: Manifest) -> list[str]:
    """What a reader of figures of these splits must know: who is missing, and where few patients are judged."""
    parts = manifest.parts()
    if any(name not in SPLITS for name in parts) or set(parts) == {"train"}:
        return []
    remarks = [f"no patient is left for the split {name}" for name in SPLITS if name not in parts]
    for name in ("val", "test"):
        said = few_patients(parts.get(name, ()))
        if said:
            remarks.append(f"{name}: {said}; figures of so few patients say little")
    return remarks


def few_patients(rows: Iterable[ManifestRow]) -> str:
    """``8 patients; infected slices come from 1, uninfected from 7``, where there are few of a label; else empty."""
    units = [(row.unit, row.label) for row in rows if row.label is not None]
    infected, uninfected = ({unit for unit, label in units if label == wanted} for wanted in (1, 0))
    known = [len(own) for own in (infected, uninfected) if own]
    if not known or min(known) >= FEW_PATIENTS:
        return ""
    every = len(infected | uninfected)
    patients = f"{every} patient{'s' * (every != 1)}"
    return f"{patients}; infected slices come from {len(infected)}, uninfected from {len(uninfected)}"


def _labels(rows: Sequence[ManifestRow]) -> frozenset[int]:
    return frozenset(row.label for row in rows if row.label is not None)


def _first_of_each_label(labels: Mapping[str, frozenset[int]]) -> dict[str, str]:
    """The split of the patients that bring it a label it has not, by their order."""
    every = frozenset[int]().union(*labels.values())
    place: dict[str, str] = {}
    for split in SHARES:
        lacking = set(every)
        while lacking:
            left = [unit for unit in labels if unit not in place and labels[unit] & lacking]
            if not left:
                break
            chosen = max(left, key=lambda unit: len(labels[unit] & lacking))
            place[chosen] = split
            lacking -= labels[chosen]
    return place
