import numpy as np
import pytest
import torch

from jcs_ct.data.augment import Augmentation
from jcs_ct.data.mixup import mixup


def slice_and_mask():
    grey = torch.zeros(1, 32, 32)
    grey[:, 4:12, 6:20] = 0.8
    return grey, (grey > 0).float()


def test_no_range_changes_nothing():
    grey, mask = slice_and_mask()
    drawn = Augmentation(flip_left_right=0.0).draw(np.random.default_rng(0))
    new_grey, new_mask = drawn.apply(grey, mask)
    assert torch.allclose(new_grey, grey, atol=1e-5)
    assert torch.equal(new_mask, mask)


def test_a_flip_mirrors_slice_and_mask_alike():
    grey, mask = slice_and_mask()
    drawn = Augmentation(flip_left_right=1.0).draw(np.random.default_rng(0))
    new_grey, new_mask = drawn.apply(grey, mask)
    assert torch.allclose(new_grey, grey.flip(-1), atol=1e-5)
    assert torch.equal(new_mask, mask.flip(-1))


def test_zooming_in_enlarges_the_lesion():
    grey, mask = slice_and_mask()
    drawn = Augmentation(flip_left_right=0.0, crop_scale=(0.7, 0.7)).draw(np.random.default_rng(0))
    assert drawn.apply(grey, mask)[1].sum() > mask.sum() * 1.2


def test_the_same_draw_is_the_same_change():
    grey, mask = slice_and_mask()
    strong = Augmentation(
        crop_scale=(0.7, 1.3), rotate_degrees=20, shift=0.1, window_jitter=0.2, gamma=0.4, noise=0.1, blur=2.0
    )
    first, second = (strong.draw(np.random.default_rng(5)) for _ in range(2))
    assert first == second
    changed, again = first.apply(grey, mask)[0], second.apply(grey, mask)[0]
    assert torch.equal(changed, again)
    assert not torch.allclose(changed, grey, atol=0.05)
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_backwards_crop_scale_is_refused():
    with pytest.raises(ValueError, match="0 < low <= high"):
        Augmentation(crop_scale=(1.2, 0.8))


def test_mixup_follows_equation_3():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    labels = torch.eye(2)[[0, 1, 0, 1]]
    mixed, mixed_labels, lam, partner = mixup(images, labels, alpha=0.5, generator=np.random.default_rng(3))
    expected = lam * torch.arange(4.0) + (1 - lam) * partner.float()
    assert torch.allclose(mixed[:, 0, 0, 0], expected)
    assert torch.allclose(mixed_labels, lam * labels + (1 - lam) * labels[partner])
    assert torch.allclose(mixed_labels.sum(dim=1), torch.ones(4))


def test_mixup_draws_lambda_from_beta():
    generator = np.random.default_rng(0)
    drawn = [mixup(torch.zeros(2, 1, 1, 1), torch.eye(2), alpha=0.5, generator=generator)[2] for _ in range(2000)]
    # Beta(0.5, 0.5): mean 1/2, variance 1/8.
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.03)
    assert np.var(drawn) == pytest.approx(0.125, abs=0.01)


def test_mixup_without_alpha_is_refused():
    with pytest.raises(ValueError, match="alpha > 0"):
        mixup(torch.zeros(2, 1, 1, 1), torch.eye(2), alpha=0.0, generator=np.random.default_rng(0))
