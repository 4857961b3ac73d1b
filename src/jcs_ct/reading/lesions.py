"""Lesions: 3-D components of a lesion mask, each with the numbers a radiologist can check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.lungs import ASSUMED_PIXEL_MM, LEFT, RIGHT, UNKNOWN_SIDE
from jcs_ct.reading.zones import SIDES, Side, lung_heights, third_of
from jcs_ct.volume import CTVolume, bounding_box

Box = tuple[slice, ...]
#: Lesions smaller than this are dropped as noise: 0.03 ml is a ball of 4 mm.
LEAST_LESION_ML = 0.03
#: The same where volumes are not known, in voxels.
LEAST_LESION_VOXELS = 30
#: Beside the only lung that was found, a lesion further than this across its inner edge may be of the other lung.
BEYOND_LONE_LUNG_MM = 10.0


@dataclass(frozen=True)
class SliceLesion:
    """One lesion on one slice: the fields of Fig. 6, by the paper's names, in pixels of that slice.

    ``position_x`` is the centroid's column and ``position_y`` its row; (x0, y0) the box's upper left corner.
    """

    slice_index: int
    lesion_id: int
    area_pixel: int
    position_x: float
    position_y: float
    x0: int
    y0: int
    width: int
    height: int


@dataclass(frozen=True)
class Lesion:
    """One 3-D connected component (26-neighbourhood) of the lesion mask.

    Args:
        lesion_id: 1 is the largest; also its value in ``lesions.nii.gz``.
        voxel_count: Number of voxels.
        volume_ml: None when the geometry is not known (as every mm figure).
        slice_first, slice_last: Slice range, both included.
        centroid_index: (slice, row, column).
        centroid_lps_mm: LPS position of the centroid.
        side: Patient's ``left`` or ``right``, by the lung that holds most of it or, beside both, is nearer;
            ``unknown`` where nothing tells the side of that lung, and across the inner edge of the only lung found.
        third: ``upper``, ``middle`` or ``lower`` third of that lung's height.
        mean_hu: None when HU were assumed from grey levels.
        extent_mm: Bounding box in mm along (slices, rows, columns).
        slices: Per-slice fields.
    """

    lesion_id: int
    voxel_count: int
    volume_ml: float | None
    slice_first: int
    slice_last: int
    centroid_index: tuple[float, float, float]
    centroid_lps_mm: tuple[float, float, float] | None
    side: Side
    third: str
    mean_hu: float | None
    extent_mm: tuple[float, float, float] | None
    slices: tuple[SliceLesion, ...]


def find_lesions(
    mask: NDArray[np.bool_],
    volume: CTVolume,
    lungs: NDArray[np.uint8],
    *,
    least_volume_ml: float = LEAST_LESION_ML,
    least_voxels: int = LEAST_LESION_VOXELS,
) -> tuple[NDArray[np.uint16], tuple[Lesion, ...]]:
    """Split a lesion mask into 3-D lesions (26-neighbourhood), largest first.

    Args:
        mask: (slices, rows, columns) bool.
        volume: Grid, geometry and HU.
        lungs: (slices, rows, columns): 0, 1 right lung, 2 left lung, 3 lung of unknown side.
        least_volume_ml: Smaller components are dropped, where volumes are known.
        least_voxels: Smaller components are dropped, where volumes are not known.

    Returns:
        (slices, rows, columns) uint16 of lesion_id, and the lesions in that order.

    Raises:
        ValueError: shapes that differ, or more than 65 535 lesions.
    """
    if not mask.shape == lungs.shape == volume.shape:
        raise ValueError(f"mask {mask.shape}, lungs {lungs.shape} and volume {volume.shape} must have one shape")
    labels, count = _numbered(mask, volume.voxel_ml, least_volume_ml, least_voxels)
    if not count:
        return labels, ()
    box = bounding_box(mask)
    places = _LungPlaces(lungs, volume.spacing_mm[1:] if volume.spacing_mm else (ASSUMED_PIXEL_MM, ASSUMED_PIXEL_MM))
    parts = ndimage.find_objects(labels[box], max_label=count)
    lesions = tuple(
        _describe(number, _moved(part, box), labels, volume, places) for number, part in enumerate(parts, start=1)
    )
    return labels, lesions


def side_labels(lesions: Sequence[Lesion]) -> NDArray[np.uint8]:
    """(lesions + 1,) label of the lung that each lesion is reported in, by lesion_id; 0 for none.

    A lesion's voxels beside the lung mask belong to that lung wherever voxels are counted by side.
    """
    labels = {name: label for label, name in SIDES.items()}
    return np.array([0, *(labels[lesion.side] for lesion in lesions)], dtype=np.uint8)


def without_specks(
    mask: NDArray[np.bool_],
    voxel_ml: float | None,
    *,
    least_volume_ml: float = LEAST_LESION_ML,
    least_voxels: int = LEAST_LESION_VOXELS,
) -> NDArray[np.bool_]:
    """A lesion mask without the components that :func:`find_lesions` drops.

    Args:
        mask: (slices, rows, columns) bool.
        voxel_ml: Volume of a voxel; None where it is not known.
        least_volume_ml, least_voxels: As of :func:`find_lesions`.

    Raises:
        ValueError: more than 65 535 lesions.
    """
    return _numbered(mask, voxel_ml, least_volume_ml, least_voxels)[0] > 0


def _numbered(
    mask: NDArray[np.bool_], voxel_ml: float | None, least_volume_ml: float, least_voxels: int
) -> tuple[NDArray[np.uint16], int]:
    """Every component that is no speck numbered from 1, largest first, on the mask's grid; and how many there are."""
    labels = np.zeros(mask.shape, dtype=np.uint16)
    if not mask.any():
        return labels, 0
    box = bounding_box(mask)  # what lies outside is not looked at again
    inside = mask[box]
    components, count = _components(inside, labels[box])
    # Plane by plane, of the lesions only: counting and renumbering want 8 bytes a voxel.
    sizes = np.zeros(count + 1, dtype=np.int64)
    for plane, lesion in zip(components, inside, strict=True):
        sizes += np.bincount(plane[lesion], minlength=count + 1)
    least = least_voxels if voxel_ml is None else max(1, int(np.ceil(least_volume_ml / voxel_ml)))
    kept = [number for number in range(1, count + 1) if sizes[number] >= least]
    kept.sort(key=lambda number: (-int(sizes[number]), number))
    if len(kept) > np.iinfo(np.uint16).max:
        raise ValueError(f"{len(kept)} lesions are more than a label volume can hold (65 535)")
    renumber = np.zeros(count + 1, dtype=np.uint16)
    renumber[kept] = np.arange(1, len(kept) + 1, dtype=np.uint16)
    for plane, lesion, out in zip(components, inside, labels[box], strict=True):
        out[lesion] = renumber[plane[lesion]]
    return labels, len(kept)


