"""Exports lie where the studies do, by nibabel, SimpleITK and highdicom, and our importers read them as they were."""

from __future__ import annotations

import copy
import errno
import json
from dataclasses import replace
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import Manifest, ManifestRow, read_hu, read_lesions, read_manifest
from jcs_ct.data.manifest.study_rows import open_row
from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.exchange.nifti_folders import export_nnunet
from jcs_ct.imaging import open_study
from jcs_ct.phantom import PhantomConfig, make_phantom, write_dicom

pytestmark = pytest.mark.usefixtures("one_thread")

#: In which axes each patient's source is stored: NIfTI's letters, or how the patient lies in the scanner.
SOURCES = {"ann": "LPS", "bob": "PIR", "cal": "supine", "dot": "prone", "eve": "uninfected"}
SPLITS = dict(zip(SOURCES, ("train", "val", "train", "test", "train"), strict=True))


def jcs(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def refused(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(done.exception, ConfigError), done.output
    return str(done.exception)


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> Path:
    """A manifest of five tiny studies, two NIfTI and three DICOM, in four orientations; masks are NIfTI."""
    root = tmp_path_factory.mktemp("studies")
    rows = []
    for seed, (patient, stored) in enumerate(SOURCES.items(), start=1):
        negative = stored == "uninfected"
        folder = root / patient
        write_dicom(make_phantom(PhantomConfig(slices=8, lesions=3, seed=seed, size=48, negative=negative)), folder)
        study = open_study(folder / "dicom")
        truth = nibabel.load(folder / "truth" / "lesions.nii.gz")
        path, mask, series = folder / "dicom", None if negative else folder / "mask.nii.gz", study.identifier
        lesions = nibabel.Nifti1Image((np.asarray(truth.dataobj) > 0).astype(np.uint8), truth.affine)
        if stored in ("LPS", "PIR"):
            path, series = folder / "ct.nii.gz", ""
            study.save_nifti(study.volume.hu, path)
            for one, file in ((nibabel.load(path), path), (lesions, mask)):
                turned = one.as_reoriented(
                    nibabel.orientations.ornt_transform(
                        nibabel.io_orientation(one.affine), nibabel.orientations.axcodes2ornt(stored)
                    )
                )
                nibabel.save(nibabel.Nifti1Image(np.asarray(turned.dataobj), turned.affine, turned.header), file)
        elif not negative:
            nibabel.save(lesions, mask)
        if stored == "prone":
            _turn_over(path)
        rows.append(ManifestRow(path, patient, int(not negative), mask, SPLITS[patient], "set", series=series))
    Manifest(tuple(rows)).write(root / "studies.csv")
    return root / "studies.csv"


def _turn_over(folder: Path) -> None:
    """The same voxels at the same places in the patient, stored as of a patient who lies on the belly."""
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        spacing = [float(value) for value in dataset.PixelSpacing]
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [
            x + (dataset.Columns - 1) * spacing[1],
            y + (dataset.Rows - 1) * spacing[0],
            z,
        ]
        dataset.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        dataset.PatientPosition = "HFP"
        dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[::-1, ::-1]).tobytes()
        dataset.save_as(path)


def places_nibabel(path: Path, least: float) -> np.ndarray:
    """LPS mm of the voxels from ``least`` on, sorted; by nibabel alone."""
    image = nibabel.load(path)
    index = np.argwhere(np.asarray(image.dataobj) >= least)
    return in_order(nibabel.affines.apply_affine(image.affine, index) * [-1, -1, 1])


def places_itk(path: Path, least: float) -> np.ndarray:
    """The same by SimpleITK alone."""
    image = SimpleITK.ReadImage(str(path))
    index = np.argwhere(SimpleITK.GetArrayFromImage(image) >= least)[:, ::-1]
    axes = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return in_order(index @ axes.T + image.GetOrigin())


def in_order(places: np.ndarray) -> np.ndarray:
    rounded = places.round(1) + 0.0
    return rounded[np.lexsort(rounded.T)]


def places_of(study, array, least: float) -> np.ndarray:
    return in_order(nibabel.affines.apply_affine(study.volume.affine, np.argwhere(array >= least)))


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and bool(np.abs(first - second).max(initial=0.0) < 0.11)


def check_nifti(row: ManifestRow, image: Path, mask: Path | None) -> None:
    """CT and mask of a row lie where its source's do, by both libraries; bone for the CT."""
    study, lesions = open_row(row)
    bone = places_of(study, study.volume.hu, 200)
    assert len(bone) > 50
    for places in (places_nibabel, places_itk):
        assert same(places(image, 200), bone)
        if mask is not None:
            wanted = np.empty((0, 3)) if lesions is None else places_of(study, lesions, 1)
            assert same(places(mask, 1), wanted)


def test_pairs_lie_where_the_studies_do_and_are_read_back(studies, tmp_path):
    said = jcs("data", "export", "nifti", studies, "-o", tmp_path / "pairs")
    assert "5 studies of 5 patients, 5 with a mask" in said
    rows = read_manifest(studies).rows
    written = read_manifest(tmp_path / "pairs" / "manifest.csv").rows
    assert [(one.patient, one.label, one.split) for one in written] == [
        (one.patient, one.label, one.split) for one in rows
    ]
    for row, one in zip(rows, written, strict=True):
        check_nifti(row, one.path, one.mask)
        assert row.patient not in one.path.name
    jcs("data", "make", "nifti", tmp_path / "pairs", "-o", tmp_path / "again.csv", "--patient-pattern", "(p[0-9]+)_")
    again = read_manifest(tmp_path / "again.csv").rows
    assert [(one.patient, one.label) for one in again] == [
        (f"p000{number}", row.label) for number, row in enumerate(rows, start=1)
    ]


def test_nnunet_has_its_folder_and_the_manifests_splits(studies, tmp_path):
    folder = tmp_path / "Dataset115_COVID"
    jcs("data", "export", "nnunet", studies, "-o", folder)
    facts = json.loads((folder / "dataset.json").read_text())
    assert facts["channel_names"] == {"0": "CT"}
    assert facts["labels"] == {"background": 0, "lesion": 1}
    assert (facts["numTraining"], facts["file_ending"]) == (4, ".nii.gz")
    images, labels = (sorted(folder.joinpath(part).iterdir()) for part in ("imagesTr", "labelsTr"))
    names = [path.name.removesuffix("_0000.nii.gz") for path in images]
    assert names == [path.name.removesuffix(".nii.gz") for path in labels]
    for image, label in zip(images, labels, strict=True):  # nnU-Net wants image and labels on one grid
        first, second = (SimpleITK.ReadImage(str(path)) for path in (image, label))
        assert first.GetSize() == second.GetSize()
        assert np.allclose(first.GetDirection(), second.GetDirection())
        assert np.allclose(first.GetOrigin(), second.GetOrigin())
    by_patient = {row.patient: row for row in read_manifest(studies)}
    for patient, image, label in zip(("ann", "bob", "cal", "eve"), images, labels, strict=True):
        check_nifti(by_patient[patient], image, label)
    assert json.loads((folder / "splits_final.json").read_text()) == [
        {"train": [names[0], names[2], names[3]], "val": [names[1]]}
    ]
    jcs("data", "make", "nnunet", folder, "-o", tmp_path / "again.csv", "--patient-pattern", "(p[0-9]+)_")
    again = {row.patient[-1]: (row.label, row.split) for row in read_manifest(tmp_path / "again.csv")}
    assert again == {
        str(number): (row.label, row.split) for number, row in enumerate(read_manifest(studies).rows, start=1)
    }


def test_folds_go_to_nnunet_and_come_back(studies, tmp_path):
    rows = [replace(row, fold=number % 3, split="train") for number, row in enumerate(read_manifest(studies).rows)]
    folder = tmp_path / "Dataset001_x"
    export_nnunet(Manifest(tuple(rows)), folder)
    jcs("data", "make", "nnunet", folder, "-o", tmp_path / "again.csv")
    assert [row.fold for row in read_manifest(tmp_path / "again.csv")] == [0, 1, 2, 0, 1]
    splits = json.loads((folder / "splits_final.json").read_text())
    splits[1]["val"] += ["nobody", splits[0]["val"][0]]
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    said = refused("data", "make", "nnunet", folder, "-o", tmp_path / "x.csv", "--splits", tmp_path / "splits.json")
    assert "fold 1 names case nobody, which imagesTr lacks" in said
    assert "is validated in the folds 0 and 1" in said


def test_segmentations_lie_where_the_lesions_do_and_are_found_again(studies, tmp_path):
    rows = [row for row in read_manifest(studies) if row.series]
    Manifest(tuple(rows)).write(tmp_path / "dicom.csv")
    said = jcs("data", "export", "dicom", tmp_path / "dicom.csv", "-o", tmp_path / "out")
    assert "3 studies of 3 patients, 2 with a mask" in said
    written = read_manifest(tmp_path / "out" / "manifest.csv").rows
    for row, one in zip(rows, written, strict=True):
        study, lesions = open_row(row)
        again, again_lesions = open_row(one)
        assert again.identifier == study.identifier
        assert np.array_equal(again.volume.hu, study.volume.hu)
        if lesions is None:
            assert one.mask is None
            continue
        assert np.array_equal(again_lesions, lesions)
        segmentation = highdicom.seg.segread(one.mask)
        volume = segmentation.get_volume(segment_numbers=[1], combine_segments=True)
        found = nibabel.affines.apply_affine(volume.affine, np.argwhere(volume.array > 0))
        assert same(in_order(found), places_of(study, lesions, 1))
        source = pydicom.dcmread(next(row.path.iterdir()))
        assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
        assert segmentation.StudyInstanceUID == source.StudyInstanceUID
        sources = {(path.stat().st_dev, path.stat().st_ino) for path in row.path.iterdir()}
        exported = {(path.stat().st_dev, path.stat().st_ino) for path in one.path.iterdir()}
        assert not sources & exported, "an anonymiser may write the export in place"
    by_table = ("data", "make", "dicom", tmp_path / "out" / "studies", "-o", tmp_path / "again.csv")
    jcs(*by_table, "--labels", tmp_path / "out" / "labels.csv")
    again = read_manifest(tmp_path / "again.csv").rows
    assert [(one.path, one.label, one.mask, one.split) for one in again] == [
        (one.path, one.label, one.mask, one.split) for one in written
    ]
    said = jcs("data", "make", "dicom", tmp_path / "out", "-o", tmp_path / "found.csv", "--segmentations")
    assert "lesion in the Segmentations: Opacity; 2 with a mask" in said
    assert {one.path: (one.mask, one.label) for one in read_manifest(tmp_path / "found.csv")} == {
        one.path: (one.mask, one.label or None) for one in written
    }


def test_segmentations_of_several_types_are_asked_about(studies, tmp_path):
    row = next(row for row in read_manifest(studies) if row.series and row.mask)
    Manifest((row,)).write(tmp_path / "one.csv")
    jcs("data", "export", "dicom", tmp_path / "one.csv", "-o", tmp_path / "out")
    (mask,) = (tmp_path / "out" / "masks").iterdir()
    lung = pydicom.dcmread(mask)
    lung.SOPInstanceUID = lung.file_meta.MediaStorageSOPInstanceUID = "1.2.826.1"
    lung.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning = "Lung"
    lung.save_as(mask.with_name("lung.dcm"))
    make = ("data", "make", "dicom", tmp_path / "out", "-o", tmp_path / "again.csv")
    assert "Lung (1), Opacity (1); say which are lesion" in refused(*make, "--segmentations")
    assert "there are: Lung (1), Opacity (1)" in refused(*make, "--segmentations", "--segment-type", "nodule")
    assert "goes with --segmentations" in refused(*make, "--segment-type", "opacity")
    jcs(*make, "--segmentations", "--segment-type", "opacity")
    assert [one.mask for one in read_manifest(tmp_path / "again.csv")] == [mask]
    second = copy.deepcopy(lung.SegmentSequence[0])
    second.SegmentNumber, second.SegmentLabel = 2, "COVID lesion"
    lung.SegmentSequence[0].SegmentLabel = "Ground glass"
    lung.SegmentSequence.append(second)
    lung.save_as(mask.with_name("lung.dcm"))
    assert "Lung (covid lesion) (1), Lung (ground glass) (1), Opacity (1);" in refused(*make, "--segmentations")
    jcs(*make, "--segmentations", "--segment-type", "lung")
    assert [one.lesion_labels for one in read_manifest(tmp_path / "again.csv")] == [(1, 2)]
    del lung.SegmentSequence[1]
    lung.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning = "Opacity"
    lung.save_as(mask.with_name("lung.dcm"))
    assert "2 Segmentations refer to its series; name one in --labels" in refused(*make, "--segmentations")


def test_what_cannot_be_exported_is_said_at_once_and_nothing_is_left(studies, tmp_path):
    rows = {row.patient: row for row in read_manifest(studies)}
    bad = (
        replace(rows["ann"], mask=None),
        replace(rows["bob"], label=0),
        replace(rows["cal"], mask=rows["ann"].mask),
        rows["dot"],
        rows["dot"],
        ManifestRow(tmp_path / "none.nii.gz", "g", 0),
    )
    folder = tmp_path / "Dataset001_x"
    with pytest.raises(ConfigError) as found:
        export_nnunet(Manifest(bad), folder)
    said = str(found.value)
    for words in (
        "5 problem(s) with 6 rows, nothing is exported:",
        "its lesions are not known: give a mask",
        "labelled 0 (not infected), and its mask marks",
        "mm from its CT",
        "the same study stands in a row before",
        "none.nii.gz",
    ):
        assert words in said
    assert list(folder.iterdir()) == []
    (folder / "mine").touch()
    with pytest.raises(ConfigError, match="is not empty; choose a new folder"):
        export_nnunet(Manifest((rows["ann"],)), folder)
    with pytest.raises(ConfigError, match="called DatasetNNN_NAME, as Dataset115_COVID; got mine"):
        export_nnunet(Manifest((rows["ann"],)), tmp_path / "mine")
    kept = export_nnunet(Manifest((bad[0], rows["cal"])), tmp_path / "Dataset002_x", skip_unmasked=True)
    assert [row.patient for row in kept] == ["cal"]
    Manifest((rows["ann"],)).write(tmp_path / "a.csv")
    assert "it is no DICOM series" in refused("data", "export", "dicom", tmp_path / "a.csv", "-o", tmp_path / "d")


@pytest.fixture
def slices(tmp_path) -> Path:
    """Eight slices of four patients under two windows, one of them HU as real numbers; one has no known lesions."""
    generator, rows = np.random.default_rng(0), []
    for number in range(8):
        path, mask = tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png"
        patient, window = f"p{number // 2}", {"level_hu": 40.0, "width_hu": 400.0} if number % 2 else {}
        Image.fromarray(generator.integers(0, 256, (40, 32), dtype=np.uint8)).save(path)
        if number == 7:
            path, window = tmp_path / "7.tif", {}
            Image.fromarray(generator.uniform(-1000, 900, (40, 32)).astype(np.float32)).save(path)
        plane = np.zeros((40, 32), dtype=np.uint8)
        plane[10:14, 3 : 5 + number] = 200
        known = number % 4 != 3
        if known:
            Image.fromarray(plane).save(mask)
        split = ("train", "val", "test", "train")[number // 2]
        label = 1 if known else 0
        rows.append(ManifestRow(path, patient, label, mask if known else None, split, "own", **window))
    rows[6] = replace(rows[6], label=None, mask=None)
    Manifest(tuple(rows)).write(tmp_path / "slices.csv")
    return tmp_path / "slices.csv"


def test_slices_go_to_nnunet_in_two_dimensions_and_come_back(slices):
    """Pixels by SimpleITK, which nnU-Net's readers use too; HU and lesions as they were, to half a unit."""
    folder = slices.parent / "Dataset117_OWN"
    said = refused("data", "export", "nnunet", slices, "-o", folder)
    assert "nothing is exported, 1 problem(s) with 8 slices:" in said
    assert "6.png: no mask, and no label 0" in said
    assert "-> give a mask, or leave such slices out with --skip-unmasked" in said
    assert not folder.exists() or not list(folder.iterdir())
    said = jcs("data", "export", "nnunet", slices, "-o", folder, "--skip-unmasked")
    assert "7 slices of 4 patients, 7 with a mask" in said
    facts = json.loads((folder / "dataset.json").read_text())
    assert (facts["file_ending"], facts["numTraining"]) == (".png", 5)
    assert facts["overwrite_image_reader_writer"] == "NaturalImage2DIO"
    before = [row for row in read_manifest(slices) if row.label is not None]
    after = read_manifest(folder / "manifest.csv").rows
    for old, new in zip(before, after, strict=True):
        part = "Ts" if old.split == "test" else "Tr"
        assert new.path.parent == folder / f"images{part}"
        assert new.path.name.endswith("_0000.png")
        levels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(new.path)))
        assert levels.dtype == np.uint16
        hu = read_hu(old.path, old.window)
        assert np.abs(levels.astype(np.float32) - 1024 - np.maximum(hu, -1024)).max() <= 0.5
        assert np.abs(read_hu(new.path) - np.maximum(hu, -1024)).max() <= 0.5
        labels = folder / f"labels{part}" / new.path.name.replace("_0000", "")
        truth = read_lesions(old)
        expected = np.zeros(hu.shape, dtype=bool) if truth is None else truth
        assert np.array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(labels))), expected)
        assert new.patient == old.patient
    (split,) = json.loads((folder / "splits_final.json").read_text())
    assert (len(split["train"]), len(split["val"])) == (3, 2)
    assert all((folder / "imagesTr" / f"{name}_0000.png").is_file() for name in split["train"] + split["val"])
    whose = refused("data", "make", "nnunet", folder, "-o", slices.parent / "x.csv")
    assert "7 slices, as p0001_" in whose
    pattern = whose.split("--patient-pattern '")[1].split("'")[0]
    jcs("data", "make", "nnunet", folder, "-o", slices.parent / "again.csv", "--patient-pattern", pattern)
    again = {row.path.name: row for row in read_manifest(slices.parent / "again.csv")}
    assert {name: (row.label, row.split) for name, row in again.items()} == {
        row.path.name: (row.label, row.split) for row in after
    }
    groups = [{row.patient for row in (again[new.path.name], new)} for new in after]
    assert len({frozenset(group) for group in groups}) == 4, "patients are as they were, under other names"


def test_a_full_disk_while_slices_are_written_is_said(slices, monkeypatch):
    def full(*_given, **_named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    folder = slices.parent / "Dataset117_OWN"
    with pytest.raises(OutputError, match="the disk is full"):
        export_nnunet(read_manifest(slices), folder, skip_unmasked=True)
    assert not list(folder.iterdir())


def test_slices_cannot_go_where_a_place_in_the_patient_is_needed(slices, studies):
    for kind in ("nifti", "dicom"):
        said = refused("data", "export", kind, slices, "-o", slices.parent / kind)
        assert "8 of 8 rows are slices, as" in said
        assert "\n" not in said
    both = Manifest((*read_manifest(slices).rows, *read_manifest(studies).rows))
    with pytest.raises(ConfigError, match=r"8 rows of the manifest are slices, as .* and 5 are studies"):
        export_nnunet(both, slices.parent / "Dataset118_x")
