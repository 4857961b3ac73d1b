"""NIfTI volumes: any axis order gives the same anatomy, and headers are not trusted."""

from __future__ import annotations

import bz2
import gzip
import re

import nibabel as nib
import numpy as np
import pytest

from jcs_ct.errors import GateCode, StudyError
from jcs_ct.imaging import SeriesFate, list_series, open_study
from jcs_ct.imaging.single import nifti_headroom
from jcs_ct.volume import BACKGROUND_HU

RAS = np.array([[0.0, 0.0, -0.7, 10.0], [0.0, -0.8, 0.0, 20.0], [-2.0, 0.0, 0.0, 30.0], [0, 0, 0, 1.0]])


@pytest.fixture
def truth():
    """(slices, rows, columns) HU; with ``RAS`` its affine to NIfTI's world, already in the contract's order."""
    return np.random.default_rng(0).integers(-1000, 1000, size=(8, 6, 5)).astype(np.int16)


def save(path, array, affine=RAS, **header):
    nib.save(nib.Nifti1Image(array, affine), path)
    if header:
        data = bytearray(path.read_bytes())
        edited = nib.Nifti1Header(bytes(data[:348]))
        for name, value in header.items():
            edited[name] = value
        path.write_bytes(edited.binaryblock + data[348:])
    return path


def test_volume_in_the_contracts_order(tmp_path, truth):
    study = open_study(save(tmp_path / "ct.nii.gz", truth))
    assert np.array_equal(study.volume.hu, truth)
    assert study.volume.hu.dtype == np.int16
    assert study.volume.spacing_mm == pytest.approx((2.0, 0.8, 0.7))
    assert study.volume.to_lps_mm((1, 2, 3)) == pytest.approx((-10 + 2.1, -20 + 1.6, 28.0), abs=1e-4)
    assert (study.kind, [flag.code for flag in study.flags]) == ("nifti", ["PARTIAL_CHEST"])


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SPL", "IAR", "ASL"])
def test_any_axis_order_gives_the_same_volume(tmp_path, truth, orientation):
    image = nib.Nifti1Image(truth, RAS)
    codes = nib.orientations.axcodes2ornt(tuple(orientation))
    turn = nib.orientations.ornt_transform(nib.io_orientation(RAS), codes)
    nib.save(image.as_reoriented(turn), tmp_path / "ct.nii")
    volume = open_study(tmp_path / "ct.nii").volume
    assert np.array_equal(volume.hu, truth)
    assert volume.affine == pytest.approx(np.diag([-1, -1, 1, 1]) @ RAS, abs=1e-4)


@pytest.mark.parametrize("form", ["sform", "qform"])
@pytest.mark.parametrize("mirrored", [0, 1, 2])
def test_a_form_of_code_0_is_not_read(tmp_path, truth, form, mirrored):
    """The form that is stated places the volume, whatever the other holds: as NIfTI-1 says and nibabel reads."""
    affine = RAS.copy()
    affine[:, mirrored] *= -1
    image = nib.Nifti1Image(truth, affine)
    image.set_sform(affine, code=int(form == "sform"))
    image.set_qform(affine, code=int(form == "qform"))
    if form == "sform":
        image.header.set_qform(RAS, code=0)
    else:
        image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = RAS[:3]
    nib.save(image, tmp_path / "ct.nii")
    stored = nib.load(tmp_path / "ct.nii")
    assert stored.affine == pytest.approx(affine, abs=1e-4)
    volume = open_study(tmp_path / "ct.nii").volume
    assert np.array_equal(volume.hu, np.flip(truth, mirrored))  # towards the patient's axes
    to_voxel = np.linalg.inv(stored.affine)
    for index in ((0, 0, 0), (7, 5, 4), (2, 1, 3), (5, 4, 0)):
        ras = np.array(volume.to_lps_mm(index)) * [-1, -1, 1]
        place = tuple(np.rint(nib.affines.apply_affine(to_voxel, ras)).astype(int))
        assert stored.dataobj[place] == volume.hu[index]


