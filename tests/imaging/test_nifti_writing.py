from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK

from jcs_ct.imaging.nifti_writing import ras_affine, write_activation_volume, write_label_volume
from jcs_ct.volume import CTVolume

SHAPE = (5, 7, 9)


def _affine(slice_axis, row_axis, column_axis, spacing, origin=(-120.5, -88.25, 301.75)):
    affine = np.eye(4)
    for index, (axis, step) in enumerate(zip((slice_axis, row_axis, column_axis), spacing, strict=True)):
        affine[:3, index] = np.asarray(axis, dtype=float) * step
    affine[:3, 3] = origin
    return affine


def _rotated(affine):
    a, b = np.deg2rad(17), np.deg2rad(-9)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    turned = affine.copy()
    turned[:3, :3] = about_z @ about_x @ affine[:3, :3]
    return turned


DOWN, UP, POSTERIOR, LEFT, RIGHT = (0, 0, -1), (0, 0, 1), (0, 1, 0), (1, 0, 0), (-1, 0, 0)
GEOMETRIES = {
    "axial, head first": _affine(DOWN, POSTERIOR, LEFT, (2.0, 0.7, 0.7)),
    "axial, feet first in the file": _affine(UP, POSTERIOR, LEFT, (1.25, 0.7, 0.7)),
    "pixels that are not square": _affine(DOWN, POSTERIOR, LEFT, (5.0, 0.6, 0.9)),
    "columns to the right": _affine(DOWN, POSTERIOR, RIGHT, (2.0, 0.7, 0.7)),
    "oblique": _rotated(_affine(DOWN, POSTERIOR, LEFT, (2.0, 0.7, 0.8))),
}


@pytest.fixture(params=GEOMETRIES.values(), ids=GEOMETRIES.keys())
def volume(request):
    return CTVolume(np.zeros(SHAPE, dtype=np.int16), request.param)


@pytest.fixture
def labels():
    return np.random.default_rng(3).integers(0, 4, SHAPE).astype(np.uint16)


def test_nibabel_finds_every_voxel_where_the_volume_has_it(tmp_path, volume, labels):
    path = tmp_path / "labels.nii.gz"
    write_label_volume(path, labels, volume.affine, description="test")
    image = nibabel.load(path)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
    stored = np.asarray(image.dataobj)
    for affine in (image.get_sform(), image.get_qform()):
        for index in np.ndindex(*SHAPE):
            s, r, c = index
            left, posterior, superior = volume.to_lps_mm(index)
            ras = affine @ [c, r, s, 1]
            np.testing.assert_allclose(ras[:3], [-left, -posterior, superior], atol=1e-3)
            assert stored[c, r, s] == labels[index]


def test_simpleitk_finds_every_voxel_where_the_volume_has_it(tmp_path, volume, labels):
    path = tmp_path / "labels.nii.gz"
    write_label_volume(path, labels, volume.affine, description="test")
    image = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), labels)
    for s, r, c in np.ndindex(*SHAPE):
        position = image.TransformIndexToPhysicalPoint((c, r, s))
        np.testing.assert_allclose(position, volume.to_lps_mm((s, r, c)), atol=1e-3)


def test_activation_comes_back_within_half_a_level(tmp_path, volume):
    activation = np.random.default_rng(0).random(SHAPE).astype(np.float16)
    path = tmp_path / "activation.nii.gz"
    write_activation_volume(path, activation, volume.affine, description="test")
    ours = activation.astype(np.float64)
    by_nibabel = nibabel.load(path).get_fdata().transpose(2, 1, 0)
    by_itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    np.testing.assert_allclose(by_nibabel, ours, atol=1 / 510 + 1e-6)
    np.testing.assert_allclose(by_itk, ours, atol=1 / 510 + 1e-6)


