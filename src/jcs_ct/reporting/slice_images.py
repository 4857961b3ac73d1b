"""Slices as small pictures for the page: CT in two windows and the activation map.

Everything is turned to the way radiologists look at an axial slice (the patient's right on the left of the picture,
anterior on top) by one :class:`Display`, so that pictures, maps and outlines cannot disagree.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jcs_ct.volume import CTVolume

#: Longest side of a CT picture and of a map, in pixels.
PICTURE_PIXELS = 384
MAP_PIXELS = 96

_WEBP_QUALITY = 80
_MAP_LEVELS = 32
#: Activation below this is not drawn at all.
_MAP_FLOOR = 0.05
#: Red, green, blue of the map from low to high; also the page's legend.
MAP_COLOURS = ((72, 12, 120), (183, 38, 96), (240, 96, 36), (252, 178, 46), (255, 246, 160))
#: Letters of the positive and the negative end of each axis of LPS.
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))


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
        low = self.level_hu - self.width_hu / 2
        grey = (hu.astype(np.float32) - low) * (255.0 / self.width_hu)
        return np.rint(np.clip(grey, 0.0, 255.0)).astype(np.uint8)


LUNG_WINDOW = DisplayWindow("lung", "Lung", -600.0, 1500.0)
MEDIASTINAL_WINDOW = DisplayWindow("mediastinal", "Mediastinum", 40.0, 400.0)


@dataclass(frozen=True)
class Display:
    """How the voxels of a slice lie in the picture.

    Args:
        flip_rows, flip_columns: Whether rows and columns are turned round for the usual view.
        row_scale, column_scale: Picture units a row and a column; the smaller pixel side is 1.
        rows, columns: Size of a slice.
        left, right, top, bottom: Patient directions at the picture's edges (R, L, A, P, S, I).
        directions_are_known: False when the letters are the usual ones only because nothing else is known.
    """

    flip_rows: bool
    flip_columns: bool
    row_scale: float
    column_scale: float
    rows: int
    columns: int
    left: str = "R"
    right: str = "L"
    top: str = "A"
    bottom: str = "P"
    directions_are_known: bool = True

    @classmethod
    def of(cls, volume: CTVolume) -> Self:
        """The usual axial view of this volume; stored order where the geometry is not known."""
        _, rows, columns = volume.shape
        if volume.affine is None or volume.spacing_mm is None:
            return cls(False, False, 1.0, 1.0, rows, columns, directions_are_known=False)
        _, row_mm, column_mm = volume.spacing_mm
        unit = min(row_mm, column_mm)
        flip_columns, right, left = _axis(volume.affine[:3, 2])
        flip_rows, bottom, top = _axis(volume.affine[:3, 1])
        return cls(flip_rows, flip_columns, row_mm / unit, column_mm / unit, rows, columns, left, right, top, bottom)

    @property
    def width(self) -> float:
        """Width of the picture in picture units."""
        return self.columns * self.column_scale

    @property
    def height(self) -> float:
        """Height of the picture in picture units."""
        return self.rows * self.row_scale

    def plane(self, plane: NDArray[Any]) -> NDArray[Any]:
        """(rows, columns) as they are shown."""
        return plane[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def points(self, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Voxel-centre indices -> (points, 2): x and y in picture units."""
        x = (self.columns - 1 - columns if self.flip_columns else columns) + 0.5
        y = (self.rows - 1 - rows if self.flip_rows else rows) + 0.5
        return np.stack([x * self.column_scale, y * self.row_scale], axis=-1)


def _axis(direction: NDArray[np.float64]) -> tuple[bool, str, str]:
    """(flip, letter where the shown axis ends, letter where it starts) of an axis direction in LPS."""
    axis = int(np.argmax(np.abs(direction)))
    positive, negative = _LETTERS[axis]
    towards_negative = bool(direction[axis] < 0)
    if axis < 2:  # left-right and front-back have a usual direction: shown ending at L and at P
        return towards_negative, positive, negative
    return (False, negative, positive) if towards_negative else (False, positive, negative)


def ct_picture(hu: NDArray[Any], window: DisplayWindow, display: Display) -> str:
    """(rows, columns) HU -> WebP data URI."""
    picture = _shrunk(Image.fromarray(np.ascontiguousarray(display.plane(window(hu)))), PICTURE_PIXELS)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=_WEBP_QUALITY, method=2)
    return _data_uri("image/webp", stream)


def map_picture(activation: NDArray[Any], display: Display) -> str | None:
    """(rows, columns) activation in [0, 1] -> paletted PNG data URI with alpha, or None when nothing is active."""
    if float(activation.max(initial=0.0)) < _MAP_FLOOR:
        return None
    plane = np.ascontiguousarray(display.plane(activation).astype(np.float32))
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
    return picture.resize((width, height), Image.Resampling.BOX if ratio < 0.4 else Image.Resampling.LANCZOS)


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
