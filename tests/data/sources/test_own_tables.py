"""Anyone's table becomes a manifest, or says what it lacks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.cli import app, main
from jcs_ct.cli.data_make import PUBLIC_SETS
from jcs_ct.data.manifest import Manifest, read_manifest
from jcs_ct.data.manifest.manifest_checks import check_manifest
from jcs_ct.data.manifest.manifest_problems import ManifestError
from jcs_ct.data.sources import MAKERS
from jcs_ct.data.sources.own_manifest import Making
from jcs_ct.data.sources.own_tables import OwnTable, make_table
from jcs_ct.data.sources.plain_folders import OwnFolder, images
from jcs_ct.errors import ConfigError


@pytest.fixture
def own(tmp_path) -> Path:
    """Twelve slices of six patients in images/, their masks in masks/."""
    generator = np.random.default_rng(0)
    for number in range(12):
        name = f"c{number // 2:02d}_{number:04d}"
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        plane = np.zeros((16, 16), dtype=np.uint8)
        if number % 2:
            plane[4:6, 4:9] = 1
            plane[8, 8] = 2
        Image.fromarray(plane).save(tmp_path / "masks" / f"{name}.png")
        Image.fromarray(generator.integers(0, 255, (16, 16), dtype=np.uint8)).save(
            tmp_path / "images" / f"{name}.jpg"
        )
    return tmp_path


def names() -> list[str]:
    return [f"c{number // 2:02d}_{number:04d}" for number in range(12)]


def table(folder: Path, head: str, lines: list[str]) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


def refused(path: Path, wanted: OwnTable | None = None, making: Making | None = None) -> str:
    """What is said of a table that cannot be used."""
    with pytest.raises(ManifestError) as error:
        make_table(path, wanted or OwnTable(), making)
    return str(error.value)


def make(*arguments: object):
    return CliRunner().invoke(app, ["data", "make", *map(str, arguments)])


def test_one_command_makes_a_manifest_that_passes_its_check(own):
    lines = [f"{name}.jpg,{name}.png,{'covid' if n % 2 else 'none'},61" for n, name in enumerate(names())]
    path = table(own, "File,Mask,Diagnosis,Age", lines)
    done = make(
        "table", path, "-o", own / "slices.csv", "--label-column", "diagnosis", "--labels", "covid=1,none=0",
        "--patient-pattern", "(c[0-9]+)_", "--root", own / "images", "--mask-root", own / "masks",
        "--lesion-labels", "1", "--window", "-350", "1500",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "columns: path = File, label = Diagnosis, mask = Mask, age = Age" in done.output
    assert "labels: none = 0, not infected (6), covid = 1, infected (6)" in done.output
    assert "12 rows of 6 patients: 6 infected, 6 not infected, 0 not known" in done.output
    assert "files: 12/12 in " in done.stderr, "it is checked at once"
    assert "8-bit, under the stated window (level -350, width 1500 HU)" in done.stderr
    manifest = check_manifest(own / "slices.csv").manifest
    assert [row.patient for row in manifest][::2] == [f"c{n:02d}" for n in range(6)]
    assert [row.label for row in manifest] == [0, 1] * 6
    assert {row.age for row in manifest} == {61.0}
    assert {row.lesion_labels for row in manifest} == {(1,)}
    assert {(row.level_hu, row.width_hu) for row in manifest} == {(-350.0, 1500.0)}
    assert {split: len({row.patient for row in manifest.split(split)}) for split in ("train", "val", "test")} == {
        "train": 4,
        "val": 1,
        "test": 1,
    }


def test_a_leak_in_a_table_is_found_as_it_becomes_a_manifest(own):
    """One scan under two names, in two splits."""
    picture = own / "images" / "c00_0000.jpg"
    (own / "images" / "c05_0011.jpg").write_bytes(picture.read_bytes())
    lines = [f"{name}.jpg,{name[:3]},{n % 2},{'test' if n > 9 else 'train'}" for n, name in enumerate(names())]
    path = table(own, "file,patient,label,split", lines)
    asked = ("table", path, "-o", own / "slices.csv", "--root", own / "images")
    error = make(*asked).exception
    assert isinstance(error, ManifestError)
    assert error.code == "LEAK"
    assert "c00_0000.jpg (train) and" in str(error)
    assert "nothing is written" in str(error)
    assert not (own / "slices.csv").exists()
    assert error.details["leaks"][0]["code"] == "NEAR_DUPLICATES"
    assert [Path(one).name for one in error.details["leaks"][0]["images"]] == ["c00_0000.jpg", "c05_0011.jpg"]
    accepted = make(*asked, "--accept-leaks")
    assert accepted.exit_code == 0
    assert "note: leak: " in accepted.stderr
    done = make(*asked, "--no-check")
    assert (done.exit_code, "not checked, read every file with" in done.output) == (0, True)
    dealt = make(*asked, "--deal")
    assert dealt.exit_code == 0, dealt.output
    assert "2 patients share slices that are near-duplicates or neighbours, as c00_0000.jpg and" in dealt.stderr
    assert len({row.split for row in read_manifest(own / "slices.csv") if row.patient in ("c00", "c05")}) == 1
    assert check_manifest(own / "slices.csv").leaks == ()


def test_patients_who_share_slices_are_kept_together_whatever_the_seed(own):
    """The default: a leak cannot arise; without it, one does."""
    (own / "images" / "c05_0011.jpg").write_bytes((own / "images" / "c00_0000.jpg").read_bytes())
    path = table(own, "image,patient,label", [f"{name},{name[:3]},{n % 2}" for n, name in enumerate(names())])
    apart = 0
    for seed in range(4):
        made = make_table(path, OwnTable(root=own / "images"), Making(seed=seed)).made
        assert len({row.split for row in made.manifest if row.patient in ("c00", "c05")}) == 1
        alone = Making(seed=seed, join_duplicates=False, accept_leaks=True)
        apart += len(make_table(path, OwnTable(root=own / "images"), alone).made.leaks)
    assert apart > 0


def test_splits_folds_and_groups_are_kept(own):
    lines = [
        f"{name},{name[:3]},{n % 2},{['training', 'validation'][n // 6]},{n // 4}" for n, name in enumerate(names())
    ]
    path = table(own, "image,patient_id,class,split,fold", lines)
    made = make_table(path, OwnTable(root=own / "images"))
    assert [row.split for row in made.made.manifest] == ["train"] * 6 + ["val"] * 6
    assert [row.fold for row in made.made.manifest] == [n // 4 for n in range(12)]
    assert made.made.manifest.rows[0].path == own / "images/c00_0000.jpg"
    assert not made.made.split_is_dealt
    lines = [f"{name}.jpg,{name[:3]},{n % 2},g{(n // 2) % 5},x" for n, name in enumerate(names())]
    made = make_table(table(own, "image,patient,label,group,note", lines), OwnTable(root=own / "images"))
    assert made.made.split_is_dealt
    assert made.unread_columns == ("note",)
    of_group = {row.group: row.split for row in made.made.manifest}
    assert {row.split for row in made.made.manifest if row.patient in ("c00", "c05")} == {of_group["g0"]}
    assert len({(row.group, row.split) for row in made.made.manifest}) == 5


def test_what_a_table_lacks_is_said_at_once_with_the_option_that_mends_it(own):
    said = refused(table(own, "name,remark", ["a,covid"]), OwnTable(columns={"mask": "lesions"}))
    for part in (
        "no column was recognised as the image; the other columns are name, remark",
        "-> --image-column NAME",
        "no column was recognised as the label",
        "-> --label-column NAME",
        "-> --patient-column NAME, or --patient-pattern",
        "it has no column lesions; it has name, remark",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("head", "cells"),
    [
        ("File name;Case;COVID;Segmentation", ("yes", "no")),
        ("filename\tPatient ID\tInfected\tMask", ("TRUE", "FALSE")),
        ("Bilddatei;Patienten-Nr.;Befund;Maske", ("positiv", "unauffällig")),
        ("image,subject,COVID-19 status,seg path", ("COVID-19", "Non-COVID")),
        ("Slice,patient,label,mask", ("1", "0")),
    ],
)
def test_usual_headings_and_plain_labels_are_understood_without_an_option(own, head, cells):
    between = next(sign for sign in ";\t," if sign in head)
    lines = [between.join((f"{n}.jpg", n[:3], cells[1 - i % 2], f"{n}.png")) for i, n in enumerate(names())]
    path = table(own, head, lines)
    done = make("table", path, "-o", own / "slices.csv")
    assert done.exit_code == 0, str(done.exception)
    manifest = read_manifest(own / "slices.csv")
    assert [row.label for row in manifest] == [0, 1] * 6
    assert {row.patient for row in manifest} == {f"c{n:02d}" for n in range(6)}
    assert all(row.mask is not None and row.mask.parent.name == "masks" for row in manifest)
    assert f"{cells[0]} = 1, infected (6)" in done.output
    assert f"{cells[1]} = 0, not infected (6)" in done.output
    assert f"images count from {own / 'images'}, the one folder that holds all 12" in done.stderr


def test_a_choice_that_is_open_is_refused_with_all_that_may_be_meant(own):
    lines = [f"{n}.jpg,{n}.jpg,{n[:3]},{n},{i % 2},{('cap', 'ncp')[i % 2]}" for i, n in enumerate(names())]
    said = refused(table(own, "image,filename,case,subject,infected,class", lines))
    assert "several columns may hold the image: image, filename" in said
    assert "-> --image-column image or --image-column filename" in said
    assert "several columns may hold the patient: case, subject" in said
    assert "the label" not in said, "cap is no plain word, so the other column is meant"
    said = refused(
        table(
            own, "image,patient,class", [f"{n}.jpg,{n[:3]},{('cap', 'covid')[i % 2]}" for i, n in enumerate(names())]
        )
    )
    assert "label must be 0 (not infected), 1 or empty, and is 'cap' (6 lines)" in said
    assert "--labels cap=? with 1 (infected) or 0 (not infected)" in said
    copied = make("table", own / "labels.csv", "-o", own / "x.csv", "--labels", "cap=?")
    assert "--labels needs words that mean 0 or 1" in str(copied.exception), "what is suggested decides nothing"
    made = make_table(own / "labels.csv", OwnTable(label_words={"cap": 0}))
    assert made.meanings == {"cap": (0, 6), "covid": (1, 6)}


def test_numbers_of_slices_and_a_group_of_cases_are_not_taken_for_files_and_patients(own):
    lines = [f"{i},{n}.jpg,{n[:3]},{('control', 'covid')[i % 2]},1" for i, n in enumerate(names())]
    made = make_table(
        table(own, "slice,picture of it,patient,group,lesions", lines), OwnTable(columns={"label": "group"})
    )
    assert made.columns == {"path": "picture of it", "patient": "patient", "label": "group"}
    assert made.unread_columns == ("slice", "lesions")


def test_every_line_that_cannot_be_used_is_said_at_once(own):
    lines = [f"{name}.jpg,{name[:3]},{'ill' if n % 2 else 0},train" for n, name in enumerate(names())]
    lines += ["x.jpg,c09,0,train", "c00_0000.jpg,c00 ,0,test", "c01_0002.jpg"]
    path = table(own, "image,patient,label,split", lines)
    said = refused(path)
    for part in (
        "line 16: has 1 cell(s), the head line has 4",
        "label must be 0 (not infected), 1 or empty, and is 'ill' (6 lines)",
        f"{own / 'images' / 'x.jpg'}: does not exist",
        "correct its name in the table, or --root FOLDER",
        "c00_0000.jpg: stands in 2 rows, of the patient(s) c00; keep one",
        "patient 'c00' is in the splits test, train",
    ):
        assert part in said
    said = refused(path, OwnTable(root=own / "images", label_words={"ill": 1}))
    assert f"{own / 'images' / 'x.jpg'}: does not exist" in said


def test_where_images_and_masks_lie_is_told_apart(own):
    """One folder that holds all is found; of two, the one that is called so; else all are named."""
    lines = [f"{name},{name},{name[:3]},{n % 2}" for n, name in enumerate(names())]
    path = table(own, "image,mask,patient,label", lines)
    made = make_table(path, OwnTable()).made
    assert {(row.path.parent.name, row.mask and row.mask.parent.name) for row in made.manifest} == {
        ("images", "masks")
    }
    (own / "images").rename(own / "one")
    (own / "masks").rename(own / "two")
    said = refused(path)
    assert f"-> --root {own / 'one'} or --root {own / 'two'}" in said
    assert f"-> --mask-root {own / 'one'} or --mask-root {own / 'two'}" in said


@pytest.mark.parametrize("before", ["C:\\Daten\\Bilder\\", "c:/Daten/", r"\\server\daten\\", "/home/someone/data/"])
@pytest.mark.parametrize("masks", ["masks", "Masken"])
def test_whole_paths_of_another_machine_are_said_once_with_the_folder_of_their_names(own, before, masks):
    for path in (own / "masks").iterdir():
        path.rename(path.with_suffix(".jpg"))
    (own / "masks").rename(own / masks)
    lines = [f"{before}{name}.jpg,{before}{name}.jpg,{name[:3]},{n % 2}" for n, name in enumerate(names())]
    said = refused(table(own, "image,mask,patient,label", lines))
    count = len(names())
    for option, folder in (("--root", "images"), ("--mask-root", masks)):
        remedy = f"  -> keep the file names alone in the table, and {option} {own / folder}, which holds"
        assert said.count(f"{remedy} {count} of {count}") == 1
    assert ("another machine's (Windows)" in said) == (not before.startswith("/home"))
    assert said.count("->") == 2


def test_many_remedies_that_are_alike_are_said_by_examples(own):
    lines = [f"old/{name},{name[:3]},{n % 2}" for n, name in enumerate(names())]
    path = table(own, "image,patient,label", lines)
    for name in names():
        (own / name).mkdir()
        next((own / "images").glob(f"{name}.*")).rename(own / name / name)
    said = refused(path)
    assert said.count("say from which folder names count with --root") == 3
    assert f"and so on for {len(names()) - 3} more" in said


@pytest.mark.parametrize("gone", [0, 5])
def test_one_file_that_is_not_there_is_named_and_the_others_are_found(own, gone):
    lines = [f"{name},{name},{name[:3]},{n % 2}" for n, name in enumerate(names())]
    path = table(own, "image,mask,patient,label", lines)
    lost = next((own / "masks").glob(f"{names()[gone]}*"))
    lost.unlink()
    said = refused(path)
    assert "1 problem(s)" in said
    assert f"{own / 'masks' / names()[gone]}: does not exist" in said
    assert "correct its name in the table, or --mask-root FOLDER" in said


def contradicting(own: Path) -> Path:
    """A table that says of all slices of c00 and c01 that they are infected; half of their masks are empty."""
    lines = [f"{n}.jpg,{n}.png,{n[:3]},{int(n < 'c02')}" for n in names() if n < "c02" or not int(n[-1]) % 2]
    return table(own, "image,mask,patient,label", lines)


def test_infected_slices_with_empty_masks_are_set_aside_or_what_is_decided(own):
    path = contradicting(own)
    made = make_table(path, OwnTable()).made
    aside = [row for row in made.manifest if row.label is None]
    assert [row.path.stem for row in aside] == ["c00_0000", "c01_0002"]
    assert {row.mask for row in aside} == {None}
    (note,) = [note for note in made.notes if "set aside" in note]
    assert "2 slice(s) are labelled infected and have an empty mask, as c00_0000.jpg, c01_0002.jpg" in note
    assert "the label never differs within a patient" in note
    assert "--contradictions label-from-mask if" in note
    by_mask = make_table(path, OwnTable(), Making(contradictions="label-from-mask")).made.manifest
    assert [(row.label, row.mask is None) for row in by_mask][:4] == [(0, False), (1, False)] * 2
    by_label = make_table(path, OwnTable(), Making(contradictions="drop-mask")).made.manifest
    assert [(row.label, row.mask is None) for row in by_label][:4] == [(1, True), (1, False)] * 2
    said = refused(path, making=Making(contradictions="refuse"))
    assert "c00_0000.png: the row is labelled 1 (infected), its mask is empty" in said
    assert "-> --contradictions label-from-mask (the label is the patient's" in said
    assert all(check_manifest(_written(one, own)).leaks == () for one in (made.manifest, by_mask, by_label))


def _written(manifest: Manifest, folder: Path) -> Path:
    manifest.write(folder / "slices.csv")
    return folder / "slices.csv"


def test_marked_masks_of_uninfected_slices_are_never_settled_silently(own):
    """Labels the wrong way round, or masks of lungs: every slice is against its mask."""
    lines = [f"{n}.jpg,{n}.png,{n[:3]},{1 - i % 2}" for i, n in enumerate(names())]
    path = table(own, "image,mask,patient,label", lines)
    said = refused(path)
    assert "6 rows that are labelled 0 (not infected) and whose mask marks pixels, as" in said
    assert "6 rows that are labelled 1 (infected) and have an empty mask, as" in said
    assert said.count("\n") < 8
    made = make_table(path, OwnTable(), Making(contradictions="label-from-mask")).made
    assert [row.label for row in made.manifest] == [0, 1] * 6


def test_masks_listed_as_images_are_all_found(own):
    for name in names():
        (own / "masks" / f"{name}.png").rename(own / "images" / f"{name}_seg.png")
    listed = [file for n in names() for file in (f"{n}.jpg,{n[:3]},1", f"{n}_seg.png,{n[:3]},0")]
    said = refused(table(own, "image,patient,label", listed))
    assert "12 masks that are listed as images, as" in said
    assert "is called as the mask of another one" in said
    lines = [f"{n}.jpg,{n}_seg.png,{n[:3]},{i % 2}" for i, n in enumerate(names())]
    lines += [f"{n}_seg.png,,{n[:3]},0" for n in names()]
    assert "is listed as an image, and is a mask of the table" in refused(
        table(own, "image,mask,patient,label", lines)
    )


def test_a_table_of_one_class_is_refused_unless_it_is_meant(own):
    path = table(own, "image,patient,label", [f"{n}.jpg,{n[:3]},normal" for n in names()])
    assert "no slice is infected (0 infected, 12 uninfected, 0 without a label)" in refused(path)
    made = make_table(path, OwnTable(), Making(one_class=True)).made
    assert "every labelled row is uninfected: a classifier cannot be trained on it or judged" in made.notes


def test_a_table_without_patients_is_told_what_its_names_suggest(own):
    path = table(own, "image,label", [f"{n}.jpg,{i % 2}" for i, n in enumerate(names())])
    said = refused(path)
    assert "no column was recognised as the patient" in said
    assert "if what stands before a name's last number is the patient (6 of them: c00, c01, c02, ...)" in said
    pattern = said.split("--patient-pattern '")[1].split("'")[0]
    made = make_table(path, OwnTable(patient_pattern=pattern)).made
    assert {row.patient for row in made.manifest} == {f"c{n:02d}" for n in range(6)}


def test_a_window_of_no_width_is_refused(own):
    path = table(own, "image,patient,label", [f"{name}.jpg,{name[:3]},0" for name in names()])
    done = make("table", path, "-o", own / "x.csv", "--root", own / "images", "--window", "40", "0")
    assert "--window needs a level and a width greater than 0, as -600 1500; got 40 0" in str(done.exception)


@pytest.mark.parametrize(("pattern", "said"), [("c[0-9]+", "needs a group"), ("(c", "no regular expression")])
def test_a_pattern_that_cannot_be_used_is_refused(pattern, said):
    with pytest.raises(ConfigError, match=said):
        OwnTable(patient_pattern=pattern)


def test_a_pattern_that_is_not_found_is_refused(own):
    path = table(own, "image,label", [f"{name}.jpg,{n % 2}" for n, name in enumerate(names())])
    with pytest.raises(ConfigError, match=r"is not found in 12 path\(s\), as c00_0000\.jpg"):
        make_table(path, OwnTable(root=own / "images", patient_pattern="patient([0-9]+)"))


def test_a_flat_folder_of_slices_is_not_taken_for_patients(own):
    flat = make("images", own, "-o", own / "slices.csv")
    assert "12 slices lie in images/ itself, as c00_0000.jpg and c00_0001.jpg" in str(flat.exception)
    assert not (own / "slices.csv").exists()
    done = make("images", own, "-o", own / "slices.csv", "--patient-pattern", "(c[0-9]+)_")
    assert done.exit_code == 0, done.output
    assert len({(row.patient, row.split) for row in read_manifest(own / "slices.csv")}) == 6
    assert {row.patient for row in images(own, OwnFolder(one_slice_each=True)).manifest} == set(names())
    with pytest.raises(ConfigError, match=r"not found in 12 name\(s\)"):
        images(own, OwnFolder(patient_pattern="x([0-9]+)"))


def test_masks_of_a_folder_may_be_tiff_and_have_labels(own):
    (own / "masks" / "c00_0000.png").unlink()
    first = own / "masks" / "c00_0001.png"
    Image.open(first).save(first.with_suffix(".tif"))
    first.unlink()
    done = make("images", own, "-o", own / "slices.csv", "--one-slice-each", "--lesion-labels", "2")
    assert done.exit_code == 0, done.output
    assert "1 slices are of no known label, as c00_0000.jpg: they have no mask" in done.stderr
    rows = {row.path.stem: row for row in read_manifest(own / "slices.csv")}
    assert (rows["c00_0000"].label, rows["c00_0001"].label, rows["c01_0002"].label) == (None, 1, 0)
    assert rows["c00_0001"].lesion_labels == (2,)


def test_masks_of_other_values_are_not_taken_for_uninfected(own):
    for name in names()[6:]:
        path = own / "masks" / f"{name}.png"
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    said = r"3 of 12 mask\(s\) hold no value of lesion_labels \(1\) but 255"
    with pytest.raises(ManifestError, match=said):
        images(own, OwnFolder(one_slice_each=True, lesion_labels=(1,)))
    lines = [f"images/{name}.jpg,{name},,masks/{name}.png,1" for name in names()]
    with pytest.raises(ConfigError, match=said):
        check_manifest(table(own, "path,patient,label,mask,lesion_labels", lines))
    with pytest.raises(
        ManifestError, match=r"lesion_labels names 9, which none of 12 mask\(s\) has; they have 1, 2, 255"
    ):
        images(own, OwnFolder(one_slice_each=True, lesion_labels=(1, 255, 9)))
    made = images(own, OwnFolder(one_slice_each=True, lesion_labels=(1, 255)))
    assert [row.label for row in made.manifest] == [0, 1] * 6


def test_other_structures_without_a_lesion_are_uninfected(own):
    for name in names()[::2]:
        plane = np.zeros((16, 16), dtype=np.uint8)
        plane[8, 8] = 2
        Image.fromarray(plane).save(own / "masks" / f"{name}.png")
    made = images(own, OwnFolder(one_slice_each=True, lesion_labels=(1,)))
    assert [row.label for row in made.manifest] == [0, 1] * 6


def test_masks_that_cannot_be_used_are_said_at_once(own):
    (own / "masks" / "c00_0001.png").rename(own / "masks" / "other.png")
    for name in ("c01_0003", "c02_0005"):
        (own / "masks" / f"{name}.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"(?s)3 problem.*other.png: images/ has no slice.*c01_0003.*c02_0005"):
        images(own, OwnFolder(one_slice_each=True))


def test_the_command_offers_every_public_set():
    assert set(PUBLIC_SETS) == set(MAKERS)


@pytest.fixture
def classes(own) -> Path:
    """The slices of ``own`` in images/COVID/PATIENT and images/non-COVID/PATIENT, without masks."""
    for number, name in enumerate(names()):
        folder = own / "set" / ("CT_COVID", "CT_NonCOVID")[number % 2] / f"{'pn'[number % 2]}{number // 4}"
        folder.mkdir(parents=True, exist_ok=True)
        (own / "images" / f"{name}.jpg").rename(folder / f"{name}.jpg")
    return own / "set"


def test_folders_that_are_called_as_classes_are_classes(classes):
    done = make("images", classes, "-o", classes / "slices.csv")
    assert done.exit_code == 0, str(done.exception)
    manifest = read_manifest(classes / "slices.csv")
    assert {(row.patient[0], row.label) for row in manifest} == {("p", 1), ("n", 0)}
    assert len({row.patient for row in manifest}) == 6
    for split in ("train", "val", "test"):
        assert {row.label for row in manifest.split(split)} == {0, 1}
    (classes / "CT_NonCOVID").rename(classes / "CAP")
    with pytest.raises(ConfigError, match="or two folders that are called as COVID and non-COVID"):
        images(classes)
    said = images(classes, OwnFolder(label_words={"CAP": 0, "ct_covid": 1})).manifest
    assert {(row.patient[0], row.label) for row in said} == {("p", 1), ("n", 0)}
    (classes / "CT_COVID/p0").rename(classes / "normal")
    with pytest.raises(ManifestError, match=r"is 'CAP' \(6 lines\): the meaning of each is not recognised"):
        images(classes)


def test_a_patient_in_several_classes_is_one_patient(classes):
    (classes / "CT_NonCOVID" / "n0").rename(classes / "CT_NonCOVID" / "p0")
    made = images(classes)
    assert {row.patient for row in made.manifest} == {"p0", "p1", "p2", "n1", "n2"}
    assert len({row.split for row in made.manifest if row.patient == "p0"}) == 1
    assert {row.label for row in made.manifest if row.patient == "p0"} == {0, 1}
    assert made.notes[0].startswith("1 patient(s) have slices in the folders of several classes, as p0: each is one")


def test_slices_without_masks_are_uninfected_where_it_is_said(own):
    for number, name in enumerate(names()):
        for kind, ending in (("images", "jpg"), ("masks", "png")):
            folder = own / "set" / kind / f"p{number // 2}"
            folder.mkdir(parents=True, exist_ok=True)
            (own / kind / f"{name}.{ending}").rename(folder / f"{name}.{ending}")
    for patient in ("p0", "p1"):
        shutil.rmtree(own / "set/masks" / patient)
    made = images(own / "set")
    assert sum(row.label is None for row in made.manifest) == 4
    assert any("--uninfected 'NAME*'" in note for note in made.notes)
    for split in ("train", "val", "test"):
        assert {0, 1} <= {row.label for row in made.manifest.split(split)}
    done = make("images", own / "set", "-o", own / "x.csv", "--uninfected", "p0", "--uninfected", "c01_*")
    assert "6 infected, 6 not infected" not in done.output
    assert "4 infected, 8 not infected, 0 not known" in done.output
    marked = make("images", own / "set", "-o", own / "x.csv", "--uninfected", "p5")
    assert "the row is labelled 0 (not infected), and its mask marks 11 pixel(s)" in str(marked.exception)
    nothing = make("images", own / "set", "-o", own / "x.csv", "--uninfected", "p9")
    assert "--uninfected 'p9' names no slice and no folder" in str(nothing.exception)


def test_masks_beside_their_images_are_taken_for_masks(own):
    for name in names():
        (own / "masks" / f"{name}.png").rename(own / "images" / f"{name}_seg.png")
    (own / "masks").rmdir()
    made = images(own, OwnFolder(patient_pattern="(c[0-9]+)_"))
    assert [row.label for row in made.manifest] == [0, 1] * 6
    assert "12 pictures are taken for masks by their names, as c00_0000_seg.png" in made.notes


def test_ages_that_are_no_numbers_are_left_empty(own):
    lines = [f"{n}.jpg,{n[:3]},{i % 2},{'61' if i else 'Young Child'}" for i, n in enumerate(names())]
    made = make_table(table(own, "image,patient,label,age", lines), OwnTable()).made
    assert [row.age for row in made.manifest] == [None, *[61.0] * 11]
    assert "age: 1 cell(s) are no number, as 'Young Child', and left empty" in made.notes


def test_a_table_of_a_western_spreadsheet_is_read_and_a_workbook_is_refused(own):
    lines = [f"{n}.jpg;{n[:3]};{('unauffällig', 'positiv')[i % 2]}" for i, n in enumerate(names())]
    path = own / "liste.csv"
    path.write_bytes("\r\n".join(["Datei;Fall;Befund", *lines]).encode("cp1252"))
    made = make_table(path, OwnTable())
    assert made.meanings == {"unauffällig": (0, 6), "positiv": (1, 6)}
    assert made.made.notes[0].startswith("liste.csv is no UTF-8 and was read as Windows-1252")
    path.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(ConfigError, match=r"is a spreadsheet's own file; save it as CSV \(UTF-8\)"):
        make_table(path, OwnTable())


def test_masks_in_a_folder_of_their_own_may_have_longer_names(own):
    for name in names():
        (own / "masks" / f"{name}.png").rename(own / "masks" / f"{name}_seg.png")
    made = images(own, OwnFolder(patient_pattern="(c[0-9]+)_"))
    assert [row.label for row in made.manifest] == [0, 1] * 6


def test_what_was_taken_for_what_is_said_to_machines_too(own, capsys, monkeypatch):
    lines = [f"{n}.jpg,{n[:3]},{('no', 'yes')[i % 2]}," for i, n in enumerate(names())]
    path = table(own, "image,patient,infected,note", lines)
    monkeypatch.setattr("sys.argv", ["jcs", "data", "make", "table", str(path), "-o", str(own / "x.csv"), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = json.loads(capsys.readouterr().out)
    assert (ended.value.code, said["outcome"], said["is_checked"]) == (0, "done", True)
    assert said["columns"] == {"path": "image", "patient": "patient", "label": "infected"}
    assert said["labels"] == {"no": {"label": 0, "rows": 6}, "yes": {"label": 1, "rows": 6}}
    assert said["not_kept"] == ["note"]
    assert sum(row["infected"] for row in said["counts"]) == 6
    path.write_text(path.read_text().replace("yes", "cap"))
    with pytest.raises(SystemExit):
        main()
    refusal = json.loads(capsys.readouterr().out)
    assert (refusal["outcome"], refusal["error"]["code"]) == ("failed", "MANIFEST")
    (problem,) = refusal["problems"]
    assert (problem["code"], problem["count"], problem["remedies"][0][:15]) == ("LABEL", 1, "--labels cap=? ")
