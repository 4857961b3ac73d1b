"""Ground glass and consolidation of lesions whose density is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from jcs_ct.reading.densities import (
    CONSOLIDATION,
    GROUND_GLASS,
    SMOOTHING_MM,
    TissueLevels,
    smoothed_density,
    split_densities,
    tissue_levels,
)

SHAPE = (3, 60, 80)
LUNG_HU, TISSUE_HU = -850.0, 50.0
GROUND_GLASS_HU, CONSOLIDATION_HU = -550.0, 20.0


def chest() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HU, lungs and lesions: two lungs in soft tissue, a lesion of each density, one on slice 1 only."""
    hu = np.full(SHAPE, TISSUE_HU, dtype=np.float32)
    lungs = np.zeros(SHAPE, dtype=np.uint8)
    lungs[:, 10:50, 8:36], lungs[:, 10:50, 44:72] = 1, 2
    hu[lungs > 0] = LUNG_HU
    lesions = np.zeros(SHAPE, dtype=bool)
    lesions[:, 14:30, 10:30] = True
    hu[:, 14:30, 10:30] = GROUND_GLASS_HU
    lesions[1, 30:48, 46:66] = True
    hu[1, 30:48, 46:66] = CONSOLIDATION_HU
    return hu, lungs, lesions


def test_levels_are_those_of_lung_and_of_the_tissue_beside_it() -> None:
    hu, lungs, lesions = chest()
    levels = tissue_levels(hu, lungs, lesions)
    assert levels == TissueLevels(LUNG_HU, TISSUE_HU)
    assert levels.at(0.5) == pytest.approx((LUNG_HU + TISSUE_HU) / 2)


def test_levels_are_the_medians_of_the_pixels_to_a_whole_hu() -> None:
    hu, lungs, lesions = chest()
    hu = np.rint(hu + np.random.default_rng(0).normal(0.0, 60.0, SHAPE)).astype(np.int16)
    hu[0, 0, 0] = 32767  # too far out for a count of its own in a careless table
    levels = tissue_levels(hu, lungs, lesions)
    around = np.zeros(SHAPE, dtype=bool)
    around[:, 10:50, 8:72] = True
    dense = hu > -500
    assert levels is not None
    assert levels.lung == np.median(hu[(lungs > 0) & ~lesions & ~dense])
    assert levels.soft_tissue == np.median(hu[around & (lungs == 0) & ~lesions & dense])


def test_each_lesion_gets_its_density() -> None:
    hu, lungs, lesions = chest()
    labels = split_densities(hu, lungs, lesions, pixel_mm=(0.7, 0.7))
    assert labels is not None
    assert ((labels > 0) == lesions).all()
    assert (labels[:, 18:26, 14:26] == GROUND_GLASS).all()
    assert (labels[1, 34:44, 50:62] == CONSOLIDATION).all()


def test_densities_are_smoothed_over_the_same_length_along_rows_and_columns() -> None:
    hu = np.random.default_rng(0).normal(0.0, 100.0, (60, 80)).astype(np.float32)
    everywhere = np.ones(hu.shape, dtype=bool)
    expected = ndimage.gaussian_filter(hu, (SMOOTHING_MM / 2.8, SMOOTHING_MM / 0.7))
    assert smoothed_density(hu, everywhere, (2.8, 0.7)) == pytest.approx(expected.ravel())


def test_a_noisy_pixel_is_no_consolidation() -> None:
    hu, lungs, lesions = chest()
    hu[0, 20, 20] = 300.0
    labels = split_densities(hu, lungs, lesions, pixel_mm=(0.7, 0.7))
    assert labels is not None
    assert labels[0, 20, 20] == GROUND_GLASS


def test_another_window_changes_nothing() -> None:
    hu, lungs, lesions = chest()
    labels = split_densities(hu, lungs, lesions, pixel_mm=(0.7, 0.7))
    narrowed = split_densities(hu * 0.9 - 40.0, lungs, lesions, pixel_mm=(0.7, 0.7))
    assert (labels == narrowed).all()


def test_no_lesion_is_no_density() -> None:
    hu, lungs, lesions = chest()
    labels = split_densities(hu, lungs, np.zeros_like(lesions), pixel_mm=(0.7, 0.7))
    assert labels is not None
    assert not labels.any()


def test_where_no_lung_is_seen_nothing_is_said() -> None:
    hu, lungs, lesions = chest()
    assert split_densities(hu, np.zeros_like(lungs), lesions, pixel_mm=(0.7, 0.7)) is None
    with pytest.raises(ValueError, match="one shape"):
        split_densities(hu[:1], lungs, lesions, pixel_mm=(0.7, 0.7))
    with pytest.raises(ValueError, match="less dense"):
        TissueLevels(0.0, -10.0)
