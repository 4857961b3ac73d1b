"""The quick forms give what SciPy and scikit-image give, on masks of every kind and at the picture's border."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import convex_hull_image

from jcs_ct.lungs import morphology
from jcs_ct.lungs.coarse_chest import block_mean
from jcs_ct.lungs.convex_hull import convex_hull
from jcs_ct.lungs.lung_presence import _means

SHAPES = [(1, 9), (7, 1), (23, 31), (40, 36)]


def masks():
    """Specks, blocks at the border, and masks with holes."""
    generator = np.random.default_rng(0)
    for shape in SHAPES:
        for share in (0.02, 0.3, 0.6, 0.9):
            yield generator.random(shape) < share
        blocks = np.zeros(shape, dtype=bool)
        for row, column in generator.integers(0, min(shape), (3, 2)):
            blocks[row : row + 9, column : column + 6] = True
        yield blocks
        yield np.zeros(shape, dtype=bool)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_steps_in_city_blocks_are_scipys(steps):
    for mask in masks():
        assert np.array_equal(morphology.dilated(mask, steps), ndimage.binary_dilation(mask, iterations=steps))
        assert np.array_equal(morphology.eroded(mask, steps), ndimage.binary_erosion(mask, iterations=steps))
        assert np.array_equal(morphology.opened(mask, steps), ndimage.binary_opening(mask, iterations=steps))
        assert np.array_equal(morphology.closed(mask, steps), ndimage.binary_closing(mask, iterations=steps))


@pytest.mark.parametrize("radius", [1, 2, 3, 5])
def test_closing_by_a_disc_is_that_of_its_distances(radius):
    for mask in masks():
        framed = np.pad(mask, radius + 1)
        grown = ndimage.distance_transform_edt(~framed) <= radius
        expected = (ndimage.distance_transform_edt(grown) > radius)[
            radius + 1 : -radius - 1, radius + 1 : -radius - 1
        ]
        assert np.array_equal(morphology.closed_by_disc(mask, radius), expected)


def test_rectangles_are_scipys():
    for mask in masks():
        for rows, columns in ((2, 2), (1, 3), (4, 1)):
            expected = ndimage.maximum_filter(mask, (2 * rows + 1, 2 * columns + 1), mode="constant")
            assert np.array_equal(morphology.dilated_by_rectangle(mask, (rows, columns)), expected)


def test_holes_hulls_and_neighbours_are_the_libraries():
    generator = np.random.default_rng(1)
    for mask in masks():
        assert np.array_equal(morphology.without_holes(mask), ndimage.binary_fill_holes(mask))
        if mask.any():
            assert np.array_equal(convex_hull(mask), convex_hull_image(mask))
        labels = generator.integers(0, 4, mask.shape).astype(np.uint8)
        least, largest = morphology.neighbourhood(labels)
        assert np.array_equal(least, ndimage.minimum_filter(labels, 3))
        assert np.array_equal(largest, ndimage.maximum_filter(labels, 3))


def test_the_hull_of_nothing_is_nothing():
    assert not convex_hull(np.zeros((4, 5), dtype=bool)).any()


@pytest.mark.parametrize("depth", [1, 3])
def test_slices_are_closed_as_by_running_extremes(depth):
    volume = np.random.default_rng(2).random((12, 5, 6)) < 0.2
    grown = ndimage.maximum_filter1d(volume.view(np.uint8), 2 * depth + 1, axis=0, mode="constant")
    expected = ndimage.minimum_filter1d(grown, 2 * depth + 1, axis=0, mode="constant").astype(bool)
    assert np.array_equal(morphology.closed_along_slices(volume, depth), expected)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_means_on_coarser_grids_are_the_general_ones(step):
    hu = np.random.default_rng(3).integers(-1024, 3000, (2, 20, 25)).astype(np.int16)
    filtered = ndimage.uniform_filter(hu[0].astype(np.float32), step)[::step, ::step]
    np.testing.assert_allclose(_means(_means(hu[0], step).T, step).T, filtered, rtol=1e-6)
    np.testing.assert_allclose(block_mean(hu, step), block_mean(hu.astype(np.float32), step), rtol=1e-6)
