"""Image and mask files of single slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from jcs_ct.data.manifest.rows import is_volume
from jcs_ct.errors import ConfigError, MaskError


def _open(path: Path) -> Image.Image:
    if is_volume(path) or path.is_dir():
        raise ConfigError(f"{path}: a study, not a slice; write its slices with `jcs data slices` and use those")
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable image ({error})") from error
    return image


def read_grey(path: Path) -> NDArray[np.float32]:
    """An 8- or 16-bit image file -> (rows, columns) grey in [0, 1].

    Raises:
        ConfigError: missing, damaged, or with values that are not finite.
    """
    image = _open(path)
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        grey = np.asarray(image, dtype=np.float32) / 65535.0
    elif image.mode == "F":
        grey = np.asarray(image, dtype=np.float32)
    else:
        grey = np.asarray(image.convert("L"), dtype=np.float32) / 255.0
    if not np.isfinite(grey).all():
        raise ConfigError(f"{path}: the image has values that are not finite (NaN or infinite)")
    return np.clip(grey, 0.0, 1.0)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask file of two values (0/1, 0/255 or a two-colour palette) -> (rows, columns) bool.

    Raises:
        MaskError: more than two values, or a single value that is not 0.
        ConfigError: missing or damaged.
    """
    image = _open(path)
    values = np.asarray(image if image.mode in ("L", "1", "P") else image.convert("L"))
    present = np.unique(values)
    if present.size > 2 or (present.size == 2 and present[0] != 0):
        shown = ", ".join(str(value) for value in present[:6])
        raise MaskError(f"{path}: a lesion mask has the value 0 and one other, this one has {present.size}: {shown}")
    mask: NDArray[np.bool_] = values > 0
    return mask
