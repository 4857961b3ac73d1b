"""The lung mask on drawn chests with known lungs, and on real ones."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.lungs import LEFT, RIGHT, lung_slices, require_lung, segment_lungs
from jcs_ct.lungs.body import largest_parts
from jcs_ct.metrics.overlap import Counts, dice_score
from jcs_ct.phantom import PhantomConfig, make_phantom

SIZE = 256
SPACING = (3.0, 1.4, 1.4)
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE].astype(float)


def ellipse(row: float, column: float, half_height: float, half_width: float) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = ((ROWS - row) / half_height) ** 2 + ((COLUMNS - column) / half_width) ** 2 <= 1
    return inside


def chest(slices: int = 9) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """HU and lung labels of a chest of equal slices: body, table, spine, trachea, two lungs, noise."""
    hu = np.full((SIZE, SIZE), -1000.0)
    hu[ellipse(125, 128, 90, 115)] = 40.0
    hu[232:236, 20:236] = 300.0
    hu[ellipse(185, 128, 16, 16)] = 400.0
    lungs = np.zeros((SIZE, SIZE), dtype=np.uint8)
    lungs[ellipse(125, 72, 62, 38)] = RIGHT
    lungs[ellipse(125, 186, 60, 36)] = LEFT
    hu[lungs > 0] = -860.0
    hu[ellipse(110, 128, 7, 7)] = -990.0
    noise = np.random.default_rng(1).normal(0, 20, (slices, SIZE, SIZE))
    return (hu + noise).astype(np.float32), np.repeat(lungs[None], slices, axis=0)


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(dice_score(Counts.of(found, truth)).values)


def test_finds_both_lungs_without_table_trachea_and_background() -> None:
    hu, truth = chest()
    found = segment_lungs(hu, spacing_mm=SPACING)
    assert found.dtype == np.uint8
    for side in (RIGHT, LEFT):
        assert dice(found == side, truth == side) > 0.97
    assert not found[:, ellipse(110, 128, 6, 6)].any()
    assert not found[:, 232:].any()


def test_emphysema_that_the_field_cuts_is_lung_and_the_air_beside_the_patient_is_not() -> None:
    hu, truth = chest(3)
    generator = np.random.default_rng(4)
    lung = truth > 0
    hu[lung] = -968 + generator.normal(0, 8, np.count_nonzero(lung))
    hu[lung & (generator.random(hu.shape) < 0.1)] = -500
    field = np.s_[:, 45:205, 60:]
    found = segment_lungs(np.ascontiguousarray(hu[field]), spacing_mm=SPACING)
    assert dice(found > 0, lung[field]) > 0.95


def test_a_single_slice_and_other_sizes() -> None:
    hu, truth = chest(1)
    assert dice(segment_lungs(hu, spacing_mm=None) > 0, truth > 0) > 0.97
    large = np.repeat(np.repeat(hu, 2, axis=1), 2, axis=2)[:, :511, :509]
    found = segment_lungs(large, spacing_mm=(3.0, 0.7, 0.7))
    assert found.shape == large.shape
    expected = np.repeat(np.repeat(truth, 2, axis=1), 2, axis=2)[:, :511, :509]
    assert dice(found > 0, expected > 0) > 0.97


def test_lungs_that_touch_are_told_apart() -> None:
    hu, truth = chest(3)
    bridge = np.zeros((SIZE, SIZE), dtype=bool)
    bridge[95:101, 100:160] = True
    hu[:, bridge] = -840.0
    hu[:, bridge & (np.abs(COLUMNS - 128) < 2)] = -500.0
    found = segment_lungs(hu, spacing_mm=SPACING)
    assert dice(found == RIGHT, truth == RIGHT) > 0.95
    assert dice(found == LEFT, truth == LEFT) > 0.95


def test_an_airway_with_a_thin_wall_is_not_lung() -> None:
    hu, truth = chest()
    beside = ellipse(125, 115, 8, 8)
    hu[:, beside] = -995.0
    found = segment_lungs(hu, spacing_mm=SPACING)
    assert not found[:, ellipse(125, 117, 5, 5)].any()
    assert dice(found > 0, truth > 0) > 0.95


@pytest.mark.parametrize("spacing", [SPACING, None])
def test_dense_disease_at_the_wall_is_lung_but_the_heart_is_not(spacing: tuple[float, float, float] | None) -> None:
    hu, truth = chest()
    disease = ellipse(125, 34, 16, 12) & (truth[0] == RIGHT)
    heart = ellipse(140, 150, 40, 40)
    truth = np.where(heart, 0, truth).astype(np.uint8)
    hu[:, disease | heart] = 35.0
    found = segment_lungs(hu, spacing_mm=spacing)
    assert found[:, disease].mean() > 0.85
    assert found[:, ndimage.binary_erosion(heart, iterations=4)].mean() < 0.05
    assert dice(found > 0, truth > 0) > 0.96


def test_a_nodule_is_lung_and_the_dome_of_the_liver_is_not() -> None:
    hu, _ = chest(1)
    nodule, dome = ellipse(90, 72, 6, 6), ellipse(140, 72, 24, 24)
    hu[:, nodule | dome] = 50.0
    found = segment_lungs(hu, spacing_mm=SPACING)
    assert found[0][nodule].all()
    assert found[0][ndimage.binary_erosion(dome, iterations=4)].mean() < 0.05


def test_a_large_ragged_consolidation_is_lung() -> None:
    hu, truth = chest(1)
    ragged = ellipse(140, 72, 30, 7) | ellipse(140, 72, 7, 22) | ellipse(120, 80, 6, 14)
    hu[:, ragged] = 50.0
    found = segment_lungs(hu, spacing_mm=SPACING)
    assert dice(found > 0, truth > 0) > 0.97


def test_a_gas_bubble_that_touches_lung_from_below_is_not_lung() -> None:
    hu, _ = chest()
    hu[6:, ellipse(125, 186, 60, 36)] = 40.0
    bubble = ellipse(120, 186, 20, 20)
    hu[6:, bubble] = -1000.0
    found = segment_lungs(hu, spacing_mm=SPACING)
    assert not found[6:, bubble].any()
    assert (found[:6, bubble] == LEFT).all()


def test_a_phantom_with_lesions() -> None:
    phantom = make_phantom(PhantomConfig(slices=24, lesions=4, seed=3, size=256))
    found = segment_lungs(phantom.volume.hu, spacing_mm=phantom.volume.spacing_mm)
    truth = np.asarray(phantom.lungs.labels)
    for side in (RIGHT, LEFT):
        assert dice(found == side, truth == side) > 0.96
    lesions = np.asarray(phantom.lesions.labels) > 0
    assert (found[lesions] > 0).mean() > 0.9


def test_gas_in_the_stomach_is_not_lung() -> None:
    hu, truth = chest()
    stomach = ellipse(120, 186, 20, 20)
    hu[6:, truth[0] > 0] = 40.0
    hu[6:, stomach] = -1000.0
    hu[5] = 40.0
    found = segment_lungs(hu, spacing_mm=SPACING)
    assert not found[7:].any()
    assert (found[:4] > 0).any()


def test_which_slices_show_lung() -> None:
    labels = np.zeros((3, 100, 100), dtype=np.uint8)
    labels[1, :30, :30] = RIGHT
    labels[2, :40, :40] = LEFT
    assert lung_slices(labels, (1.0, 1.0, 1.0)).tolist() == [False, False, True]
    assert lung_slices(labels, (1.0, 2.0, 1.0)).tolist() == [False, True, True]
    assert lung_slices(labels, None, least_area_mm2=100.0).tolist() == [False, True, True]


@pytest.mark.parametrize("hu", [-1000.0, 40.0])
def test_a_study_without_lung_is_refused(hu: float) -> None:
    found = segment_lungs(np.full((4, 64, 64), hu, dtype=np.float32), spacing_mm=SPACING)
    assert not found.any()
    with pytest.raises(StudyError, match=r"none of 4 slice\(s\) shows lung") as caught:
        require_lung(found, np.full((4, 64, 64), hu, dtype=np.float32), SPACING)
    assert caught.value.code is GateCode.NO_LUNG


def test_large_parts_are_told_from_gas_with_few_bytes_a_voxel() -> None:
    hu, lungs = chest(slices=24)
    air = lungs > 0
    air[2:4, :8, :8] = True  # too small
    air[:, 200:230, 20:60], hu[:, 200:230, 20:60] = True, -1000.0  # gas throughout
    tracemalloc.start()
    try:
        kept = largest_parts(air, hu)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(kept > 0, lungs > 0)
    assert peak < 11 * air.size  # labels are 4, kept is 1; the rest is of the air, a quarter of all


def test_wrong_dimensions_are_an_error() -> None:
    with pytest.raises(ValueError, match="3-D"):
        segment_lungs(np.zeros((8, 8), dtype=np.float32), spacing_mm=None)


def test_real_slices_with_lung_masks(shared_data: Path) -> None:
    """Every eighth of 267 slices; the few wrong masks of the data set bound the mean, not the median."""
    images = sorted((shared_data / "lungs267" / "images").glob("*.png"))[::8]
    scores = []
    for path in images:
        hu = np.asarray(Image.open(path), dtype=np.float32) * np.float32(1500 / 255) - np.float32(1100)
        truth = np.asarray(Image.open(path.parents[1] / "lung_masks" / path.name)) > 0
        scores.append(dice(segment_lungs(hu[None], spacing_mm=None)[0] > 0, truth))
    assert np.median(scores) > 0.98
    assert np.mean(np.array(scores) > 0.93) > 0.95
