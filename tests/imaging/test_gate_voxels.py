"""What voxels say of a series: HU or not, whole or not, one or several. Truth is a smooth body with noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from jcs_ct.errors import GateCode
from jcs_ct.imaging import open_study
from jcs_ct.imaging.gate_finding import Severity
from jcs_ct.imaging.gate_interleaving import alternation, fastest_change
from jcs_ct.imaging.gate_interpolated import check_filled_gap, slices_on_line
from jcs_ct.imaging.gate_voxels import check_voxels
from jcs_ct.volume import BACKGROUND_HU


def chest(count=24, size=64, *, seed=0, step=0.12, phase=0.0, lung_hu=-850.0):
    """(count, size, size) HU: widening tissue with two lungs that change along the body, and noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    hu = np.full((count, size, size), -1000.0)
    for number in range(count):
        along = step * number + phase
        wide = 0.85 + 0.1 * number / count
        hu[number][(columns / wide) ** 2 + (rows / 0.7) ** 2 < 1] = 40.0
        for side in (-1, 1):
            width, height = 0.2 + 0.12 * np.sin(along), 0.35 + 0.1 * np.cos(1.7 * along)
            hu[number][((columns - side * 0.4) / width) ** 2 + ((rows - 0.1 * np.sin(along)) / height) ** 2 < 1] = (
                lung_hu
            )
    return (hu + rng.normal(0, 12, hu.shape)).round().astype(np.int16)


def interleaved(first, second):
    both = np.empty((2 * len(first), *first.shape[1:]), first.dtype)
    both[::2], both[1::2] = first, second
    return both


def codes(hu, **options):
    return [str(finding.code) for finding in check_voxels(hu, **options)]


@pytest.mark.parametrize("count", [1, 2, 5, 8, 24, 60])
@pytest.mark.parametrize("step", [0.02, 0.12, 0.6])
def test_one_series_is_not_doubted(count, step):
    assert codes(chest(count, step=step)) == []


@pytest.mark.parametrize(
    "second",
    [
        chest(30, seed=1, phase=0.9),  # another breath hold
        chest(30, seed=1, phase=0.06, lung_hu=-800.0),  # denser lungs
        chest(30, seed=1, phase=0.06)[:, :, ::-1] + np.arange(64, dtype=np.int16),  # another patient
        (chest(30, seed=1, phase=0.06) * 0.99).astype(np.int16),  # another calibration
        chest(30, seed=1, phase=0.06) + np.random.default_rng(2).normal(0, 24, (30, 64, 64)).astype(int),  # kernel
    ],
)
def test_two_series_interleaved_at_half_a_step(second):
    assert codes(interleaved(chest(30), second)) == ["MIXED_SERIES"]


def resampled(hu, step, *, repeated=0):
    """Linear interpolation along the body at every ``step`` slices; beyond the last slice it is repeated."""
    places = np.arange(0, len(hu) - 1 + 1e-6, step)
    before = np.minimum(places.astype(int), len(hu) - 2)
    share = (places - before)[:, None, None]
    out = np.rint(hu[before] * (1 - share) + hu[before + 1] * share).astype(np.int16)
    return np.concatenate([out, np.repeat(out[-1:], repeated, axis=0)])


@pytest.mark.parametrize("step", [1.5, 2.5, 1.25, 0.75, 2 / 3, 0.5, 0.4, 1 / 3, 0.25])
@pytest.mark.parametrize("noise", [12, 60])
def test_linear_resampling_is_no_second_series(step, noise):
    """Between two slices it leaves less noise than on one, to and fro, and makes what lies between their mean."""
    hu = chest(61).astype(np.int32) + np.random.default_rng(1).normal(0, noise, (61, 64, 64)).astype(np.int32)
    assert set(codes(resampled(np.maximum(hu, BACKGROUND_HU), step))) <= {"NOISY"}


def filled_in(hu, first, count, *, ways):
    """What dcm2niix makes of a series that lost ``count`` slices: all interpolated to one spacing, gap and all."""
    kept = np.delete(np.arange(len(hu)), np.s_[first : first + count])
    places = np.linspace(0, len(hu) - 1, ways)
    before = np.clip(np.searchsorted(kept, places, side="right") - 1, 0, len(kept) - 2)
    share = ((places - kept[before]) / (kept[before + 1] - kept[before]))[:, None, None]
    return np.rint(hu[kept[before]] * (1 - share) + hu[kept[before + 1]] * share).astype(np.int16)