def _components(inside: NDArray[np.bool_], few: NDArray[np.uint16]) -> tuple[NDArray[np.integer[Any]], int]:
    """Parts that touch at least at a corner, numbered from 1, and how many; in ``few`` if 16 bits number them."""
    corners = np.ones((3, 3, 3), dtype=bool)
    try:
        return few, int(ndimage.label(inside, structure=corners, output=few))
    except RuntimeError:  # "insufficient bit-depth": more parts than 16 bits can number, most of them specks
        labels, count = ndimage.label(inside, structure=corners)
        return labels, int(count)


def _moved(part: Box, box: Box) -> Box:
    """A part of a box, counted from the corner of what the box is of."""
    return tuple(slice(p.start + b.start, p.stop + b.start) for p, b in zip(part, box, strict=True))


def _describe(
    number: int,
    box: Box,
    labels: NDArray[np.uint16],
    volume: CTVolume,
    places: _LungPlaces,
) -> Lesion:
    inside = labels[box] == number
    voxels = int(np.count_nonzero(inside))
    centroid = _centroid(inside, box)
    spacing, heights = volume.spacing_mm, places.heights
    side = places.side(_lung_voxels(inside, places.lungs[box]), centroid)
    return Lesion(
        lesion_id=number,
        voxel_count=voxels,
        volume_ml=None if volume.voxel_ml is None else voxels * volume.voxel_ml,
        slice_first=box[0].start,
        slice_last=box[0].stop - 1,
        centroid_index=centroid,
        centroid_lps_mm=volume.to_lps_mm(centroid),
        side=SIDES[side],
        third=third_of(centroid[0], heights.get(side) if side != UNKNOWN_SIDE else _whole_height(heights)),
        mean_hu=None if volume.hu_is_assumed else float(volume.hu[box][inside].mean(dtype=np.float64)),
        extent_mm=None
        if spacing is None
        else (
            inside.shape[0] * spacing[0],
            inside.shape[1] * spacing[1],
            inside.shape[2] * spacing[2],
        ),
        slices=tuple(_slice_lesions(number, inside, box)),
    )


def _whole_height(heights: Mapping[int, tuple[int, int]]) -> tuple[int, int] | None:
    """First and last slice of all lung: of a part whose side is not known the height says nothing."""
    if not heights:
        return None
    return min(first for first, _ in heights.values()), max(last for _, last in heights.values())


