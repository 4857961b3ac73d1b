"""Faded lesions are fainter, keep their outline and their grain, and stay visible."""

import numpy as np
import pytest
import torch

from jcs_ct.data.augmentation.augment import Augmentation
from jcs_ct.data.augmentation.changing import change_slices
from jcs_ct.data.augmentation.fading import SEEN_GREY, fade_lesions

LUNG = 0.32
LESION = (slice(100, 150), slice(110, 160))
INSIDE = (slice(108, 142), slice(118, 152))


def lung_with_lesion(excess, *, noise=0.01):
    """(1, 1, 256, 256) lung with one square lesion, and its mask; grain everywhere."""
    grey = torch.full((256, 256), LUNG)
    grey[LESION] += excess
    grain = torch.from_numpy(np.random.default_rng(0).normal(0, noise, grey.shape).astype(np.float32))
    mask = torch.zeros(256, 256)
    mask[LESION] = 1
    return (grey + grain)[None, None], mask[None, None], grain


def excess_of(grey):
    return float(grey[0, 0][INSIDE].mean()) - LUNG


@pytest.mark.parametrize("kept", [0.3, 0.6])
def test_a_lesion_keeps_the_share_of_its_excess_that_is_asked_for(kept):
    grey, mask, _ = lung_with_lesion(0.3)
    faded = fade_lesions(grey, mask, torch.full_like(grey, kept))
    assert excess_of(faded) == pytest.approx(kept * 0.3, abs=0.01)
    far = mask.clone()
    far[..., 90:160, 100:170] = 1
    assert torch.equal(faded[far == 0], grey[far == 0])


def test_grain_and_vessels_inside_a_lesion_stay():
    grey, mask, grain = lung_with_lesion(0.3, noise=0.02)
    grey[0, 0, 120:122, 112:158] += 0.3  # a vessel, two pixels wide
    faded = fade_lesions(grey, mask, torch.full_like(grey, 0.3))[0, 0]
    below = (slice(128, 142), slice(118, 152))
    assert float(faded[below].std()) == pytest.approx(float(grain[below].std()), rel=0.2)
    assert float(faded[120:122, 118:152].mean() - faded[below].mean()) > 0.15


def test_what_is_hardly_seen_is_not_faded_away():
    grey, mask, _ = lung_with_lesion(1.25 * SEEN_GREY)
    faded = fade_lesions(grey, mask, torch.full_like(grey, 0.1))
    assert excess_of(faded) == pytest.approx(SEEN_GREY, abs=0.004)
    faint, mask, _ = lung_with_lesion(0.5 * SEEN_GREY)
    assert torch.equal(fade_lesions(faint, mask, torch.full_like(faint, 0.1)), faint)


def test_a_share_of_1_and_a_slice_without_lesion_change_nothing():
    grey, mask, _ = lung_with_lesion(0.3)
    assert torch.equal(fade_lesions(grey, mask, torch.ones_like(grey)), grey)
    assert torch.equal(fade_lesions(grey, torch.zeros_like(mask), torch.full_like(grey, 0.2)), grey)


def test_a_drawn_fading_leaves_mask_and_input_and_follows_the_seed():
    grey, mask, _ = lung_with_lesion(0.4)
    before = grey.clone()
    draws = [Augmentation(flip_left_right=0.0, fade=1.0).draw(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    (once, its_mask), (again, _), (other, _) = (change_slices(grey, mask, [one]) for one in draws)
    assert torch.equal(grey, before)
    assert torch.equal(its_mask, mask)
    assert 0.2 * 0.4 - 0.01 < excess_of(once) < 0.4
    assert torch.equal(once, again)
    assert abs(excess_of(once) - excess_of(other)) > 0.01