@pytest.mark.parametrize("count", [4, 10])
@pytest.mark.parametrize("ways", [59, 60, 61, 90, 119])
def test_lost_slices_that_were_filled_in(count, ways):
    (finding,) = check_voxels(filled_in(chest(60), 28, count, ways=ways))
    assert (finding.code, finding.severity) == (GateCode.GAP, Severity.GEOMETRY)
    assert "they were interpolated where slices are missing" in finding.message


@pytest.mark.parametrize("to", [0.5, 0.4, 0.33, 0.25])
def test_slices_that_a_cubic_curve_was_laid_through_fill_no_gap(to):
    smooth = ndimage.zoom(chest(60).astype(np.float32), (1 / to, 1, 1), order=3, mode="nearest", grid_mode=True)
    assert check_filled_gap(slices_on_line(np.rint(smooth).astype(np.float32))) == []


@pytest.mark.parametrize("over", [2.0, 3.0, 4.0])
def test_thick_slices_close_together_fill_no_gap(over):
    thick = ndimage.gaussian_filter1d(chest(60, step=0.03).astype(np.float32), over, axis=0)
    assert check_filled_gap(slices_on_line(np.rint(thick).astype(np.float32))) == []


def test_the_slices_that_were_filled_in_are_named():
    (finding,) = check_voxels(filled_in(chest(60), 28, 5, ways=60))
    assert finding.message.startswith("slices 29 to 33 lie on the straight line between slices 28 and 34")


@pytest.mark.parametrize("step", [1, 0.5, 0.25])
@pytest.mark.parametrize(("first", "count"), [(12, 8), (40, 6)])
def test_a_step_far_wider_than_those_around_it_may_be_a_gap(step, first, count):
    """Whatever the positions say, and though the whole was resampled afterwards."""
    lost = np.delete(chest(60, step=0.03), np.s_[first : first + count], axis=0)
    (finding,) = check_voxels(resampled(lost, step))
    assert (finding.code, finding.severity) == ("GAP_SUSPECTED", Severity.NOTE)
    one, other = round((first - 1) / step) + 1, round(first / step) + 1
    assert finding.message.startswith(f"slices {one} and {other} differ ")


def test_two_series_that_were_interpolated_together():
    mixed = interleaved(chest(30), chest(30, seed=1, phase=0.06, lung_hu=-800.0))
    assert codes(resampled(mixed, 0.5)) == ["MIXED_SERIES"]


def test_a_slice_that_interpolation_repeats_at_an_end():
    (finding,) = check_voxels(resampled(chest(), 0.4, repeated=2))
    assert (finding.code, finding.severity) == (GateCode.DUPLICATE_POSITION, Severity.NOTE)
    assert finding.message.startswith("2 slice(s) at the ends repeat the one beside them")
    within = resampled(chest(), 0.4)
    within[20] = within[19]
    first_at_the_end = np.concatenate([resampled(chest(), 0.4), chest()[:1]])
    for hu in (within, first_at_the_end, np.concatenate([chest(), chest()[-1:]])):
        (finding,) = check_voxels(hu)
        assert (finding.code, finding.severity) == (GateCode.DUPLICATE_POSITION, Severity.GEOMETRY)


def test_alternation_finds_a_period_and_its_size():
    places = np.arange(80)
    values = 0.02 * places**2 + np.random.default_rng(0).normal(0, 0.2, 80)
    assert alternation(values, 2)[0] < 30
    power, size = alternation(values + 5.0 * (places % 2), 2)
    assert power > 300
    assert size == pytest.approx(5.0, abs=0.3)
    assert alternation(values + 5.0 * (places % 3 == 0), 3)[0] > 100


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("places", [16, 17, 18, 20])
def test_a_short_sequence_never_alternates_by_chance(count, places):
    power, _ = alternation(np.random.default_rng(places).normal(0, 1, places), count)
    assert power < 100


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda hu: hu + 1024, "the rescale intercept was probably lost"),
        (lambda hu: np.where(hu < -990, -976, hu + 1024), "the rescale intercept was probably lost"),
        (lambda hu: (hu.astype(np.int32) % 65536).clip(0, 32767).astype(np.int16), "as if all were positive"),
        (lambda hu: hu - 1024, "the rescale was probably applied twice"),
        (lambda hu: np.full_like(hu, BACKGROUND_HU), "every voxel is background"),
    ],
)
def test_values_that_are_no_hu(spoil, why):
    (finding,) = check_voxels(spoil(chest()))
    assert finding.code is GateCode.NO_HU
    assert why in finding.message


