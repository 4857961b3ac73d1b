import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import read_manifest
from jcs_ct.data.sources import covid_cs, ct100, images
from jcs_ct.errors import ConfigError


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    plane = np.zeros((8, 8), dtype=np.uint8)
    plane[3, 3] = value
    Image.fromarray(plane).save(path)


def test_a_plain_folder_has_a_patient_per_folder(tmp_path):
    for name in ("p1/a", "p1/b", "p2/a", "lone"):
        save(tmp_path / "images" / f"{name}.png")
    save(tmp_path / "masks/p1/a.png", 255)
    save(tmp_path / "masks/p2/a.png", 0)
    found = {str(row.path.relative_to(tmp_path / "images")): row for row in images(tmp_path)}
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
    assert "--folds is for ct100" in str(refused.exception)
    del known["miniseg_folds"]
    (tmp_path / "splits.json").write_text(json.dumps(known))
    with pytest.raises(ConfigError, match=r"splits\.json lacks miniseg_folds"):
        ct100(tmp_path, folds="miniseg")
