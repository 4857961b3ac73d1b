"""Rows of one's own slices -> a manifest that can be trained on: files read, patients kept apart, or all problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jcs_ct.choices import ContradictionRule
from jcs_ct.data.manifest import Manifest, ManifestRow, split_problems
from jcs_ct.data.manifest.dealt_splits import deal_splits, split_remarks
from jcs_ct.data.manifest.leaks import Leak, PartedUnit, find_leaks, fold_leaks, join_alike, one_slice_sources
from jcs_ct.data.manifest.manifest_checks import (
    CLASS_WORDS,
    Findings,
    class_notes,
    file_notes,
    leak_problems,
    look_at_files,
    repeated_images,
    repeated_masks,
)
from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind, refuse
from jcs_ct.data.manifest.mask_labels import absent_labels, foreign_masks
from jcs_ct.data.manifest.shared_names import alike_name_notes
from jcs_ct.data.sources.contradictions import settle
from jcs_ct.progress import CountProgress

DEAL_REMEDY = (
    "--deal (the table's splits and folds are left aside, patients who share slices stay together), or --accept-leaks"
)
_SHOWN = 3
#: Problems that leave open which labels there are.
_LABELS_UNKNOWN = {
    ProblemKind.COLUMN, ProblemKind.LABEL, ProblemKind.MASK, ProblemKind.EMPTY_MASK, ProblemKind.MARKED_MASK
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Making:
    """What the user decides of a manifest of their own slices.

    Args:
        contradictions: What becomes of labels and masks that contradict each other, see :func:`settle`.
        join_duplicates: Whether patients who share slices are kept in one split.
        one_class: Whether it is meant that all labels are the same.
        accept_leaks: Whether leaks of given splits or folds are said and not refused.
        look: Whether files are read.
        seed: Of the splits that are dealt.
    """

    contradictions: ContradictionRule | None = None
    join_duplicates: bool = True
    one_class: bool = False
    accept_leaks: bool = False
    look: bool = True
    seed: int = 0


@dataclass(frozen=True)
class MadeManifest:
    """A manifest and what its maker must know.

    Args:
        manifest: The rows.
        notes: What was taken, joined, set aside; what few patients mean.
        leaks: That were accepted.
        split_is_dealt: Whether its splits were drawn here.
    """

    manifest: Manifest
    notes: tuple[str, ...]
    leaks: tuple[Leak | PartedUnit, ...]
    split_is_dealt: bool


def make_manifest(
    what: str,
    rows: Sequence[ManifestRow],
    making: Making,
    *,
    deal: bool,
    problems: Sequence[ManifestProblem] = (),
    class_remedy: str = "",
    progress: CountProgress | None = None,
) -> MadeManifest:
    """Read every file, settle what contradicts, keep patients who share slices together, deal splits.

    Args:
        what: The table or folder, for errors.
        rows: That could be understood; a row with a mask and without a label is labelled by its mask.
        making: What the user decides.
        deal: Whether splits are dealt; else those of ``rows`` stay.
        problems: That are known already; they are said together with those that come up.
        class_remedy: What may bring the label that is missing.
        progress: Called with (rows read, total).

    Raises:
        ManifestError: every problem at once.
    """
    problems = [*problems, *repeated_images(rows)]
    found = look_at_files(_there(rows), progress=progress) if making.look else Findings()
    problems += [*found.problems, *absent_labels(found.wanted), *foreign_masks(found.wanted)]
    problems += repeated_masks(rows, found.lesion_pixels)
    settled = settle(rows, found, making.contradictions)
    problems += settled.problems
    drawn = _labelled_by_masks(settled.rows, found)
    if not making.one_class and not _LABELS_UNKNOWN & {problem.kind for problem in problems}:
        problems += _one_class(drawn, class_remedy)
    joined: list[str] = []
    if deal and not problems:
        drawn, joined = _joined(drawn, found) if making.join_duplicates else (drawn, [])
        drawn = deal_splits(drawn, seed=making.seed)
    leaks = [] if deal and making.join_duplicates else _leaks(drawn, found)
    if not deal:
        problems += [
            ManifestProblem(ProblemKind.PARTED, problem, remedy="--deal") for problem in split_problems(drawn)
        ]
    if not making.accept_leaks:
        problems += leak_problems(leaks, "without --no-join-duplicates" if deal else DEAL_REMEDY)
    records = [leak.record() for leak in leaks]
    refuse(f"{what} cannot be used, {{count}} problem(s); nothing is written:", problems, records)
    notes = [
        *settled.notes,
        *joined,
        *file_notes(found),
        *one_slice_sources([row for row in drawn if not row.is_study]),
        *alike_name_notes(drawn),
        *class_notes(drawn),
        *split_remarks(Manifest(drawn)),
    ]
    return MadeManifest(Manifest(drawn), tuple(notes), tuple(leaks), deal)


def _there(rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    """The rows whose files are there; what is absent was said."""
    return [row for row in rows if row.path.exists() and (row.mask is None or row.mask.exists())]


def _labelled_by_masks(rows: Sequence[ManifestRow], found: Findings) -> tuple[ManifestRow, ...]:
    return tuple(
        replace(row, label=int(found.lesion_pixels[row] > 0))
        if row.label is None and row in found.lesion_pixels
        else row
        for row in rows
    )


def _one_class(rows: Sequence[ManifestRow], remedy: str) -> list[ManifestProblem]:
    """That no row is infected, or none uninfected."""
    labels = {row.label for row in rows}
    lacking = [word for label, word in CLASS_WORDS.items() if label not in labels]
    if not lacking:
        return []
    counts = ", ".join(f"{sum(row.label == label for row in rows)} {word}" for label, word in CLASS_WORDS.items())
    unknown = sum(row.label is None for row in rows)
    what = (
        f"no slice is {' and none is '.join(lacking)} ({counts}, {unknown} without a label): nothing can be learned"
    )
    remedy = f"{remedy}--one-class if it is meant, as for a part that `jcs data join` puts to others"
    return [ManifestProblem(ProblemKind.ONE_CLASS, what, remedy=remedy)]


def _hashed(rows: Sequence[ManifestRow], found: Findings) -> list[tuple[ManifestRow, NDArray[np.uint64]]]:
    codes: Mapping[Path, NDArray[np.uint64]] = {row.path: code for row, code in found.hashes}
    return [(row, codes[row.path]) for row in rows if row.path in codes]


def _leaks(rows: Sequence[ManifestRow], found: Findings) -> list[Leak | PartedUnit]:
    hashed = _hashed(rows, found)
    return [*fold_leaks(rows), *find_leaks([row for row, _ in hashed], [code for _, code in hashed])]


def _joined(rows: Sequence[ManifestRow], found: Findings) -> tuple[tuple[ManifestRow, ...], list[str]]:
    """The rows with groups of patients who share slices, and a note that names them."""
    hashed = _hashed(rows, found)
    joined = join_alike([row for row, _ in hashed], [code for _, code in hashed])
    if not joined.pairs:
        return tuple(rows), []
    group_of = {old.unit: new.group for (old, _), new in zip(hashed, joined.rows, strict=True)}
    grouped = tuple(replace(row, group=group_of.get(row.unit, row.group)) for row in rows)
    groups = {row.group for row in grouped if row.group}
    patients = {row.patient for row in grouped if row.group}
    shown = "; ".join(f"{one.name} and {other.name}" for one, other in joined.pairs[:_SHOWN])
    note = (
        f"{len(patients)} patients share slices that are near-duplicates or neighbours, as {shown}: they are kept "
        f"together in {len(groups)} group(s), so that no slice is judged whose like was trained on"
    )
    return grouped, [note]
