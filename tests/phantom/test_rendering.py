from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from jcs_ct.errors import ConfigError
from jcs_ct.phantom import Phantom, PhantomConfig, make_phantom
from jcs_ct.phantom.opacifications import LesionKind, draw_lesions
from jcs_ct.phantom.patient import Patient


def test_same_settings_give_the_same_voxels(positive: Phantom) -> None:
    again = make_phantom(positive.config)
    assert np.array_equal(again.volume.hu, positive.volume.hu)
    assert np.array_equal(again.lesions.labels, positive.lesions.labels)
    assert np.array_equal(again.lungs.labels, positive.lungs.labels)


def test_another_seed_gives_another_patient(positive: Phantom) -> None:
    other = make_phantom(PhantomConfig(seed=6, slices=16, size=128))
    assert other.acquisition != positive.acquisition
    assert not np.array_equal(other.volume.hu, positive.volume.hu)


def test_axes_follow_lps_with_the_most_superior_slice_first(positive: Phantom) -> None:
    affine = positive.volume.affine
    assert affine is not None
    assert affine[2, 0] < 0  # slices go down
    assert affine[1, 1] > 0  # rows go to the back
    assert affine[0, 2] > 0  # columns go to the patient's left
    assert np.array_equal(affine, positive.lesions.affine)
    assert np.array_equal(affine, positive.lungs.affine)


def test_lungs_are_air_of_a_plausible_volume_right_before_left(positive: Phantom) -> None:
    lungs, hu = positive.lungs.labels, positive.volume.hu
    assert set(np.unique(lungs)) == {0, 1, 2}
    litres = (lungs > 0).sum() * positive.volume.voxel_ml / 1000
    assert 1.5 < litres < 7.5
    healthy = hu[(lungs > 0) & (positive.lesions.labels == 0)]
    assert -930 < np.median(healthy) < -800
    assert ndimage.center_of_mass(lungs == 1)[2] < ndimage.center_of_mass(lungs == 2)[2]
    sizes = [(lungs == side).sum() for side in (1, 2)]
    assert 0.6 < sizes[0] / sizes[1] < 1.7


def test_whole_chest_is_covered(positive: Phantom) -> None:
    per_slice = (positive.lungs.labels > 0).sum(axis=(1, 2))
    assert per_slice.max() > 8 * per_slice[[0, -1]].max()


def test_lesions_lie_in_both_lungs_are_dense_and_span_slices(positive: Phantom) -> None:
    lesions, lungs, hu = positive.lesions.labels, positive.lungs.labels, positive.volume.hu
    assert not ((lesions > 0) & (lungs == 0)).any()
    for side in (1, 2):
        assert ((lesions > 0) & (lungs == side)).any()
    inside = hu[lesions > 0].mean()
    outside = hu[(lungs > 0) & (lesions == 0)].mean()
    assert inside > outside + 150
    ids = np.unique(lesions[lesions > 0])
    assert set(ids) <= {shape.lesion_id for shape in positive.shapes}
    assert len(ids) >= 6
    spans = [np.ptp(np.flatnonzero((lesions == one).any(axis=(1, 2)))) for one in ids]
    assert np.median(spans) >= 1


def test_default_study_infects_more_than_25_of_60_slices() -> None:
    # The patient rule of the paper must be able to fire on what `jcs phantom` makes by default.
    for seed in (0, 11):
        lesions = make_phantom(PhantomConfig(seed=seed, size=96)).lesions.labels
        assert (lesions > 0).any(axis=(1, 2)).sum() > 25


def test_positions_prefer_the_back_and_the_lower_half() -> None:
    centres = []
    for seed in range(30):
        patient = Patient.draw(seed)
        shapes = draw_lesions(patient, 6)
        centres += [(one.centre_mm[1], float(patient.level(one.centre_mm[2]))) for one in shapes]
    y, level = np.array(centres).T
    assert (y > 0).mean() > 0.65
    assert (level > 0.5).mean() > 0.55


def test_every_kind_of_lesion_is_drawn() -> None:
    drawn = {one.kind for seed in range(12) for one in draw_lesions(Patient.draw(seed), 6)}
    assert drawn == set(LesionKind)


def test_negative_phantom_has_no_lesion_but_the_same_patient(positive: Phantom, negative: Phantom) -> None:
    assert negative.shapes == ()
    assert not negative.lesions.labels.any()
    assert negative.acquisition == positive.acquisition
    assert (negative.lungs.labels > 0).sum() == pytest.approx((positive.lungs.labels > 0).sum(), rel=0.1)


def test_progress_counts_the_slices() -> None:
    seen: list[tuple[int, int]] = []
    make_phantom(PhantomConfig(slices=2, size=32), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_spacing_can_be_given() -> None:
    made = make_phantom(PhantomConfig(slices=3, size=64, slice_spacing_mm=2.0, pixel_mm=5.0))
    assert made.volume.spacing_mm == pytest.approx((2.0, 5.0, 5.0))
    assert made.acquisition.slice_thickness_mm <= 2.0


def test_impossible_settings_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"slices must be 1 to 2000, got 0; lesions must be 1 to 200, got 0.*seed"):
        PhantomConfig(slices=0, lesions=0, seed=-1)
    with pytest.raises(ConfigError, match="slice_spacing_mm"):
        PhantomConfig(slice_spacing_mm=0.0)