def test_float_samples_and_padding(tmp_path, truth):
    array = truth.astype(np.float32) + 0.25
    array[0, 0, [0, 2]] = [-2048, -3024]
    hu = open_study(save(tmp_path / "ct.nii", array)).volume.hu
    assert hu.dtype == np.float32
    assert (hu[0, 0, [0, 2]] == BACKGROUND_HU).all()
    assert np.array_equal(hu[1:], array[1:])


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (0.5, -1000)])
def test_whole_numbers_are_int16_whatever_scaling_makes_of_them(tmp_path, truth, slope, intercept):
    stored = ((truth - intercept) / slope).astype(np.int16)
    save(tmp_path / "ct.nii", stored, scl_slope=slope, scl_inter=intercept)
    assert nib.load(tmp_path / "ct.nii").get_fdata(dtype=np.float32).tolist() == truth.tolist()
    hu = open_study(tmp_path / "ct.nii").volume.hu
    assert hu.dtype == np.int16
    assert np.array_equal(hu, truth)
    plain = open_study(save(tmp_path / "plain.nii", truth.astype(np.float32)))
    assert plain.volume.hu.dtype == np.int16
    assert plain.identifier == open_study(tmp_path / "ct.nii").identifier


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.img", "ct"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_a_volume_is_read_by_its_content_whatever_it_is_called(tmp_path, truth, name, pack):
    plain = save(tmp_path / "plain.nii", truth).read_bytes()
    (tmp_path / "named").mkdir()
    path = tmp_path / "named" / name
    path.write_bytes(pack(plain))
    assert np.array_equal(open_study(path).volume.hu, truth)


def body(count=6, side=24):
    """(count, side, side) HU: a square body in air."""
    hu = np.full((count, side, side), -1000.0, dtype=np.float32)
    hu[:, 6:18, 6:18] = 40.0
    return hu + np.random.default_rng(3).normal(0, 10, hu.shape).astype(np.float32)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_lines_of_the_file_that_were_overwritten(tmp_path, order):
    array = body(12, 24).astype(np.int16).transpose(order)
    affine = RAS[:, [*order, 3]]
    path = save(tmp_path / "ct.nii", array, affine)
    assert open_study(path).volume.hu.shape == (12, 24, 24)
    data = bytearray(path.read_bytes())
    first = 352 + 2 * array.shape[0] * (array.shape[1] * (array.shape[2] // 2) + array.shape[1] // 2 - 1)
    data[first : first + 6 * array.shape[0]] = bytes(6 * array.shape[0])
    path.write_bytes(bytes(data))
    with pytest.raises(StudyError, match="3 rows of one value in the middle of the body") as refused:
        open_study(path)
    assert refused.value.code is GateCode.TRUNCATED


def test_nan_around_the_body_is_noted_as_not_imaged(tmp_path):
    hu = body()
    rows, columns = np.mgrid[:24, :24]
    hu[:, np.hypot(rows - 11.5, columns - 11.5) > 11.5] = np.nan
    study = open_study(save(tmp_path / "ct.nii", hu))
    (flag,) = [flag for flag in study.flags if flag.code == "NOT_IMAGED"]
    assert f"{np.isnan(hu).sum()} of {hu.size} voxels" in flag.message
    assert (study.volume.hu[np.isnan(hu)] == BACKGROUND_HU).all()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (np.s_[::2], np.nan),  # every other slice
        (np.s_[:, 10:], np.nan),  # what lies behind
        (np.s_[3, 12, 12], np.nan),  # one voxel of the body
        (np.s_[3, 3, 3], np.nan),  # one voxel of the air around it, reached from no edge
        (np.s_[:, 0, 0], np.inf),
    ],
)
def test_nan_and_infinities_are_never_air(tmp_path, place, value):
    hu = body()
    hu[place] = value
    path = save(tmp_path / "ct.nii", hu)
    with pytest.raises(StudyError, match="voxels are NaN or infinite") as error:
        open_study(path)
    assert error.value.code is GateCode.NO_HU


