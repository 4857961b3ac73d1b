"""Slices that lie otherwise than their neighbours, or in another order, told from voxels alone."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging import gate_order, open_study
from jcs_ct.imaging.gate_finding import Severity
from jcs_ct.imaging.gate_order import check_order, check_turned
from jcs_ct.phantom import PhantomConfig, make_phantom


@pytest.fixture(scope="module")
def chest():
    """(72, 96, 96) HU and its affine."""
    volume = make_phantom(PhantomConfig(slices=72, size=96, seed=2, lesions=3)).volume
    return volume.hu.astype(np.float32), volume.affine


TURNS = {
    "mirrored along its rows": lambda planes: planes[:, :, ::-1],
    "mirrored along its columns": lambda planes: planes[:, ::-1],
    "turned by 180 degrees": lambda planes: planes[:, ::-1, ::-1],
    "mirrored across its diagonal": lambda planes: planes.transpose(0, 2, 1),
    "turned by 90 degrees": lambda planes: np.rot90(planes, axes=(1, 2)),
}


@pytest.mark.parametrize("part", [slice(20, None), slice(0, 7), slice(11, 13)], ids=["half", "top", "within"])
@pytest.mark.parametrize("how", TURNS)
def test_a_part_that_is_mirrored_or_turned_is_refused(how, part, chest):
    hu = chest[0].copy()
    hu[part] = TURNS[how](hu[part])
    (finding,) = check_turned(hu)
    assert (finding.code, finding.severity) == (GateCode.MIXED_ORIENTATION, Severity.REFUSED)
    seams = {part.start, part.stop} - {0, None}
    assert any(f"from slice {seam} to slice {seam + 1} the picture is" in finding.message for seam in seams)
    # Back again is the same way, but for a quarter turn.
    assert how in finding.message


@pytest.mark.parametrize(
    ("first", "last", "what"),
    [
        (9, 10, "slices 10 and 11 are exchanged"),
        (14, 21, "slices 15 to 22 lie the other way around"),
        (60, 71, "slices 61 to 72 lie the other way around"),
        (0, 12, "slices 1 to 13 lie the other way around"),
    ],
)
def test_slices_in_another_order_are_refused(first, last, what, chest):
    hu = chest[0].copy()
    hu[first : last + 1] = hu[first : last + 1][::-1].copy()
    (finding,) = check_order(hu)
    assert (finding.code, finding.severity) == (GateCode.SLICE_ORDER, Severity.GEOMETRY)
    assert what in finding.message


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_chest_as_it_is_is_left_alone(step, chest):
    hu = chest[0][::step]
    for lying in (hu, hu[::-1], hu[:, :, ::-1], hu[len(hu) // 3 :]):
        assert check_turned(lying) == check_order(lying) == []


def test_noise_and_a_few_slices_tell_nothing():
    noise = np.random.default_rng(0).normal(0, 300, (40, 128, 128)).astype(np.float32)
    assert check_turned(noise) == check_order(noise) == []
    assert check_turned(noise[:4]) == check_order(noise[:4]) == []


def test_a_long_series_is_thinned_and_still_told(chest):
    long = ndimage.zoom(chest[0], (5, 1, 1), order=1)
    long += np.random.default_rng(1).normal(0, 20, long.shape).astype(np.float32)
    assert check_turned(long) == check_order(long) == []
    long[150:] = long[150:, :, ::-1].copy()
    assert [finding.code for finding in check_turned(long)] == [GateCode.MIXED_ORIENTATION]


def test_of_very_many_slices_every_nth_is_held_against_the_others(chest, monkeypatch):
    """The square of 20 000 slices would not fit into memory."""
    monkeypatch.setattr(gate_order, "_MOST_COMPARED", 36)
    hu = chest[0].copy()
    assert check_order(hu) == []
    hu[20:40] = hu[20:40][::-1].copy()
    (finding,) = check_order(hu)
    assert "slices 21 to 39 lie the other way around" in finding.message


def test_both_are_told_of_a_stored_volume(chest, tmp_path):
    """In lenient mode lengths are withheld for an order; sides that contradict each other stay refused."""
    hu, affine = chest
    # LPS (slice, row, column) to RAS (x, y, z)
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
    turned, shuffled = hu.copy(), hu.copy()
    turned[22:] = turned[22:, :, ::-1].copy()
    shuffled[[8, 9]] = shuffled[[9, 8]]
    for name, planes in {"plain": hu, "turned": turned, "shuffled": shuffled}.items():
        image = nibabel.Nifti1Image(planes.transpose(2, 1, 0).astype(np.int16), ras)
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    assert open_study(tmp_path / "plain.nii.gz").volume.is_measurable
    for lenient in (False, True):
        with pytest.raises(StudyError) as error:
            open_study(tmp_path / "turned.nii.gz", lenient=lenient)
        assert error.value.code == GateCode.MIXED_ORIENTATION
    with pytest.raises(StudyError) as error:
        open_study(tmp_path / "shuffled.nii.gz")
    assert error.value.code == GateCode.SLICE_ORDER
    study = open_study(tmp_path / "shuffled.nii.gz", lenient=True)
    assert GateCode.SLICE_ORDER in [flag.code for flag in study.flags]
    assert not study.volume.is_measurable
