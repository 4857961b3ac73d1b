"""Which end of a chest is up, by the windpipe: a tube of air near the midline, over the lungs' upper half."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.lungs.coarse_chest import CoarseChest
from jcs_ct.lungs.constants import TISSUE_HU, Mask
from jcs_ct.volume import slices_with

#: Of a windpipe's lumen on one slice, in mm2.
LUMEN_MM2 = (80.0, 600.0)
#: Some of it is as dark as this, however small it is beside the grid.
DARK_HU = -850.0
#: It is nearly round: this share of the rectangle around it, whose sides differ no more than so.
LEAST_ROUND, MOST_LONG = 0.55, 2.2
#: It lies this close to the midline, and moves no more than this over 5 mm along the body.
OFF_MIDLINE_MM, MOVES_MM = 35.0, 7.0
#: A windpipe is seen over this length of the body, as long as lung lies beside it over the lesser length: gas in the
#: bowel does not. On the chests at hand it is seen over 77 to 120 mm.
LEAST_LENGTH_MM, LEAST_BESIDE_LUNG_MM = 60.0, 40.0
#: Over this height there is lung above it and no windpipe: in the upper part of a chest alone it may begin late.
LEAST_ABOVE_MM = 50.0
#: In the other half nothing like it is longer than this share of it.
MOST_ELSEWHERE = 0.5


def windpipe_is_below(chest: CoarseChest, lungs: Mask, slice_mm: float) -> bool:
    """Whether the windpipe runs beside the lower half of the lungs and nothing like it beside the upper: then the
    slices are stored from the feet up and the axes say the contrary.

    Args:
        chest: The first slice is said to be the uppermost.
        lungs: (slices, rows, columns) on its grid.
        slice_mm: Distance between slices.
    """
    with_lung, column = slices_with(lungs), chest.midline.column
    if not len(with_lung) or column is None:
        return False
    middle = (int(with_lung[0]) + int(with_lung[-1])) / 2
    reach = round(OFF_MIDLINE_MM / chest.pixel_mm)
    first, last = max(0, round(column) - 2 * reach), round(column) + 2 * reach + 1
    near = np.s_[:, :, first:last]
    tubes = _tubes(chest.hu[near], chest.bodies[near], column - first, reach, chest.pixel_mm, slice_mm)
    above = max((run.stop - run.start for run in tubes if (run.start + run.stop - 1) / 2 < middle), default=0)
    below = [run for run in tubes if (run.start + run.stop - 1) / 2 >= middle]
    longest = max(below, key=lambda run: run.stop - run.start, default=slice(0, 0))
    length = longest.stop - longest.start
    if above > MOST_ELSEWHERE * length:
        return False
    beside = int(np.count_nonzero((with_lung >= longest.start) & (with_lung < longest.stop)))
    before = int(np.count_nonzero(with_lung < longest.start))
    enough = ((length, LEAST_LENGTH_MM), (beside, LEAST_BESIDE_LUNG_MM), (before, LEAST_ABOVE_MM))
    return all(slices * slice_mm >= least for slices, least in enough)


def _tubes(
    coarse: NDArray[np.float32], bodies: Mask, column: float, reach: int, pixel_mm: float, slice_mm: float
) -> list[slice]:
    """Runs of slices through which a lumen goes on, each slice's next to that of the slice before."""
    moves = MOVES_MM * max(1.0, slice_mm / 5.0) / pixel_mm
    runs: list[slice] = []
    open_ends: list[tuple[int, NDArray[np.float64]]] = []
    for index, (plane, body) in enumerate(zip(coarse, bodies, strict=True)):
        goes_on = []
        for place in _lumina(plane, body, column, reach, pixel_mm):
            starts = [start for start, end in open_ends if np.abs(end - place).max() <= moves]
            goes_on.append((min(starts, default=index), place))
        still = {start for start, _ in goes_on}
        runs += [slice(start, index) for start in {start for start, _ in open_ends} - still]
        open_ends = goes_on
    return [*runs, *(slice(start, len(coarse)) for start in {start for start, _ in open_ends})]


def _lumina(
    plane: NDArray[np.float32], body: Mask, column: float, reach: int, pixel_mm: float
) -> list[NDArray[np.float64]]:
    """(row, column) of the middle of every lumen on a slice."""
    labels, _ = ndimage.label(body & (plane < TISSUE_HU))
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        region = labels[box] == number
        pixels = int(np.count_nonzero(region))
        height, width = region.shape
        round_enough = pixels >= LEAST_ROUND * region.size and max(height, width) <= MOST_LONG * min(height, width)
        if not (LUMEN_MM2[0] <= pixels * pixel_mm**2 <= LUMEN_MM2[1] and round_enough):
            continue
        rows, columns = np.nonzero(region)
        place = np.array([box[0].start + rows.mean(), box[1].start + columns.mean()])
        if abs(place[1] - column) <= reach and plane[box][region].min() < DARK_HU:
            found.append(place)
    return found
