"""The turn to the patient's axes: every one of 48 leads there and back, and keeps each voxel in its place."""

import itertools

import numpy as np
import pytest

from jcs_ct.axes import AS_STORED, AxisTurn, axial_angles_deg
from jcs_ct.imaging.study import Study
from jcs_ct.volume import CTVolume

#: Steps of slices, rows and columns in the patient's axes, LPS mm.
PATIENT = np.array([[0, 0, 0.7, -100.0], [0, 0.8, 0, -120.0], [-2.5, 0, 0, 300.0], [0, 0, 0, 1]])
TURNS = [
    AxisTurn(order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def rotated(degrees: float, axis: int) -> np.ndarray:
    angle = np.radians(degrees)
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_every_turn_keeps_voxels_in_place_and_is_found_again(turn):
    truth = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    source = turn.inverse.turned(truth)
    affine = turn.inverse.turned_affine(PATIENT, truth.shape)
    assert np.array_equal(turn.turned(source), truth)
    assert turn.turned_shape(source.shape) == truth.shape
    assert AxisTurn.to_patient(affine) == turn
    assert turn.turned_affine(affine, source.shape) == pytest.approx(PATIENT)
    for index in ((0, 0, 0), (2, 3, 4), (1, 2, 0)):
        place = turn.inverse.turned_index(index, truth.shape)
        assert source[place] == truth[index]
        assert affine @ [*place, 1] == pytest.approx(PATIENT @ [*index, 1])
        assert turn.turned_index(place, source.shape) == index


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_within_the_slice_rows_and_columns_are_the_sources_own(turn):
    truth = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    source_affine = turn.inverse.turned_affine(PATIENT, truth.shape)
    back = turn.in_plane.inverse
    affine = back.turned_affine(PATIENT, truth.shape)
    assert affine[:3, 0] == pytest.approx(PATIENT[:3, 0])
    across = turn.order[0]
    assert affine[:3, 1:3] == pytest.approx(np.delete(source_affine[:3, :3], across, axis=1))
    assert back.turned(truth)[1].size == truth[1].size


def test_directions_are_those_of_the_stored_axes():
    assert AS_STORED.source_directions == ("I", "P", "L")
    prone = PATIENT @ np.diag([1, -1, -1, 1])
    assert AxisTurn.to_patient(prone).source_directions == ("I", "A", "R")
    coronal = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    assert AxisTurn.to_patient(coronal).source_directions == ("A", "I", "L")


def test_axes_between_two_of_the_patients_have_no_turn():
    assert AxisTurn.to_patient(rotated(44, 2) @ PATIENT) == AS_STORED
    skewed = PATIENT[:3, :3].copy()
    skewed[:, 1] = [0.9, 0.5, 0.0]
    with pytest.raises(ValueError, match="two of them to one"):
        AxisTurn.to_patient(skewed)


@pytest.mark.parametrize(("degrees", "axis", "expected"), [(0, 0, (0, 0)), (17, 0, (17, 0)), (-23, 2, (0, 23))])
def test_angles_of_axial_slices(degrees, axis, expected):
    assert axial_angles_deg(rotated(degrees, axis) @ PATIENT) == pytest.approx(expected, abs=1e-6)


def test_a_turn_that_is_none_is_refused():
    with pytest.raises(ValueError, match="a permutation of 0, 1, 2"):
        AxisTurn((0, 0, 1))


def test_a_study_takes_no_volume_in_other_axes():
    hu = np.zeros((3, 4, 5), dtype=np.int16)
    for turn in TURNS[1:]:
        affine = turn.turned_affine(PATIENT, (3, 4, 5))
        with pytest.raises(ValueError, match="must be in the patient's axes"):
            Study(CTVolume(hu, affine), "0" * 16, "nifti", ())
    with pytest.raises(ValueError, match=r"the array has shape \(3, 4\)"):
        Study(CTVolume(hu, PATIENT), "0" * 16, "nifti", ()).on_source_grid(np.zeros((3, 4)))