@pytest.mark.parametrize(("highest", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_many_lesions_need_sixteen_bits(tmp_path, highest, dtype):
    labels = np.zeros(SHAPE, dtype=np.uint16)
    labels[0, 0, 0] = highest
    path = tmp_path / "labels.nii.gz"
    write_label_volume(path, labels, GEOMETRIES["oblique"], description="test")
    image = nibabel.load(path)
    assert image.get_data_dtype() == dtype
    assert np.asarray(image.dataobj).max() == highest


def test_unknown_geometry_is_said_in_the_header(tmp_path, labels):
    path = tmp_path / "labels.nii.gz"
    write_label_volume(path, labels, None, description="jcs-ct lesions; geometry unknown: voxel units")
    header = nibabel.load(path).header
    assert int(header["sform_code"]) == int(header["qform_code"]) == 0
    assert header.get_xyzt_units()[0] == "unknown"
    assert header.get_zooms() == (1.0, 1.0, 1.0)
    assert b"geometry unknown" in header["descrip"].item()


def test_the_same_volume_gives_the_same_bytes(tmp_path, volume, labels):
    paths = [tmp_path / "a" / "labels.nii.gz", tmp_path / "b" / "labels.nii.gz"]
    for path in paths:
        path.parent.mkdir()
        write_label_volume(path, labels, volume.affine, description="test")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_ras_affine_of_the_usual_axial_scan():
    expected = [[-0.7, 0, 0, 120.5], [0, -0.7, 0, 88.25], [0, 0, -2.0, 301.75], [0, 0, 0, 1]]
    np.testing.assert_allclose(ras_affine(GEOMETRIES["axial, head first"]), expected)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize(
    ("array", "stored"),
    [
        (lambda values: values > 3, np.uint8),
        (lambda values: values.astype(np.uint16) * 99, np.uint16),
        (lambda values: values.astype(np.int64) - 1000, np.int16),
        (lambda values: values / 7.0, np.float32),
    ],
    ids=["mask", "labels", "HU", "map"],
)
def test_a_study_saves_its_arrays_where_they_lie(tmp_path, name, array, stored):
    from jcs_ct.axes import AxisTurn
    from jcs_ct.imaging.study import Study, turned_volume

    generator, source = np.random.default_rng(1), GEOMETRIES[name]
    turn = AxisTurn.to_patient(source)
    volume = turned_volume(generator.integers(-1000, 400, SHAPE).astype(np.int16), source, turn)
    study = Study(volume, "0" * 16, "nifti", (tmp_path,), turn=turn)
    values = array(generator.integers(0, 9, study.volume.shape))
    path = study.save_nifti(values, tmp_path / "saved.nii.gz")
    image = SimpleITK.ReadImage(str(path))
    assert nibabel.load(path).get_data_dtype() == stored
    hu, affine = study.as_array()
    for index in np.ndindex(*values.shape):
        place = (affine @ [*index, 1])[:3]  # LPS, as SimpleITK's
        assert image.GetPixel(*image.TransformPhysicalPointToIndex(place.tolist())) == pytest.approx(
            float(values[index]), abs=1e-6
        )
    _, ras = study.as_array("RAS")
    np.testing.assert_allclose(ras[:2], -affine[:2])
    np.testing.assert_allclose(ras[2:], affine[2:])
    assert hu is study.volume.hu


def test_what_cannot_be_saved_is_said(tmp_path):
    from jcs_ct.errors import ConfigError
    from jcs_ct.imaging.study import Study

    study = Study(CTVolume(np.zeros(SHAPE, np.int16), None, axes_are_assumed=True), "0" * 16, "slices", (tmp_path,))
    mask = np.zeros(SHAPE, dtype=bool)
    with pytest.raises(ConfigError, match=r"'mask.png' must end in .nii or .nii.gz"):
        study.save_nifti(mask, tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"the array has shape \(2, 2\)"):
        study.save_nifti(mask[0, :2, :2], tmp_path / "mask.nii")
    with pytest.raises(ValueError, match="values from 0 to 70000 fit neither"):
        study.save_nifti(np.where(mask, 0, 70000) * (np.arange(9) > 3), tmp_path / "mask.nii")
    with pytest.raises(ValueError, match="space must be LPS or RAS, got 'XYZ'"):
        study.as_array("XYZ")
    assert study.as_array("RAS")[1] is None
    assert list(tmp_path.iterdir()) == []
