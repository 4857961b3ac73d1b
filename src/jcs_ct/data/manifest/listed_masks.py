"""Masks that a table lists as if they were slices, told from the table and from their names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind
from jcs_ct.data.manifest.rows import ManifestRow
from jcs_ct.imaging.gate_pictures import DRAWN_WORDS

LISTED_MASK_REMEDY = "list slices only, each with its mask in the mask column of its row"


def listed_masks(rows: Sequence[ManifestRow]) -> list[ManifestProblem]:
    """Images that stand in a mask column too, or are called as another row's image with ``_seg``, ``_mask``, ...."""
    masks = {row.mask.resolve() for row in rows if row.mask is not None}
    beside = masks_beside([row.path for row in rows])
    problems = []
    for row in rows:
        what = ""
        if row.path.resolve() in masks:
            what = "is listed as an image, and is a mask of the table"
        elif row.path in beside:
            what = "is listed as an image, and is called as the mask of another one"
        if what:
            problems.append(ManifestProblem(ProblemKind.MASK_AS_IMAGE, what, str(row.path), LISTED_MASK_REMEDY))
    return problems


def masks_beside(files: Sequence[Path]) -> dict[Path, Path]:
    """The files that are called as the mask of another one, ``c01_seg.png`` beside ``c01.jpg``.

    Returns:
        That other file, without its ending, by the mask.
    """
    stems = {str(file.with_suffix("")).lower(): file.with_suffix("") for file in files}
    found = {}
    for file in files:
        other = stems.get(str(file.parent / without_drawn_words(file)).lower())
        if is_called_mask(file) and other is not None and other != file.with_suffix(""):
            found[file] = other
    return found


def image_of(mask: Path, images: Collection[Path]) -> Path:
    """The image that a mask is of, by its name: the same, or the same without ``_seg``, ``_mask``, ....

    Args:
        mask: As its image would be called.
        images: Without endings.
    """
    same, bare = mask.with_suffix(""), mask.parent / without_drawn_words(mask)
    return bare if same not in images and bare in images else same


def is_called_mask(path: Path) -> bool:
    """Whether a file's own name says that it was drawn over a slice: ``c01_0088_seg.png``."""
    return any(word in DRAWN_WORDS for word in re.split(r"[^a-z]+", path.stem.lower()))


def without_drawn_words(path: Path) -> str:
    """``c01_0088_seg`` -> ``c01_0088``."""
    parts = re.split(r"([-_. ]+)", path.stem)
    while len(parts) > 2 and parts[-1].lower() in DRAWN_WORDS:
        parts = parts[:-2]
    return "".join(parts)
