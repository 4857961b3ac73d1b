import math

import pytest
import torch

from jcs_ct.training.paper_losses import activation_map_loss, deep_supervision_loss, dice_loss, soft_cross_entropy


def test_soft_cross_entropy_of_a_mixture_is_the_mixture_of_cross_entropies():
    logits = torch.tensor([[0.3, -1.2]])
    both = [float(soft_cross_entropy(logits, torch.eye(2)[[label]])) for label in (0, 1)]
    mixed = float(soft_cross_entropy(logits, torch.tensor([[0.7, 0.3]])))
    assert mixed == pytest.approx(0.7 * both[0] + 0.3 * both[1])


def test_smoothing_keeps_a_perfect_answer_from_being_free():
    target = torch.tensor([[0.0, 1.0]])
    assert soft_cross_entropy(torch.tensor([[0.0, 40.0]]), target, smoothing=0.1) == pytest.approx(2.0)


def test_a_perfect_match_has_no_dice_loss():
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, 0, 2:5] = 1
    assert float(dice_loss(mask, mask)) == pytest.approx(0.0)
    assert float(dice_loss(torch.zeros_like(mask), torch.zeros_like(mask))) == pytest.approx(0.0)


def test_deep_supervision_sums_over_the_side_outputs():
    mask = torch.zeros(1, 1, 8, 8)
    # Logits of 0 everywhere: BCE is ln 2; soft Dice of an empty mask with eps 1 is 1 / (32 + 1).
    expected = math.log(2) + 1 - 1 / 33
    sides = [torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)]
    assert float(deep_supervision_loss(sides, mask)) == pytest.approx(2 * expected, rel=1e-5)


def test_side_outputs_of_any_size_are_brought_to_the_mask():
    mask = torch.ones(1, 1, 8, 8)
    assert float(deep_supervision_loss([torch.full((1, 1, 2, 2), 30.0)], mask)) == pytest.approx(0.0, abs=1e-4)


def test_map_loss_skips_slices_without_a_mask():
    maps = torch.tensor([1.0, 0.25]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    masks = torch.zeros(2, 1, 4, 4)
    assert float(activation_map_loss(maps, masks, torch.tensor([False, True]))) == pytest.approx(0.0625)
    assert float(activation_map_loss(maps, masks, torch.tensor([False, False]))) == 0.0
