"""What the ribs enclose beside the lungs: much lung without air is said, since no volume holds it."""

from __future__ import annotations

import numpy as np
import pytest

from jcs_ct.lungs import lungs_in_view, segment_lungs
from jcs_ct.lungs.ribcage import ribcage
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.reading.quality_flags import lung_flags


@pytest.fixture(scope="module")
def chest():
    phantom = make_phantom(PhantomConfig(slices=24, size=160, seed=3, negative=True))
    hu = np.asarray(phantom.volume.hu)
    return hu, segment_lungs(hu, spacing_mm=phantom.volume.spacing_mm), phantom.volume.spacing_mm


def consolidated_behind(hu, lungs, share):
    """The back ``share`` of both lungs' depth, on every slice, as dense as soft tissue."""
    filled = hu.copy()
    for plane, lung in zip(filled, lungs > 0, strict=True):
        rows = np.flatnonzero(lung.any(axis=1))
        if len(rows):
            first = rows[-1] - round(share * (rows[-1] - rows[0]))
            plane[first:][lung[first:]] = 35
    return filled


def codes(hu, spacing_mm):
    found = segment_lungs(hu, spacing_mm=spacing_mm)
    return {flag.code: flag.message for flag in lung_flags(lungs_in_view(found, hu, spacing_mm))}


@pytest.mark.parametrize("share", [0.4, 0.6])
@pytest.mark.parametrize("largest", [3000, 150])
def test_both_lungs_consolidated_behind_are_said_to_hold_little_air(chest, share, largest):
    hu, lungs, spacing_mm = chest
    flags = codes(np.minimum(consolidated_behind(hu, lungs, share), largest), spacing_mm)
    assert "much lung without air" in flags["LITTLE_AIR"]
    assert "of lung with air alone" in flags["LITTLE_AIR"]


def test_healthy_lungs_and_parts_of_them_are_not(chest):
    hu, lungs, spacing_mm = chest
    assert "LITTLE_AIR" not in codes(hu, spacing_mm)
    shown = np.flatnonzero(lungs.any(axis=(1, 2)))
    middle = int(shown[len(shown) // 2])
    assert "LITTLE_AIR" not in codes(hu[: middle + 1], spacing_mm)
    assert "LITTLE_AIR" not in codes(hu[middle:], spacing_mm)


def test_without_lungs_without_ribs_and_without_lengths_nothing_is_compared(chest):
    hu, lungs, spacing_mm = chest
    assert ribcage(np.zeros_like(lungs), hu, spacing_mm) is None
    assert ribcage(lungs, np.minimum(hu, 100), spacing_mm) is None
    assert lungs_in_view(lungs, hu, None).ribcage is None
    assert lungs_in_view(lungs, hu, spacing_mm, hu_is_assumed=True).ribcage is None


def test_shares_are_of_the_hull_and_of_its_depth():
    hu = np.full((10, 64, 64), -1000, dtype=np.int16)
    hu[:, 4:60, 2:62] = 40
    hu[:, 6:58, 4:60] = 300
    hu[:, 8:56, 6:58] = 40
    labels = np.zeros(hu.shape, dtype=np.uint8)
    labels[:, 12:32, 10:54] = 1
    hu[labels > 0] = -850
    found = ribcage(labels, hu, (10.0, 5.0, 5.0))
    assert found is not None
    assert found.lung == pytest.approx(20 * 44 / (52 * 56), abs=0.01)
    assert found.behind == pytest.approx((57 - 31) / 51, abs=0.01)
    assert found.holds_little_air
