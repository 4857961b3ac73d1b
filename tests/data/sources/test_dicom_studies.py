"""DICOM studies as a data set: make, check, stats, slices, train, evaluate."""

import copy
import csv
import json
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import scipy.ndimage
import yaml
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.datasets import SliceDataset, prepare_slice
from jcs_ct.data.manifest import Manifest, ManifestRow, read_manifest
from jcs_ct.data.manifest.manifest_checks import check_manifest
from jcs_ct.data.manifest.study_rows import open_row
from jcs_ct.data.sources.dicom_studies import find_studies, pseudonym, read_salt
from jcs_ct.data.sources.study_labels import read_study_labels
from jcs_ct.data.study_slices import write_slices
from jcs_ct.errors import ConfigError
from jcs_ct.imaging import open_study
from jcs_ct.phantom import PhantomConfig, make_phantom, write_dicom
from jcs_ct.preprocessing import SlicePreprocessor

pytestmark = pytest.mark.usefixtures("one_thread")

SALT = b"not very secret at all"
PATIENTS = (
    ("Doe^Jane", "MRN-1001", "061Y", "F", 1),
    ("Roe^Rick", "MRN-1002", "", "M", 0),
    ("Poe^Ed", "MRN-1003", "095Y", "", 1),
    ("Loe^Li", "MRN-1004", "", "O", 1),
)


def run(*arguments):
    return CliRunner().invoke(app, [str(word) for word in arguments])


