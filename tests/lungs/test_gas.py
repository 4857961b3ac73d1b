"""Gas alone in what was taken for lung: a pneumothorax counts as lung, and it is said."""

from __future__ import annotations

import numpy as np
import pytest

from jcs_ct.lungs import LEFT, lungs_in_view, segment_lungs
from jcs_ct.lungs.gas import largest_gas_ml
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.reading.quality_flags import lung_flags


@pytest.fixture(scope="module")
def chest():
    phantom = make_phantom(PhantomConfig(slices=24, size=160, seed=3, negative=True))
    hu = np.asarray(phantom.volume.hu)
    return hu, segment_lungs(hu, spacing_mm=phantom.volume.spacing_mm), phantom.volume.spacing_mm


def test_a_pneumothorax_is_said_with_its_volume_and_lung_is_not(chest):
    hu, lungs, spacing_mm = chest
    left = lungs == LEFT
    rows = np.flatnonzero(left.any(axis=(0, 2)))
    front = np.zeros_like(left)
    front[:, : rows[0] + (rows[-1] - rows[0]) // 3] = True
    noise = np.random.default_rng(0).normal(-995, 15, hu.shape)
    filled = np.where(left & front, noise, hu).astype(np.int16)
    found = segment_lungs(filled, spacing_mm=spacing_mm)
    in_view = lungs_in_view(found, filled, spacing_mm)
    volume_ml = np.count_nonzero(left & front) * np.prod(spacing_mm) / 1000
    assert 0.5 * volume_ml < in_view.gas_ml <= volume_ml
    flags = {flag.code: flag.message for flag in lung_flags(in_view)}
    assert f"{in_view.gas_ml:.0f} ml that hang together" in flags["GAS_IN_LUNG"]
    healthy = lungs_in_view(lungs, hu, spacing_mm)
    assert healthy.gas_ml < 2
    assert "GAS_IN_LUNG" not in {flag.code for flag in lung_flags(healthy)}


def test_the_largest_region_of_whole_squares_of_3_mm_counts():
    hu = np.full((6, 36, 36), -850, dtype=np.int16)
    labels = np.ones(hu.shape, dtype=np.uint8)
    hu[1:4, 6:18, 6:18] = -1000
    hu[5, 27:33, 27:33] = -1000
    assert largest_gas_ml(labels, hu, (2.0, 1.0, 1.0)) == pytest.approx(3 * 12 * 12 * 2 / 1000)
    labels[:, :, :12] = 0
    assert largest_gas_ml(labels, hu, (2.0, 1.0, 1.0)) == pytest.approx(3 * 12 * 6 * 2 / 1000)
    assert largest_gas_ml(np.zeros_like(labels), hu, (2.0, 1.0, 1.0)) == 0
    assert largest_gas_ml(labels, np.full_like(hu, -850), (2.0, 1.0, 1.0)) == 0


def test_gas_is_not_told_from_lung_without_lengths_or_in_grey_levels(chest):
    hu, lungs, spacing_mm = chest
    assert lungs_in_view(lungs, hu, None).gas_ml is None
    assert lungs_in_view(lungs, hu, spacing_mm, hu_is_assumed=True).gas_ml is None
