import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import combine, read_manifest, read_mask, split_problems
from jcs_ct.data.sources import MAKERS, ct100
from jcs_ct.data.sources.covid_cs_lists import covid_cs
from jcs_ct.data.sources.plain_folders import images
from jcs_ct.errors import ConfigError
from jcs_ct.preprocessing import Window


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    plane = np.zeros((8, 8), dtype=np.uint8)
    plane[3, 3] = value
    Image.fromarray(plane).save(path)


def test_phantoms_state_the_window_of_their_pictures(tmp_path):
    save(tmp_path / "one/images/0000.png", 99)
    save(tmp_path / "one/masks/0000.png", 255)
    (row,) = MAKERS["phantom"](tmp_path)
    assert (row.label, row.window) == (1, Window(-600.0, 1500.0))


def test_a_plain_folder_has_a_patient_per_folder(tmp_path):
    for name in ("p1/a", "p1/b", "p2/a", "lone"):
        save(tmp_path / "images" / f"{name}.png")
    save(tmp_path / "masks/p1/a.png", 255)
    save(tmp_path / "masks/p2/a.png", 0)
    for number, name in enumerate(("p1/a", "p1/b", "p2/a", "lone")):
        save(tmp_path / "images" / f"{name}.png", 99 + number)
    found = {str(row.path.relative_to(tmp_path / "images")): row for row in images(tmp_path).manifest}
    assert {name: (row.patient, row.label) for name, row in found.items()} == {
        "lone.png": ("lone", None),
        "p1/a.png": ("p1", 1),
        "p1/b.png": ("p1", None),
        "p2/a.png": ("p2", 0),
    }
    assert found["p1/a.png"].split == found["p1/b.png"].split
    with pytest.raises(ConfigError, match="no image in"):
        images(tmp_path / "masks")


def test_covid_cs_lists_are_pairs_and_share_no_patient(tmp_path):
    for name in ("p1/a", "p2/a", "p3/a"):
        save(tmp_path / "image" / f"{name}.png")
        save(tmp_path / "mask" / f"{name}.png", 255)
    (tmp_path / "train.txt").write_text("image/p1/a.png mask/p1/a.png\n\nimage/p2/a.png mask/p2/a.png\n")
    (tmp_path / "test.txt").write_text("image/p3/a.png mask/p3/a.png\n")
    manifest = covid_cs(tmp_path)
    assert [row.patient for row in manifest.split("test")] == ["image/p3"]
    assert {row.split for row in manifest if row.patient != "image/p3"} <= {"train", "val"}
    (tmp_path / "test.txt").write_text("image/p1/a.png mask/p1/a.png\n")
    with pytest.raises(ConfigError, match="patient 'image/p1' is in the splits"):
        covid_cs(tmp_path)
    (tmp_path / "test.txt").write_text("image/p3/a.png\n")
    with pytest.raises(ConfigError, match=r"test.txt, line 1: expected an image and a mask, got 1 part\(s\)"):
        covid_cs(tmp_path)


def test_ct100_is_split_or_stands_in_folds(tmp_path):
    apart = {f"val{fold}": [fold, fold + 5] for fold in range(5)}
    together = {f"val{fold}": [2 * fold, 2 * fold + 1] for fold in range(5)}
    known = {"miniseg_folds": apart, "patient_safe_folds": together, "same_acquisition_groups": [[2, 3]]}
    (tmp_path / "splits.json").write_text(json.dumps(known))
    split = ct100(tmp_path)
    assert [(row.path.stem, row.split) for row in split][:5] == [
        ("0000", "test"),
        ("0001", "test"),
        ("0002", "val"),
        ("0003", "val"),
        ("0004", "train"),
    ]
    assert {row.fold for row in split} == {None}
    output = tmp_path / "folds.csv"
    given = ["data", "make", "ct100", str(tmp_path), "-o", str(output), "--folds", "miniseg"]
    assert CliRunner().invoke(app, given).exit_code == 0
    published = read_manifest(output)
    assert [row.fold for row in published] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert {row.split for row in published} == {"train"}
    assert published.rows[2].patient == published.rows[3].patient
    assert [row.fold for row in ct100(tmp_path, folds="patient-safe")] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    refused = CliRunner().invoke(app, ["data", "make", "images", str(tmp_path), "-o", "x.csv", "--folds", "miniseg"])
    assert refused.exit_code == 2
    del known["miniseg_folds"]
    (tmp_path / "splits.json").write_text(json.dumps(known))
    with pytest.raises(ConfigError, match=r"splits\.json lacks miniseg_folds"):
        ct100(tmp_path, folds="miniseg")