def test_tissue_as_dense_as_bone_throughout_has_no_hu():
    steep = (chest() + 1024) * 2 - 1024  # a slope of 2, with air where it belongs
    steep[:, :, 0] = 0
    (finding,) = check_voxels(steep)
    assert finding.code is GateCode.NO_HU
    assert "as bone does" in finding.message


@pytest.mark.parametrize(
    ("shift", "why"),
    [
        (lambda hu: hu + 60, "the air around the patient lies at -940 HU"),
        (lambda hu: hu + 250, "the air around the patient lies at -750 HU"),
        (lambda hu: np.where(hu <= -1000, BACKGROUND_HU, hu * 2), "the air around the patient lies at -1990 HU"),
        (lambda hu: hu * 1.1, "the air around the patient lies at -1100 HU"),
        (lambda hu: np.maximum(hu, -900), "no voxel is darker than -900 HU"),
        (lambda hu: np.maximum(hu - 100, BACKGROUND_HU), "0% of fat and soft tissue lies above 0 HU"),
        (
            lambda hu: np.round((hu + 1000.0) * 1.22 - 1000),
            "half of what is denser than lung lies from 259 to 279 HU",
        ),
        (lambda hu: np.round((hu + 1000.0) * 0.7 - 1000), "half of what is denser than lung lies from -27"),
        (lambda hu: np.maximum(hu * 1.22, BACKGROUND_HU), "81% of the air inside the body has the one value -1024"),
    ],
)
def test_values_that_are_shifted_or_cut_off_are_flagged(shift, why):
    (finding,) = check_voxels(shift(chest()))
    assert (finding.code, finding.severity) == ("HU_SHIFTED", Severity.NOTE)
    assert finding.message.startswith(why)


def test_shifted_values_do_not_hide_a_second_series():
    both = interleaved(chest(30), chest(30, seed=1, phase=0.9))
    assert codes(both + 60) == ["HU_SHIFTED", "MIXED_SERIES"]


@pytest.mark.parametrize("shift", [-24, 0, 24])
def test_a_scanner_s_own_calibration_is_not_doubted(shift):
    assert codes(chest() + shift) == []
    assert codes(np.maximum(chest() + shift, BACKGROUND_HU)) == []


@pytest.mark.parametrize("place", [0, 11, 23])
def test_a_slice_of_one_value_was_lost(place):
    hu = chest()
    hu[place] = BACKGROUND_HU
    (finding,) = check_voxels(hu)
    assert finding.code is GateCode.TRUNCATED
    assert f"1 of 24 slices hold one value only, the first is slice {place + 1}" in finding.message
    assert codes(hu, blank_ends=True) == (["TRUNCATED"] if place == 11 else ["BLANK_SLICES"])


@pytest.mark.parametrize("place", [0, 11, 23])
def test_a_slice_whose_end_was_lost(place):
    hu = chest()
    hu[place, 40:] = 0
    (finding,) = check_voxels(hu)
    assert finding.code is GateCode.TRUNCATED
    assert f"slice {place + 1} ends in 24 rows of one value, its neighbours in 0" in finding.message


@pytest.mark.parametrize("place", [0, 11, 23])
def test_rows_that_were_overwritten_within_the_body(place):
    hu = chest()
    hu[place, 30:32] = BACKGROUND_HU
    (finding,) = check_voxels(hu)
    assert finding.code is GateCode.TRUNCATED
    assert f"slice {place + 1} has 2 rows of one value in the middle of the body" in finding.message
    assert codes(hu, assumed_hu=True) == ["TRUNCATED"]


