"""The lungs from the front and from the side: where along them the opacifications lie, at a glance.

Every pixel of a view is one line of sight through the volume. Its grey is the mean density along the line; its colour
the share of the lung along it that is opacified. Slices run down the picture, superior on top; from the front the
patient's right is on the left, from the side anterior is on the left (both as radiologists look at them).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jcs_ct.lungs import LEFT, RIGHT, UNKNOWN_SIDE
from jcs_ct.preprocessing import Region
from jcs_ct.reading.lesions import Lesion, side_labels
from jcs_ct.reporting.language import marked
from jcs_ct.reporting.slice_images import DisplayWindow

if TYPE_CHECKING:
    from jcs_ct.volume import CTVolume

#: Colours of 0 to 100 % of the lung on a line of sight, opaque from the first step on; also the page's legend.
BURDEN_COLOURS = ((255, 196, 120), (255, 140, 50), (226, 74, 20), (150, 20, 10))
#: A smaller share of the lung on a line is not coloured.
LEAST_SHARE = 0.02
#: Mean densities along a line lie between those of lung and of soft tissue.
VIEW_WINDOW = DisplayWindow("view", "View", -300.0, 1000.0)
_WEBP_QUALITY = 85


#: What each view is called.
SIGHTS = {
    "front": marked("From the front"),
    "right": marked("Right lung from the side"),
    "left": marked("Left lung from the side"),
    "both": marked("Both lungs from the side"),
}


class Sight(StrEnum):
    """Which way a view looks, and at which lung."""

    FRONT = "front"
    RIGHT = "right"
    LEFT = "left"
    BOTH = "both"


@dataclass(frozen=True)
class LungView:
    """One view.

    Args:
        sight: Which way it looks.
        picture: WebP as a data URI, as many pixels high as there are slices.
        width, height: Of the picture in mm; in steps of the grid where the geometry is not known.
        slice_count: Slices from top to bottom.
    """

    sight: Sight
    picture: str
    width: float
    height: float
    slice_count: int


@dataclass(frozen=True)
class LinesOfSight:
    """Counts along each line of sight.

    Args:
        density_hu: (slices, lines) mean HU.
        lung, opacified: (slices, lines) voxels of lung (lesions at its wall included), and those of them opacified.
    """

    density_hu: NDArray[np.float32]
    lung: NDArray[np.int64]
    opacified: NDArray[np.int64]

    @property
    def share(self) -> NDArray[np.float64]:
        """(slices, lines) opacified share of the lung; 0 where there is none."""
        share: NDArray[np.float64] = self.opacified / np.maximum(self.lung, 1)
        return share


def lung_views(
    volume: CTVolume, lungs: NDArray[np.uint8], labels: NDArray[np.uint16], lesions: Sequence[Lesion]
) -> tuple[LungView, ...]:
    """The front, then the right and the left lung from the side; both lungs together where some side is unknown.

    Args:
        volume: Grid, geometry and HU.
        lungs: (slices, rows, columns): 0, 1 right lung, 2 left lung, 3 lung of unknown side.
        labels: Same shape: lesion_id, 0 background.
        lesions: In the order of their ids.
    """
    spacing = volume.spacing_mm or (1.0, 1.0, 1.0)
    sides_are_known = not bool((lungs == UNKNOWN_SIDE).any())
    sights = (Sight.FRONT, Sight.RIGHT, Sight.LEFT) if sides_are_known else (Sight.FRONT, Sight.BOTH)
    slices, rows, columns = volume.shape
    views = []
    for sight, lines in zip(sights, lines_of_sight(volume.hu, lungs, labels, lesions, sights), strict=True):
        count, step = (columns, spacing[2]) if sight is Sight.FRONT else (rows, spacing[1])
        height = slices * spacing[0] if volume.is_measurable else 0.8 * count * step
        views.append(LungView(sight, _picture(lines), count * step, height, slices))
    return tuple(views)


def lines_of_sight(
    hu: NDArray[Any],
    lungs: NDArray[np.uint8],
    labels: NDArray[np.uint16],
    lesions: Sequence[Lesion],
    sights: Sequence[Sight],
) -> tuple[LinesOfSight, ...]:
    """Look through a volume, once for all sights.

    Args:
        hu: (slices, rows, columns).
        lungs, labels, lesions: As of :func:`lung_views`.
        sights: From the front a line runs along the rows' axis; from the side along the columns'.
    """
    side_of_lesion = side_labels(lesions)
    wanted = [{Sight.RIGHT: RIGHT, Sight.LEFT: LEFT}.get(sight) for sight in sights]
    axes = [0 if sight is Sight.FRONT else 1 for sight in sights]
    shown = [slice(None) if side is None else _columns(lungs, side) for side in wanted]
    shapes = [(hu.shape[0], hu.shape[2 - axis]) for axis in axes]
    density = [np.empty(shape, dtype=np.float32) for shape in shapes]
    lung_counts, opacified_counts = ([np.zeros(shape, dtype=np.int64) for shape in shapes] for _ in range(2))
    for index, (plane, sides, ids) in enumerate(zip(hu, lungs, labels, strict=True)):
        opacified = ids > 0
        beside = opacified & (sides == 0)
        if beside.any():  # a lesion beside the lung mask counts on the side that the reading gave it
            sides = sides.copy()
            sides[beside] = side_of_lesion[ids[beside]]
        for number, axis in enumerate(axes):
            density[number][index] = plane[:, shown[number]].mean(axis=axis, dtype=np.float32)
        if not sides.any():
            continue
        box = Region.around(sides > 0).slices
        sides, opacified = sides[box], opacified[box]
        for number, (side, axis) in enumerate(zip(wanted, axes, strict=True)):
            lung = sides > 0 if side is None else sides == side
            lung_counts[number][index, box[1 - axis]] = np.count_nonzero(lung, axis=axis)
            opacified_counts[number][index, box[1 - axis]] = np.count_nonzero(lung & opacified, axis=axis)
    return tuple(LinesOfSight(*counts) for counts in zip(density, lung_counts, opacified_counts, strict=True))


def _columns(lungs: NDArray[np.uint8], side: int) -> slice:
    """The columns that one lung lies in; all where it is not there."""
    present = np.flatnonzero(_any(plane == side for plane in lungs))
    return slice(int(present[0]), int(present[-1]) + 1) if len(present) else slice(None)


def _any(planes: Iterable[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    seen: NDArray[np.bool_] = np.logical_or.reduce([plane.any(axis=0) for plane in planes])
    return seen


def _picture(lines: LinesOfSight) -> str:
    grey = VIEW_WINDOW(lines.density_hu)
    share = lines.share
    stops = np.linspace(0.0, 1.0, len(BURDEN_COLOURS))
    colour = np.stack([np.interp(share, stops, channel) for channel in zip(*BURDEN_COLOURS, strict=True)], axis=-1)
    # Half of the grey stays under a colour, so that the anatomy can still be followed.
    opacity = np.where(share >= LEAST_SHARE, np.clip(0.35 + share, 0.0, 0.9), 0.0)[..., None]
    shown = np.rint((1.0 - opacity) * grey[..., None] + opacity * colour).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(shown).save(stream, "WEBP", quality=_WEBP_QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def legend_colours(colours: Sequence[tuple[int, int, int]] = BURDEN_COLOURS) -> list[str]:
    """The colours of the legend, as CSS has them."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours]
