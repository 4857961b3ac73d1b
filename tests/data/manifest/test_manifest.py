import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jcs_ct.data.manifest import (
    Manifest,
    ManifestRow,
    assign_splits,
    count_manifest,
    read_manifest,
)
from jcs_ct.errors import ConfigError


def write_csv(folder: Path, *lines: str) -> Path:
    path = folder / "slices.csv"
    path.write_text("\n".join(["path,patient,label,mask,split,source", *lines]) + "\n")
    return path


def test_a_manifest_survives_the_disk(tmp_path):
    window = {"level_hu": -350.0, "width_hu": 1500.0}
    row = ManifestRow(tmp_path / "a.png", "p1", 1, tmp_path / "m.png", "val", "x", age=61.0, **window)
    other = ManifestRow(tmp_path / "b.png", "p2", 0, fold=0)
    Manifest((row, other)).write(tmp_path / "slices.csv")
    assert read_manifest(tmp_path / "slices.csv").rows == (row, other)


@pytest.mark.parametrize("fold", ["-1", "1.5", "val0"])
def test_a_fold_is_a_whole_number_or_empty(tmp_path, fold):
    path = tmp_path / "slices.csv"
    path.write_text(f"path,patient,label,fold\na.png,p,1,\nb.png,q,0,{fold}\n")
    with pytest.raises(ConfigError, match=f"line 3: fold must be a whole number from 0 on, or empty, got '{fold}'"):
        read_manifest(path)


def test_a_patient_in_two_splits_is_an_error(tmp_path):
    path = write_csv(tmp_path, "a.png,p1,1,,train,", "b.png,p1,0,,test,")
    with pytest.raises(ConfigError, match="patient 'p1' is in the splits test, train"):
        read_manifest(path)


def test_every_problem_is_listed_at_once(tmp_path):
    path = write_csv(tmp_path, "a.png,p1,2,,train,", ",p2,1,,train,", "c.png,p3,1,,holdout,")
    with pytest.raises(ConfigError, match=r"(?s)3 problem.*label must be.*must not be empty.*split must be"):
        read_manifest(path)


def test_every_problem_of_one_line_is_listed(tmp_path):
    path = tmp_path / "slices.csv"
    path.write_text("path,patient,label,split,age,level_hu,width_hu,fold\na.png,nan,x,holdout,old,-600,0,-1\n")
    with pytest.raises(ConfigError) as refused:
        read_manifest(path)
    for said in (
        "patient must not be empty, got 'nan'",
        "label must be 0, 1 or empty, got 'x'",
        "split must be one of train, val, test, got 'holdout'",
        "age must be a number with a decimal point, or empty, got 'old'",
        "a window has both a level and a width greater than 0, got level_hu '-600', width_hu '0'",
        "fold must be a whole number from 0 on, or empty, got '-1'",
    ):
        assert f"line 2: {said}" in str(refused.value)
    assert "has 6 problem(s)" in str(refused.value)


@pytest.mark.parametrize("other", ["p1 ", " P1", "\u00a0p1", "p1\u200b", "\ufeffp1", "\uff501"])
def test_blanks_and_large_letters_make_no_other_patient(tmp_path, other):
    path = write_csv(tmp_path, "a.png,p1,1,,train,", f"b.png,{other},0,,test,")
    with pytest.raises(ConfigError, match=r"patient .*'p1'.* is in the splits test, train"):
        read_manifest(path)


def test_missing_columns_are_named(tmp_path):
    path = tmp_path / "slices.csv"
    path.write_text("path,label\na.png,1\n")
    with pytest.raises(ConfigError, match=r"lacks the column\(s\) patient; it needs .* and has path, label"):
        read_manifest(path)


def test_splits_follow_the_patient_and_not_its_neighbours(tmp_path):
    rows = [ManifestRow(Path(f"{number}.png"), f"p{number // 2}", 1) for number in range(400)]
    all_rows = assign_splits(rows, val=0.2, test=0.2, seed=0)
    half = assign_splits(rows[200:], val=0.2, test=0.2, seed=0)
    assert all_rows[200:] == half
    assert {row.split for row in all_rows} == {"train", "val", "test"}
    assert 0.1 < sum(row.split == "test" for row in all_rows) / 400 < 0.3
    assert all_rows[0].split == all_rows[1].split


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(("val", "test"), [(0.15, 0.15), (0.4, 0.4), (0.45, 0.0)])
def test_one_patient_of_each_kind_always_trains(seed, val, test):
    """Of three studies with two labels the only uninfected one was drawn to test, one time in seven."""
    labels = (1, 1, 0, None)
    rows = [ManifestRow(Path(f"{number}.png"), f"p{number}", label) for number, label in enumerate(labels)]
    drawn = assign_splits(rows, val=val, test=test, seed=seed)
    assert {row.label for row in drawn if row.split == "train"} == set(labels)