def test_numbers_that_are_no_hu_are_not_taken_for_overwritten_ones():
    """Air of one value becomes the very first or last of all numbers: no rows were overwritten."""
    hu = chest()
    hu[hu < -950] = -1000
    for wrong in (hu + 1024, (hu.astype(np.int32) % 65536).clip(0, 32767).astype(np.int16)):
        assert codes(wrong) == ["NO_HU"]


def test_a_clean_background_beneath_the_body_is_not_doubted():
    """A gap to the table that opens on one slice, in a volume whose air was set to one value."""
    hu = chest(size=128)
    hu[hu < -950] = BACKGROUND_HU
    hu[:, 120:124, 10:118] = 200
    hu[11, 104:120] = BACKGROUND_HU
    assert codes(hu) == []


@pytest.mark.parametrize("place", [0, 12, 23])
def test_a_slice_of_another_body(place):
    hu = chest()
    hu[place] = chest(seed=3, phase=2.0, step=0.3)[place, :, ::-1]
    hu[place, :, :20] = 40
    (finding,) = check_voxels(hu)
    assert finding.code is GateCode.UNREADABLE
    assert f"slice {place + 1} differs from its neighbours by" in finding.message


def test_a_slice_whose_pixels_were_garbled_in_decoding():
    hu = chest()
    hu[7, 20:] = np.roll(hu[7, 20:].ravel(), 1000).reshape(44, 64)
    assert codes(hu) == ["UNREADABLE"]


def test_a_series_that_goes_on_in_another_body():
    hu = chest(40)
    hu[25:] = np.roll(chest(40, seed=4, phase=3.0)[25:, ::-1], 8, axis=2)
    (finding,) = check_voxels(hu)
    assert finding.code is GateCode.MIXED_SERIES
    assert "slices 25 and 26 differ by" in finding.message


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05])
def test_a_second_phase_a_little_shifted_in_the_plane(share):
    """What means do not tell, nor distances: the same body, moved by 1 of 64 columns, half a step further down."""
    second = np.roll(chest(30, seed=1, phase=0.06), 1, axis=2)
    second = (second * (1 - share)).astype(np.int16)
    (finding,) = check_voxels(interleaved(chest(30), second))
    assert finding.code is GateCode.MIXED_SERIES


@pytest.mark.parametrize("count", [9, 10, 11, 40])
def test_pure_noise_is_no_second_phase(count):
    noise = np.random.default_rng(count).normal(0, 100, (count, 64, 64)).astype(np.float32)
    assert fastest_change(noise) == pytest.approx(1.0 if count > 9 else 0.0, abs=0.06)


def test_one_picture_at_two_places():
    hu = chest()
    hu[17] = hu[3]
    (finding,) = check_voxels(hu)
    assert finding.code is GateCode.DUPLICATE_POSITION
    assert "the first are slices 4 and 18" in finding.message


@pytest.mark.parametrize("lenient", [False, True])
def test_lost_pixels_refuse_a_dicom_series(write_series, lenient):
    def edit(number, ds):
        if number == 9:
            ds.PixelData = bytes(len(ds.PixelData))

    with pytest.raises(Exception, match="1 of 10 slices hold one value only, the first is slice 10") as refused:
        open_study(write_series(edit=edit).folder, lenient=lenient)
    assert refused.value.code is GateCode.TRUNCATED


@pytest.mark.slow
@pytest.mark.parametrize("name", ["covid_002", "normal_002"])
def test_real_series_and_parts_of_them_are_not_doubted(shared_data, name):
    hu = open_study(shared_data / "volumes" / name).volume.hu[:, ::2, ::2]
    for every in (1, 2, 3, 5):
        for count in (12, 24, 60, 167):
            for start in (0, 40):
                part = hu[start::every][:count]
                assert codes(part) == [], (every, count, start)
    assert codes(interleaved(hu[0:60:2], np.where(hu[1:60:2] < -500, hu[1:60:2] + 40, hu[1:60:2]))) == [
        "MIXED_SERIES"
    ]


def test_which_slices_lie_on_a_line_is_measured_once(monkeypatch):
    asked = []

    def counted(thin):
        asked.append(thin)
        return slices_on_line(thin)

    monkeypatch.setattr("jcs_ct.imaging.gate_voxels.slices_on_line", counted)
    assert codes(chest(60, step=0.03)) == []
    assert len(asked) == 1
