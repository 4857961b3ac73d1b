"""Slices as small pictures for the page: CT in two windows and the activation map.

A study's slices lie as radiologists look at them (the patient's right on the left of the picture, anterior on top);
one :class:`Display` says how their pixels become picture units, so that pictures, maps and outlines cannot disagree.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jcs_ct.preprocessing import LUNG_WINDOW
from jcs_ct.reporting.language import marked
from jcs_ct.volume import CTVolume

#: Longest side of a CT picture and of a map, in pixels.
PICTURE_PIXELS = 384
MAP_PIXELS = 96

#: As near to the grey values as WebP of quality 80 (38 dB) in a fifteenth of its time; a picture is a half larger.
_JPEG_QUALITY = 82
_MAP_LEVELS = 32
#: Activation below this is not drawn at all.
_MAP_FLOOR = 0.05
#: Red, green, blue of the map from low to high; also the page's legend.
MAP_COLOURS = ((72, 12, 120), (183, 38, 96), (240, 96, 36), (252, 178, 46), (255, 246, 160))


@dataclass(frozen=True)
class DisplayWindow:
    """A grey window for the eye.

    Args:
        key: Short name in the page's data.
        label: Name on the page.
        level_hu: Centre.
        width_hu: Width.
    """

    key: str
    label: str
    level_hu: float
    width_hu: float

    def __call__(self, hu: NDArray[Any]) -> NDArray[np.uint8]:
        """HU, any shape -> grey 0 to 255, same shape."""
        if hu.dtype == np.int16:
            return _table(self.level_hu, self.width_hu).take(hu.view(np.uint16))
        return _grey(hu, self.level_hu, self.width_hu)


def _grey(hu: NDArray[Any], level_hu: float, width_hu: float) -> NDArray[np.uint8]:
    grey = (hu.astype(np.float32) - (level_hu - width_hu / 2)) * (255.0 / width_hu)
    return np.rint(np.clip(grey, 0.0, 255.0)).astype(np.uint8)


@lru_cache(maxsize=8)
def _table(level_hu: float, width_hu: float) -> NDArray[np.uint8]:
    """The grey of every int16, by its bits: looked up, a slice takes a third of the time."""
    return _grey(np.arange(1 << 16, dtype=np.uint16).view(np.int16), level_hu, width_hu)


LUNG_DISPLAY = DisplayWindow("lung", marked("Lung"), LUNG_WINDOW.level, LUNG_WINDOW.width)
MEDIASTINAL_DISPLAY = DisplayWindow("mediastinal", marked("Mediastinum"), 40.0, 400.0)


@dataclass(frozen=True)
class Display:
    """How the voxels of a slice lie in the picture.

    Args:
        row_scale, column_scale: Picture units a row and a column; the smaller pixel side is 1.
        rows, columns: Size of a slice.
        directions_are_known: Whether the source states how its slices lie in the patient, and nothing contradicts it.
    """

    row_scale: float
    column_scale: float
    rows: int
    columns: int
    directions_are_known: bool = True

    @classmethod
    def of(cls, volume: CTVolume) -> Self:
        """The view of this volume's slices."""
        _, rows, columns = volume.shape
        _, row_mm, column_mm = volume.spacing_mm or (1.0, 1.0, 1.0)
        unit = min(row_mm, column_mm)
        return cls(row_mm / unit, column_mm / unit, rows, columns, not volume.axes_are_assumed)

    @property
    def width(self) -> float:
        """Width of the picture in picture units."""
        return self.columns * self.column_scale

    @property
    def height(self) -> float:
        """Height of the picture in picture units."""
        return self.rows * self.row_scale

    def points(self, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Voxel-centre indices -> (points, 2): x and y in picture units."""
        return np.stack([(columns + 0.5) * self.column_scale, (rows + 0.5) * self.row_scale], axis=-1)


def ct_picture(hu: NDArray[Any], window: DisplayWindow) -> str:
    """(rows, columns) HU -> JPEG data URI."""
    picture = _shrunk(Image.fromarray(window(hu)), PICTURE_PIXELS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_JPEG_QUALITY)
    return _data_uri("image/jpeg", stream)


def map_picture(activation: NDArray[Any]) -> str | None:
    """(rows, columns) activation in [0, 1] -> paletted PNG data URI with alpha, or None when nothing is active."""
    if not activation.any():
        return None
    plane = activation.astype(np.float32)
    if float(plane.max(initial=0.0)) < _MAP_FLOOR:
        return None
    small = np.asarray(_shrunk(Image.fromarray(plane), MAP_PIXELS))
    levels = np.rint(np.clip(small, 0.0, 1.0) * (_MAP_LEVELS - 1)).astype(np.uint8)
    picture = Image.fromarray(levels).convert("P")
    palette, alphas = _map_palette()
    picture.putpalette(palette)
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=alphas, optimize=True)
    return _data_uri("image/png", stream)


def _shrunk(picture: Image.Image, longest: int) -> Image.Image:
    """The picture with its longest side at most ``longest`` pixels; never enlarged."""
    ratio = longest / max(picture.size)
    if ratio >= 1:
        return picture
    width, height = (max(1, round(side * ratio)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX if ratio < 0.4 else Image.Resampling.BICUBIC)


def _map_palette() -> tuple[list[int], bytes]:
    """RGB palette and alpha of the map's levels: nothing at 0, opaque from 0.6 on."""
    values = np.linspace(0.0, 1.0, _MAP_LEVELS)
    stops = np.linspace(0.0, 1.0, len(MAP_COLOURS))
    channels = [np.interp(values, stops, [colour[channel] for colour in MAP_COLOURS]) for channel in range(3)]
    colours = np.rint(np.stack(channels, axis=-1)).astype(int)
    alphas = np.rint(255 * np.clip((values - _MAP_FLOOR) / (0.6 - _MAP_FLOOR), 0.0, 1.0)).astype(np.uint8)
    return colours.ravel().tolist(), alphas.tobytes()


def _data_uri(kind: str, stream: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
