"""Volumes and masks of other tools become studies of a manifest."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import read_manifest
from jcs_ct.data.sources.volume_pairs import VolumePairs, nifti_pairs, nnunet_raw
from jcs_ct.errors import ConfigError

AFFINE = np.diag([-0.7, -0.7, 5.0, 1.0])


def volume(path: Path, *labels: int) -> None:
    """A small volume of the background and one voxel of each label."""
    voxels = np.zeros((8, 8, 6), dtype=np.uint8)
    for number, label in enumerate(labels):
        voxels[3, 2 + number, 1] = label
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels, AFFINE)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def test_pairs_of_volumes_are_studies_of_patients(tmp_path):
    for name, labels in (("p1_a", (1, 2)), ("p1_b", ()), ("p2_a", (2,))):
        volume(tmp_path / "images" / f"{name}.nii.gz")
        volume(tmp_path / "masks" / f"{name}.nii.gz", *labels)
    volume(tmp_path / "images" / "p3_a.nii")
    command = ["data", "make", "nifti", str(tmp_path), "-o", str(tmp_path / "studies.csv")]
    done = CliRunner().invoke(app, [*command, "--patient-pattern", "(p[0-9])", "--lesion-labels", "1"])
    assert done.exit_code == 0, done.output
    assert "4 studies of 3 patients" in done.output
    assert "lesion in the masks: the value(s) 1; infected: 1" in done.output
    rows = {row.path.name: row for row in read_manifest(tmp_path / "studies.csv")}
    assert {name: (row.patient, row.label, row.is_study) for name, row in rows.items()} == {
        "p1_a.nii.gz": ("p1", 1, True),
        "p1_b.nii.gz": ("p1", 0, True),
        "p2_a.nii.gz": ("p2", 0, True),
        "p3_a.nii": ("p3", None, True),
    }
    assert rows["p1_a.nii.gz"].lesion_labels == (1,)
    assert [row.label for row in nifti_pairs(tmp_path, VolumePairs())] == [1, 0, 1, None]


def test_volumes_whose_masks_have_other_values_are_not_taken_for_uninfected(tmp_path):
    for name, labels in (("a", (1, 2)), ("b", (2,)), ("c", (255,)), ("d", ())):
        volume(tmp_path / "images" / f"{name}.nii.gz")
        volume(tmp_path / "masks" / f"{name}.nii.gz", *labels)
    with pytest.raises(ConfigError, match=r"1 of 4 mask\(s\) hold no value of lesion_labels \(1\) but 255"):
        nifti_pairs(tmp_path, VolumePairs(lesion_labels=(1,)))
    with pytest.raises(ConfigError, match=r"lesion_labels names 9, which none of 4 mask\(s\) has"):
        nifti_pairs(tmp_path, VolumePairs(lesion_labels=(1, 255, 9)))
    assert [row.label for row in nifti_pairs(tmp_path, VolumePairs(lesion_labels=(1, 255)))] == [1, 0, 1, 0]


def test_masks_that_are_called_masks_are_paired_with_their_volumes(tmp_path):
    for name in ("case_001", "case.002", "case_003"):
        volume(tmp_path / "images" / f"{name}.nii.gz")
    for name in ("case_001_mask", "case.002_seg", "case_003"):
        volume(tmp_path / "masks" / f"{name}.nii.gz", 1)
    masks = {row.patient: row.mask and row.mask.name for row in nifti_pairs(tmp_path, VolumePairs())}
    assert masks == {
        "case_001": "case_001_mask.nii.gz",
        "case.002": "case.002_seg.nii.gz",
        "case_003": "case_003.nii.gz",
    }
    for name in ("case_001_seg", "case_003_mask"):
        volume(tmp_path / "masks" / f"{name}.nii.gz", 1)
    with pytest.raises(ConfigError, match=r"3 problem\(s\)(?s:.*)call a mask as its volume, or NAME_mask") as refused:
        nifti_pairs(tmp_path, VolumePairs())
    for name in ("case_001_mask", "case_001_seg", "case_003_mask"):
        assert f"{name}.nii.gz: images/ has no volume" in str(refused.value)


def test_pairs_that_do_not_fit_are_all_said(tmp_path):
    with pytest.raises(ConfigError, match="no NIfTI volume in"):
        nifti_pairs(tmp_path, VolumePairs())
    volume(tmp_path / "images" / "a.nii.gz")
    volume(tmp_path / "masks" / "b.nii.gz", 1)
    (tmp_path / "masks" / "a.nii.gz").write_bytes(b"no volume")
    with pytest.raises(ConfigError) as refused:
        nifti_pairs(tmp_path, VolumePairs(patient_pattern="(p[0-9])"))
    for said in ("3 problem(s)", "b.nii.gz: images/ has no volume", "masks/a.nii.gz", "pattern is not found in a"):
        assert said in str(refused.value)


def raw(folder: Path, labels: object, **more: object) -> Path:
    for number in range(6):
        volume(folder / "imagesTr" / f"case_{number}_0000.nii.gz")
        volume(folder / "labelsTr" / f"case_{number}.nii.gz", *((2,) if number % 2 else (3,)))
    facts = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 6, "file_ending": ".nii.gz", **more}
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "opacity": [1, 2], "ignore": 3},
        {"0": "background", "1": "ground glass", "2": "consolidation", "3": "ignore"},
    ],
    ids=["version 2", "version 1"],
)
def test_a_raw_data_set_of_nnunet_is_read_with_its_labels(tmp_path, labels):
    manifest = nnunet_raw(raw(tmp_path, labels, name="COVID"), VolumePairs())
    assert [(row.patient, row.label, row.source, row.lesion_labels) for row in manifest] == [
        (f"case_{number}", number % 2, "COVID", (1, 2)) for number in range(6)
    ]
    assert {row.split for row in manifest} == {"train", "val", "test"}


def test_cases_to_test_are_the_test_split(tmp_path):
    raw(tmp_path, {"background": 0, "opacity": 2, "ignore": 3})
    volume(tmp_path / "imagesTs" / "other_0000.nii.gz")
    manifest = nnunet_raw(tmp_path, VolumePairs())
    assert [(row.patient, row.label) for row in manifest.split("test")] == [("other", None)]
    assert {row.split for row in manifest if row.patient != "other"} == {"train", "val"}
    volume(tmp_path / "imagesTs" / "case_1_0000.nii.gz")
    with pytest.raises(ConfigError, match="patient case_1 is in imagesTs, too"):
        nnunet_raw(tmp_path, VolumePairs())


def test_what_is_no_such_data_set_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*dataset\.json"):
        nnunet_raw(tmp_path, VolumePairs())
    for more, said in (
        ({"channel_names": {"0": "CT", "1": "PET"}}, "names 2 channels"),
        ({"file_ending": ".nrrd"}, r"files end in \.nrrd"),
        ({"labels": None}, "names no labels"),
    ):
        with pytest.raises(ConfigError, match=said):
            nnunet_raw(raw(tmp_path, **{"labels": {"background": 0, "opacity": 1}, **more}), VolumePairs())
    raw(tmp_path, {"background": 0, "opacity": 1})
    (tmp_path / "labelsTr" / "case_0.nii.gz").unlink()
    volume(tmp_path / "labelsTr" / "case_9.nii.gz", 1)
    with pytest.raises(ConfigError, match=r"(?s)3 problem.*no mask of case case_0.*no case case_9.*but 2, 3"):
        nnunet_raw(tmp_path, VolumePairs())