def test_a_lenient_reading_withholds_measures_where_values_are_lost(tmp_path):
    hu = body()
    hu[:, 10:] = np.nan
    study = open_study(save(tmp_path / "ct.nii", hu), lenient=True)
    assert study.volume.affine is None
    assert GateCode.NO_HU in {flag.code for flag in study.flags}


REFUSED = {
    "four dimensions": (lambda t: (np.stack([t, t], axis=-1), RAS, {}), GateCode.UNSUPPORTED, "has 4: 8x6x5x2"),
    "grey levels": (lambda t: (((t + 1000) // 8).astype(np.uint8), RAS, {}), GateCode.NO_HU, "values from 0 to 249"),
    "coronal": (
        lambda t: (t, RAS @ np.diag([0.4, 5.0, 1.0, 1.0]), {}),
        GateCode.NOT_AXIAL,
        "axial slices would have pixels of 0.7 x 4.0 mm",
    ),
}
WITHHELD = {
    "no affine": (lambda t: (t, RAS, {"sform_code": 0, "qform_code": 0}), GateCode.NO_POSITION, "no position"),
    "shear": (
        lambda t: (t, RAS + np.array([[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]), {}),
        GateCode.TILT,
        "the volume is sheared by 14.0 degrees",
    ),
    "two voxel sizes": (
        lambda t: (t, RAS, {"pixdim": [1, 1.5, 0.8, 0.7, 1, 1, 1, 1]}),
        GateCode.MIXED_SPACING,
        "the header states two voxel sizes, 2.000 x 0.800 x 0.700 and 1.500 x 0.800 x 0.700 mm",
    ),
    "two placements": (
        lambda t: (t, RAS, {"qform_code": 2, "qoffset_x": 15}),
        GateCode.NO_POSITION,
        "sform (code 2) and qform (code 2) place the volume 5.0 mm apart",
    ),
    "two placements in two spaces": (
        lambda t: (t, RAS, {"qform_code": 1, "qoffset_x": 15}),
        GateCode.NO_POSITION,
        "set one of the two codes to 0",
    ),
    "no voxel size": (
        lambda t: (t, RAS, {"sform_code": 0, "qform_code": 1, "pixdim": [1, 2.0, 0, 0.7, 1, 1, 1, 1]}),
        GateCode.NO_POSITION,
        "the qform has voxels of 2 x 0 x 0.7 (pixdim), each must be above 0",
    ),
    "a voxel size below 0": (
        lambda t: (t, RAS, {"sform_code": 0, "qform_code": 1, "pixdim": [1, 2.0, -0.8, 0.7, 1, 1, 1, 1]}),
        GateCode.NO_POSITION,
        "the qform has voxels of 2 x -0.8 x 0.7",
    ),
    "a third axis turned by no sign": (
        lambda t: (t, RAS, {"sform_code": 0, "qform_code": 1, "pixdim": [-2, 2.0, 0.8, 0.7, 1, 1, 1, 1]}),
        GateCode.NO_POSITION,
        "the qform turns its third axis by -2",
    ),
    "no voxel size beside an sform": (
        lambda t: (t, RAS, {"pixdim": [1, 2.0, 0, 0.7, 1, 1, 1, 1]}),
        GateCode.MIXED_SPACING,
        "two voxel sizes, 2.000 x 0.800 x 0.700 and 2.000 x 0.000 x 0.700 mm",
    ),
    "an infinite voxel size beside an sform": (
        lambda t: (t, RAS, {"pixdim": [1, 2.0, np.inf, 0.7, 1, 1, 1, 1]}),
        GateCode.MIXED_SPACING,
        "two voxel sizes, 2.000 x 0.800 x 0.700 and 2.000 x inf x 0.700 mm",
    ),
    "a voxel size that is no number beside an sform": (
        lambda t: (t, RAS, {"pixdim": [1, 2.0, np.nan, 0.7, 1, 1, 1, 1]}),
        GateCode.MIXED_SPACING,
        "two voxel sizes, 2.000 x 0.800 x 0.700 and 2.000 x nan x 0.700 mm",
    ),
    "no rotation": (
        lambda t: (t, RAS, {"qform_code": 2, "quatern_b": 2.0}),
        GateCode.NO_POSITION,
        "the qform is no rotation",
    ),
    "unknown space": (
        lambda t: (t, RAS, {"sform_code": -32768, "qform_code": 1, "qoffset_y": -20}),
        GateCode.NO_POSITION,
        "a form code is -32768, 0 to 5 are known",
    ),
    "unknown unit": (
        lambda t: (t, RAS, {"xyzt_units": 7}),
        GateCode.NO_POSITION,
        "states lengths in a unit of code 7, 0 to 3 are known",
    ),
    "metres": (
        lambda t: (t, RAS, {"xyzt_units": 1}),
        GateCode.NO_POSITION,
        "distances between voxels of 2000 x 800 x 700 mm, a chest CT has 0.05 to 60",
    ),
    "few slices": (lambda t: (t[:3], RAS, {}), GateCode.TOO_FEW_SLICES, "the volume has 3 slice(s)"),
}


@pytest.mark.parametrize("size", [np.nan, np.inf])
def test_a_qform_with_a_voxel_size_that_is_no_number(tmp_path, truth, size):
    path = save(tmp_path / "ct.nii", truth, sform_code=0, qform_code=1, pixdim=[1, 2.0, size, 0.7, 1, 1, 1, 1])
    with pytest.raises(StudyError) as refused:
        open_study(path)
    assert refused.value.code is GateCode.NO_POSITION


def test_a_sign_of_a_voxel_size_beside_an_sform_means_nothing(tmp_path, truth):
    study = open_study(save(tmp_path / "ct.nii", truth, pixdim=[1, 2.0, -0.8, 0.7, 1, 1, 1, 1]))
    assert np.array_equal(study.volume.hu, truth)


@pytest.mark.parametrize("fault", REFUSED | WITHHELD)
def test_fault_is_refused(tmp_path, truth, fault):
    make, code, message = (REFUSED | WITHHELD)[fault]
    array, affine, header = make(truth)
    path = save(tmp_path / "ct.nii", array, affine, **header)
    with pytest.raises(StudyError, match=re.escape(message)) as refused:
        open_study(path)
    assert refused.value.code is code
    if fault in WITHHELD:
        study = open_study(path, lenient=True)
        assert study.volume.affine is None
        assumed = ["ASSUMED_AXES"] if code is GateCode.NO_POSITION else []
        assert [flag.code for flag in study.flags] == [code, *assumed]
        assert study.volume.axes_are_assumed == bool(assumed)


def rotated(degrees, axis):
    """A rotation about one axis of the world, 4x4."""
    angle = np.radians(degrees)
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


@pytest.mark.parametrize(
    ("degrees", "axis", "flags", "refusal"),
    [
        (0.5, 0, [], None),
        (4, 0, ["OBLIQUE"], None),
        (29, 0, ["OBLIQUE"], None),
        (31, 0, None, "the slices lean over by 31 degrees from the body axis, at most 30 are read"),
        (44, 1, None, "the slices lean over by 44 degrees"),
        (7, 2, ["OBLIQUE"], None),
        (20, 2, None, "turned in their plane by 20 degrees, at most 15 beside quarter turns are read"),
        (45, 2, None, "degrees"),
    ],
)
def test_volumes_that_lean_over_or_are_turned_in_their_plane(tmp_path, truth, degrees, axis, flags, refusal):
    """The limits and codes of DICOM."""
    several = np.random.default_rng(1).integers(-1000, 1000, size=(160, 6, 5)).astype(np.int16)
    path = save(tmp_path / "ct.nii", several, rotated(degrees, axis) @ RAS)
    if refusal is not None:
        for lenient in (False, True):
            with pytest.raises(StudyError, match=refusal) as refused:
                open_study(path, lenient=lenient)
            assert refused.value.code is GateCode.NOT_AXIAL
        return
    study = open_study(path)
    assert [flag.code for flag in study.flags] == flags
    assert all(("a gantry tilt that the conversion lost" in flag.message) == (axis == 0) for flag in study.flags)
    assert study.volume.voxel_ml == pytest.approx(2.0 * 0.8 * 0.7 / 1000, rel=1e-4)
    assert study.source_affine == pytest.approx(
        np.diag([-1, -1, 1, 1]) @ (rotated(degrees, axis) @ RAS)[:, [2, 1, 0, 3]], abs=1e-3
    )


def test_cut_off_volumes(tmp_path, truth):
    path = save(tmp_path / "ct.nii", truth)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(StudyError) as refused:
        open_study(path)
    assert refused.value.code is GateCode.TRUNCATED
    packed = tmp_path / "packed.nii.gz"
    large = np.tile(truth, (1, 20, 20)) + np.arange(100, dtype=np.int16)
    packed.write_bytes(gzip.compress(save(tmp_path / "b.nii", large).read_bytes())[:-400])
    with pytest.raises(StudyError) as refused:
        open_study(packed)
    assert refused.value.code is GateCode.TRUNCATED


def test_samples_behind_the_announced_ones(tmp_path, truth):
    path = save(tmp_path / "ct.nii", truth)
    data = bytearray(path.read_bytes())
    assert data[42] == 8
    data[42] = 7
    path.write_bytes(data)
    with pytest.raises(StudyError, match=r"the file goes on behind the 772 bytes that its header announces"):
        open_study(path)


def test_header_that_lies_about_its_size(tmp_path, truth):
    path = save(tmp_path / "ct.nii", truth)
    data = bytearray(path.read_bytes())
    data[40:48] = np.array([3, 30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(data)
    with pytest.raises(StudyError, match=r"the header announces 1005[0-9][0-9].[0-9] GiB of samples"):
        open_study(path)


def test_listed(tmp_path, truth):
    (listed,) = list_series(save(tmp_path / "ct.nii", truth))
    assert (listed.fate, listed.slice_count, listed.shape) == (SeriesFate.CHOSEN, 8, (6, 5))
    assert listed.extent_mm == pytest.approx(14.0)
    (tmp_path / "other.nii").write_bytes((tmp_path / "ct.nii").read_bytes())
    with pytest.raises(StudyError, match="2 NIfTI volumes"):
        open_study(tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 100, 346])
def test_a_compressed_header_that_is_cut_off_is_no_crash(tmp_path, keep):
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(gzip.compress(np.random.default_rng(0).bytes(keep)))
    with pytest.raises(StudyError) as refused:
        open_study(path)
    assert refused.value.code in (GateCode.UNREADABLE, GateCode.TRUNCATED)


@pytest.mark.parametrize(("radius", "read"), [(0.98, True), (0.8, False)])
def test_nan_around_the_field_of_view_that_cuts_the_body(tmp_path, radius, read):
    rows, columns = np.mgrid[-1:1:40j, -1:1:40j]
    hu = np.random.default_rng(0).normal(40, 10, (40, 40, 12)).astype(np.float32)  # body up to the rim
    hu[(columns**2 + rows**2) < 0.3] = np.random.default_rng(1).normal(-800, 30)
    hu += np.random.default_rng(2).normal(0, 5, hu.shape).astype(np.float32)
    hu[(columns**2 + rows**2) > radius**2] = np.nan
    path = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image(hu, np.diag([-8.0, -8.0, 20.0, 1.0])), path)
    if read:
        assert "NOT_IMAGED" in [str(flag.code) for flag in open_study(path).flags]
    else:
        with pytest.raises(StudyError, match="NaN or infinite") as refused:
            open_study(path)
        assert refused.value.code is GateCode.NO_HU


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_small_volume_is_allowed_little_memory(suffix, tmp_path):
    """The child's limit follows the size that the head states: what else the file makes it take is refused."""
    path = tmp_path / f"ct{suffix}"
    nib.save(nib.Nifti1Image(np.zeros((64, 64, 50), dtype=np.int16), np.eye(4)), path)
    assert nifti_headroom(path) == 16 * 64 * 64 * 50
    path.write_bytes(b"no head")
    assert nifti_headroom(path) == nifti_headroom(tmp_path / "absent.nii") == 8 << 30
