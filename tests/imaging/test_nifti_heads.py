"""Heads of NIfTI files as nibabel writes them."""

import nibabel as nib
import numpy as np
import pytest

from jcs_ct.imaging.nifti_heads import read_nifti_head


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "slope", "labels"),
    [("u1", None, True), ("i2", None, False), ("f4", None, False), ("u1", 16.0, False), ("u1", 1.0, True)],
)
def test_labels_are_told_from_hu(tmp_path, kind, ending, order, dtype, slope, labels):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    image = kind(np.zeros((5, 6, 7), np.dtype(dtype).newbyteorder(order)), np.eye(4), header)
    if slope is not None:
        image.header.set_slope_inter(slope, -1024)
    nib.save(image, tmp_path / f"volume{ending}")
    head = read_nifti_head(tmp_path / f"volume{ending}")
    assert (head.shape, head.is_labels) == ((5, 6, 7), labels)
    assert head.bits == np.dtype(dtype).itemsize * 8


def test_what_is_cut_short_or_another_thing_has_none(tmp_path):
    for content in (b"", b"n+1\0" * 20, bytes(400), b"\x1f\x8b" + bytes(400)):
        (tmp_path / "volume.nii").write_bytes(content)
        assert read_nifti_head(tmp_path / "volume.nii") is None
