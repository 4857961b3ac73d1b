"""Sides from anatomy: whatever part of the chest is in view, and wherever a lung or the mediastinum went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging import open_study
from jcs_ct.lungs import LEFT, RIGHT, UNKNOWN_SIDE, lungs_in_view, require_lung, segment_lungs
from jcs_ct.lungs.field import field_of_view
from jcs_ct.lungs.lung_presence import LEAST_BONE_AROUND, bone_share_around
from jcs_ct.phantom import PhantomConfig, make_phantom

HU = NDArray[np.float32]
Labels = NDArray[np.uint8]
SIZE = 192
HALF = SIZE // 2


@dataclass(frozen=True, eq=False)
class Chest:
    """A phantom's HU, its true lungs and its spacing."""

    hu: HU
    lungs: Labels
    spacing_mm: tuple[float, float, float]


@pytest.fixture(scope="module")
def chest() -> Chest:
    phantom = make_phantom(PhantomConfig(slices=16, lesions=3, seed=5, size=SIZE))
    spacing = phantom.volume.spacing_mm
    assert spacing is not None
    return Chest(np.asarray(phantom.volume.hu, dtype=np.float32), np.asarray(phantom.lungs.labels), spacing)


def filled(chest: Chest, side: int) -> tuple[HU, Labels]:
    """A lung whose air is replaced by fluid."""
    inside = _grown(chest.lungs == side, 2) & (chest.lungs != RIGHT + LEFT - side)
    hu = chest.hu.copy()
    hu[inside] = 35 + np.random.default_rng(0).normal(0, 10, np.count_nonzero(inside))
    return hu, np.where(chest.lungs == side, 0, chest.lungs).astype(np.uint8)


def removed(chest: Chest, side: int, moved_mm: float) -> tuple[HU, Labels]:
    """A lung taken out; the other one has moved over to its side."""
    hu, lungs = filled(chest, side)
    other = RIGHT + LEFT - side
    pixels = round(moved_mm / chest.spacing_mm[2]) * (-1 if side == RIGHT else 1)
    patch = _grown(lungs == other, 2)
    moved = ndimage.shift(patch.astype(np.uint8), (0, 0, pixels), order=0).astype(bool)
    values = np.roll(hu, pixels, axis=2)
    hu[patch] = 35
    hu[moved] = values[moved]
    return hu, np.roll(np.where(lungs == other, other, 0).astype(np.uint8), pixels, axis=2)


def shifted_mediastinum(chest: Chest, mm: float) -> tuple[HU, Labels]:
    """Everything inside the chest displaced towards the left (or, negative, the right); the skin stays."""
    columns = np.arange(SIZE)
    away = np.clip(1 - np.abs(columns - HALF) / (SIZE / 3), 0, 1) * mm / chest.spacing_mm[2]
    source = np.clip(np.rint(columns - away), 0, SIZE - 1).astype(int)
    return chest.hu[:, :, source], chest.lungs[:, :, source]


def _grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    disc = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), pixels)
    grown: NDArray[np.bool_] = ndimage.binary_dilation(mask, disc[None])
    return grown


