"""How noisy a series is, told from its soft tissue; truth is noise of a known deviation."""

from __future__ import annotations

import numpy as np
import pytest

from jcs_ct.imaging.gate_finding import Severity
from jcs_ct.imaging.gate_noise import check_noise, noise_hu


def body(sigma, *, size=256, slices=12):
    """An ellipse of tissue with two lungs, and white noise."""
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    plane = np.where((columns / 0.9) ** 2 + (rows / 0.7) ** 2 < 1, 45.0, -1000.0)
    for side in (-1, 1):
        plane[((columns - side * 0.4) / 0.25) ** 2 + (rows / 0.4) ** 2 < 1] = -850.0
    return plane + np.random.default_rng(3).normal(0, sigma, (slices, size, size))


@pytest.mark.parametrize("sigma", [10.0, 30.0, 50.0])
def test_white_noise_is_measured(sigma):
    assert noise_hu(body(sigma)) == pytest.approx(sigma, rel=0.1)


def test_noise_is_measured_at_the_pixels_that_networks_see():
    # Four pixels averaged have half the noise.
    assert noise_hu(body(60.0, size=512)) == pytest.approx(30.0, rel=0.1)


def test_noise_is_measured_at_such_pixels_where_the_stored_ones_are_not_square():
    # 128 rows stay as they are, and two of 512 columns are averaged.
    assert noise_hu(body(60.0, size=512)[:, ::4]) == pytest.approx(60.0 / np.sqrt(2.0), rel=0.1)


def test_much_noise_is_flagged_and_little_is_not():
    assert check_noise(body(25.0)) == []
    (finding,) = check_noise(body(60.0))
    assert (finding.code, finding.severity) == ("NOISY", Severity.NOTE)
    assert "noise of about 60 HU" in finding.message


def test_where_no_soft_tissue_is_seen_nothing_is_said():
    assert noise_hu(np.full((8, 64, 64), -850.0)) is None
    assert check_noise(np.full((8, 64, 64), -850.0)) == []