@pytest.mark.parametrize("seed", range(12))
def test_every_split_of_a_small_set_has_a_patient_of_each_kind_that_has_three(seed):
    rows = [ManifestRow(Path(f"{number}.png"), f"p{number // 2}", int(number < 6)) for number in range(14)]
    drawn = assign_splits(rows, val=0.15, test=0.15, seed=seed)
    for split in ("train", "val", "test"):
        assert {row.label for row in drawn if row.split == split} == {0, 1}
    assert {row.split for row in assign_splits(rows, val=0.1, test=0.0, seed=seed)} == {"train", "val"}
    assert {row.split for row in assign_splits(rows[:4], val=0.0, test=0.0, seed=seed)} == {"train"}


def test_counts_are_per_split_and_source():
    rows = (
        ManifestRow(Path("a"), "1", 1, Path("m"), "train", "x"),
        ManifestRow(Path("b"), "1", 0, None, "train", "x"),
        ManifestRow(Path("c"), "2", 0, None, "test", "y"),
    )
    assert count_manifest(Manifest(rows)) == [
        {"split": "train", "source": "x", "patients": 1, "infected": 1, "uninfected": 1, "with_mask": 1},
        {"split": "test", "source": "y", "patients": 1, "infected": 0, "uninfected": 1, "with_mask": 0},
    ]


@pytest.fixture
def two_slices(tmp_path) -> Path:
    """A data set in set/, its manifest beside it."""
    for name in ("a", "b", "m"):
        (tmp_path / "set").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "set" / f"{name}.png")
    return write_csv(tmp_path, "set/a.png,p1,1,set/m.png,train,x", "set/b.png,p2,0,,test,x")


def test_the_hash_does_not_depend_on_how_paths_are_typed(two_slices, tmp_path, monkeypatch):
    known = read_manifest(two_slices).sha256
    monkeypatch.chdir(tmp_path)
    assert read_manifest(Path("slices.csv")).sha256 == known
    assert read_manifest(tmp_path / "set" / ".." / "slices.csv").sha256 == known
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert read_manifest(tmp_path / "link" / "slices.csv").sha256 == known
    (tmp_path / "elsewhere").mkdir()
    read_manifest(two_slices).write(Path("elsewhere/slices.parquet"))
    assert read_manifest(tmp_path / "elsewhere" / "slices.parquet").sha256 == known
    tested = read_manifest(two_slices).split("test").sha256
    assert read_manifest(Path("slices.csv")).split("test").sha256 == tested != known


def test_the_hash_does_not_depend_on_where_the_set_lies(two_slices, tmp_path):
    known = read_manifest(two_slices).sha256
    shutil.copytree(tmp_path / "set", tmp_path / "moved" / "set")
    shutil.copy(two_slices, tmp_path / "moved")
    assert read_manifest(tmp_path / "moved" / "slices.csv").sha256 == known


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("p2,0", "p2,1"),
        ("p2,0", "p3,0"),
        (",test,", ",val,"),
        ("set/b.png", "set/m.png"),
        ("set/m.png", ""),
        (",x\n", ",y\n"),
    ],
    ids=["label", "patient", "split", "file", "mask", "source"],
)
def test_the_hash_changes_with_what_the_table_says(two_slices, before, after):
    known = read_manifest(two_slices).sha256
    two_slices.write_text(two_slices.read_text().replace(before, after))
    assert read_manifest(two_slices).sha256 != known


def test_the_hash_changes_with_a_file_of_the_same_name_or_the_order(two_slices, tmp_path):
    known = read_manifest(two_slices)
    assert Manifest(known.rows[::-1]).sha256 != known.sha256
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "set" / "m.png")
    assert read_manifest(two_slices).sha256 != known.sha256


def test_a_manifest_may_lie_elsewhere_than_its_files(two_slices, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest = read_manifest(Path("slices.csv"))
    manifest.write(Path("elsewhere/slices.csv"))
    assert [row.path for row in read_manifest(Path("elsewhere/slices.csv"))] == [
        tmp_path / "set/a.png",
        tmp_path / "set/b.png",
    ]