def _centroid(inside: NDArray[np.bool_], box: Box) -> tuple[float, float, float]:
    """Mean (slice, row, column) of a lesion's voxels, from how many lie at each place along an axis: a list of their
    places would want 48 bytes a voxel.
    """
    means = []
    for axis, part in enumerate(box):
        counts = np.count_nonzero(inside, axis=tuple(other for other in range(3) if other != axis))
        means.append(part.start + int(counts @ np.arange(len(counts))) / int(counts.sum()))
    slice_index, row, column = means
    return slice_index, row, column


def _lung_voxels(inside: NDArray[np.bool_], lungs: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(labels,) how many of a lesion's voxels lie in each lung, and outside; counted plane by plane."""
    counts = np.zeros(max(SIDES) + 1, dtype=np.int64)
    for plane, lung in zip(inside, lungs, strict=True):
        counts += np.bincount(lung[plane], minlength=len(counts))
    return counts


def _slice_lesions(number: int, inside: NDArray[np.bool_], box: Box) -> list[SliceLesion]:
    """Fig. 6's fields of one lesion, slice by slice."""
    records = []
    for offset, plane in enumerate(inside):
        rows, columns = np.nonzero(plane)
        if not len(rows):
            continue
        rows, columns = rows + box[1].start, columns + box[2].start
        records.append(
            SliceLesion(
                slice_index=box[0].start + offset,
                lesion_id=number,
                area_pixel=len(rows),
                position_x=float(columns.mean()),
                position_y=float(rows.mean()),
                x0=int(columns.min()),
                y0=int(rows.min()),
                width=int(np.ptp(columns)) + 1,
                height=int(np.ptp(rows)) + 1,
            )
        )
    return records


@dataclass(frozen=True, eq=False)
class _LungPlaces:
    """Where the lungs lie, for lesions inside and beside them.

    Args:
        lungs: (slices, rows, columns): 0, 1 right lung, 2 left lung, 3 lung of unknown side; columns run to the left.
        pixel_mm: Sides of a pixel, along (rows, columns).
    """

    lungs: NDArray[np.uint8]
    pixel_mm: tuple[float, float]

    @cached_property
    def heights(self) -> Mapping[int, tuple[int, int]]:
        """First and last slice of each lung that was found."""
        return lung_heights(self.lungs)

    @cached_property
    def outlines(self) -> Mapping[int, NDArray[np.bool_]]:
        """(rows, columns) where each lung lies on any slice."""
        return {label: reduce(np.logical_or, (plane == label for plane in self.lungs)) for label in self.heights}

    def side(self, counts: NDArray[np.int64], centroid: tuple[float, float, float]) -> int:
        """The lung that holds most of a lesion; beside both, the nearer one.

        A lung that is not seen on the lesion's slice lies where it does on others: consolidated, it may be missing
        there. Of two that hold as much it is the right one. Without any lung the side is not known, nor is it where
        only one lung was found and most of the lesion lies beyond.

        Args:
            counts: (labels,) voxels of the lesion in each lung; outside comes first.
            centroid: (slice, row, column).
        """
        inside = counts[1:]
        if 2 * int(inside.sum()) < int(counts.sum()) and self._is_beyond_lone_lung(centroid[2]):
            return UNKNOWN_SIDE
        if inside.any():
            return 1 + int(inside.argmax())
        plane = self.lungs[round(centroid[0])]
        shown = [label for label in self.heights if (plane == label).any()]
        if len(shown) == len(self.heights):
            return self._nearest({label: plane == label for label in shown}, centroid)
        return self._nearest(self.outlines, centroid)

    def _nearest(self, outlines: Mapping[int, NDArray[np.bool_]], centroid: tuple[float, float, float]) -> int:
        def distance(label: int) -> float:
            rows, columns = np.nonzero(outlines[label])
            down, across = (rows - centroid[1]) * self.pixel_mm[0], (columns - centroid[2]) * self.pixel_mm[1]
            return float(np.min(down**2 + across**2))

        return min(outlines, key=distance, default=UNKNOWN_SIDE)

    def _is_beyond_lone_lung(self, column: float) -> bool:
        if len(self.heights) != 1:
            return False
        ((lone, outline),) = self.outlines.items()
        columns = np.flatnonzero(outline.any(axis=0))
        beyond = {RIGHT: column - columns[-1], LEFT: columns[0] - column, UNKNOWN_SIDE: 0.0}[lone]
        return bool(beyond * self.pixel_mm[1] > BEYOND_LONE_LUNG_MM)