def table(folder, *lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def noise(folder, number):
    """A picture unlike every other."""
    folder.mkdir(parents=True, exist_ok=True)
    plane = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(plane).save(folder / f"{number}.png")


def test_zenodo20_holds_out_two_patients_and_says_its_window(tmp_path):
    lines = [f"c0{n}_0088.jpg,c0{n}_0088.png,c0{n},88,301,{n % 2},{n % 2}" for n in (1, 2, 4, 5, 6, 7, 9)]
    head = "file,mask,patient,slice_inferior_to_superior,slices_in_volume,lesion_pixels_512,label"
    found = MAKERS["zenodo20"](table(tmp_path, head, *lines))
    assert {row.patient for row in found.split("val")} == {"zenodo20-c06", "zenodo20-c09"}
    assert len(found.split("train")) == 5
    row = found.rows[0]
    assert (row.path, row.mask) == (tmp_path / "images/c01_0088.jpg", tmp_path / "masks/c01_0088.png")
    assert [row.label for row in found][:3] == [1, 0, 0]
    # value = (HU + 1100) * 255 / 1500: black is -1100 HU and white 400 HU
    black, white = Window(row.level_hu, row.width_hu).inverse(np.array([0.0, 1.0], dtype=np.float32))
    assert (black, white) == (-1100.0, 400.0)


def test_sarscov2_keeps_its_folds_and_splits_by_them(tmp_path):
    lines = [f"covid/{n}.jpg,1,COVID_{n:03d},{n},{n}" for n in range(4)]
    folder = table(
        tmp_path / "a", "file,label,patient,group_fold,number", *lines, "noncovid/1.jpg,0,non-COVID_001,3,1"
    )
    found = MAKERS["sarscov2"](folder)
    assert [(row.fold, row.split) for row in found] == [
        (0, "test"),
        (1, "val"),
        (2, "train"),
        (3, "train"),
        (3, "train"),
    ]
    assert found.rows[4].patient == "sarscov2-non-COVID_001"
    others = table(tmp_path / "b", "file,finding,label,patient", *(f"n/{n}.png,x,0,p{n}" for n in range(5)))
    for number in range(5):
        noise(others / "n", number)
    joined = combine(found, MAKERS["iq-othnccd"](others))
    joined.write(tmp_path / "joined.csv")
    assert read_manifest(tmp_path / "joined.csv").rows == joined.rows
    assert [row.fold for row in joined] == [0, 1, 2, 3, 3, *[None] * 5]


@pytest.mark.parametrize("source", ["iq-othnccd", "pneumonia224"])
def test_sets_without_covid_keep_their_findings_and_patients(tmp_path, source):
    lines = [f"a/{n}.png,malignant,0,p{n // 3}" for n in range(60)]
    for number in range(60):
        noise(tmp_path / "a", number)
    found = MAKERS[source](table(tmp_path, "file,finding,label,patient", *lines))
    assert {(row.label, row.finding, row.source, row.level_hu) for row in found} == {(0, "malignant", source, None)}
    assert len({(row.patient, row.split) for row in found}) == 20
    assert {row.split for row in found} == {"train", "val", "test"}


def test_patients_of_iq_othnccd_with_one_scan_share_a_split(tmp_path):
    lines = [f"a/{n}.png,benign,0,p{n}" for n in range(12)]
    for number in range(12):
        noise(tmp_path / "a", number)
    (tmp_path / "a/11.png").write_bytes((tmp_path / "a/4.png").read_bytes())
    found = {row.patient: row for row in MAKERS["iq-othnccd"](table(tmp_path, "file,finding,label,patient", *lines))}
    same = [found[f"iq-othnccd-p{number}"] for number in (4, 11)]
    assert {row.group for row in same} == {"iq-othnccd-p11"}
    assert len({row.split for row in same}) == 1
    assert sum(bool(row.group) for row in found.values()) == 2


def test_a_table_of_labels_that_cannot_be_used_says_every_reason(tmp_path):
    lines = ["a.jpg,2,p,0,1", "b.jpg,1,,0,2", "c.jpg,1,p,val,3"]
    with pytest.raises(ConfigError) as refused:
        MAKERS["sarscov2"](table(tmp_path, "file,label,patient,group_fold,number", *lines))
    for said in (
        "line 2: label must be one of 0, 1, got '2'",
        "line 3: patient is empty",
        "line 4: group_fold must be",
    ):
        assert said in str(refused.value)
    with pytest.raises(ConfigError, match=r"lacks the column\(s\) mask"):
        MAKERS["zenodo20"](table(tmp_path, "file,patient,label"))
    with pytest.raises(ConfigError, match=r"lacks the column\(s\) patient_id"):
        MAKERS["ucsd"](table(tmp_path, "path,covid,age,gender", "a.png,1,65,F"))
    with pytest.raises(ConfigError, match="line 2: covid must be one of 0, 1, got 'yes'"):
        MAKERS["ucsd"](table(tmp_path, "path,covid,patient_id", "a.png,yes,p"))
    with pytest.raises(ConfigError, match="has no rows"):
        MAKERS["pneumonia224"](table(tmp_path, "file,finding,label,patient"))


@pytest.mark.parametrize("text", ["[]", '{"patient_safe_folds": [[1]], "same_acquisition_groups": []}'])
def test_splits_of_another_form_are_said(tmp_path, text):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(ConfigError, match=r"splits\.json(: patient_safe_folds and| is no mapping of folds)"):
        ct100(tmp_path)


SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.mark.skipif(not (SHARED / "zenodo20").is_dir(), reason="needs the real data sets in ../shared/data")
@pytest.mark.parametrize(
    ("source", "folder", "infected", "uninfected", "patients"),
    [
        ("zenodo20", "zenodo20", 486, 245, 8),
        ("sarscov2", "sarscov2", 879, 965, 74),
        ("iq-othnccd", "iq_othnccd", 0, 455, 123),
        ("pneumonia224", "pneumonia224", 0, 363, 12),
    ],
)
def test_the_real_sets_are_made_whole(source, folder, infected, uninfected, patients):
    found = MAKERS[source](SHARED / folder)
    labels = [row.label for row in found]
    assert (labels.count(1), labels.count(0), len({row.patient for row in found})) == (infected, uninfected, patients)
    assert not split_problems(found)
    assert all(row.path.is_file() and (row.mask is None or row.mask.is_file()) for row in found)
    for row in found.rows[::97]:
        assert row.mask is None or read_mask(row.mask).any() == row.label
