"""Axes that the anatomy contradicts: a spine in front, a windpipe below. Sides are withheld, and it is said why."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from jcs_ct.lungs import LEFT, RIGHT, UNKNOWN_SIDE, lungs_in_view, segment_lungs
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.reading.quality_flags import lung_flags


@pytest.fixture(scope="module", params=[3, 11])
def chest(request):
    phantom = make_phantom(PhantomConfig(slices=40, lesions=3, seed=request.param, size=128))
    return np.asarray(phantom.volume.hu), phantom.volume.spacing_mm


def read(hu, spacing, **options):
    hu = np.ascontiguousarray(hu)
    labels = segment_lungs(hu, spacing_mm=spacing, **options)
    return labels, lungs_in_view(labels, hu, spacing, **options)


#: Slices, rows, columns turned about; upper, lower and middle part of a chest.
TURNED = {
    "front and back": (np.s_[:, ::-1], "spine"),
    "half a turn about the body's axis": (np.s_[:, ::-1, ::-1], "spine"),
    "head and feet": (np.s_[::-1], "windpipe"),
    "half a turn about the axis from front to back": (np.s_[::-1, :, ::-1], "windpipe"),
    "the upper two thirds, head and feet": (np.s_[26::-1], "windpipe"),
}
RIGHT_WAY = {"whole": np.s_[:], "upper half": np.s_[:20], "lower half": np.s_[20:], "middle": np.s_[13:27]}


@pytest.mark.parametrize(("turn", "why"), TURNED.values(), ids=TURNED.keys())
def test_a_chest_stored_turned_has_no_sides_and_says_why(chest, turn, why):
    hu, spacing = chest
    labels, in_view = read(hu[turn], spacing)
    assert set(np.unique(labels)) == {0, UNKNOWN_SIDE}
    assert in_view.contradiction == why
    flags = {flag.code: flag.message for flag in lung_flags(in_view)}
    assert {"AXES_CONTRADICTED", "SIDE_UNKNOWN"} <= flags.keys()
    assert why in flags["AXES_CONTRADICTED"]
    right_way, _ = read(hu, spacing)
    if hu[turn].shape == hu.shape:  # the lungs themselves are found as before
        assert np.mean((labels > 0) == (right_way[turn] > 0)) > 0.99


@pytest.mark.parametrize("part", RIGHT_WAY.values(), ids=RIGHT_WAY.keys())
def test_a_chest_stored_rightly_is_not_doubted(chest, part):
    hu, spacing = chest
    labels, in_view = read(hu[part], spacing)
    assert in_view.contradiction is None
    assert UNKNOWN_SIDE not in labels
    assert not {"AXES_CONTRADICTED", "AXES_NOT_CHECKED", "HEART_RIGHT"} & {flag.code for flag in lung_flags(in_view)}


@pytest.mark.parametrize(
    ("turn", "why"), [(np.s_[:], None), (np.s_[:, ::-1], "spine"), (np.s_[:, ::-1, ::-1], "spine")]
)
def test_a_childs_spine_in_front_is_seen_as_an_adults_is(chest, turn, why):
    hu, spacing = chest
    _, in_view = read(hu[turn], tuple(0.6 * mm for mm in spacing))
    assert in_view.contradiction == why


def test_a_chest_that_is_mirrored_keeps_its_sides_and_says_where_the_heart_is(chest):
    hu, spacing = chest
    labels, in_view = read(hu[:, :, ::-1], spacing)
    assert in_view.contradiction is None
    assert {RIGHT, LEFT} <= set(np.unique(labels))
    assert "HEART_RIGHT" in {flag.code for flag in lung_flags(in_view)}


@pytest.fixture(scope="module")
def enhanced(chest):
    """The same with a heart as dense as bone, and more of it than of spine."""
    hu, spacing = chest
    labels = segment_lungs(hu, spacing_mm=spacing)
    lungs = labels > 0
    between = np.maximum.accumulate(lungs, axis=2) & np.maximum.accumulate(lungs[:, :, ::-1], axis=2)[:, :, ::-1]
    soft = ndimage.gaussian_filter(hu.astype(np.float32), (0, 1, 1))
    heart = between & ~lungs & (soft > -20) & (soft < 120)
    heart = ndimage.binary_opening(heart, structure=np.ones((1, 5, 5), dtype=bool), iterations=2)
    shown = np.flatnonzero(lungs.any(axis=(1, 2)))
    heart[: shown[int(0.4 * len(shown))]] = heart[shown[int(0.75 * len(shown))] :] = False
    assert np.count_nonzero(heart) > 0.002 * heart.size
    return np.where(heart, hu + 250, hu).astype(hu.dtype), spacing


@pytest.mark.parametrize("turn", [np.s_[:, ::-1], np.s_[:, ::-1, ::-1]], ids=["front and back", "half a turn"])
def test_a_heart_with_contrast_agent_behind_is_no_spine(enhanced, turn):
    hu, spacing = enhanced
    labels, in_view = read(hu[turn], spacing)
    assert in_view.contradiction == "spine"
    assert set(np.unique(labels)) == {0, UNKNOWN_SIDE}


def test_a_chest_with_contrast_agent_is_read_as_one_without(enhanced):
    hu, spacing = enhanced
    labels, in_view = read(hu, spacing)
    assert in_view.contradiction is None
    assert UNKNOWN_SIDE not in labels
    assert not in_view.heart_is_right
    assert read(hu[:, :, ::-1], spacing)[1].heart_is_right


def test_bone_is_not_looked_for_in_grey_levels_nor_a_length_where_none_is_known(chest):
    hu, spacing = chest
    assert read(hu[:, ::-1], spacing, hu_is_assumed=True)[1].contradiction is None
    assert read(hu[:, ::-1], None)[1].contradiction is None
    assert not read(hu[:, :, ::-1], None)[1].heart_is_right


@pytest.mark.parametrize("largest", [150, 200])
@pytest.mark.parametrize(
    "turn", [np.s_[:], np.s_[:, :, ::-1], np.s_[:, ::-1]], ids=["as it is", "mirrored", "turned"]
)
def test_where_bone_was_clipped_it_is_said_that_the_axes_were_not_checked(chest, largest, turn):
    hu, spacing = chest
    _, in_view = read(np.minimum(hu, largest)[turn], spacing)
    assert in_view.axes_unchecked == "clipped"
    flags = {flag.code: flag.message for flag in lung_flags(in_view)}
    assert "was clipped away" in flags["AXES_NOT_CHECKED"]
    assert "AXES_CONTRADICTED" not in flags


def test_a_slab_too_low_to_be_contradicted_is_unchecked_where_its_spine_lies_in_front(chest):
    hu, spacing = chest
    slab = hu[16:22]
    assert read(slab, spacing)[1].axes_unchecked is None
    turned = read(slab[:, ::-1], spacing)[1]
    assert turned.contradiction is None
    assert turned.axes_unchecked == "spine"
    assert "no spine is seen" in next(flag.message for flag in lung_flags(turned) if flag.code == "AXES_NOT_CHECKED")


def test_axes_are_unchecked_without_lengths_but_not_where_they_are_contradicted_or_assumed(chest):
    hu, spacing = chest
    assert read(hu, None)[1].axes_unchecked == "geometry"
    assert read(hu[:, ::-1], spacing)[1].axes_unchecked is None
    assert read(hu, None, hu_is_assumed=True)[1].axes_unchecked is None
