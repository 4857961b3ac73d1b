"""All that a lesion mask says: lesions, densities and burden on one grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jcs_ct.lungs import ASSUMED_PIXEL_MM
from jcs_ct.reading.burden import Burden, measure_burden
from jcs_ct.reading.densities import split_densities
from jcs_ct.reading.lesions import LEAST_LESION_ML, LEAST_LESION_VOXELS, Lesion, find_lesions
from jcs_ct.volume import CTVolume


@dataclass(frozen=True, eq=False)
class LesionFindings:
    """What a lesion mask says.

    Args:
        labels: (slices, rows, columns) uint16: lesion_id, 0 background.
        lesions: In the order of their ids, largest first.
        densities: (slices, rows, columns) uint8: 0 no lesion, 1 ground glass, 2 consolidation; None where lung and
            soft tissue could not be measured.
        burden: How much lung the lesions take; None where no lesion was sought.
    """

    labels: NDArray[np.uint16]
    lesions: tuple[Lesion, ...]
    densities: NDArray[np.uint8] | None
    burden: Burden | None

    @classmethod
    def not_sought(cls, shape: tuple[int, int, int]) -> LesionFindings:
        """Of a study whose lesions were not segmented."""
        return cls(np.zeros(shape, dtype=np.uint16), (), None, None)


def measure_findings(
    mask: NDArray[np.bool_],
    volume: CTVolume,
    lungs: NDArray[np.uint8],
    *,
    least_volume_ml: float = LEAST_LESION_ML,
    least_voxels: int = LEAST_LESION_VOXELS,
    found: Callable[[NDArray[np.uint16], tuple[Lesion, ...]], None] | None = None,
) -> LesionFindings:
    """Lesions, densities and burden of a lesion mask.

    Args:
        mask: (slices, rows, columns) bool.
        volume, lungs, least_volume_ml, least_voxels: As of :func:`find_lesions`.
        found: Called with labels and lesions as soon as they stand, before densities and burden are measured.

    Raises:
        ValueError: shapes that differ, or more than 65 535 lesions.
    """
    labels, lesions = find_lesions(mask, volume, lungs, least_volume_ml=least_volume_ml, least_voxels=least_voxels)
    if found is not None:
        found(labels, lesions)
    densities = split_densities(volume.hu, lungs, labels, pixel_mm_of(volume))
    return LesionFindings(
        labels, lesions, densities, measure_burden(volume, lungs, labels, lesions, densities=densities)
    )


def pixel_mm_of(volume: CTVolume) -> tuple[float, float]:
    """Sides of a pixel in mm, along (rows, columns); assumed ones where the geometry is not known."""
    if volume.spacing_mm is None:
        return ASSUMED_PIXEL_MM, ASSUMED_PIXEL_MM
    _, row_mm, column_mm = volume.spacing_mm
    return row_mm, column_mm
