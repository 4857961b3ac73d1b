"""What of a picture was reconstructed: padding around a smaller field is no air, and lung at its edge was cut."""

from dataclasses import replace

import numpy as np
import pytest

from jcs_ct.lungs import LungsInView, lungs_in_view, segment_lungs
from jcs_ct.lungs.constants import LEFT, RIGHT, UNKNOWN_SIDE
from jcs_ct.lungs.field import field_of_view, reconstructed_box
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.reading.quality_flags import lung_flags


@pytest.fixture(scope="module")
def chest():
    """(hu, lungs, spacing) of a phantom whose body lies within the picture."""
    phantom = make_phantom(PhantomConfig(slices=16, size=160, seed=3, negative=True))
    hu = phantom.volume.hu.astype(np.float32)
    return hu, segment_lungs(hu, spacing_mm=phantom.volume.spacing_mm), phantom.volume.spacing_mm


def circle(rows, columns, radius):
    y, x = np.ogrid[:rows, :columns]
    return (y - (rows - 1) / 2) ** 2 + (x - (columns - 1) / 2) ** 2 <= radius**2


def test_a_picture_without_padding_is_whole(chest):
    hu, _, _ = chest
    assert reconstructed_box(hu) == np.s_[:160, :160]


@pytest.mark.parametrize("value", [-2000.0, -1024.0, -1000.0, 0.0])
def test_a_rectangle_or_a_circle_within_padding_is_the_field(value):
    noise = np.random.default_rng(0).normal(-500, 100, (3, 60, 80))
    box = np.full_like(noise, value)
    box[:, 10:50, 20:70] = noise[:, 10:50, 20:70]
    assert reconstructed_box(box) == np.s_[10:50, 20:70]
    assert reconstructed_box(np.where(circle(60, 80, 20), noise, value)) == np.s_[10:50, 20:60]
    strip = np.where(circle(60, 80, 30), noise, value)
    strip[:, :, :20] = value
    assert reconstructed_box(strip) == np.s_[0:60, 20:70]


def test_a_body_cut_out_of_its_surroundings_and_a_constant_are_whole(chest):
    hu, _, _ = chest
    y, x = np.ogrid[-1:1:160j, -1:1:160j]
    body = (x / 0.9) ** 2 + (y / 0.6) ** 2 < 1
    assert reconstructed_box(np.where(body, hu, -1024.0)) == np.s_[:160, :160]
    assert reconstructed_box(np.full((2, 20, 30), -1024.0)) == np.s_[:20, :30]


@pytest.mark.parametrize("value", [-1024.0, -1000.0])
def test_the_circle_of_a_scanner_is_the_field_whatever_one_value_pads_it(value):
    noise = np.random.default_rng(0).normal(-500, 100, (3, 60, 60)).astype(np.float32)
    field = field_of_view(np.where(circle(60, 60, 30), noise, np.float32(value)))
    assert np.array_equal(field, circle(60, 60, 30))
    assert field_of_view(np.where(circle(60, 60, 30), noise, np.float32(-800.0))).all()


