"""Checks of the gate on pictures by their names and levels: one study's slices, without masks among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import GateCode
from jcs_ct.imaging.gate_finding import Finding
from jcs_ct.imaging.study_files import name_pattern

#: Words that name what was drawn or computed over a slice, not the slice.
DRAWN_WORDS = frozenset(
    {"mask", "masks", "seg", "segmentation", "segmentations", "label", "labels", "annotation", "gt"}
    | {"maske", "masken"}
)

#: A picture of at least this many pixels with no more levels than this is a mask, not a slice.
MASK_LEVELS, LEAST_MASK_PIXELS = 4, 1024


def check_picture_names(names: Sequence[PurePath]) -> list[Finding]:
    """MIXED_SERIES: pictures in several folders, masks beside images, or names of several series.

    Args:
        names: What the pictures are called where they came from.
    """
    drawn = [_is_drawn(name) for name in names]
    if any(drawn) and not all(drawn):
        message = (
            f"{sum(drawn)} of {len(names)} pictures are called masks or labels; give the folder of the slices alone"
        )
        return [Finding(GateCode.MIXED_SERIES, message)]
    folders = {name.parent for name in names}
    if len(folders) > 1:
        message = f"the {len(names)} pictures lie in {len(folders)} folders; give the folder of one study"
        return [Finding(GateCode.MIXED_SERIES, message)]
    several = {key: count for key, count in Counter(_series_of(name) for name in names).items() if count > 1}
    if len(several) > 1:
        counts = " and ".join(str(count) for count in list(several.values())[:6])
        message = (
            f"the names of the pictures are those of {len(several)} series ({counts} slices); give one at a time"
        )
        return [Finding(GateCode.MIXED_SERIES, message)]
    return []


def _is_drawn(name: PurePath) -> bool:
    words = set(re.split(r"[^a-z]+", f"{name.parent.name}/{name.stem}".lower()))
    return bool(words & DRAWN_WORDS)


def _series_of(name: PurePath) -> str:
    """A picture's name without the last of its numbers, which counts the slices."""
    stem = name.stem.lower()
    if name_pattern(name.name).startswith("$"):
        return "$"
    return re.sub(r"\d+(?=\D*$)", "#", stem)


def check_masks(levels: Sequence[NDArray[Any]]) -> list[Finding]:
    """MIXED_SERIES: some pictures have a few grey levels only, as masks have, and others have those of a CT.

    NO_HU: all have.

    Args:
        levels: (rows, columns) grey levels of each picture.
    """
    counts = [np.unique(one).size for one in levels if one.size >= LEAST_MASK_PIXELS]
    masks = sum(1 < count <= MASK_LEVELS for count in counts)
    if not masks:
        return []
    if masks + counts.count(1) == len(levels):
        message = f"the pictures have {MASK_LEVELS} grey levels or fewer, as masks have; give the slices of a CT"
        return [Finding(GateCode.NO_HU, message)]
    message = (
        f"{masks} of {len(levels)} pictures have {MASK_LEVELS} grey levels or fewer, as masks have, the others have "
        "those of a CT; give the folder of the slices alone"
    )
    return [Finding(GateCode.MIXED_SERIES, message)]
