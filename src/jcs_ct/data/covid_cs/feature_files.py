"""First-stage features on disk, as COVID-CS is published: uint8 = floor(20 * value) in a MATLAB file a slice.

A value above 12.75 does not fit: in the published files it has wrapped around (256 became 0) and cannot be told from
a small one; files written here saturate at 255 instead, and say how many values did.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import io
from scipy.io.matlab import MatReadError

from jcs_ct.errors import ConfigError, NotFoundError
from jcs_ct.files import replacing

#: Levels per unit of a feature.
LEVELS = 20
#: Variable that files written here carry beside the features: values that were cut at 255, one count a map.
SATURATED = "saturated"

_MAPS = ("vgg_feats", "res2net_feats")


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """The first stage of one slice as it is stored.

    Args:
        vgg_feats: (C1, H, W) uint8, or None for a classifier's features.
        res2net_feats: (C, H/2, W/2) uint8, or None for those of segmentation alone.
        saturated: Values that were cut at 255; None where the file does not say (a published one, whose values above
            12.75 may have wrapped around).
    """

    vgg_feats: NDArray[np.uint8] | None
    res2net_feats: NDArray[np.uint8] | None
    saturated: int | None = None

    def __post_init__(self) -> None:
        if self.vgg_feats is None and self.res2net_feats is None:
            raise ValueError("features need vgg_feats, res2net_feats or both")
        for name in _MAPS:
            values = getattr(self, name)
            if values is not None and (values.dtype != np.uint8 or values.ndim != 3):
                raise ValueError(f"{name} must be (C, H, W) uint8, got {values.shape} {values.dtype}")
        if self.vgg_feats is not None and self.res2net_feats is not None:
            rows, columns = self.vgg_feats.shape[1:]
            if self.res2net_feats.shape[1:] != ((rows + 1) // 2, (columns + 1) // 2):
                raise ValueError(
                    f"res2net_feats must be half of vgg_feats' {rows}x{columns}, got "
                    f"{self.res2net_feats.shape[1]}x{self.res2net_feats.shape[2]}"
                )

    @property
    def maps(self) -> tuple[NDArray[np.uint8], ...]:
        """The maps that are there."""
        return tuple(values for values in (self.vgg_feats, self.res2net_feats) if values is not None)

    @property
    def slice_shape(self) -> tuple[int, int]:
        """(rows, columns) of the slice they were made from (even where only ``res2net_feats`` is there)."""
        _, rows, columns = self.maps[0].shape
        return (rows, columns) if self.vgg_feats is not None else (2 * rows, 2 * columns)


def quantise(values: NDArray[Any]) -> tuple[NDArray[np.uint8], int]:
    """Feature values, at least 0 -> floor(20 * value) as uint8, saturating; and how many values were cut.

    Raises:
        ValueError: negative values or values that are not finite: no output of a ReLU.
    """
    scaled = np.floor(np.asarray(values, dtype=np.float64) * LEVELS)
    if not bool(np.isfinite(scaled).all()) or bool((scaled < 0).any()):
        raise ValueError("features must be finite and at least 0, as behind a ReLU; got others")
    return np.minimum(scaled, 255).astype(np.uint8), int((scaled > 255).sum())


def dequantise(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 -> feature values, as the published networks read them: stored / 20."""
    return stored.astype(np.float32) / np.float32(LEVELS)


def write_features(
    path: Path, *, vgg_feats: NDArray[Any] | None, res2net_feats: NDArray[Any] | None
) -> StoredFeatures:
    """Quantise one slice's feature maps and write them as MATLAB v5, compressed, whole or not at all.

    Args:
        path: Ends in ``.mat``.
        vgg_feats: (C1, H, W) float, or None.
        res2net_feats: (C, H/2, W/2) float, or None.

    Returns:
        What was stored, with the number of saturated values.
    """
    quantised = {
        name: quantise(values)
        for name, values in (("vgg_feats", vgg_feats), ("res2net_feats", res2net_feats))
        if values is not None
    }
    stored = StoredFeatures(
        vgg_feats=quantised["vgg_feats"][0] if "vgg_feats" in quantised else None,
        res2net_feats=quantised["res2net_feats"][0] if "res2net_feats" in quantised else None,
        saturated=sum(count for _, count in quantised.values()),
    )
    content: dict[str, Any] = {name: values[None] for name, (values, _) in quantised.items()}
    content[SATURATED] = np.array([count for _, count in quantised.values()], dtype=np.int64)
    with replacing(path) as temporary:
        io.savemat(temporary, content, appendmat=False, do_compression=True)
    return stored


def read_features(path: Path) -> StoredFeatures:
    """Read a MATLAB v5 feature file, published or written here; full or half size.

    ``vgg_feats`` and ``res2net_feats`` may have a leading axis of 1. A file with a single map under another name is
    taken to hold a classifier's features.

    Raises:
        ConfigError: missing, damaged, of MATLAB 7.3, or without feature maps of uint8.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such feature file")
    try:
        content = io.loadmat(path, appendmat=False)
    except NotImplementedError as error:
        raise ConfigError(
            f"{path}: a MATLAB 7.3 file (HDF5), expected version 5; save it again with save(..., '-v7')"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, IndexError, MatReadError, zlib.error) as error:
        raise ConfigError(f"{path}: not a readable MATLAB file ({error}); it may be truncated") from error
    arrays = {name: value for name, value in content.items() if not name.startswith("__")}
    counts = arrays.pop(SATURATED, None)
    maps = {name: _map(path, name, arrays[name]) for name in _MAPS if name in arrays}
    if not maps and len(arrays) == 1:
        ((name, value),) = arrays.items()
        maps = {"res2net_feats": _map(path, name, value)}
    try:
        return StoredFeatures(
            maps.get("vgg_feats"), maps.get("res2net_feats"), None if counts is None else int(np.sum(counts))
        )
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; its variables are {', '.join(sorted(arrays)) or 'none'}") from error


def _map(path: Path, name: str, value: Any) -> NDArray[np.uint8]:
    array = np.asarray(value)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3 or array.dtype != np.uint8:
        raise ConfigError(
            f"{path}: {name} must be (1, C, H, W) or (C, H, W) of uint8, got {array.shape} {array.dtype}"
        )
    return array
