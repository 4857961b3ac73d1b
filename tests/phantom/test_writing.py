from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from jcs_ct.errors import OutputError
from jcs_ct.imaging import open_study
from jcs_ct.phantom import Phantom, PhantomConfig, make_phantom, write_dicom, write_nifti, write_png
from jcs_ct.phantom.phantom_pictures import lung_window
from jcs_ct.volume import BACKGROUND_HU


def padded_phantom(*, padded: bool) -> Phantom:
    for seed in range(20):
        made = make_phantom(PhantomConfig(slices=12, size=64, seed=seed, lesions=4))
        if made.acquisition.padded is padded:
            return made
    raise AssertionError("no seed below 20 pads as wanted")


def tree_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("write", [write_dicom, write_nifti, write_png])
def test_same_phantom_gives_the_same_bytes(write, positive: Phantom, tmp_path: Path) -> None:
    write(positive, tmp_path / "a")
    write(make_phantom(positive.config), tmp_path / "b")
    first, second = tree_bytes(tmp_path / "a"), tree_bytes(tmp_path / "b")
    assert first.keys() == second.keys()
    assert first == second


@pytest.mark.parametrize("write", [write_dicom, write_nifti, write_png])
def test_a_smaller_phantom_leaves_nothing_of_a_larger_one(write, positive: Phantom, tmp_path: Path) -> None:
    write(positive, tmp_path / "again")
    (tmp_path / "again" / "mine.txt").write_text("kept")
    smaller = make_phantom(PhantomConfig(slices=positive.config.slices - 5, size=64, seed=3))
    write(smaller, tmp_path / "again")
    write(smaller, tmp_path / "alone")
    assert tree_bytes(tmp_path / "again") == {**tree_bytes(tmp_path / "alone"), "mine.txt": b"kept"}


@pytest.mark.parametrize("padded", [True, False])
def test_dicom_is_read_back_voxel_for_voxel(padded: bool, tmp_path: Path) -> None:
    made = padded_phantom(padded=padded)
    write_dicom(made, tmp_path)
    study = open_study(tmp_path / "dicom")
    assert np.array_equal(study.volume.hu, made.volume.hu)
    assert np.allclose(study.volume.affine, made.volume.affine, atol=1e-4)
    assert (made.volume.hu[0, 0, 0] == BACKGROUND_HU) or not padded
    stored = pydicom.dcmread(tmp_path / "dicom" / "0001.dcm")
    assert ("PixelPaddingValue" in stored) is padded


def test_dicom_header_says_what_it_is(positive: Phantom, tmp_path: Path) -> None:
    write_dicom(positive, tmp_path)
    files = sorted((tmp_path / "dicom").glob("*.dcm"))
    headers = [pydicom.dcmread(path) for path in files]
    first = headers[0]
    assert len(files) == positive.config.slices
    assert first.SOPClassUID == pydicom.uid.CTImageStorage
    assert str(first.PatientName) == "Phantom^JCS"
    assert "Research use only, not a medical device" in first.SeriesDescription
    assert len(first.SeriesDescription) <= 64
    assert len({one.SOPInstanceUID for one in headers}) == len(files)
    assert len({one.SeriesInstanceUID for one in headers}) == 1
    assert first.ImagePositionPatient[2] > headers[-1].ImagePositionPatient[2]
    assert all(len(str(value)) <= 16 for one in headers for value in one.ImagePositionPatient)


def test_other_settings_give_other_uids(positive: Phantom, negative: Phantom, tmp_path: Path) -> None:
    write_dicom(positive, tmp_path / "a")
    write_dicom(negative, tmp_path / "b")
    uids = [pydicom.dcmread(tmp_path / name / "dicom" / "0001.dcm").SeriesInstanceUID for name in "ab"]
    assert uids[0] != uids[1]


def test_truth_lies_beside_the_series(positive: Phantom, tmp_path: Path) -> None:
    write_dicom(positive, tmp_path)
    lesions = nibabel.load(tmp_path / "truth" / "lesions.nii.gz")
    assert np.array_equal(np.asarray(lesions.dataobj).transpose(2, 1, 0), positive.lesions.labels)
    assert nibabel.aff2axcodes(lesions.affine) == ("L", "P", "I")
    truth = json.loads((tmp_path / "truth" / "truth.json").read_text())
    assert truth["infected"] is True
    assert sum(one["voxel_count"] for one in truth["lesions"]) == (positive.lesions.labels > 0).sum()
    assert truth["opacification_volume_ml"] == pytest.approx(
        (positive.lesions.labels > 0).sum() * positive.volume.voxel_ml, abs=1e-3
    )


def test_nifti_is_read_back(positive: Phantom, tmp_path: Path) -> None:
    write_nifti(positive, tmp_path)
    study = open_study(tmp_path / "ct.nii.gz")
    assert np.array_equal(study.volume.hu, positive.volume.hu)
    assert np.allclose(study.volume.affine, positive.volume.affine, atol=1e-3)


def test_png_slices_and_masks_agree_with_the_volume(positive: Phantom, tmp_path: Path) -> None:
    write_png(positive, tmp_path)
    index = int((positive.lesions.labels > 0).sum(axis=(1, 2)).argmax())
    image, mask, lungs = (
        np.asarray(Image.open(tmp_path / name / f"{index:04d}.png")) for name in ("images", "masks", "lungs")
    )
    assert np.array_equal(image, lung_window(positive.volume.hu[index]))
    assert np.array_equal(mask, np.where(positive.lesions.labels[index] > 0, 255, 0))
    assert np.array_equal(lungs, positive.lungs.labels[index])
    assert len(list((tmp_path / "images").iterdir())) == positive.config.slices


def test_lung_window_maps_its_ends() -> None:
    assert lung_window(np.array([-2000, -1350, -600, 150, 900])).tolist() == [0, 0, 128, 255, 255]


def test_folder_that_cannot_be_made_is_said(positive: Phantom, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for write in (write_dicom, write_nifti, write_png):
        with pytest.raises(OutputError, match="cannot write"):
            write(positive, tmp_path / "file" / "study")
