import io

import numpy as np
import pytest
import torch
from PIL import Image

from jcs_ct.data.augmentation.augment import LARGEST_ELASTIC, Augmentation
from jcs_ct.data.augmentation.changing import change_slices, displacements
from jcs_ct.data.augmentation.jpeg import compressed
from jcs_ct.data.augmentation.mixup import mixup


def applied(drawn, grey, mask):
    greys, masks = change_slices(grey[None], mask[None], [drawn])
    return greys[0], masks[0]


def slice_and_mask():
    grey = torch.zeros(1, 32, 32)
    grey[:, 4:12, 6:20] = 0.8
    return grey, (grey > 0).float()


def test_no_range_changes_nothing():
    grey, mask = slice_and_mask()
    drawn = Augmentation(flip_left_right=0.0).draw(np.random.default_rng(0))
    new_grey, new_mask = applied(drawn, grey, mask)
    assert torch.allclose(new_grey, grey, atol=1e-5)
    assert torch.equal(new_mask, mask)


def test_a_flip_mirrors_slice_and_mask_alike():
    grey, mask = slice_and_mask()
    drawn = Augmentation(flip_left_right=1.0).draw(np.random.default_rng(0))
    new_grey, new_mask = applied(drawn, grey, mask)
    assert torch.allclose(new_grey, grey.flip(-1), atol=1e-5)
    assert torch.equal(new_mask, mask.flip(-1))


def test_zooming_in_enlarges_the_lesion():
    grey, mask = slice_and_mask()
    drawn = Augmentation(flip_left_right=0.0, crop_scale=(0.7, 0.7)).draw(np.random.default_rng(0))
    assert applied(drawn, grey, mask)[1].sum() > mask.sum() * 1.2


def test_the_same_draw_is_the_same_change():
    grey, mask = slice_and_mask()
    strong = Augmentation(
        crop_scale=(0.7, 1.3), rotate_degrees=20, shift=0.1, window_jitter=0.2, gamma=0.4, noise=0.1, blur=2.0
    )
    first, second = (strong.draw(np.random.default_rng(5)) for _ in range(2))
    assert first == second
    changed, again = applied(first, grey, mask)[0], applied(second, grey, mask)[0]
    assert torch.equal(changed, again)
    assert not torch.allclose(changed, grey, atol=0.05)
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_an_elastic_deformation_moves_slice_and_mask_alike_and_never_folds():
    y, x = np.mgrid[0:64, 0:64]
    disc = ((x - 30) ** 2 + (y - 34) ** 2 < 15**2).astype(np.float32)
    grey, mask = torch.from_numpy(0.9 * disc)[None], torch.from_numpy(disc)[None]
    elastic = Augmentation(flip_left_right=0.0, elastic=LARGEST_ELASTIC)
    moved = 0
    for seed in range(20):
        drawn = elastic.draw(np.random.default_rng(seed))
        new_grey, new_mask = applied(drawn, grey, mask)
        assert torch.equal(new_mask, (new_grey >= 0.45).float())
        moved += int(not torch.equal(new_mask, mask))
        across, down = displacements([drawn], (64, 64), grey.device)[0].numpy().transpose(2, 0, 1) * 32
        assert np.abs(across).max() <= LARGEST_ELASTIC * 64
        # Jacobian determinant of the map from a pixel to where it is sampled.
        (x_down, x_across), (y_down, y_across) = np.gradient(across), np.gradient(down)
        assert ((1 + x_across) * (1 + y_down) - x_down * y_across).min() > 0
    assert moved > 15


def test_marks_are_burned_in_after_everything_else_and_the_mask_does_not_follow():
    grey, mask = slice_and_mask()
    drawn = Augmentation(flip_left_right=0.0, marks=1.0).draw(np.random.default_rng(0))
    new_grey, new_mask = applied(drawn, grey, mask)
    assert torch.equal(new_mask, mask)
    changed = (new_grey - grey).abs() > 0.01
    assert 0 < changed.float().mean() < 0.6
    assert torch.equal(applied(drawn, grey, mask)[0], new_grey)


def test_new_changes_leave_the_draws_of_older_recipes_where_they_were():
    plain, strong = np.random.default_rng(3), np.random.default_rng(3)
    first = Augmentation(noise=0.1, blur=1.0).draw(plain)
    second = Augmentation(noise=0.1, blur=1.0, elastic=0.05, marks=0.5, fade=1.0).draw(strong)
    assert plain.bit_generator.state == strong.bit_generator.state
    assert (first.noise, first.noise_seed, first.blur) == (second.noise, second.noise_seed, second.blur)
    # Of the version that had neither.
    assert (first.noise_seed, first.elastic, first.is_marked) == (902188168, 0.0, False)


@pytest.mark.parametrize("share", [-0.01, 0.07])
def test_a_deformation_that_could_fold_is_refused(share):
    with pytest.raises(ValueError, match=r"elastic must be at least 0 and at most 0\.06"):
        Augmentation(elastic=share)


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


def test_slices_of_a_batch_are_changed_as_each_alone():
    source = np.random.default_rng(0)
    strong = Augmentation(
        crop_scale=(0.7, 1.3), rotate_degrees=20, shift=0.1, window_jitter=0.2, gamma=0.4, noise=0.1, blur=2.0,
        elastic=0.05, marks=0.5, sharpen=1.0, resolution=0.4, jpeg=0.5, fade=0.5,
    )  # fmt: skip
    grey = torch.from_numpy(source.random((12, 1, 40, 36), dtype=np.float32))
    masks = (grey > 0.7).float()
    drawn = [strong.draw(source) for _ in range(len(grey))]
    for kind in ("blur", "sharpen", "is_marked", "jpeg_quality", "is_faded"):
        assert len({bool(getattr(one, kind)) for one in drawn}) == 2, kind
    before = grey.clone()
    together, their_masks = change_slices(grey, masks, drawn)
    assert torch.equal(grey, before)
    for place, one in enumerate(drawn):
        alone, its_mask = applied(one, grey[place], masks[place])
        # A rounding below may put one coefficient of JPEG on its other side: a few pixels by a few levels.
        assert (together[place] - alone).abs().mean() < 1e-3
        assert torch.equal(their_masks[place], its_mask)


@pytest.mark.parametrize("quality", [30, 60, 95])
@pytest.mark.parametrize("shape", [(64, 64), (51, 38)])
def test_compression_takes_what_a_codec_takes(quality, shape):
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    noise = np.random.default_rng(1).normal(0, 0.05, shape)
    grey = np.clip(0.5 + 0.4 * np.sin(x / 5.0) * np.cos(y / 7.0) + noise, 0, 1).astype(np.float32)
    stored = io.BytesIO()
    Image.fromarray(np.round(grey * 255).astype(np.uint8)).save(stored, "JPEG", quality=quality)
    codec = np.asarray(Image.open(stored), dtype=np.float32)
    ours = compressed(torch.from_numpy(grey)[None, None], [quality])[0, 0].numpy() * 255
    difference = np.abs(ours - codec)[: shape[0] // 8 * 8, : shape[1] // 8 * 8]
    assert difference.mean() < 0.6
    assert np.abs(codec - grey * 255).mean() > 3 * difference.mean()
