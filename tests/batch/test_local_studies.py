"""Studies are told apart by their headers, wherever their files lie."""

from __future__ import annotations

import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from jcs_ct.batch.cohort_manifest import Kind, read_manifest, write_manifest
from jcs_ct.batch.local_studies import find_in_folder
from jcs_ct.errors import ConfigError


def places(found, root):
    return [(one.where.removeprefix(str(root)).lstrip("/"), len(one.files), one.code) for one in found]


def test_a_folder_each_and_one_with_a_gap(cohort):
    found = find_in_folder(cohort)
    assert places(found, cohort) == [("gap", 0, "GAP"), ("study-1", 0, ""), ("study-2", 0, "")]
    assert [one.slice_count for one in found] == [5, 6, 6]
    assert all(one.kind is Kind.DICOM and one.byte_count > 0 for one in found)
    assert found[0].scanner == "jcs-ct Procedural chest phantom"
    assert "60" in found[0].message or "spacing is irregular" in found[0].message
    assert len({one.study for one in found}) == 3


@pytest.mark.parametrize("files_at_once", [1, 4, 7, 2000])
def test_studies_in_one_folder_over_two_and_beside_each_other(tmp_path, add_study, files_at_once):
    root = tmp_path / "tree"
    add_study(root / "mixed", number="1", prefix="a")
    add_study(root / "mixed", number="2", prefix="b")
    add_study(root / "split" / "x", root / "split" / "y", number="3")
    add_study(root, number="4", prefix="own")
    add_study(root / "zz" / "one", root / "far" / "two", number="5")
    found = find_in_folder(root, files_at_once=files_at_once)
    assert sorted(places(found, root)) == [
        ("", 6, ""),
        ("", 6, ""),
        ("mixed", 6, ""),
        ("mixed", 6, ""),
        ("split", 0, ""),
    ]
    assert [one.slice_count for one in found] == [6] * 5
    names = {name for one in found for name in one.files}
    assert {"own0001.dcm", "zz/one/0001.dcm", "far/two/0002.dcm", "a0003.dcm"} <= names
    assert len({one.study for one in found}) == 5


def test_the_same_study_twice_is_one_and_a_study_that_grew_is_another(tmp_path, add_study):
    add_study(tmp_path / "whole", number="1")
    whole = find_in_folder(tmp_path / "whole")[0]
    add_study(tmp_path / "less", number="1", slices=slice(0, 5))
    less = find_in_folder(tmp_path / "less")[0]
    assert whole.study != less.study
    counts = write_manifest(tmp_path / "manifest.csv", [whole, less, whole])
    assert (counts.studies, counts.duplicates, counts.slices) == (2, 1, 11)
    assert list(read_manifest(tmp_path / "manifest.csv")) == [whole, less]
    assert (tmp_path / "manifest.csv").stat().st_mode & 0o077 == 0, "paths may name patients"


def other_spacing(dataset):
    dataset.PixelSpacing = [0.5, 0.5]


def other_intercept(dataset):
    dataset.RescaleIntercept = "-1000"


def other_pixels(dataset):
    dataset.PixelData = dataset.PixelData[:-2] + b"\1\0"


@pytest.mark.parametrize("change", [other_spacing, other_intercept, other_pixels])
@pytest.mark.parametrize("files_at_once", [4, 2000])
def test_a_study_that_was_corrected_under_its_own_uids_is_another(tmp_path, add_study, change, files_at_once):
    files = add_study(tmp_path / "study", number="1")
    (before,) = find_in_folder(tmp_path / "study", files_at_once=files_at_once)
    dataset = dcmread(files[2])
    change(dataset)
    dataset.save_as(files[2])
    (after,) = find_in_folder(tmp_path / "study", files_at_once=files_at_once)
    assert after.study != before.study
    assert after.byte_count == before.byte_count or change is not other_pixels


def test_a_study_that_was_touched_or_copied_under_other_names_is_the_same(tmp_path, add_study):
    files = add_study(tmp_path / "study", number="1")
    (before,) = find_in_folder(tmp_path / "study")
    (tmp_path / "copy").mkdir()
    for number, file in enumerate(reversed(files)):
        os.utime(file, (1, 1))
        shutil.copyfile(file, tmp_path / "copy" / f"{number}.dcm")
    assert [one.study for folder in ("study", "copy") for one in find_in_folder(tmp_path / folder)] == [
        before.study
    ] * 2


def test_a_damaged_file_refuses_the_study_beside_it_only(tmp_path, add_study):
    add_study(tmp_path / "tree" / "good", number="1")
    files = add_study(tmp_path / "tree" / "bad", number="2")
    content = files[5].read_bytes()
    files[5].write_bytes(content[:150] + b"\xff" * 300)
    codes = {one.where.rpartition("/")[2]: one.code for one in find_in_folder(tmp_path / "tree")}
    assert codes == {"good": "", "bad": "UNREADABLE"}


def test_what_is_no_dicom(tmp_path, add_study):
    import nibabel

    root = tmp_path / "tree"
    (root / "pictures").mkdir(parents=True)
    for number in range(5):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "pictures" / f"{number}.png")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 6), np.int16), np.eye(4)), root / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 6), np.int16), np.eye(4)), root / "b.nii.gz")
    add_study(root / "dicom", number="1")
    (root / "dicom" / "shot.png").write_bytes((root / "pictures" / "0.png").read_bytes())
    (root / "earlier").mkdir()
    (root / "earlier" / "batch.json").write_text("{}")
    (root / "earlier" / "c.nii.gz").write_bytes((root / "a.nii.gz").read_bytes())
    found = find_in_folder(root)
    assert [one.where.removeprefix(f"{root}/") for one in found] == ["a.nii.gz", "b.nii.gz", "dicom", "pictures"]
    assert [one.kind for one in found] == [Kind.SINGLE, Kind.SINGLE, Kind.DICOM, Kind.SINGLE]
    assert found == find_in_folder(root), "the same names for the same files"


def test_masks_and_results_of_earlier_readings_are_no_studies(tmp_path, add_study):
    add_study(tmp_path / "dicom", number="1")
    for name, dtype in (("ct", np.int16), ("truth/lungs", np.uint8), ("report/lesions", np.int16)):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(np.zeros((8, 8, 9), dtype), np.eye(4)), path)
    own = {"file": "lesions.nii.gz", "byte_count": (tmp_path / "report/lesions.nii.gz").stat().st_size}
    (tmp_path / "report/run.json").write_text(json.dumps({"software": {"name": "jcs-ct"}, "outputs": [own]}))
    found = find_in_folder(tmp_path)
    assert places(found, tmp_path) == [("ct.nii.gz", 0, ""), ("dicom", 0, ""), ("truth/lungs.nii.gz", 0, "NO_HU")]
    assert [one.slice_count for one in found] == [9, 6, 9]
    assert "a mask rather than a CT" in found[2].message
    counts = write_manifest(tmp_path / "manifest.csv", found)
    assert (counts.studies, counts.slices, counts.refused) == (2, 15, {"NO_HU": 1})


def test_nothing_there(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        find_in_folder(tmp_path / "nowhere")
    assert find_in_folder(tmp_path) == []
