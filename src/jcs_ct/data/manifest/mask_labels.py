"""Whether the values that are lesion fit those that the masks of a data set have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind


@dataclass(frozen=True)
class MaskLabels:
    """What a mask holds, and what of it is wanted.

    Args:
        mask: The file.
        present: Its values other than 0, or the numbers of its segments.
        wanted: Those that are lesion, as its row says; not empty.
    """

    mask: Path
    present: frozenset[float]
    wanted: tuple[int, ...]


def foreign_masks(masks: Iterable[MaskLabels], declared: Collection[int] = ()) -> list[ManifestProblem]:
    """The masks that mark something with values of another kind than the masks with lesions have, 255 beside 0 and 1.

    Lungs without a lesion are none of them: masks with lesions have the lungs' values, too.

    Args:
        masks: Of a data set.
        declared: Values that the data set itself says its masks have.
    """
    alike: dict[tuple[int, ...], list[MaskLabels]] = defaultdict(list)
    for one in masks:
        alike[one.wanted].append(one)
    problems = []
    for wanted, same in alike.items():
        known = frozenset[float](declared).union(*(one.present for one in same if one.present & set(wanted)))
        foreign = [one for one in same if one.present and not one.present & known]
        if not foreign:
            continue
        values = _listed(frozenset[float]().union(*(one.present for one in foreign)))
        what = (
            f"{len(foreign)} of {len(same)} mask(s) hold no value of lesion_labels ({_listed(wanted)}) but {values}, "
            f"which no mask with such a value has, as {foreign[0].mask}: they would be taken for uninfected"
        )
        remedy = (
            f"name in lesion_labels all values that are lesion ({_listed(wanted)} and {values}?), or leave out the "
            "masks of what shows no lesion"
        )
        problems.append(ManifestProblem(ProblemKind.MASK, what, remedy=remedy))
    return problems


def absent_labels(masks: Sequence[MaskLabels]) -> list[ManifestProblem]:
    """That values are wanted which no mask of the data set has; masks that are all empty say nothing."""
    present = frozenset[float]().union(*(one.present for one in masks))
    absent = {value for one in masks for value in one.wanted} - present
    if not present or not absent:
        return []
    what = (
        f"lesion_labels names {_listed(absent)}, which none of {len(masks)} mask(s) has; they have {_listed(present)}"
    )
    return [ManifestProblem(ProblemKind.MASK, what, remedy="name values in lesion_labels that the masks have")]


def _listed(values: Iterable[float]) -> str:
    ordered = sorted(values)
    return ", ".join(f"{value:g}" for value in ordered[:6]) + (", ..." if len(ordered) > 6 else "")
