"""`jcs evaluate densities` on drawn slices whose three classes are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.errors import ConfigError, MaskError
from jcs_ct.evaluation.segmentation.density_classes import (
    DensityCase,
    _best_cut,
    density_cases,
    evaluate_densities,
    read_classes,
)
from jcs_ct.experiments.judged_slices import Case, CaseSet, ct100_cases
from jcs_ct.metrics.bootstrap import Resampling
from jcs_ct.preprocessing import Window
from jcs_ct.reading.densities import CONSOLIDATION, GROUND_GLASS

SIZE = 256


def write_slice(folder: Path, name: str, generator: np.random.Generator) -> None:
    """A chest with a lesion of each density; masks3 holds an effusion (3), which counts for nothing."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    hu = np.full((SIZE, SIZE), -1000.0)
    hu[((rows - 128) / 90) ** 2 + ((columns - 128) / 120) ** 2 < 1] = 40.0
    lungs = [((rows - 128) / 65) ** 2 + ((columns - middle) / 38) ** 2 < 1 for middle in (76, 180)]
    hu[lungs[0] | lungs[1]] = -850.0
    classes = np.zeros((SIZE, SIZE), dtype=np.uint8)
    classes[90:120, 60:90], hu[90:120, 60:90] = GROUND_GLASS, -560.0
    classes[130:160, 165:195], hu[130:160, 165:195] = CONSOLIDATION, 0.0
    classes[5:8, 5:8] = 3
    hu = ndimage.gaussian_filter(hu, 0.7) + generator.normal(0, 20, hu.shape)
    for kind, picture in (
        ("images", np.round(255 * Window()(hu)).astype(np.uint8)),
        ("masks", np.where(np.isin(classes, (1, 2)), 255, 0).astype(np.uint8)),
        ("masks3", classes),
    ):
        (folder / kind).mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / kind / f"{name}.png")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for number in range(4):
        write_slice(tmp_path, f"{number:04d}", generator)
    folds = {"val0": [0, 1], "val1": [2, 3]}
    splits = {"patient_safe_folds": folds, "miniseg_folds": folds, "same_acquisition_groups": [[0, 1]]}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    return tmp_path


def test_both_densities_are_found(data: Path) -> None:
    (table,) = evaluate_densities(data, ct100_cases(data)).tables
    assert [row["density"] for row in table.rows] == ["ground glass", "consolidation"]
    for row in table.rows:
        assert row["slices"] == 4
        assert row["dice_percent"] > 85.0
        assert row["dice_percent_low"] is None, "of three patients"


def test_near_duplicates_are_resampled_as_a_whole(data: Path) -> None:
    write_slice(data, "0004", np.random.default_rng(1))
    known = ct100_cases(data)
    fifth = replace(known.cases[-1], name="0004", image=data / "images/0004.png", mask=data / "masks/0004.png")
    lows = {}
    for unit in ("", "near-duplicates"):
        cases = [replace(case, patient=case.name, unit=unit or case.name) for case in (*known, fifth)]
        (table,) = evaluate_densities(data, CaseSet("x", tuple(cases)), resampling=Resampling(draws=50)).tables
        lows[unit] = table.rows[0]["dice_percent_low"]
    assert lows[""] > 80.0
    assert lows["near-duplicates"] is None


def test_an_effusion_is_neither(data: Path) -> None:
    case = density_cases(data, ct100_cases(data))[0]
    assert set(np.unique(case.classes)) == {0, GROUND_GLASS, CONSOLIDATION}


def test_labels_with_a_palette_are_the_same_labels(data: Path) -> None:
    path = data / "masks3" / "0000.png"
    levels = read_classes(path)
    with Image.open(path) as image:
        painted = Image.fromarray(np.asarray(image), mode="P")
    painted.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    painted.save(path)
    assert np.array_equal(read_classes(path), levels)
    painted.convert("RGB").save(path)
    with pytest.raises(MaskError, match="store labels as grey levels or as a palette's indices"):
        read_classes(path)


def test_the_cut_of_a_fold_does_not_depend_on_its_own_slices(data: Path) -> None:
    before = evaluate_densities(data, ct100_cases(data)).facts["cuts"]
    for number in (2, 3):
        path = data / "masks3" / f"{number:04d}.png"
        swapped = np.asarray(Image.open(path)).copy()
        swapped[np.isin(swapped, (1, 2))] ^= 3
        Image.fromarray(swapped).save(path)
    after = evaluate_densities(data, ct100_cases(data)).facts["cuts"]
    assert after["fold1"] == before["fold1"]
    assert after["fold0"] != before["fold0"]


def test_a_class_that_only_one_fold_shows_is_said(data: Path) -> None:
    for number in (2, 3):
        path = data / "masks3" / f"{number:04d}.png"
        classes = np.asarray(Image.open(path)).copy()
        classes[classes == CONSOLIDATION] = 0
        Image.fromarray(classes).save(path)
    with pytest.raises(ConfigError, match="no slice outside fold0 shows consolidation, and the cut of fold0"):
        evaluate_densities(data, ct100_cases(data))


def drawn(*pixels: tuple[int, int, float]) -> DensityCase:
    """A slice of (how many, of what class, at what share of the way) lesion pixels."""
    classes = np.concatenate([np.full(count, kind, np.uint8) for count, kind, _ in pixels])
    share = np.concatenate([np.full(count, value, np.float32) for count, _, value in pixels])
    return DensityCase(Case("drawn", None, Path("mask.png"), "p"), classes[None], classes[None] > 0, share)


def test_every_cut_is_judged_on_the_same_slices() -> None:
    both = drawn((100, GROUND_GLASS, 0.1), (60, CONSOLIDATION, 0.4), (40, CONSOLIDATION, 0.9))
    # From 0.46 on nothing is found here, which is right: that must count as much as what a lower cut finds wrongly.
    one = drawn((99, GROUND_GLASS, 0.1), (1, GROUND_GLASS, 0.45))
    assert _best_cut([both, one]) == 0.46


def test_the_command_parts_predictions_too(data: Path, tmp_path: Path) -> None:
    found = tmp_path / "found"
    found.mkdir()
    for path in (data / "masks").glob("*.png"):
        mask = np.asarray(Image.open(path)).copy()
        mask[:, SIZE // 2 :] = 0  # the consolidation is missed
        Image.fromarray(mask).save(found / path.name)
    out = tmp_path / "page"
    result = CliRunner().invoke(app, ["evaluate", "densities", f"half={found}", "-d", str(data), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert (out / "densities.csv").is_file()
    rows = {
        (row["lesions"], row["density"]): row["dice_percent"]
        for row in json.loads((out / "evaluation.json").read_text())["tables"]["densities"]["rows"]
    }
    assert rows["half", "consolidation"] < 20.0 < rows["half", "ground glass"]


def test_without_three_class_masks(data: Path) -> None:
    for path in (data / "masks3").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="masks3"):
        density_cases(data, ct100_cases(data))
