"""Pixels that are not square: one chest, stored with fewer rows or fewer columns, has the same lungs."""

import nibabel
import numpy as np
import pydicom
import pytest

from jcs_ct.imaging import open_study
from jcs_ct.lungs import LEFT, RIGHT, UNKNOWN_SIDE, lungs_in_view, require_lung, segment_lungs
from jcs_ct.lungs.square_pixels import LEAST_SIDE, SquarePixels
from jcs_ct.phantom import PhantomConfig, make_phantom, write_dicom

ROWS, COLUMNS = 1, 2


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(slices=12, lesions=4, seed=1, size=384))


def means(array: np.ndarray, count: int, axis: int) -> np.ndarray:
    """The array with the mean of every ``count`` neighbours along an axis."""
    shape = list(array.shape)
    shape[axis : axis + 1] = [shape[axis] // count, count]
    return np.rint(array.reshape(shape).mean(axis=axis + 1)).astype(np.int16)


def as_nifti(phantom, path, count, axis):
    affine = phantom.volume.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (count - 1) / 2
    affine[:3, axis] *= count
    hu = means(phantom.volume.hu, count, axis)
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(hu.T, ras), path)
    return path


def as_dicom(phantom, folder, count, axis):
    write_dicom(phantom, folder)
    for path in (folder / "dicom").iterdir():
        ds = pydicom.dcmread(path)
        pixels = means(ds.pixel_array[None], count, axis)[0]
        spacing, position = list(ds.PixelSpacing), list(ds.ImagePositionPatient)
        along = ds.ImageOrientationPatient[3:] if axis == ROWS else ds.ImageOrientationPatient[:3]
        step = spacing[axis - 1] * (count - 1) / 2
        ds.ImagePositionPatient = [round(p + step * a, 6) for p, a in zip(position, along, strict=True)]
        spacing[axis - 1] *= count
        ds.PixelSpacing, ds.Rows, ds.Columns, ds.PixelData = spacing, *pixels.shape, pixels.tobytes()
        ds.save_as(path)
    return folder / "dicom"


@pytest.mark.parametrize(
    ("store", "count", "axis"),
    [(as_nifti, 2, ROWS), (as_nifti, 4, ROWS), (as_nifti, 4, COLUMNS), (as_dicom, 2, ROWS), (as_dicom, 4, ROWS)],
)
def test_lungs_are_those_of_square_pixels(phantom, tmp_path, store, count, axis):
    volume = open_study(store(phantom, tmp_path / "ct.nii.gz", count, axis)).volume
    _, row_mm, column_mm = volume.spacing_mm
    assert max(row_mm, column_mm) == pytest.approx(count * min(row_mm, column_mm), rel=1e-3)
    labels = segment_lungs(volume.hu, spacing_mm=volume.spacing_mm)
    whole = segment_lungs(phantom.volume.hu, spacing_mm=phantom.volume.spacing_mm)
    assert labels.shape == volume.shape
    for side in (RIGHT, LEFT):
        expected_ml = np.count_nonzero(whole == side) * phantom.volume.voxel_ml
        assert np.count_nonzero(labels == side) * volume.voxel_ml == pytest.approx(expected_ml, rel=0.02)
    assert not (labels == UNKNOWN_SIDE).any()
    require_lung(labels, volume.hu, volume.spacing_mm)
    found = lungs_in_view(labels, volume.hu, volume.spacing_mm)
    expected = lungs_in_view(whole, phantom.volume.hu, phantom.volume.spacing_mm)
    assert (found.cut_slices, found.contradiction, found.only) == (expected.cut_slices, None, None)
    assert found.at_ends == pytest.approx(expected.at_ends, abs=0.03)


def test_square_pixels_are_left_as_they_are():
    assert SquarePixels.of((3, 8, 8), None) is None
    assert SquarePixels.of((3, 8, 8), (5.0, 0.7, 0.7)) is None
    assert SquarePixels.of((3, 8, 8), (5.0, 0.7, 0.71)) is None


@pytest.mark.parametrize("spacing_mm", [(5.0, 2.0, 0.8), (5.0, 0.8, 2.0), (5.0, 0.7, 0.75)])
def test_labels_return_to_where_they_were(spacing_mm):
    labels = np.random.default_rng(0).integers(0, 4, (2, 23, 17), dtype=np.uint8)
    square = SquarePixels.of(labels.shape, spacing_mm)
    assert np.array_equal(square.returned(square.nearest(labels)), labels)


def test_hu_between_two_pixels_are_between_theirs():
    hu = np.broadcast_to(np.arange(0, 400, 100, dtype=np.int16)[:, None], (1, 4, 3))
    square = SquarePixels.of(hu.shape, (5.0, 2.0, 1.0))
    resampled = square.resampled(hu)
    assert resampled.dtype == np.int16
    assert resampled[0, :, 0].tolist() == [0, 25, 75, 125, 175, 225, 275, 300]
    assert square.spacing_mm == (5.0, 1.0, 1.0)


def test_a_header_cannot_ask_for_any_size():
    square = SquarePixels.of((100, 512, 512), (60.0, 60.0, 0.05))
    assert square.spacing_mm[1:] == (60.0 * LEAST_SIDE,) * 2
    assert (len(square.rows), len(square.columns)) == (512 / LEAST_SIDE, 3)
