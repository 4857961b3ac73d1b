"""A manifest is looked at before it is used, and not twice."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.data.manifest.manifest_problems import LeakError, ManifestError
from jcs_ct.data.manifest.usable import few_patients_warning, usable_manifest
from jcs_ct.errors import ConfigError


@pytest.fixture
def rows(tmp_path, monkeypatch) -> list[ManifestRow]:
    """Twelve unlike slices of twelve patients, four in each split, with masks where they are infected."""
    monkeypatch.setenv("JCS_CT_CACHE", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    found = []
    for number in range(12):
        path, mask = tmp_path / f"{'abcdefghijkl'[number]}.png", tmp_path / f"{number}.mask.png"
        Image.fromarray(generator.integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
        plane = np.zeros((64, 64), dtype=np.uint8)
        plane[8:12, 8:12] = 1
        Image.fromarray(plane).save(mask)
        infected = number % 2
        split = ("train", "val", "test")[number // 4]
        found.append(ManifestRow(path, f"p{number}", infected, mask if infected else None, split))
    return found


def written(rows: list[ManifestRow]) -> Path:
    path = rows[0].path.parent / "slices.csv"
    Manifest(tuple(rows)).write(path)
    return path


def reads(path: Path, **options: object) -> int:
    """How many rows are read to look at a manifest."""
    done = [0]
    usable_manifest(path, progress=lambda now, total: done.append(now), **options)
    return done[-1]


def test_files_are_read_once_and_again_when_one_changes(rows):
    path = written(rows)
    assert (reads(path), reads(path), reads(path, used=("test",))) == (12, 0, 0)
    os.utime(rows[0].path, (1, 1))
    assert reads(path) == 12
    state = rows[1].path.stat()
    rows[1].path.write_bytes(rows[1].path.read_bytes() + b"more")
    os.utime(rows[1].path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert reads(path) == 12
    assert reads(written([replace(rows[0], label=None), *rows[1:]])) == 12


def test_without_a_cache_each_look_reads(rows, monkeypatch):
    monkeypatch.setenv("JCS_CT_CACHE", "")
    path = written(rows)
    assert (reads(path), reads(path)) == (12, 12)


def test_a_leak_is_refused_each_time_unless_it_is_accepted(rows):
    rows[11].path.write_bytes(rows[0].path.read_bytes())
    path = written(rows)
    for _ in range(2):
        with pytest.raises(LeakError, match=r"a\.png \(train\) and .*l\.png \(test\) are near-duplicates"):
            usable_manifest(path)
    (warning,) = usable_manifest(path, accept_leaks=True).warnings
    assert warning.startswith("1 leak(s) between the parts of the manifest were accepted")
    with pytest.raises(LeakError):
        usable_manifest(path)


def test_problems_of_what_is_used_are_said_at_once(rows):
    rows[0] = replace(rows[0], label=1, mask=rows[1].mask)
    for number in (0, 2, 8):
        rows[number] = replace(rows[number], label=0, mask=rows[1].mask)
    path = written(rows)
    with pytest.raises(ManifestError, match="has 4 problem"):
        usable_manifest(path)
    with pytest.raises(ManifestError, match="has 3 problem"):
        usable_manifest(path, used=("train", "val"))
    assert usable_manifest(path, used=("val",)).warnings == ()
    with pytest.raises(ManifestError, match="has 4 problem"):
        usable_manifest(path)
    rows[0].path.unlink()
    (warning,) = usable_manifest(path, used=("val",)).warnings
    assert warning == "1 slice(s) of other splits are not here: leaks from them were not looked for"


def test_few_patients_of_a_split_are_said(rows):
    (warning,) = few_patients_warning(Manifest(tuple(rows)), "test")
    assert "the split 'test' has 4 patients; infected slices come from 2, uninfected from 2" in warning
    assert few_patients_warning(Manifest(tuple(rows)), "none") == []
    many = [replace(row, split="test") for row in rows]
    assert few_patients_warning(Manifest(tuple(many)), "test") == []


def test_training_refuses_what_a_check_would_refuse(rows):
    rows[11].path.write_bytes(rows[0].path.read_bytes())
    path = written(rows)
    command = ["train", "compact-classifier", "-m", str(path), "-o", str(path.parent / "run")]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, LeakError)
    assert not (path.parent / "run").exists()
    one = written([replace(row, label=0, mask=None) for row in rows[:11]])
    with_one = CliRunner().invoke(app, [*command, "-m", str(one)])
    assert isinstance(with_one.exception, ConfigError)
    assert (
        "a classifier needs infected and uninfected slices: the split 'train' has 4 slice(s), all uninfected"
        in str(with_one.exception)
    )


def test_the_check_has_problems_and_leaks_for_machines(rows):
    rows[11].path.write_bytes(rows[0].path.read_bytes())
    rows[1] = replace(rows[1], label=0)
    path = written(rows)
    error = CliRunner().invoke(app, ["data", "check", str(path)]).exception
    assert isinstance(error, ManifestError)
    (kind,) = error.details["problems"]
    assert (kind["code"], kind["count"]) == ("MARKED_MASK", 1)
    assert kind["problems"][0]["place"] == str(rows[1].mask)
    rows[1] = replace(rows[1], label=1)
    error = CliRunner().invoke(app, ["data", "check", str(written(rows))]).exception
    assert isinstance(error, LeakError)
    (leak,) = error.details["leaks"]
    assert json.loads(json.dumps(leak)) == {
        "code": "NEAR_DUPLICATES",
        "images": [str(rows[0].path), str(rows[11].path)],
        "parts": ["train", "test"],
        "bits": 0,
    }
