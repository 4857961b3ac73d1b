"""Anyone's table becomes a manifest, or says what it lacks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.cli.data_make import PUBLIC_SETS
from jcs_ct.data.manifest import read_manifest
from jcs_ct.data.manifest.manifest_checks import check_manifest
from jcs_ct.data.sources import MAKERS
from jcs_ct.data.sources.own_tables import OwnTable, make_table
from jcs_ct.data.sources.plain_folders import images
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
    assert "path = file" in done.output
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
        "train": 3,
        "val": 1,
        "test": 2,
    }


def test_a_leak_in_a_table_is_found_as_it_becomes_a_manifest(own):
    """One scan under two names, in two splits."""
    picture = own / "images" / "c00_0000.jpg"
    (own / "images" / "c05_0011.jpg").write_bytes(picture.read_bytes())
    lines = [f"{name}.jpg,{name[:3]},0,{'test' if name.startswith('c05') else 'train'}" for name in names()]
    path = table(own, "file,patient,label,split", lines)
    asked = ("table", path, "-o", own / "slices.csv", "--root", own / "images")
    refused = make(*asked)
    assert isinstance(refused.exception, ConfigError)
    assert "slices.csv is written, and is not fit for use: the manifest" in str(refused.exception)
    assert "1 leak(s):" in str(refused.exception)
    assert make(*asked, "--accept-leaks").exit_code == 0
    done = make(*asked, "--no-check")
    assert (done.exit_code, "not checked; read every file with: jcs data check" in done.output) == (0, True)


def test_splits_folds_and_groups_are_kept(own):
    lines = [
        f"{name},{name[:3]},{n % 2},{['training', 'validation'][n // 6]},{n // 4}" for n, name in enumerate(names())
    ]
    path = table(own, "image,patient_id,class,split,fold", lines)
    made = make_table(path, OwnTable(root=own / "images"))
    assert [row.split for row in made.manifest] == ["train"] * 6 + ["val"] * 6
    assert [row.fold for row in made.manifest] == [n // 4 for n in range(12)]
    assert made.manifest.rows[0].path == own / "images/c00_0000.jpg"
    assert not made.split_is_drawn
    lines = [f"{name}.jpg,{name[:3]},{n % 2},g{(n // 2) % 5},x" for n, name in enumerate(names())]
    made = make_table(table(own, "image,patient,label,group,note", lines), OwnTable(root=own / "images"))
    assert made.split_is_drawn
    assert made.unread_columns == ("note",)
    of_group = {row.group: row.split for row in made.manifest}
    assert {row.split for row in made.manifest if row.patient in ("c00", "c05")} == {of_group["g0"]}
    assert len({(row.group, row.split) for row in made.manifest}) == 5


def test_what_a_table_lacks_is_said_at_once_with_the_option_that_mends_it(own):
    path = table(own, "name,diagnosis", ["a.jpg,covid"])
    with pytest.raises(ConfigError) as refused:
        make_table(path, OwnTable(columns={"mask": "lesions"}))
    for said in (
        "columns name, diagnosis",
        "--image-column",
        "--label-column",
        "--patient-pattern",
        "no column lesions",
    ):
        assert said in str(refused.value)


def test_every_line_that_cannot_be_used_is_said_at_once(own):
    lines = [f"{name}.jpg,{name[:3]},{'covid' if n % 2 else 0},train" for n, name in enumerate(names())]
    lines += ["x.jpg,c09,0,train", "c00_0000.jpg,c00 ,0,test", "c01_0002.jpg"]
    with pytest.raises(ConfigError) as refused:
        make_table(table(own, "image,patient,label,split", lines), OwnTable())
    for said in (
        "line 16: has 1 cell(s), the head line has 4",
        "label must be 0 (not infected), 1 or empty, and is 'covid' (6 lines); say what each means: --labels covid=1",
        f"{own / 'c00_0000.jpg'} does not exist",
        f"there is {own / 'images' / 'c00_0000.jpg'}: say from which folder names count with --root",
    ):
        assert said in str(refused.value)
    with pytest.raises(ConfigError, match=r"x\.jpg does not exist"):
        make_table(path := own / "labels.csv", OwnTable(root=own / "images", label_words={"covid": 1}))
    path.write_text(path.read_text().replace("x.jpg,c09,0,train\n", "").replace("\nc01_0002.jpg\n", "\n"))
    with pytest.raises(ConfigError, match="patient 'c00' is in the splits test, train"):
        make_table(path, OwnTable(root=own / "images", label_words={"covid": 1}))


def test_where_images_and_masks_lie_is_told_apart(own):
    path = table(own, "image,mask,patient,label", [f"{name}.jpg,{name}.png,{name[:3]},0" for name in names()])
    with pytest.raises(ConfigError) as refused:
        make_table(path, OwnTable())
    for said in (
        "and 7 more of 12 do not exist",
        f"there is {own / 'images' / 'c00_0000.jpg'}: say from which folder names count with --root",
        f"there is {own / 'masks' / 'c00_0000.png'}: say from which folder names count with --mask-root",
    ):
        assert said in str(refused.value)


def test_a_window_of_no_width_is_refused(own):
    path = table(own, "image,patient,label", [f"{name}.jpg,{name[:3]},0" for name in names()])
    refused = make("table", path, "-o", own / "x.csv", "--root", own / "images", "--window", "40", "0")
    assert "--window needs a level and a width greater than 0, as -600 1500; got 40 0" in str(refused.exception)


@pytest.mark.parametrize(("pattern", "said"), [("c[0-9]+", "needs a group"), ("(c", "no regular expression")])
def test_a_pattern_that_cannot_be_used_is_refused(pattern, said):
    with pytest.raises(ConfigError, match=said):
        OwnTable(patient_pattern=pattern)


def test_a_pattern_that_is_not_found_is_refused(own):
    path = table(own, "image,label", [f"{name}.jpg,0" for name in names()])
    with pytest.raises(ConfigError, match=r"is not found in 12 path\(s\), as c00_0000\.jpg"):
        make_table(path, OwnTable(root=own / "images", patient_pattern="patient([0-9]+)"))


def test_a_flat_folder_of_slices_is_not_taken_for_patients(own):
    refused = make("images", own, "-o", own / "slices.csv")
    assert "12 slices lie in images/ itself, as c00_0000.jpg and c00_0001.jpg" in str(refused.exception)
    assert not (own / "slices.csv").exists()
    done = make("images", own, "-o", own / "slices.csv", "--patient-pattern", "(c[0-9]+)_")
    assert done.exit_code == 0, done.output
    assert len({(row.patient, row.split) for row in read_manifest(own / "slices.csv")}) == 6
    assert {row.patient for row in images(own, one_slice_each=True)} == set(names())
    with pytest.raises(ConfigError, match=r"not found in 12 name\(s\)"):
        images(own, patient_pattern="x([0-9]+)")


def test_masks_of_a_folder_may_be_tiff_and_have_labels(own):
    (own / "masks" / "c00_0000.png").unlink()
    first = own / "masks" / "c00_0001.png"
    Image.open(first).save(first.with_suffix(".tif"))
    first.unlink()
    done = make("images", own, "-o", own / "slices.csv", "--one-slice-each", "--lesion-labels", "2")
    assert done.exit_code == 0, done.output
    assert "1 of them without a label: they have no mask" in done.output
    rows = {row.path.stem: row for row in read_manifest(own / "slices.csv")}
    assert (rows["c00_0000"].label, rows["c00_0001"].label, rows["c01_0002"].label) == (None, 1, 0)
    assert rows["c00_0001"].lesion_labels == (2,)


def test_masks_that_cannot_be_used_are_said_at_once(own):
    (own / "masks" / "c00_0001.png").rename(own / "masks" / "other.png")
    for name in ("c01_0003", "c02_0005"):
        (own / "masks" / f"{name}.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"(?s)3 problem.*other.png: images/ has no slice.*c01_0003.*c02_0005"):
        images(own, one_slice_each=True)


def test_the_command_offers_every_public_set():
    assert set(PUBLIC_SETS) == set(MAKERS)
