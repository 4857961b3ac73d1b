"""Image and mask files of single slices, read as `jcs diagnose` reads pictures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest.rows import ManifestRow, is_volume
from jcs_ct.errors import ConfigError, MaskError, NotFoundError, StudyError
from jcs_ct.imaging.grey_levels import GreyMeaning, grey_meaning, grey_to_hu, white_of
from jcs_ct.imaging.mask_pictures import read_mask_picture
from jcs_ct.imaging.picture_slices import read_picture
from jcs_ct.preprocessing import Window


def read_hu(path: Path, window: Window | None = None) -> NDArray[np.float32]:
    """A slice's picture -> (rows, columns) HU.

    Args:
        path: PNG, JPEG or TIFF.
        window: What the grey levels show; where it is not known, it is told from them as for a study of pictures, see
            :func:`~jcs_ct.imaging.grey_levels.grey_meaning`.

    Raises:
        ConfigError: missing, damaged, coloured, levels that may stand for several things, or HU beside a window.
    """
    return read_slice(path, window).hu


@dataclass(frozen=True, eq=False)
class ReadSlice:
    """A slice and how its levels were taken.

    Args:
        hu: (rows, columns) float32.
        meaning: What the levels stand for.
        bits: Of a level as it is stored.
    """

    hu: NDArray[np.float32]
    meaning: GreyMeaning
    bits: int


def read_slice(path: Path, window: Window | None = None) -> ReadSlice:
    """As :func:`read_hu`, with how the levels were taken.

    Raises:
        ConfigError: as :func:`read_hu`.
    """
    levels = _read_levels(path)
    bits = 8 * levels.itemsize
    try:
        # Grey levels under a stated window need not be told from their values.
        meaning = GreyMeaning.WINDOW if window is not None and levels.dtype.kind == "u" else grey_meaning(levels)
        if meaning is not GreyMeaning.WINDOW:
            if window is None:
                return ReadSlice(grey_to_hu(levels), meaning, bits)
            raise ConfigError(f"{path}: a window is stated, but the values are HU; leave level_hu and width_hu empty")
    except StudyError as error:
        raise ConfigError(f"{path}: {error}") from error
    grey = levels.astype(np.float32) / np.float32(white_of(levels))
    return ReadSlice((window or Window()).inverse(grey), meaning, bits)


def read_grey(path: Path) -> NDArray[np.float32]:
    """A slice's picture -> (rows, columns) grey in [0, 1]: as stored, or HU under the standard lung window.

    Raises:
        ConfigError: as :func:`read_hu`.
    """
    levels = _read_levels(path)
    try:
        if grey_meaning(levels) is GreyMeaning.WINDOW:
            return levels.astype(np.float32) / np.float32(white_of(levels))
        return Window()(grey_to_hu(levels))
    except StudyError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_mask(path: Path, lesion_labels: Collection[int] = ()) -> NDArray[np.bool_]:
    """A slice's mask -> (rows, columns) bool, see :func:`~jcs_ct.imaging.mask_pictures.read_mask_picture`.

    Raises:
        MaskError: it cannot be read, or is not what a lesion mask is.
        ConfigError: no such file, or a study.
    """
    _refuse_no_slice(path)
    return read_mask_picture(path, lesion_labels)


def read_lesions(row: ManifestRow) -> NDArray[np.bool_] | None:
    """The lesion pixels of a row's slice, (rows, columns) bool; None where it has no mask.

    Raises:
        MaskError, ConfigError: as :func:`read_mask`.
        MaskError: label and mask contradict each other.
    """
    if row.mask is None:
        return None
    mask = read_mask(row.mask, row.lesion_labels)
    problem = contradiction(row, int(np.count_nonzero(mask)))
    if problem:
        raise MaskError(f"{row.mask}: {problem}")
    return mask


def contradiction(row: ManifestRow, lesion_pixels: int) -> str:
    """What a row's label and its mask, of a slice or a study, say against each other; empty where they agree.

    Args:
        row: With a mask.
        lesion_pixels: That the mask marks.
    """
    if row.label == 0 and lesion_pixels:
        return f"the row is labelled 0 (not infected), and its mask marks {lesion_pixels} pixel(s)"
    if row.label == 1 and not lesion_pixels:
        return "the row is labelled 1 (infected), its mask is empty; label it 0 or leave the mask out"
    return ""


def _read_levels(path: Path) -> NDArray[Any]:
    _refuse_no_slice(path)
    try:
        return read_picture(path)
    except StudyError as error:
        raise ConfigError(f"{path}: the image {error}") from error


def _refuse_no_slice(path: Path) -> None:
    if is_volume(path) or path.is_dir():
        raise ConfigError(f"{path}: a study, not a slice; write its slices with `jcs data slices` and use those")
    if not path.is_file():
        hint = "; its name has backslashes, write / between folders" if "\\" in path.name else ""
        if PureWindowsPath(path.name).is_absolute():
            hint = "; a path with a drive letter or a server's name is another machine's (Windows), give one here"
        raise NotFoundError(f"{path}: no such file{hint}")
