"""How much lung the opacifications take: from masks on the study's grid to volumes, percentages and zones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from jcs_ct.preprocessing import Region
from jcs_ct.reading.densities import CONSOLIDATION, GROUND_GLASS
from jcs_ct.reading.lesions import Lesion, side_labels
from jcs_ct.reading.zones import SIDES, Zone, lung_heights, measure_zones
from jcs_ct.volume import CTVolume

#: HU above which opacity counts as high (consolidation), as PHO is usually cut.
HIGH_OPACITY_CUT_HU = -200.0
#: Lung labels, 0 outside included.
_LABELS = max(SIDES) + 1
HISTOGRAM_EDGES_HU = tuple(float(edge) for edge in range(-1024, 201, 24))


@dataclass(frozen=True)
class Burden:
    """How much lung the opacifications take.

    Args:
        lung_volume_ml, opacification_volume_ml: None when the geometry is not known.
        percent_opacity: PO, opacified voxels as % of lung voxels; None without lung.
        percent_high_opacity: PHO, lesion voxels above ``high_opacity_cut_hu`` as % of lung; None when HU are assumed.
        percent_ground_glass, percent_consolidation: Voxels of each density as % of lung voxels; None where the
            lesions were not split, and without lung. Together they are ``percent_opacity``.
        hu_bin_edges, hu_counts: Histogram of HU inside the lungs.
        zones: Six zones, right upper ... left lower; None where the side of some lung is not known.
    """

    lung_volume_ml: float | None
    opacification_volume_ml: float | None
    percent_opacity: float | None
    percent_high_opacity: float | None
    high_opacity_cut_hu: float
    percent_ground_glass: float | None
    percent_consolidation: float | None
    hu_bin_edges: tuple[float, ...]
    hu_counts: tuple[int, ...]
    zones: tuple[Zone, ...] | None


def measure_burden(
    volume: CTVolume,
    lungs: NDArray[np.uint8],
    labels: NDArray[np.uint16],
    lesions: Sequence[Lesion],
    *,
    densities: NDArray[np.uint8] | None = None,
    high_opacity_cut_hu: float = HIGH_OPACITY_CUT_HU,
) -> Burden:
    """How much lung the opacifications take.

    Lesion voxels just outside the lung mask count as lung too, on the side of their lesion, so that dense disease at
    the wall can never take more than 100 %, and zones and lesions name the same lung.

    Args:
        volume: Grid, geometry and HU.
        lungs: (slices, rows, columns): 0, 1 right lung, 2 left lung, 3 lung of unknown side.
        labels: (slices, rows, columns) of lesion_id, 0 outside.
        lesions: In the order of their ids, as :func:`find_lesions` gives both.
        densities: (slices, rows, columns) from ``split_densities``; None where that is not known.
        high_opacity_cut_hu: Lesion voxels above it are high opacity.

    Raises:
        ValueError: shapes that differ.
    """
    if not lungs.shape == labels.shape == volume.shape:
        raise ValueError(f"lungs {lungs.shape}, labels {labels.shape} and volume {volume.shape} must have one shape")
    counts = _Counts.of(volume, lungs, labels, side_labels(lesions), densities, high_opacity_cut_hu)
    lung_voxels, opacity_voxels = int(counts.lung[:, 1:].sum()), int(counts.opacity.sum())
    by_density: dict[int, float | None] = dict.fromkeys((GROUND_GLASS, CONSOLIDATION))
    if densities is not None and lung_voxels:
        by_density = {kind: 100.0 * int(counts.densities[kind]) / lung_voxels for kind in by_density}
    is_high_known = not volume.hu_is_assumed and lung_voxels > 0
    voxel_ml = volume.voxel_ml
    return Burden(
        lung_volume_ml=None if voxel_ml is None else lung_voxels * voxel_ml,
        opacification_volume_ml=None if voxel_ml is None else opacity_voxels * voxel_ml,
        percent_opacity=100.0 * opacity_voxels / lung_voxels if lung_voxels else None,
        percent_high_opacity=100.0 * counts.high / lung_voxels if is_high_known else None,
        high_opacity_cut_hu=high_opacity_cut_hu,
        percent_ground_glass=by_density[GROUND_GLASS],
        percent_consolidation=by_density[CONSOLIDATION],
        hu_bin_edges=HISTOGRAM_EDGES_HU,
        hu_counts=tuple(counts.hu.tolist()),
        zones=measure_zones(counts.lung, counts.opacity, lung_heights(lungs)),
    )


@dataclass(frozen=True, eq=False)
class _Counts:
    """Voxels of a study, counted slice by slice: another volume, of the lungs with their lesions, is never held.

    Args:
        lung, opacity: (slices, 4): voxels of each lung label, lesions beside the lungs included, and those of them
            that are opacified.
        high: Lesion voxels above the cut.
        densities: (3,): voxels of each density.
        hu: Voxels of lung by HU, in the bins of :data:`HISTOGRAM_EDGES_HU`.
    """

    lung: NDArray[np.int64]
    opacity: NDArray[np.int64]
    high: int
    densities: NDArray[np.int64]
    hu: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        volume: CTVolume,
        lungs: NDArray[np.uint8],
        labels: NDArray[np.uint16],
        side_of_lesion: NDArray[np.uint8],
        densities: NDArray[np.uint8] | None,
        high_opacity_cut_hu: float,
    ) -> Self:
        lung, opacity = (np.zeros((len(lungs), _LABELS), dtype=np.int64) for _ in range(2))
        kinds, hu_counts, high = np.zeros(3, dtype=np.int64), np.zeros(len(HISTOGRAM_EDGES_HU) - 1, dtype=np.int64), 0
        for index, (plane, numbers) in enumerate(zip(lungs, labels, strict=True)):
            lesion_plane = numbers > 0
            seen = (plane > 0) | lesion_plane
            if not seen.any():
                continue
            box = Region.around(seen).slices
            inside, lesion, hu = seen[box], lesion_plane[box], volume.hu[index][box]
            sides = np.where(lesion & (plane[box] == 0), side_of_lesion[numbers[box]], plane[box])
            lung[index] = np.bincount(sides[inside], minlength=_LABELS)
            opacity[index] = np.bincount(sides[lesion], minlength=_LABELS)
            high += int(np.count_nonzero(hu[lesion] > high_opacity_cut_hu))
            if densities is not None:
                kinds += np.bincount(densities[index][box][lesion], minlength=len(kinds))
            within = np.clip(hu[inside], HISTOGRAM_EDGES_HU[0], HISTOGRAM_EDGES_HU[-1])
            hu_counts += np.histogram(within, HISTOGRAM_EDGES_HU)[0]
        return cls(lung, opacity, high, kinds, hu_counts)