def edit(folder: Path, **values):
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        for name, value in values.items():
            setattr(dataset, name, value)
        dataset.save_as(path)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Four tiny phantoms as an archive has them: a folder a patient, the series below; masks and labels beside."""
    root = tmp_path_factory.mktemp("hospital")
    lines = ["patient,label,mask,split"]
    for number, (name, patient, age, sex, label) in enumerate(PATIENTS):
        config = PhantomConfig(slices=6, lesions=4, seed=number, size=64, negative=not label)
        written = root / "written" / str(number)
        write_dicom(make_phantom(config), written)
        place = root / "archive" / f"P{number}" / "CT"
        place.parent.mkdir(parents=True)
        (written / "dicom").rename(place)
        edit(place, PatientName=name, PatientID=patient, PatientAge=age, PatientSex=sex, PatientBirthDate="19500402")
        volume = nibabel.load(written / "truth" / "lesions.nii.gz")
        binary = (np.asarray(volume.dataobj) > 0).astype(np.uint8)
        mask = f"mask-{number}.nii.gz" if label else ""
        if label:
            nibabel.save(nibabel.Nifti1Image(binary, volume.affine), root / mask)
        lines.append(f"{patient},{label},{mask},{('train', 'train', 'val', 'test')[number]}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def studies(archive) -> Path:
    output = archive / "studies.csv"
    done = run("data", "make", "dicom", archive / "archive", "-o", output, "--labels", archive / "labels.csv")
    assert done.exit_code == 0, done.output
    assert "4 studies of 4 patients" in done.output
    assert "studies.salt" in done.output
    assert "keep the file secret" in done.output
    return output


@pytest.fixture(scope="module")
def slices(archive, studies) -> Path:
    output = archive / "slices.parquet"
    done = run("data", "slices", studies, "-f", archive / "slices", "-o", output)
    assert done.exit_code == 0, done.output
    return output


def test_a_row_says_what_the_headers_say_and_not_who_it_is(archive, studies):
    rows = {row.path.parent.name: row for row in read_manifest(studies)}
    salt = read_salt(archive / "studies.salt")
    assert len({row.patient for row in rows.values()}) == 4
    first, second, third = (rows[f"P{number}"] for number in range(3))
    assert first.scanner == "jcs-ct Procedural chest phantom"
    assert (first.age, first.sex, first.label, first.split) == (61.0, "f", 1, "train")
    assert (second.age, second.sex, second.label) == (69.0, "m", 0), "by birth and study dates"
    assert third.age == 90.0, "nobody is told to be older"
    assert first.thickness_mm == pytest.approx(float(pydicom.dcmread(first.path / "0001.dcm").SliceThickness))
    assert first.mask == archive / "mask-0.nii.gz"
    assert first.path == archive / "archive" / "P0" / "CT"
    text = studies.read_text()
    for name, patient, *_ in PATIENTS:
        assert name not in text
        assert patient not in text
    assert first.patient != pseudonym(b"another salt altogether", "x")
    assert stat.S_IMODE((archive / "studies.salt").stat().st_mode) == 0o600
    assert len(salt) == 64


def test_studies_are_checked_and_described(studies, tmp_path):
    done = run("data", "check", studies, "--json")
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)["counts"]
    assert [(row["split"], row["infected"], row["uninfected"]) for row in counts] == [
        ("train", 1, 1), ("val", 1, 0), ("test", 1, 0),
    ]  # fmt: skip
    done = run("data", "stats", studies, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    tables = json.loads((tmp_path / "evaluation.json").read_text())["tables"]
    assert tables["table_iii"]["rows"] == [{"scanner": "jcs-ct Procedural chest phantom", "patients": 3}]
    assert tables["patients"]["rows"][0]["known"] == 4
    assert tables["patients"]["rows"][1]["known"] == 4
    assert tables["lesions"]["rows"][0]["n"] > 0
    done = run("data", "annotate", studies, "-o", tmp_path / "lesions.csv")
    assert done.exit_code == 0, done.output
    lesions = list(csv.DictReader((tmp_path / "lesions.csv").read_text().splitlines()))
    assert len({row["slice"] for row in lesions}) == 18, "every slice of the three studies with a mask"


def test_slices_are_the_studys_own_hu(archive, slices):
    rows = read_manifest(slices).rows
    assert len(rows) == 24
    for study in ("P0", "P1"):
        opened = open_study(archive / "archive" / study / "CT")
        own = [row for row in rows if row.path.name.startswith(opened.identifier)]
        assert [row.path.name for row in own] == [f"{opened.identifier}-{n:04d}.png" for n in range(6)]
        preprocessor = SlicePreprocessor(size=64, channels=1, mean=(0.0,), std=(1.0,))
        for row, hu in zip(own, opened.volume.hu, strict=True):
            grey, _ = prepare_slice(row, preprocessor)
            assert np.abs(grey.numpy() / 255 - preprocessor(hu)[0]).max() <= 0.6 / 255
    truth = np.asarray(nibabel.load(archive / "mask-0.nii.gz").dataobj).any(axis=(0, 1))[::-1]
    first = [row for row in rows if row.patient == rows[0].patient]
    assert [row.label for row in first] == truth.astype(int).tolist()
    dataset = SliceDataset(Manifest(rows), SlicePreprocessor(size=64, channels=1, mean=(0.0,), std=(1.0,)))
    found = sum(int(dataset[n].mask.sum()) for n in range(6))
    assert found == np.asarray(nibabel.load(archive / "mask-0.nii.gz").dataobj).sum()
    assert all("MRN" not in str(row.path) and "Doe" not in str(row.path) for row in rows)


@pytest.mark.parametrize("task", ["classifier", pytest.param("segmenter", marks=pytest.mark.slow)])
def test_a_network_trains_on_the_slices_and_is_evaluated(task, slices, tmp_path):
    network = {"backbone": {"stem_channels": [4, 4, 4], "planes": [4, 4, 8, 8], "blocks": [1, 1, 1, 1]}}
    if task == "segmenter":
        network = {"encoder": {"channels": [4, 4, 4, 4, 8]}}
    recipe = {
        "task": task,
        "preset": "compact",
        "network": network,
        "preprocessing": {"size": 64, "channels": 1, "mean": [0.45], "std": [0.3]},
        "steps": 2,
        "batch_size": 2,
        "balance": "label",
        "validate_every": 2,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = run("data", "check", slices)
    assert done.exit_code == 0, done.output
    if task == "classifier":
        rows = read_manifest(slices).rows
        mixed = next(
            row.patient
            for row in rows
            if row.label == 0 and any(o.label == 1 and o.patient == row.patient for o in rows)
        )
        slices = tmp_path / "mixed.csv"
        splits = {True: "val", False: "train"}
        Manifest(tuple(replace(row, split=splits[row.patient == mixed]) for row in rows)).write(slices)
    done = run("train", tmp_path / "recipe.yaml", "-m", slices, "-o", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run/samples/step-000002.png").is_file()
    if task == "segmenter":
        best = tmp_path / "run/best.safetensors"
        done = run("evaluate", "segmentation", best, "-m", slices, "-o", tmp_path / "judged", "--draws", 20)
        assert done.exit_code == 0, done.output
        content = json.loads((tmp_path / "judged/evaluation.json").read_text())
        (warning,) = content["warnings"]
        assert "the split 'test' has 1 patient; infected slices come from 1, uninfected from 1" in warning
        assert content["tables"]["scores"]["rows"][0]["n_images"] == 6


@pytest.mark.parametrize("command", [("train", "ct100-segmenter", "-m"), ("features", "write")])
def test_studies_in_the_place_of_slices_say_what_to_do(
    command, studies, random_models, tmp_path, request, monkeypatch
):
    monkeypatch.chdir(request.config.rootpath)
    more = ["--network", random_models / "classifier.safetensors"] if command[0] == "features" else []
    done = run(*command, studies, *more, "-o", tmp_path)
    assert isinstance(done.exception, ConfigError)
    assert "`jcs data slices`" in str(done.exception)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> list[pydicom.Dataset]:
    """The slices of one tiny study; tests give them other identities."""
    folder = tmp_path_factory.mktemp("drawn")
    write_dicom(make_phantom(PhantomConfig(slices=6, size=32, negative=True)), folder)
    return [pydicom.dcmread(path) for path in sorted((folder / "dicom").iterdir())]


@pytest.fixture
def write_study(drawn):
    """Write the tiny study as one of its own: folder, number of the study, patient id."""

    def write(folder: Path, number: int, patient: str, *, missing: int | None = None, **values):
        folder.mkdir(parents=True)
        for index, original in enumerate(drawn):
            if index == missing:
                continue
            dataset = copy.deepcopy(original)
            dataset.PatientID = patient
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.826.{number}", f"1.2.826.{number}.1"
            for name, value in values.items():
                setattr(dataset, name, value)
            dataset.save_as(folder / f"{index}.dcm")

    return write


@pytest.fixture
def small(write_study, tmp_path):
    """A folder with three studies: a good one, one with a slice missing, one that is no CT."""
    write_study(tmp_path / "set" / "good", 1, "MRN-1")
    write_study(tmp_path / "set" / "gap", 2, "MRN-2", missing=3)
    write_study(tmp_path / "set" / "mr", 3, "MRN-3", Modality="MR")
    return tmp_path / "set"


def test_what_the_gate_refuses_is_listed_with_exit_code_2(small, tmp_path):
    command = [sys.executable, "-m", "jcs_ct", "data", "make", "dicom", str(small), "-o", str(tmp_path / "x.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "2 study(ies) cannot be read:" in done.stderr
    assert "gap: slice" in done.stderr
    assert "(GAP)" in done.stderr
    assert "mr: " in done.stderr
    assert "(NOT_CT)" in done.stderr
    assert "or leave them out with --skip-bad" in done.stderr
    assert "MRN" not in done.stderr
    assert not (tmp_path / "x.csv").exists()
    done = subprocess.run([*command, "--skip-bad"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "left out, 2 study(ies) cannot be read:" in done.stderr
    assert "1 studies of 1 patients" in done.stdout
    assert "1 without a label: give a table with --labels" in done.stdout


def test_studies_of_one_patient_share_its_name_and_split(write_study, tmp_path):
    write_study(tmp_path / "set" / "a", 11, "MRN-1")
    write_study(tmp_path / "set" / "b", 12, "MRN-1")
    write_study(tmp_path / "set" / "c", 13, "")
    found = find_studies(tmp_path / "set", salt=SALT).manifest
    names = {row.path.name: row.patient for row in found}
    assert names["a"] == names["b"] != names["c"]
    assert len({row.split for row in found if row.patient == names["a"]}) == 1


def test_another_seed_draws_other_splits(write_study, tmp_path):
    for number in range(1, 13):
        write_study(tmp_path / "set" / str(number), number, f"MRN-{number}")
    (tmp_path / "salt").write_bytes(SALT)
    splits = {}
    for seed in ("0", "7"):
        output = tmp_path / f"{seed}.csv"
        done = run(
            "data", "make", "dicom", tmp_path / "set", "-o", output, "--salt", tmp_path / "salt", "--seed", seed
        )
        assert done.exit_code == 0, done.output
        assert f"drawn splits from it and --seed {seed}" in " ".join(done.output.split())
        splits[seed] = {row.patient: row.split for row in read_manifest(output)}
    assert splits["0"].keys() == splits["7"].keys()
    assert splits["0"] != splits["7"]


def test_pseudonyms_stay_with_the_salt_and_change_with_it(write_study, tmp_path):
    write_study(tmp_path / "set" / "a", 1, "MRN-1")
    first, again, other = (find_studies(tmp_path / "set", salt=salt).manifest for salt in (SALT, SALT, SALT[::-1]))
    assert first == again
    assert first.rows[0].patient != other.rows[0].patient


def test_a_series_in_two_folders_is_refused(write_study, tmp_path):
    for name in ("one", "two"):
        write_study(tmp_path / "set" / name, 11, "MRN-1")
    found = find_studies(tmp_path / "set", salt=SALT)
    assert len(found.manifest) == 0
    assert "files of one series lie in several folders (one, two); keep one (MIXED_SERIES)" in found.refused[0]


def test_a_damaged_file_refuses_its_study_only(write_study, tmp_path):
    for name, uid in (("one", 1), ("two", 2)):
        write_study(tmp_path / "set" / "both" / name, uid, f"MRN-{uid}")
    whole = (tmp_path / "set" / "both" / "two" / "1.dcm").read_bytes()
    (tmp_path / "set" / "both" / "two" / "z.dcm").write_bytes(whole[:140])
    found = find_studies(tmp_path / "set", salt=SALT)
    assert [row.path.name for row in found.manifest] == ["one"]
    assert len(found.refused) == 1
    assert found.refused[0].startswith("both/two: ")


def test_a_folder_without_dicom_and_a_short_salt_are_refused(tmp_path):
    (tmp_path / "empty" / "below").mkdir(parents=True)
    with pytest.raises(ConfigError, match="no DICOM files below"):
        find_studies(tmp_path / "empty", salt=SALT)
    (tmp_path / "salt").write_text("short\n")
    with pytest.raises(ConfigError, match="must have at least 16 bytes, it has 5"):
        read_salt(tmp_path / "salt")


def table(folder: Path, *lines: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("key", "named"), [("patient", "MRN-1"), ("study", "1.2.826.1"), ("folder", "a")])
def test_labels_are_found_by_patient_study_or_folder(key, named, write_study, tmp_path):
    write_study(tmp_path / "set" / "a" / "CT", 1, "MRN-1")
    write_study(tmp_path / "set" / "b", 2, "MRN-2")
    labels = read_study_labels(table(tmp_path, f"{key},label", f"{named},1", "nobody,0"), tmp_path / "set")
    found = find_studies(tmp_path / "set", salt=SALT, labels=labels)
    assert {row.path.name: row.label for row in found.manifest} == {"CT": 1, "b": None}
    assert found.lines_unused == 1


def test_labels_say_which_segments_of_their_masks_are_lesion(write_study, tmp_path):
    write_study(tmp_path / "set" / "a", 1, "MRN-1")
    write_study(tmp_path / "set" / "b", 2, "MRN-2")
    lines = ("folder,label,mask,lesion_labels", "a,1,seg.dcm,2 3", "b,0,,2")
    labels = read_study_labels(table(tmp_path, *lines), tmp_path / "set")
    rows = find_studies(tmp_path / "set", salt=SALT, labels=labels).manifest
    assert {row.path.name: row.lesion_labels for row in rows} == {"a": (2, 3), "b": ()}
    with pytest.raises(ConfigError, match="line 2: lesion_labels must be whole numbers from 1 on"):
        read_study_labels(table(tmp_path, lines[0], "a,1,seg.dcm,lung"), tmp_path / "set")


def test_labels_that_cannot_be_used_are_listed_without_whom_they_name(write_study, tmp_path):
    path = table(tmp_path, "patient,label,split", "MRN-1,2,", ",1,", "MRN-2,1,holdout", "MRN-3,1,", "MRN-3,0,")
    with pytest.raises(ConfigError) as caught:
        read_study_labels(path, tmp_path)
    message = str(caught.value)
    assert "4 problem(s)" in message
    assert "line 2: label must be 0, 1 or empty, got '2'" in message
    assert "line 3: patient must not be empty" in message
    assert "line 4: split must be one of" in message
    assert "line 6: the same patient as line 5" in message
    assert "MRN" not in message
    with pytest.raises(
        ConfigError, match="needs the column label and one of patient, study, folder; it has id, label"
    ):
        read_study_labels(table(tmp_path, "id,label", "a,1"), tmp_path)
    labels = read_study_labels(table(tmp_path, "patient,label", "nobody,1"), tmp_path)
    write_study(tmp_path / "set" / "a", 1, "MRN-1")
    with pytest.raises(ConfigError, match=r"none of the 1 line\(s\) of the table of labels fits one of 1 studies"):
        find_studies(tmp_path / "set", salt=SALT, labels=labels)


def test_one_patient_in_two_splits_of_the_table_is_refused(write_study, tmp_path):
    write_study(tmp_path / "set" / "a", 11, "MRN-1")
    write_study(tmp_path / "set" / "b", 12, "MRN-1")
    labels = read_study_labels(table(tmp_path, "folder,label,split", "a,0,train", "b,0,test"), tmp_path / "set")
    with pytest.raises(ConfigError, match=r"patient 'p\w{16}' is in the splits test, train"):
        find_studies(tmp_path / "set", salt=SALT, labels=labels)


def test_slices_without_a_label_of_their_own_are_left_out(archive, tmp_path):
    row = ManifestRow(
        archive / "archive" / "P0" / "CT", "p", 1, series=open_study(archive / "archive/P0/CT").identifier
    )
    assert write_slices(Manifest((row,)), tmp_path) == (Manifest(()), 6)


def test_a_nifti_volume_is_a_study_too(archive, tmp_path):
    truth = nibabel.load(archive / "mask-0.nii.gz")
    hu = open_study(archive / "archive" / "P0" / "CT").volume.hu
    ct = tmp_path / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.transpose(hu, (2, 1, 0)), truth.affine), ct)
    path = tmp_path / "studies.csv"
    path.write_text(f"path,patient,label,mask\nct.nii.gz,a,1,{archive / 'mask-0.nii.gz'}\nnone.nii,b,0,\n")
    with pytest.raises(ConfigError, match=r"1 problem\(s\):\n.*none\.nii does not exist"):
        check_manifest(path)
    path.write_text(path.read_text().replace("none.nii,b,0,\n", "") + f"ct.nii.gz,a,0,{archive / 'mask-0.nii.gz'}\n")
    with pytest.raises(
        ConfigError, match=r"(?s)2 problem\(s\):.*stands in 2 rows.*labelled 0 .* its mask marks \d+ pixel"
    ):
        check_manifest(path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    written, unknown = write_slices(check_manifest(path).manifest, tmp_path / "slices", every=2)
    assert unknown == 0
    infected = np.asarray(truth.dataobj).any(axis=(0, 1))
    assert [row.label for row in written] == infected[::2].astype(int).tolist()
    assert all(row.path.name.startswith(open_study(ct).identifier) for row in written)
    (row,) = check_manifest(path).manifest
    copied = replace(row, path=Path(shutil.copy(ct, tmp_path / "copy.nii.gz")), patient="b")
    with pytest.raises(ConfigError, match=r"copy\.nii\.gz: the same study stands in a row before; keep one"):
        write_slices(Manifest((row, copied)), tmp_path / "twice")


def test_a_mask_may_be_a_dicom_segmentation(archive, studies, tmp_path):
    files = sorted((archive / "archive" / "P0" / "CT").iterdir())
    images = sorted((pydicom.dcmread(file) for file in files), key=lambda ds: -ds.ImagePositionPatient[2])
    truth = np.transpose(np.asarray(nibabel.load(archive / "mask-0.nii.gz").dataobj), (2, 1, 0))[::-1].astype(bool)
    lesions, count = scipy.ndimage.label(truth)
    assert count > 1
    segments = [
        SegmentDescription(
            segment_number=number,
            segment_label=f"Lesion {number}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.DCM.Opacity,
            algorithm_type="MANUAL",
        )
        for number in range(1, count + 1)
    ]
    Segmentation(
        images, lesions.astype(np.uint8), "BINARY", segments, generate_uid(), 1, generate_uid(), 1, "Reader", "Test",
        "1", "1",
    ).save_as(tmp_path / "reader.dcm")  # fmt: skip
    rows = {row.path.parent.name: row for row in read_manifest(studies)}
    row = replace(rows["P0"], mask=tmp_path / "reader.dcm")
    _, mask = open_row(row)
    assert mask is not None
    assert np.array_equal(mask, truth)
    path = tmp_path / "studies.csv"
    Manifest((row,)).write(path)
    said = "1 mask(s) of studies have several labels: all count as lesion; column lesion_labels says which"
    assert said in check_manifest(path).notes
    done = run("data", "annotate", path, "-o", tmp_path / "lesions.csv")
    assert done.exit_code == 0, done.output
    found = list(csv.DictReader((tmp_path / "lesions.csv").read_text().splitlines()))
    assert len({one["slice"] for one in found}) == 6
    Manifest((replace(rows["P2"], mask=row.mask),)).write(path)
    with pytest.raises(ConfigError, match=r"reader\.dcm: the segmentation is of another patient \(Patient ID\)"):
        check_manifest(path)


def test_every_study_that_cannot_be_written_is_listed(archive, tmp_path):
    rows = (
        ManifestRow(archive / "archive" / "P0" / "CT", "a", 1, archive / "none.nii.gz", series="0" * 16),
        ManifestRow(tmp_path / "none.nii.gz", "b", 0),
    )
    with pytest.raises(
        ConfigError, match=r"2 of 2 studies cannot be used:\n.*no series has an ident.*\n.*does not exist"
    ):
        write_slices(Manifest(rows), tmp_path)


def test_labels_of_a_studys_mask_are_lesion_all_or_those_that_are_named(archive, tmp_path):
    truth = nibabel.load(archive / "mask-0.nii.gz")
    voxels = np.asarray(truth.dataobj).astype(np.uint16)
    first = np.argwhere(voxels)[0]
    voxels[tuple(first)] = 300
    nibabel.save(nibabel.Nifti1Image(voxels, truth.affine), tmp_path / "lesions.nii.gz")
    series = open_study(archive / "archive" / "P0" / "CT").identifier
    line = f"{archive / 'archive' / 'P0' / 'CT'},a,1,lesions.nii.gz,{series}"
    path = tmp_path / "studies.csv"
    path.write_text(f"path,patient,label,mask,series,lesion_labels\n{line},\n")
    checked = check_manifest(path)
    assert (
        "1 mask(s) of studies have several labels: all count as lesion; column lesion_labels says which"
        in checked.notes
    )
    _, every = open_row(checked.manifest.rows[0])
    assert every is not None
    assert every.sum() == (voxels > 0).sum()
    path.write_text(f"path,patient,label,mask,series,lesion_labels\n{line},300\n")
    checked = check_manifest(path)
    assert not any("several labels" in note for note in checked.notes)
    _, one = open_row(checked.manifest.rows[0])
    assert one is not None
    assert one.sum() == 1
    written, _ = write_slices(checked.manifest, tmp_path / "slices")
    assert {row.lesion_labels for row in written} == {()}
    assert sum(row.label == 1 for row in written) == 1
