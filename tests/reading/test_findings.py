"""Lesions and burden against boxes and balls whose numbers are known in closed form."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from jcs_ct.reading.burden import Burden, measure_burden
from jcs_ct.reading.lesion_findings import measure_findings
from jcs_ct.reading.lesions import find_lesions
from jcs_ct.reading.zones import THIRDS
from jcs_ct.volume import CTVolume

SHAPE = (30, 40, 60)
SPACING = (2.0, 0.5, 0.8)
VOXEL_ML = 2.0 * 0.5 * 0.8 / 1000


def affine(*, tilt_degrees: float = 0.0) -> NDArray[np.float64]:
    """(slice, row, column) -> LPS mm, rotated about the left-right axis."""
    out = np.zeros((4, 4))
    out[2, 0] = -SPACING[0]
    out[1, 1] = SPACING[1]
    out[0, 2] = SPACING[2]
    angle = np.deg2rad(tilt_degrees)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    out[:3, :3] = rotation @ out[:3, :3]
    out[:3, 3] = (-20.0, -10.0, 300.0)
    out[3, 3] = 1
    return out


def volume(
    hu: float | NDArray[np.float32] = -850.0, *, assumed: bool = False, known: bool = True, **options
) -> CTVolume:
    values = np.broadcast_to(np.float32(hu), SHAPE).astype(np.float32)
    return CTVolume(values, affine(**options) if known else None, hu_is_assumed=assumed)


def two_lungs() -> NDArray[np.uint8]:
    lungs = np.zeros(SHAPE, dtype=np.uint8)
    lungs[:, 5:35, 5:25] = 1
    lungs[:, 5:35, 35:55] = 2
    return lungs


def box(first: tuple[int, int, int], size: tuple[int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(a, a + n) for a, n in zip(first, size, strict=True))] = True
    return mask


def burden_of(mask: NDArray[np.bool_], ct: CTVolume, lungs: NDArray[np.uint8], **options) -> Burden:
    """Of a mask whose lesions are all told, however small."""
    labels, lesions = find_lesions(mask, ct, lungs, least_volume_ml=0.0, least_voxels=1)
    return measure_burden(ct, lungs, labels, lesions, **options)


@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_a_box_has_the_numbers_of_a_box(tilt: float) -> None:
    ct = volume(tilt_degrees=tilt)
    labels, (lesion,) = find_lesions(box((3, 10, 8), (4, 5, 6)), ct, two_lungs())
    assert lesion.voxel_count == 120 == np.count_nonzero(labels == 1)
    assert lesion.volume_ml == pytest.approx(120 * VOXEL_ML)
    assert (lesion.slice_first, lesion.slice_last) == (3, 6)
    assert lesion.centroid_index == (4.5, 12.0, 10.5)
    expected = affine(tilt_degrees=tilt) @ (4.5, 12.0, 10.5, 1.0)
    assert lesion.centroid_lps_mm == pytest.approx(tuple(expected[:3]))
    assert lesion.extent_mm == pytest.approx((4 * 2.0, 5 * 0.5, 6 * 0.8))
    assert lesion.mean_hu == pytest.approx(-850.0)
    assert [record.slice_index for record in lesion.slices] == [3, 4, 5, 6]
    record = lesion.slices[0]
    assert (record.area_pixel, record.x0, record.y0, record.width, record.height) == (30, 8, 10, 6, 5)
    assert (record.position_x, record.position_y) == (10.5, 12.0)


def test_a_ball_has_the_volume_and_the_centre_of_a_ball() -> None:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    distance = np.linalg.norm((index - (15, 20, 15)) * SPACING, axis=-1)
    _, (lesion,) = find_lesions(distance <= 7.0, volume(), two_lungs())
    assert lesion.volume_ml == pytest.approx(4 / 3 * np.pi * 7.0**3 / 1000, rel=0.05)
    assert lesion.centroid_index == pytest.approx((15, 20, 15))
    assert lesion.extent_mm == pytest.approx((14.0, 14.0, 14.0), abs=2.0)


def test_thirds_run_from_the_top_down() -> None:
    found = [find_lesions(box((first, 10, 40), (3, 6, 6)), volume(), two_lungs())[1][0] for first in (2, 13, 25)]
    assert [lesion.third for lesion in found] == list(THIRDS)


def test_sides_are_the_patients_inside_beside_and_without_lungs() -> None:
    inside, beside = box((3, 10, 8), (4, 6, 6)), box((3, 10, 0), (4, 10, 4))
    assert find_lesions(inside, volume(), two_lungs())[1][0].side == "right"
    assert find_lesions(beside, volume(), two_lungs())[1][0].side == "right"
    assert find_lesions(inside, volume(), np.zeros_like(two_lungs()))[1][0].side == "unknown"
    assert find_lesions(inside, volume(), np.where(two_lungs() > 0, 3, 0).astype(np.uint8))[1][0].side == "unknown"
    assert find_lesions(inside[:, :, ::-1], volume(), two_lungs())[1][0].side == "left"


@pytest.mark.parametrize(("lung", "column", "side"), [(1, 45, "left"), (2, 10, "right")])
def test_a_lesion_where_a_lung_is_missing_on_its_slice_is_of_that_lung(lung: int, column: int, side: str) -> None:
    """A consolidated lower lobe that a reader paints: the lung mask shows the other lung alone on its slices."""
    lungs = two_lungs()
    lungs[15:][lungs[15:] != lung] = 0
    mask = box((20, 10, column), (5, 8, 5))
    labels, (lesion,) = find_lesions(mask, volume(), lungs)
    assert lesion.side == side
    zones = measure_burden(volume(), lungs, labels, (lesion,)).zones
    assert {zone.side for zone in zones if zone.opacity_voxels} == {side}


def test_a_lesion_where_the_other_lung_was_not_found_has_no_side() -> None:
    for mirrored in (False, True):
        lungs = two_lungs()
        lungs[lungs == 2] = 0
        inner, white = box((10, 10, 26), (5, 8, 5)), box((10, 6, 26), (15, 25, 28))
        wall, touching = box((10, 10, 0), (5, 8, 5)), white | box((12, 10, 24), (1, 1, 2))
        if mirrored:
            lungs = 2 * lungs[:, :, ::-1]
            inner, white, wall, touching = (mask[:, :, ::-1] for mask in (inner, white, wall, touching))
        sides = [find_lesions(mask, volume(), lungs)[1][0].side for mask in (inner, wall, white, touching)]
        lone = "left" if mirrored else "right"
        assert sides == [lone, lone, "unknown", "unknown"]
        assert burden_of(white, volume(), lungs).zones is None


def test_lesions_touch_by_corners_are_sorted_and_specks_are_dropped() -> None:
    small_pair = box((3, 10, 8), (3, 4, 4)) | box((6, 14, 12), (3, 4, 4))
    large, speck = box((20, 10, 40), (5, 8, 8)), box((12, 30, 50), (1, 2, 2))
    labels, lesions = find_lesions(small_pair | large | speck, volume(), two_lungs())
    assert [lesion.voxel_count for lesion in lesions] == [320, 96]
    assert [lesion.lesion_id for lesion in lesions] == [1, 2]
    assert set(np.unique(labels)) == {0, 1, 2}
    assert not labels[speck].any()
    _, with_speck = find_lesions(speck, volume(), two_lungs(), least_volume_ml=0.0)
    assert with_speck[0].voxel_count == 4


def test_what_is_measured_leaves_the_callers_mask_as_it_was() -> None:
    mask = box((20, 10, 40), (5, 8, 8)) | box((12, 30, 50), (1, 2, 2))
    before = mask.copy()
    hu = np.where(two_lungs() > 0, np.float32(-850), np.float32(40))
    hu[mask] = -400
    found = measure_findings(mask, volume(hu), two_lungs())
    np.testing.assert_array_equal(mask, before)
    assert found.burden.percent_opacity == pytest.approx(100 * 320 / np.count_nonzero(two_lungs()))
    np.testing.assert_array_equal(found.densities > 0, found.labels > 0)


def test_more_specks_than_16_bits_can_number_are_specks_all_the_same() -> None:
    """Every other voxel along each axis: 68 921 parts, of which the one block is the only lesion."""
    mask = np.zeros((82, 82, 82), dtype=bool)
    mask[::2, ::2, ::2] = True
    mask[70:76, 70:76, 70:76] = True
    ct = CTVolume(np.zeros(mask.shape, dtype=np.int16), np.diag([1.0, 1.0, 1.0, 1.0]))
    labels, lesions = find_lesions(mask, ct, np.ones(mask.shape, dtype=np.uint8), least_volume_ml=0.1)
    assert [lesion.voxel_count for lesion in lesions] == [int(labels.astype(bool).sum())]
    assert labels[70:76, 70:76, 70:76].all()


def test_figures_that_are_not_known_are_none() -> None:
    ct = volume(known=False, assumed=True)
    mask = box((3, 10, 8), (4, 5, 6))
    _, (lesion,) = find_lesions(mask, ct, two_lungs())
    assert lesion.volume_ml is lesion.centroid_lps_mm is lesion.extent_mm is lesion.mean_hu is None
    assert lesion.slices[0].area_pixel == 30
    burden = burden_of(mask, ct, two_lungs())
    assert burden.lung_volume_ml is burden.opacification_volume_ml is burden.percent_high_opacity is None
    assert burden.percent_opacity == pytest.approx(100 * 120 / two_lungs().astype(bool).sum())


def test_no_lesion_and_no_lung() -> None:
    nothing = np.zeros(SHAPE, dtype=bool)
    labels, lesions = find_lesions(nothing, volume(), two_lungs())
    assert lesions == ()
    assert not labels.any()
    burden = burden_of(nothing, volume(), np.zeros(SHAPE, dtype=np.uint8))
    assert burden.percent_opacity is None
    assert burden.percent_high_opacity is None
    assert burden.lung_volume_ml == 0.0
    assert all(zone.percent_opacity is None for zone in burden.zones)


def test_burden_counts_high_opacity_and_zones() -> None:
    hu = np.full(SHAPE, -850.0, dtype=np.float32)
    consolidation, ground_glass = box((0, 10, 8), (4, 5, 6)), box((22, 10, 40), (4, 5, 6))
    hu[consolidation], hu[ground_glass] = 20.0, -500.0
    lungs = two_lungs()
    burden = burden_of(consolidation | ground_glass, volume(hu), lungs)
    lung_voxels = int((lungs > 0).sum())
    assert burden.lung_volume_ml == pytest.approx(lung_voxels * VOXEL_ML)
    assert burden.opacification_volume_ml == pytest.approx(240 * VOXEL_ML)
    assert burden.percent_opacity == pytest.approx(100 * 240 / lung_voxels)
    assert burden.percent_high_opacity == pytest.approx(100 * 120 / lung_voxels)
    assert sum(burden.hu_counts) == lung_voxels
    assert len(burden.hu_bin_edges) == len(burden.hu_counts) + 1
    zones = {(zone.side, zone.third): zone for zone in burden.zones}
    assert list(zones) == [(side, third) for side in ("right", "left") for third in THIRDS]
    assert zones["right", "upper"].opacity_voxels == zones["left", "lower"].opacity_voxels == 120
    assert sum(zone.lung_voxels for zone in burden.zones) == lung_voxels
    assert burden_of(consolidation, volume(hu), lungs, high_opacity_cut_hu=50.0).percent_high_opacity == 0.0


def test_disease_outside_the_lung_mask_never_takes_more_than_all_of_the_lung() -> None:
    lungs = np.zeros(SHAPE, dtype=np.uint8)
    lungs[10:13, 10:12, 10:12] = 1
    side = box((0, 0, 0), (*SHAPE[:2], 22))
    burden = burden_of(side, volume(20.0), lungs)
    assert burden.percent_opacity == 100.0
    assert burden.percent_high_opacity == 100.0
    assert {zone.percent_opacity for zone in burden.zones if zone.side == "right"} == {100.0}
    assert {zone.percent_opacity for zone in burden.zones if zone.side == "left"} == {None}  # no lung to be beside


def test_a_lesion_beside_the_lungs_counts_in_the_zones_of_the_lung_it_is_reported_in() -> None:
    """A large right lung and a small left one: the right lung's wall is nearer to the left one's middle."""
    lungs = np.zeros(SHAPE, dtype=np.uint8)
    lungs[:, 5:35, 2:40], lungs[:, 5:35, 50:56] = 1, 2
    mask = box((10, 10, 38), (10, 10, 6))
    labels, (lesion,) = find_lesions(mask, volume(), lungs)
    assert lesion.side == "right"
    burden = measure_burden(volume(), lungs, labels, (lesion,))
    found = {
        side: sum(zone.opacity_voxels for zone in burden.zones if zone.side == side) for side in ("right", "left")
    }
    assert found == {"right": np.count_nonzero(mask), "left": 0}
    left = sum(zone.lung_voxels for zone in burden.zones if zone.side == "left")
    assert left == np.count_nonzero(lungs == 2)


def test_what_is_painted_above_the_lungs_moves_no_zone() -> None:
    lungs = two_lungs()
    lungs[:12] = 0
    inside, above = box((18, 10, 8), (1, 4, 4)), box((0, 10, 8), (1, 1, 1))
    of_lung, with_speck = (burden_of(mask, volume(), lungs).zones for mask in (inside, inside | above))
    upper, *others = with_speck
    assert others == list(of_lung[1:])
    assert (upper.opacity_voxels, upper.lung_voxels) == (1, of_lung[0].lung_voxels + 1)


def test_a_lesion_in_lung_of_unknown_side_lies_in_a_third_of_all_the_lung() -> None:
    """Of a sliver whose side is not known the height says nothing of top and bottom."""
    lungs = np.zeros(SHAPE, dtype=np.uint8)
    lungs[:, 5:35, 5:25], lungs[2:8, 10:20, 40:50] = 1, 3
    _, (lesion,) = find_lesions(box((6, 12, 42), (2, 5, 5)), volume(), lungs)
    assert (lesion.side, lesion.third) == ("unknown", "upper")


def test_zones_are_withheld_where_the_side_of_some_lung_is_not_known() -> None:
    lungs = two_lungs()
    lungs[:, 30:, 35:][lungs[:, 30:, 35:] > 0] = 3
    burden = burden_of(box((3, 10, 8), (4, 5, 6)), volume(), lungs)
    assert burden.zones is None
    assert burden.percent_opacity == pytest.approx(100 * 120 / np.count_nonzero(lungs))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        find_lesions(np.zeros((1, 2, 3), dtype=bool), volume(), two_lungs())
    with pytest.raises(ValueError, match="one shape"):
        measure_burden(volume(), two_lungs(), np.zeros((1, 2, 3), dtype=np.uint16), ())


def test_a_lesion_that_fills_its_box_takes_few_bytes_a_voxel() -> None:
    """A list of its voxels' places would take 48."""
    shape = (40, 128, 128)
    grid = CTVolume(np.zeros(shape, dtype=np.int16), affine())
    mask, lungs = np.ones(shape, dtype=bool), np.ones(shape, dtype=np.uint8)
    mask[0, 0, 0], lungs[:, :, 60:] = False, 2
    tracemalloc.start()
    try:
        _, (lesion,) = find_lesions(mask, grid, lungs)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lesion.centroid_index == pytest.approx(np.argwhere(mask).mean(axis=0), rel=1e-12)
    assert lesion.side == "left"
    assert peak < 7 * mask.size


def test_a_large_study_takes_few_bytes_a_voxel() -> None:
    shape = (40, 256, 256)
    grid = CTVolume(np.zeros(shape, dtype=np.int16), affine())
    lungs = np.zeros(shape, dtype=np.uint8)
    lungs[2:-2, 40:200, 20:120], lungs[2:-2, 40:200, 140:240] = 1, 2
    mask = np.zeros(shape, dtype=bool)
    mask[1:-1, 36:60, 16:110] = True
    mask[0, 0, 0] = mask[-1, -1, -1] = True  # the bounding box is the whole volume
    tracemalloc.start()
    try:
        labels, lesions = find_lesions(mask, grid, lungs)
        finding = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        measure_burden(grid, lungs, labels, lesions)
        measuring = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    # Labels are 2 bytes a voxel, components as many for a while; lungs with lesions beside them, and a mask, 1 each.
    assert finding < 6 * mask.size
    assert measuring < 3 * mask.size
