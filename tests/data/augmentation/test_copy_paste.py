from pathlib import Path

import numpy as np
import pytest
import torch

from jcs_ct.data.augmentation.copy_paste import LesionPasting, Paste, paste_lesions
from jcs_ct.data.manifest import Manifest, ManifestRow

STRAIGHT = Paste(0, False, (0.0, 0.0))


def thorax(lung: float = 0.2, lesion: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, 96, 96) slice with two lungs, and with a lesion of this grey in the left one its mask."""
    y, x = np.mgrid[0:96, 0:96]
    grey = np.zeros((96, 96), dtype=np.float32)
    grey[((x - 48) / 44) ** 2 + ((y - 48) / 38) ** 2 < 1] = 0.8
    for centre in (30, 66):
        grey[((x - centre) / 13) ** 2 + ((y - 48) / 24) ** 2 < 1] = lung
    mask = np.zeros((96, 96), dtype=np.float32)
    if lesion is not None:
        mask[((x - 29) ** 2 + (y - 50) ** 2 < 49)] = 1
        grey[mask > 0] = lesion
    return torch.from_numpy(grey)[None], torch.from_numpy(mask)[None]


def test_the_mask_follows_and_nothing_else_changes():
    grey, mask = thorax()
    donor_grey, donor_mask = thorax(lesion=0.5)
    new_grey, new_mask = paste_lesions(grey, mask, donor_grey, donor_mask, STRAIGHT)
    assert torch.equal(new_mask, donor_mask)
    assert new_grey[0, 50, 29] == pytest.approx(0.5, abs=0.01)
    far = torch.nn.functional.max_pool2d(new_mask, 11, 1, 5) == 0
    assert torch.equal(new_grey[far], grey[far])
    assert grey[0, 50, 29] == pytest.approx(0.2)


def test_a_lesion_is_as_much_denser_than_its_lung_under_another_window():
    donor_grey, donor_mask = thorax(lung=0.1, lesion=0.35)
    new_grey, _ = paste_lesions(*thorax(lung=0.3), donor_grey, donor_mask, STRAIGHT)
    assert new_grey[0, 50, 29] == pytest.approx(0.55, abs=0.01)


def test_a_mirrored_lesion_lies_in_the_other_lung():
    donor_grey, donor_mask = thorax(lesion=0.5)
    _, mask = paste_lesions(*thorax(), donor_grey, donor_mask, Paste(0, True, (0.0, 0.0)))
    assert torch.equal(mask, donor_mask.flip(-1))


def test_lesions_stay_inside_lungs():
    donor_grey, donor_mask = thorax(lesion=0.5)
    grey, _ = thorax()
    _, mask = paste_lesions(grey, torch.zeros_like(grey), donor_grey, donor_mask, Paste(0, False, (0.0, -0.08)))
    assert 0 < mask.sum() < donor_mask.sum()
    assert grey[mask > 0].max() < 0.3


def test_what_cannot_be_seen_is_not_in_the_mask():
    grey, mask = thorax(lung=0.3)
    donor_grey, donor_mask = thorax(lung=0.2, lesion=0.22)
    new_grey, new_mask = paste_lesions(grey, mask, donor_grey, donor_mask, STRAIGHT)
    assert torch.equal(new_grey, grey)
    assert not new_mask.any()


def test_where_there_is_no_lung_nothing_is_pasted():
    solid = torch.full((1, 96, 96), 0.8)
    donor_grey, donor_mask = thorax(lesion=0.5)
    grey, mask = paste_lesions(solid, torch.zeros_like(solid), donor_grey, donor_mask, STRAIGHT)
    assert torch.equal(grey, solid)
    assert not mask.any()


def test_donors_are_infected_slices_with_a_mask_and_draws_are_counted():
    here = Path("x.png")
    rows = (ManifestRow(here, "a", 0), ManifestRow(here, "b", 1, here), ManifestRow(here, "c", 1))
    pasting = LesionPasting.among(Manifest(rows), 0.5)
    assert pasting.donors == (1,)
    generator, other = np.random.default_rng(0), np.random.default_rng(0)
    drawn = [pasting.draw(generator) for _ in range(100)]
    assert 30 < sum(paste is not None for paste in drawn) < 70
    other.random(500)
    assert generator.bit_generator.state == other.bit_generator.state
    with pytest.raises(ValueError, match="needs a training slice with a lesion mask"):
        LesionPasting.among(Manifest(rows[:1]), 0.5)
