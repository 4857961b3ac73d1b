"""Lesion outlines: true to the lesion, short, and the same as the usual simplification."""

from __future__ import annotations

import re

import numpy as np
import pytest
from skimage import measure

from jcs_ct.reporting.outlines import lesion_outlines, simplified
from jcs_ct.reporting.slice_images import Display
from jcs_ct.volume import CTVolume


def _area(path):
    total = 0.0
    for ring in re.findall(r"M([^Z]+)Z", path):
        x, y = np.array([[float(value) for value in point.split(",")] for point in ring.split("L")]).T
        total += 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    return total


def test_outlines_enclose_the_lesions():
    labels = np.zeros((60, 80), dtype=np.uint16)
    rows, columns = np.mgrid[:60, :80]
    labels[(rows - 30) ** 2 + (columns - 40) ** 2 < 15**2] = 7
    labels[0:6, 0:9] = 2
    display = Display.of(CTVolume(np.zeros((1, 60, 80), dtype=np.int16), None))
    outlines = dict(lesion_outlines(labels, display))
    assert outlines.keys() == {2, 7}
    for number, path in outlines.items():
        assert _area(path) == pytest.approx((labels == number).sum(), rel=0.04)
    numbers = np.array([float(value) for value in re.findall(r"[\d.]+", outlines[2])]).reshape(-1, 2)
    np.testing.assert_allclose(numbers.max(axis=0), [9.0, 6.0])
    np.testing.assert_allclose(numbers.min(axis=0), [0.0, 0.0])


def test_lesions_that_touch_have_an_outline_each_and_holes_are_drawn():
    labels = np.zeros((20, 20), dtype=np.uint16)
    labels[2:18, 2:10] = 1
    labels[2:18, 10:18] = 2
    labels[6:14, 4:8] = 0
    outlines = dict(lesion_outlines(labels, Display.of(CTVolume(np.zeros((1, 20, 20), np.int16), None))))
    assert outlines[1].count("M") == 2
    assert outlines[2].count("M") == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_simplified_line_is_scikit_images_own(seed):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 400))
    radius = 20 + 3 * np.sin(5 * angle) + rng.normal(0, 0.4, 400)
    line = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    closed = np.concatenate([line, line[:1]])
    found = simplified([line, closed, line[::-1]], 0.5)
    for one, path in zip(found, (line, closed, line[::-1]), strict=True):
        np.testing.assert_array_equal(one, measure.approximate_polygon(path, 0.5))


@pytest.mark.parametrize("path", [[(0, 0), (3, 4)], [(1, 1), (1, 1)], [(0, 0), (1, 0), (2, 0)]])
def test_a_line_without_corners_keeps_its_ends(path):
    points = np.array(path, dtype=np.float64)
    for found in simplified([points, points + 7], 0.35), simplified([points], 0.35):
        np.testing.assert_array_equal(found[0], points[[0, -1]])
