"""Masks of whole studies: on the CT's grid or refused."""

import nibabel
import numpy as np
import pytest

from jcs_ct.errors import ConfigError, MaskError
from jcs_ct.imaging.masks import mask_on, open_mask
from jcs_ct.volume import CTVolume

#: (x, y, z) -> RAS mm: columns to the left, rows to posterior, slices to superior.
RAS = np.array([[-0.7, 0, 0, 10.0], [0, -0.8, 0, 20.0], [0, 0, 5.0, -30.0], [0, 0, 0, 1]])
TRUTH = np.zeros((10, 12, 6), dtype=np.uint8)
TRUTH[2:5, 3:9, 4] = 1
TRUTH[2, 3, 1] = 1
#: (slices, rows, columns), the most superior slice first.
EXPECTED = np.transpose(TRUTH, (2, 1, 0))[::-1].astype(bool)


@pytest.fixture
def volume() -> CTVolume:
    affine = np.array([[0, 0, 0.7, -10.0], [0, 0.8, 0, -20.0], [-5.0, 0, 0, -5.0], [0, 0, 0, 1]])
    return CTVolume(np.zeros((6, 12, 10), dtype=np.int16), affine)


@pytest.fixture
def written(tmp_path):
    def write(voxels: np.ndarray, affine: np.ndarray = RAS, name: str = "mask.nii.gz"):
        image = nibabel.Nifti1Image(voxels, affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, tmp_path / name)
        return tmp_path / name

    return write


def test_a_mask_comes_to_lie_on_its_ct(written, volume):
    assert np.array_equal(mask_on(volume, written(TRUTH)), EXPECTED)
    assert np.array_equal(mask_on(volume, written(TRUTH * np.uint8(255), name="high.nii")), EXPECTED)
    assert not mask_on(volume, written(np.zeros_like(TRUTH))).any()


def test_a_mask_that_is_stored_the_other_way_up_is_turned(written, volume):
    flipped = RAS @ np.array([[1, 0, 0, 0], [0, -1, 0, 11], [0, 0, -1, 5], [0, 0, 0, 1]])
    turned = np.ascontiguousarray(TRUTH[:, ::-1, ::-1])
    assert np.array_equal(mask_on(volume, written(turned, flipped)), EXPECTED)


def test_labels_are_lesion_all_or_those_that_are_named(written, volume):
    labels = TRUTH.astype(np.uint16) * 300
    labels[7, 3:5, 2] = 2
    path = written(labels)
    every = np.transpose(labels, (2, 1, 0))[::-1] > 0
    assert np.array_equal(mask_on(volume, path), every)
    assert np.array_equal(mask_on(volume, path, (300,)), EXPECTED)
    assert np.array_equal(mask_on(volume, path, (300, 2)), every)
    assert not mask_on(volume, path, (7,)).any()
    assert open_mask(path).label_count == 2


@pytest.mark.parametrize(
    ("voxels", "shift", "message"),
    [
        (np.linspace(0, 1, TRUTH.size, dtype=np.float32).reshape(TRUTH.shape), 0, r"this one has 0, .*, \.\.\."),
        (TRUTH.astype(np.int16) * 900 - 1000, 0, "whole numbers as labels; this one has -1000, -100"),
        (1 - TRUTH, 0, "the mask marks 97% of the volume; the background seems marked"),
        (np.where(TRUTH, np.nan, 0).astype(np.float32), 0, "this one has 0, nan"),
        (np.ones_like(TRUTH), 0, "the value 0 and one other, .* this one has 1"),
        (TRUTH[:-1], 0, r"the mask has 6x12x9 voxels \(slices, rows, columns\), its CT 6x12x10"),
        (TRUTH, 9.0, r"the mask lies 9\.0 mm from its CT; resample it"),
    ],
    ids=["probabilities", "HU", "inverted", "NaN", "no background", "another size", "another place"],
)
def test_a_mask_that_does_not_fit_is_refused(voxels, shift, message, written, volume):
    moved = RAS.copy()
    moved[0, 3] += shift
    with pytest.raises(MaskError, match=message):
        mask_on(volume, written(voxels, moved))


def test_what_is_no_mask_is_refused(written, volume, tmp_path):
    path = written(TRUTH, name="mask.nii")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(MaskError, match=r"mask\.nii: the NIfTI volume is cut off"):
        mask_on(volume, path)
    (tmp_path / "mask.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(MaskError, match=r"mask\.png: the mask of a study is a NIfTI volume"):
        mask_on(volume, tmp_path / "mask.png")
    with pytest.raises(ConfigError, match=r"none\.nii: no such file"):
        mask_on(volume, tmp_path / "none.nii")