def scenes(chest: Chest) -> Iterator[tuple[str, HU, Labels]]:
    """Every scene whose sides can be known."""
    views = {
        "left half only": np.s_[:, :, HALF:],
        "right half only": np.s_[:, :, :HALF],
        "left lung, spine out of view": np.s_[:, :, HALF + SIZE // 10 :],
        "small field that cuts both lungs": np.s_[:, SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4],
        "right lung and a sliver of the left": np.s_[:, :, : HALF + SIZE // 8],
    }
    for name, view in views.items():
        yield name, chest.hu[view], chest.lungs[view]
    for side in (RIGHT, LEFT):
        yield f"lung {side} filled", *filled(chest, side)
        yield f"lung {side} removed, the other 35 mm over", *removed(chest, side, 35.0)
    for mm in (40.0, -40.0):
        yield f"mediastinum {mm:+.0f} mm", *shifted_mediastinum(chest, mm)


def test_sides_are_right_and_lungs_whole_whatever_is_in_view(chest: Chest) -> None:
    for name, hu, truth in scenes(chest):
        found = segment_lungs(hu, spacing_mm=chest.spacing_mm)
        lung = np.count_nonzero(truth)
        wrong = np.count_nonzero((truth > 0) & (found > 0) & (found != truth))
        assert wrong < 0.015 * lung, f"{name}: {wrong} of {lung} voxels on a wrong side"
        overlap = 2 * np.count_nonzero((truth > 0) & (found > 0)) / (lung + np.count_nonzero(found))
        assert overlap > 0.95, f"{name}: Dice {overlap:.3f}"


def test_a_view_and_its_mirror_have_mirrored_sides(chest: Chest) -> None:
    swap = np.array([0, LEFT, RIGHT, UNKNOWN_SIDE], dtype=np.uint8)
    for view in (np.s_[:, :, :], np.s_[:, :, HALF:]):
        hu = chest.hu[view]
        found = segment_lungs(hu, spacing_mm=chest.spacing_mm)
        mirrored = segment_lungs(np.ascontiguousarray(hu[:, :, ::-1]), spacing_mm=chest.spacing_mm)
        differing = np.count_nonzero(swap[mirrored][:, :, ::-1] != found)
        assert differing < 0.02 * np.count_nonzero(found)


@pytest.mark.parametrize(
    "view",
    [np.s_[:, :, HALF + SIZE // 8 : -SIZE // 4], np.s_[:, HALF // 2 : HALF, HALF + SIZE // 8 : -SIZE // 4]],
    ids=["both walls out of view", "inside one lung"],
)
def test_where_nothing_tells_the_side_it_is_unknown(chest: Chest, view: tuple[slice, ...]) -> None:
    found = segment_lungs(chest.hu[view], spacing_mm=chest.spacing_mm)
    assert set(np.unique(found)) == {0, UNKNOWN_SIDE}
    in_view = lungs_in_view(found, chest.hu[view], chest.spacing_mm)
    assert in_view.share[UNKNOWN_SIDE] == 1.0
    assert in_view.only is None
    assert in_view.cut_slices[UNKNOWN_SIDE] > 8


def test_a_lung_that_lies_on_both_sides_of_the_spine_is_unknown(chest: Chest) -> None:
    hu, _ = removed(chest, RIGHT, 60.0)
    assert set(np.unique(segment_lungs(hu, spacing_mm=chest.spacing_mm))) == {0, UNKNOWN_SIDE}


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_a_lone_lung_displaced_across_the_midline_is_never_called_the_other_side(chest: Chest, side: int) -> None:
    for moved_mm in (75.0, 95.0, 130.0):
        hu, truth = removed(chest, side, moved_mm)
        found = segment_lungs(hu, spacing_mm=chest.spacing_mm)
        assert set(np.unique(found)) == {0, UNKNOWN_SIDE}, f"moved by {moved_mm} mm"
        overlap = np.count_nonzero((truth > 0) & (found > 0)) / np.count_nonzero(found)
        assert overlap > 0.9


def random_scene(chest: Chest, seed: int) -> tuple[str, HU, Labels]:
    """A chest with a lung filled or taken out, or a displaced mediastinum; turned, and a part of it in view."""
    generator = np.random.default_rng(seed)
    side = int(generator.integers(RIGHT, LEFT + 1))
    mm = float(generator.uniform(0, 160))
    kind = str(generator.choice(["whole", "filled", "removed", "mediastinum"]))
    hu, lungs = {
        "whole": lambda: (chest.hu, chest.lungs),
        "filled": lambda: filled(chest, side),
        "removed": lambda: removed(chest, side, mm),
        "mediastinum": lambda: shifted_mediastinum(chest, (mm - 80) * 0.6),
    }[kind]()
    turn = float(generator.uniform(-15, 15)) if generator.random() < 0.4 else 0.0
    if turn:
        hu = ndimage.rotate(hu, turn, axes=(1, 2), reshape=False, order=1, cval=-1000)
        lungs = ndimage.rotate(lungs, turn, axes=(1, 2), reshape=False, order=0)
    first, width = int(generator.integers(0, HALF)), int(generator.integers(SIZE // 3, SIZE))
    above, count = int(generator.integers(0, 6)), int(generator.integers(5, 11))
    view = np.s_[above : above + count, :, first : first + width]
    if generator.random() < 0.4:
        view = np.s_[:, :, :]
    name = f"seed {seed}: {kind}, side {side}, {mm:.0f} mm, turned by {turn:.0f}, view {view}"
    return name, np.ascontiguousarray(hu[view]), lungs[view]


@pytest.mark.parametrize(
    "seeds", [range(12), pytest.param(range(12, 400), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_no_scene_has_a_wrong_side_without_an_unknown_one(chest: Chest, seeds: range) -> None:
    for name, hu, truth in (random_scene(chest, seed) for seed in seeds):
        found = segment_lungs(hu, spacing_mm=chest.spacing_mm)
        both = (truth > 0) & (found > 0)
        wrong = np.count_nonzero(both & (found != truth) & (found != UNKNOWN_SIDE))
        if not (found == UNKNOWN_SIDE).any():
            assert wrong <= 0.05 * max(1, np.count_nonzero(both)), name


def test_a_lung_in_its_place_keeps_its_side_where_the_other_is_missing(chest: Chest) -> None:
    for side in (RIGHT, LEFT):
        hu, _ = filled(chest, side)
        for view in (np.s_[:, :, :], np.s_[4:12], np.s_[:, :, SIZE // 8 : -SIZE // 8]):
            found = segment_lungs(hu[view], spacing_mm=chest.spacing_mm)
            assert set(np.unique(found)) == {0, RIGHT + LEFT - side}


def test_a_childs_lungs_that_the_field_cuts_on_both_sides_are_not_exchanged(chest: Chest) -> None:
    height, *pixel = chest.spacing_mm
    view = np.s_[:, :, SIZE // 6 : -SIZE // 6]  # no flank is in view, and the spine is too small for an adult's
    found = segment_lungs(chest.hu[view], spacing_mm=(height / 2, pixel[0] / 2, pixel[1] / 2))
    both = (chest.lungs[view] > 0) & (found > 0)
    assert np.count_nonzero(both & (found != chest.lungs[view])) < 0.015 * np.count_nonzero(both)


def test_what_is_in_view_is_said(chest: Chest) -> None:
    whole = segment_lungs(chest.hu, spacing_mm=chest.spacing_mm)
    in_view = lungs_in_view(whole, chest.hu, chest.spacing_mm)
    assert in_view.only is None
    assert not any(in_view.cut_slices.values())
    half = lungs_in_view(whole[:, :, HALF:], chest.hu[:, :, HALF:], chest.spacing_mm)
    assert half.only == LEFT
    lateral = np.s_[:, :, HALF + SIZE // 6 :]
    assert lungs_in_view(whole[lateral], chest.hu[lateral], chest.spacing_mm).cut_slices[LEFT] > 8


def test_a_round_field_cuts_lungs_at_its_circle(chest: Chest) -> None:
    side = 2 * (SIZE // 5)
    view = np.s_[:, HALF - side // 2 : HALF + side // 2, HALF + SIZE // 6 - side // 2 : HALF + SIZE // 6 + side // 2]
    hu, truth = chest.hu[view].copy(), chest.lungs[view].copy()
    y, x = np.ogrid[:side, :side]
    outside = (y - (side - 1) / 2) ** 2 + (x - (side - 1) / 2) ** 2 > (side / 2) ** 2
    hu[:, outside], truth[:, outside] = -1024.0, 0
    assert not field_of_view(hu)[0, 0]
    found = segment_lungs(hu, spacing_mm=chest.spacing_mm)
    overlap = 2 * np.count_nonzero((truth > 0) & (found > 0)) / (np.count_nonzero(truth) + np.count_nonzero(found))
    assert overlap > 0.93
    assert not (found == RIGHT).any()
    assert sum(lungs_in_view(found, hu, chest.spacing_mm).cut_slices.values()) > 5


def test_a_body_cut_out_of_its_surroundings_has_a_whole_field() -> None:
    hu = np.full((2, 60, 60), -1024.0, dtype=np.float32)
    hu[:, 10:50, 5:55] = 40.0
    assert field_of_view(hu).all()


def bowel(slices: int = 12) -> HU:
    """An abdomen with gas and stool, which are as dark as lung, and no rib near them."""
    generator = np.random.default_rng(2)
    y, x = np.mgrid[:128, :128]
    hu = np.full((slices, 128, 128), -1000.0)
    body = ((y - 64) / 44) ** 2 + ((x - 64) / 58) ** 2 < 1
    hu[:, body] = 45.0
    hu[:, ((y - 92) / 9) ** 2 + ((x - 64) / 9) ** 2 < 1] = 400.0
    for column in (40, 88):
        stool = ((y - 50) / 13) ** 2 + ((x - column) / 14) ** 2 < 1
        hu[:, stool] = generator.normal(-680.0, 200.0, (slices, np.count_nonzero(stool)))
    return (hu + generator.normal(0, 12, hu.shape)).astype(np.float32)


def test_gas_and_stool_in_the_bowel_are_refused() -> None:
    hu, spacing = bowel(), (5.0, 3.0, 3.0)
    found = segment_lungs(hu, spacing_mm=spacing)
    assert found.any()
    with pytest.raises(StudyError, match=r"no ribs around it: bone is 0.* of the 25 mm around it") as caught:
        require_lung(found, hu, spacing)
    assert caught.value.code is GateCode.NO_LUNG
    require_lung(found, hu, spacing, hu_is_assumed=True)  # bone cannot be told from other tissue then


def test_lungs_are_not_refused_where_bone_was_clipped(chest: Chest) -> None:
    clipped = np.minimum(chest.hu, 150.0)
    require_lung(chest.lungs, clipped, chest.spacing_mm)


def test_ribs_are_around_lungs(chest: Chest) -> None:
    for _, hu, truth in scenes(chest):
        require_lung(truth, hu, chest.spacing_mm)
    for index in range(3, 14):
        plane = np.s_[index : index + 1]
        assert bone_share_around(chest.lungs[plane], chest.hu[plane], chest.spacing_mm) > LEAST_BONE_AROUND


@pytest.mark.slow
@pytest.mark.parametrize("name", ["covid_002", "normal_002"])
def test_halves_of_real_chests_have_the_sides_of_the_whole(shared_data: Path, name: str) -> None:
    volume = open_study(shared_data / "volumes" / name).volume
    assert volume.spacing_mm is not None
    hu, spacing = volume.hu[::4], (4 * volume.spacing_mm[0], *volume.spacing_mm[1:])
    whole = segment_lungs(hu, spacing_mm=spacing)
    for view in (np.s_[:, :, :256], np.s_[:, :, 256:], np.s_[:, 120:, 200:]):
        found, truth = segment_lungs(hu[view], spacing_mm=spacing), whole[view]
        assert np.count_nonzero((truth > 0) & (found > 0) & (found != truth)) < 0.03 * np.count_nonzero(truth)
        assert np.count_nonzero((truth > 0) & (found > 0)) > 0.95 * np.count_nonzero(truth)
    below = np.s_[-12:] if name == "normal_002" else np.s_[-5:]
    with pytest.raises(StudyError, match=r"\(NO_LUNG\)"):
        require_lung(
            segment_lungs(volume.hu[below], spacing_mm=volume.spacing_mm), volume.hu[below], volume.spacing_mm
        )
