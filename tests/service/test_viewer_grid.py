"""The viewer's grid: every voxel keeps its place in the patient, and what is painted comes back to it."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from jcs_ct.service.viewer_grid import ViewerGrid, halved_in_plane
from jcs_ct.volume import CTVolume

AXIAL = np.array([[0, 0, 2.0, -30], [0, 3.0, 0, -50], [-5.0, 0, 0, 40], [0, 0, 0, 1]])
PRONE = np.array([[0, 0, -2.0, 30], [0, -3.0, 0, 50], [-5.0, 0, 0, 40], [0, 0, 0, 1]])
CORONAL = np.array([[0, 0, 2.0, -30], [3.0, 0, 0, -50], [0, -5.0, 0, 40], [0, 0, 0, 1]])
OBLIQUE = np.array([[0.1, 0.2, 1.95, -30], [0.3, 2.9, -0.2, -50], [-4.9, 0.3, 0.1, 40], [0, 0, 0, 1]])


@pytest.fixture
def shown():
    mask = np.zeros((7, 40, 44), dtype=bool)
    mask[1:6, 14:25, 12:31] = True
    return mask


def volume_with(affine):
    values = np.random.default_rng(0).integers(-1000, 500, (7, 40, 44)).astype(np.int16)
    return CTVolume(values, affine)


def ras(affine, index):
    return (np.diag([-1.0, -1, 1, 1]) @ affine @ [*index, 1.0])[:3]


@pytest.mark.parametrize("affine", [AXIAL, PRONE, CORONAL, OBLIQUE], ids=["axial", "prone", "coronal", "oblique"])
def test_each_voxel_keeps_its_value_and_its_place(affine, shown):
    volume = volume_with(affine)
    grid = ViewerGrid.around(volume, shown)
    seen = grid.to_viewer(volume.hu, labels=False)
    assert seen.shape == grid.shape
    assert nibabel.aff2axcodes(np.array(grid.affine)) == ("R", "A", "S")
    to_study = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ affine) @ np.array(grid.affine)
    for place in [(0, 0, 0), (3, 1, 2), tuple(size - 1 for size in grid.shape)]:
        index = (to_study @ [*place, 1.0])[:3]
        np.testing.assert_allclose(index, np.rint(index), atol=1e-9)
        assert seen[place] == volume.hu[tuple(np.rint(index).astype(int))]


def test_the_chest_is_cut_out_with_a_margin(shown):
    grid = ViewerGrid.around(volume_with(AXIAL), shown)
    assert (grid.first, grid.stop) == ((0, 11, 7), (7, 28, 36)), "10 mm are 3 rows and 5 columns here"
    empty = ViewerGrid.around(volume_with(AXIAL), np.zeros_like(shown))
    assert (empty.first, empty.stop) == ((0, 0, 0), (7, 40, 44))


@pytest.mark.parametrize("affine", [AXIAL, PRONE, CORONAL, OBLIQUE, None])
@pytest.mark.parametrize("most_voxels", [10**9, 10], ids=["whole", "halved"])
def test_painting_changes_what_was_painted_and_nothing_else(affine, most_voxels, shown):
    volume = volume_with(affine)
    grid = ViewerGrid.around(volume, shown, most_voxels=most_voxels)
    assert grid.step == (1 if most_voxels > 10 else 2)
    before = np.random.default_rng(1).random(volume.shape) > 0.8
    bitmap = grid.to_viewer(before, labels=True).copy()
    np.testing.assert_array_equal(grid.paint(bitmap, before), before)
    place = tuple(size // 2 for size in grid.shape)
    bitmap[place] = not bitmap[place]
    after = grid.paint(bitmap, before)
    expected = np.zeros(grid.shape, dtype=bool)
    expected[place] = True
    (changed,) = np.argwhere(grid.to_viewer(after != before, labels=True))
    assert tuple(changed) == place
    if grid.step == 1:
        assert np.count_nonzero(after != before) == 1
    with pytest.raises(ValueError, match="not of this grid"):
        grid.paint(bitmap[1:], before)


@pytest.mark.parametrize("affine", [AXIAL, PRONE, CORONAL, OBLIQUE])
@pytest.mark.parametrize("most_voxels", [10**9, 10], ids=["whole", "halved"])
def test_a_place_is_where_its_voxel_is_shown(affine, most_voxels, shown):
    volume = volume_with(affine)
    grid = ViewerGrid.around(volume, shown, most_voxels=most_voxels)
    for index in [(1, 14, 12), (5, 24, 30), (3, 17, 21)]:
        mask = np.zeros(volume.shape, dtype=bool)
        mask[index] = True
        (seen,) = np.argwhere(grid.to_viewer(mask, labels=True))
        assert grid.place_of(index) == tuple(seen)
    assert grid.place_of((-9, -9, -9)) != grid.place_of((99, 99, 99))


def test_halves_have_their_centres_between_pixels(shown):
    whole = ViewerGrid.around(volume_with(AXIAL), shown)
    half = ViewerGrid.around(volume_with(AXIAL), shown, most_voxels=10)
    far = (np.array(whole.affine) @ [*(np.array(whole.shape) - 1), 1])[:3]
    corner = (np.array(half.affine) @ [half.shape[0] - 1, half.shape[1] - 1, half.shape[2] - 1, 1])[:3]
    np.testing.assert_allclose(far - corner, [1.0, 1.5, 0.0])


def test_it_survives_json_and_says_when_nothing_can_be_measured(shown):
    for affine in (AXIAL, None):
        grid = ViewerGrid.around(volume_with(affine), shown)
        assert ViewerGrid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid
        assert grid.is_measurable is (affine is not None)
        assert grid.flipped == (True, True, True)


def test_a_halved_map_lies_where_the_whole_one_does():
    """Each block's place in mm is the middle of its voxels'; odd edges repeat their last voxel."""
    affine = np.array([[-0.7, 0, 0, 100.0], [0, 0.8, 0, -50.0], [0, 0, 2.0, 7.0], [0, 0, 0, 1.0]])
    array = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    halved, its_affine = halved_in_plane(array, affine)
    assert halved.shape == (3, 2, 3)
    for block in np.ndindex(2, 2, 3):
        x, y, z = block
        voxels = [(2 * x + i, 2 * y + j, z) for i in (0, 1) for j in (0, 1)]
        assert halved[block] == max(array[voxel] for voxel in voxels)
        middle = np.mean([affine @ (*voxel, 1.0) for voxel in voxels], axis=0)
        np.testing.assert_allclose(its_affine @ (*block, 1.0), middle)
    np.testing.assert_array_equal(halved[2], array[4].reshape(2, 2, 3).max(axis=1))