@pytest.mark.parametrize("value", [-1024.0, -1000.0])
@pytest.mark.parametrize("shape", ["box", "circle", "strip"])
def test_lungs_cut_by_a_padded_field_are_found_to_its_edge_and_said_to_be_cut(chest, value, shape):
    hu, lungs, spacing_mm = chest
    columns = np.flatnonzero((lungs > 0).any(axis=(0, 1)))
    edge = int(columns[0]) + 8
    field = np.zeros((160, 160), dtype=bool)
    if shape == "circle":
        field = circle(160, 160, 80 - edge)
    else:
        field[:, edge : 160 if shape == "strip" else 160 - edge] = True
        field[: edge // 2] = shape == "strip" and field[0]
    padded = np.where(field, hu, np.float32(value))
    found = segment_lungs(padded, spacing_mm=spacing_mm)
    assert np.count_nonzero(found[:, ~field]) <= 0.01 * np.count_nonzero(found)  # a circle's pixels are not round
    whole = np.count_nonzero(lungs[:, field])
    assert np.count_nonzero(found) == pytest.approx(whole, rel=0.06)
    cut = lungs_in_view(found, padded, spacing_mm).cut_slices
    assert cut[RIGHT] > 0
    assert (cut[LEFT] > 0) == (shape != "strip")


def test_slices_that_hold_nothing_do_not_end_a_scan(chest):
    hu, lungs, spacing_mm = chest
    half = hu.copy()
    half[8:] = -1000.0
    found = segment_lungs(half, spacing_mm=spacing_mm)
    assert lungs_in_view(found, half, spacing_mm).at_ends[1] > 0.5
    assert lungs_in_view(lungs, hu, spacing_mm).at_ends[1] < 0.2


@pytest.mark.parametrize(
    ("scale", "larger", "smaller"),
    [
        ((1, 1, 1), False, False),
        ((2.5, 1, 1), True, False),
        ((1, 2.5, 2.5), True, False),
        ((0.5, 1, 1), False, True),
        ((1, 0.5, 0.5), False, True),
        ((0.8, 0.8, 0.8), False, False),
    ],
)
def test_lungs_larger_than_any_and_smaller_than_an_adults_are_doubted(chest, scale, larger, smaller):
    hu, lungs, spacing_mm = chest
    stated = tuple(float(mm * factor) for mm, factor in zip(spacing_mm, scale, strict=True))
    in_view = lungs_in_view(lungs, hu, stated)
    assert in_view.volume_ml == pytest.approx(np.count_nonzero(lungs) * np.prod(stated) / 1000)
    assert (in_view.larger_than_any, in_view.smaller_than_adults) == (larger, smaller)
    codes = [flag.code for flag in lung_flags(in_view)]
    assert codes.count("SIZE_DOUBTED") == (larger or smaller)
    unknown = lungs_in_view(lungs, hu, None)
    assert not unknown.larger_than_any
    assert not unknown.smaller_than_adults


def test_a_part_of_the_lungs_is_not_taken_for_a_childs(chest):
    hu, lungs, (slice_mm, *pixel_mm) = chest
    half = (slice_mm / 2, *pixel_mm)
    assert lungs_in_view(lungs, hu, half).smaller_than_adults
    assert not lungs_in_view(lungs[: len(hu) // 2], hu[: len(hu) // 2], half).smaller_than_adults
    right = np.where(lungs == RIGHT, lungs, 0)
    assert not lungs_in_view(right, hu, half).smaller_than_adults


@pytest.mark.parametrize(("side", "kept", "said"), [(RIGHT, 1.0, False), (RIGHT, 0.5, True), (LEFT, 0.4, True)])
def test_a_lung_that_is_much_smaller_than_the_other_is_said(chest, side, kept, said):
    hu, lungs, spacing_mm = chest
    shown = np.flatnonzero((lungs == side).any(axis=(1, 2)))
    found = lungs.copy()
    for number in shown[round(kept * len(shown)) :]:
        found[number][lungs[number] == side] = 0
    in_view = lungs_in_view(found, hu, spacing_mm)
    flags = {flag.code: flag.message for flag in lung_flags(in_view)}
    assert in_view.lesser == (side if said else None)
    assert ("LUNGS_UNEQUAL" in flags) == said
    if said:
        assert f"the {'right' if side == RIGHT else 'left'} lung found holds" in flags["LUNGS_UNEQUAL"]
        assert "of lung with air alone" in flags["LUNGS_UNEQUAL"]


def test_a_lung_that_is_cut_missing_or_scanned_in_part_is_not_compared_with_the_other():
    small = {RIGHT: 0.7, LEFT: 0.3, UNKNOWN_SIDE: 0.0}
    whole = LungsInView(small, {RIGHT: 3, LEFT: 0, UNKNOWN_SIDE: 0})
    assert whole.lesser == LEFT
    for other in (
        replace(whole, cut_slices={RIGHT: 0, LEFT: 3, UNKNOWN_SIDE: 0}),
        replace(whole, at_ends=(0.0, 0.5)),
        replace(whole, share={RIGHT: 0.99, LEFT: 0.01, UNKNOWN_SIDE: 0.0}),
        replace(whole, share={RIGHT: 0.6, LEFT: 0.2, UNKNOWN_SIDE: 0.2}),
    ):
        assert other.lesser is None
