"""Lesion masks of single slices as pictures, whichever way a tool marks a lesion: levels, a colour, transparency."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jcs_ct.errors import MaskError, StudyError
from jcs_ct.imaging.picture_slices import open_picture

#: Several whole numbers up to this are taken for labels; larger ones beside others for edges that were smoothed.
LARGEST_LABEL = 31
#: Share of a slice, or of its border, from which on not the lesion seems to be marked but the background.
MOST_LESION = 0.5
_FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP")
_COLOURED = ("P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr")


def read_mask_picture(path: Path, lesion_labels: Collection[int] = ()) -> NDArray[np.bool_]:
    """A mask picture -> (rows, columns) bool.

    The background is black (0) or transparent; lesion is one other level or colour. Of several whole numbers up to
    :data:`LARGEST_LABEL`, as label maps have them, every one but 0 counts unless ``lesion_labels`` says which do.

    Args:
        path: PNG, TIFF, GIF or BMP; JPEG where its levels survived.
        lesion_labels: Levels, or indices of a palette, that are lesion; no other is.

    Raises:
        MaskError: it cannot be read; it has several colours, edges that were smoothed, one level that is not 0, or
            colour and transparency that say different things; it has colours or transparency where levels are
            wanted; or it marks most of the slice or of its border.
    """
    try:
        picture = open_picture(path, formats=_FORMATS)
        mask = _marked(picture, lesion_labels)
    except (StudyError, _UnclearMaskError) as error:
        raise MaskError(f"{path}: the mask {error}") from error
    share = float(mask.mean())
    on_border = float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())
    if max(share, on_border) > MOST_LESION:
        raise MaskError(
            f"{path}: the mask marks {share:.0%} of the slice and {on_border:.0%} of its border; the background "
            "seems to be marked, invert it"
        )
    return mask


def mask_labels(path: Path, lesion_labels: Collection[int] = ()) -> tuple[float, ...]:
    """The levels other than 0 that a mask of whole numbers has; empty for colours and transparency.

    Args:
        path: As of :func:`read_mask_picture`.
        lesion_labels: As of :func:`read_mask_picture`; with some, the indices of a palette are its levels.

    Raises:
        MaskError: it cannot be read.
    """
    try:
        picture = open_picture(path, formats=_FORMATS)
        levels = _labels(picture) if lesion_labels else _levels(picture)
    except (StudyError, _UnclearMaskError) as error:
        raise MaskError(f"{path}: the mask {error}") from error
    return () if levels is None else tuple(value for value in np.unique(levels).tolist() if value)


class _UnclearMaskError(Exception):
    """What a mask has that no mask should have, in a sentence's end."""


def _marked(picture: Image.Image, lesion_labels: Collection[int]) -> NDArray[np.bool_]:
    levels = _labels(picture) if lesion_labels else _levels(picture)
    if levels is None:
        return _marked_by_colour(np.asarray(picture.convert("RGBA")))
    present = np.unique(levels)
    if not np.isfinite(present).all() or present[0] < 0:
        raise _UnclearMaskError("has values that are negative or not finite; 0 is background")
    if lesion_labels:
        return np.isin(levels, list(lesion_labels))
    shown = ", ".join(f"{value:g}" for value in present[:6].tolist()) + (", ..." if present.size > 6 else "")
    if present.size == 1 and present[0] != 0:
        raise _UnclearMaskError(f"has the one value {shown}: all would be lesion; an empty mask is all 0")
    if present[0] != 0:
        raise _UnclearMaskError(f"has no 0 for the background, its values are {shown}")
    labels = bool((present == np.rint(present)).all()) and present[-1] <= LARGEST_LABEL and picture.format != "JPEG"
    if present.size > 2 and not labels:
        raise _UnclearMaskError(
            f"has {present.size} values ({shown}): 0 and one other, or labels up to {LARGEST_LABEL}, are expected; "
            "store it without loss and unsmoothed, or say which values are lesion (column lesion_labels)"
        )
    marked: NDArray[np.bool_] = levels > 0
    return marked


def _labels(picture: Image.Image) -> NDArray[Any]:
    """The numbers of a mask whose values mean something: levels, and of a palette always its indices."""
    levels = np.asarray(picture) if picture.mode == "P" else _levels(picture)
    if levels is None:
        raise _UnclearMaskError(
            "marks by colour or transparency, and lesion_labels names values: store labels as grey levels or as a "
            "palette's indices, or leave lesion_labels empty"
        )
    return levels


def _levels(picture: Image.Image) -> NDArray[Any] | None:
    """The numbers of a mask of levels or palette labels; None where colours or transparency mark the lesion.

    A palette whose first colour is black, and the background of the slice, is one of labels, however many of them the
    slice happens to hold.
    """
    if picture.mode not in _COLOURED:
        return np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    rgba = np.asarray(picture.convert("RGBA"))
    if (rgba[..., 3] != 255).any():
        return None
    if picture.mode == "P":
        indices = np.asarray(picture)
        begins_black = not any((picture.getpalette("RGB") or [])[:3])
        return indices if begins_black and (indices == 0).any() else _grey(rgba)
    return _grey(rgba)


def _grey(rgba: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The level of opaque grey pixels; None where one has a colour."""
    red, green, blue = rgba[..., 0], rgba[..., 1], rgba[..., 2]
    return red if (red == green).all() and (green == blue).all() else None


def _marked_by_colour(rgba: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(rows, columns, 4) -> where one colour stands on black, or anything on what is transparent."""
    alpha = np.unique(rgba[..., 3])
    if not alpha.any() and (rgba == rgba[0, 0]).all():
        return np.zeros(rgba.shape[:2], dtype=bool)  # nothing was drawn, nor is anything hidden
    if alpha.size > 2 or (alpha.size == 2 and alpha[0] != 0) or alpha[-1] == 0:
        shown = ", ".join(str(value) for value in alpha[:6])
        raise _UnclearMaskError(f"has the transparencies {shown}: all or none of a pixel is expected")
    seen = rgba[..., 3] > 0
    colours = np.unique(rgba[seen][:, :3], axis=0)
    if alpha.size == 2:
        if len(colours) > 1:
            raise _UnclearMaskError(f"has {len(colours)} colours beside what is transparent; one is expected")
        return np.asarray(seen)
    if len(colours) != 2 or colours[0].any():
        shown = ", ".join("#" + bytes(colour).hex() for colour in colours[:6])
        raise _UnclearMaskError(f"has {len(colours)} colour(s) ({shown}): one on black (#000000) is expected")
    return np.asarray(rgba[..., :3].any(axis=2))
