"""A small set of slices with masks and predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def save(path: Path, plane) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(plane, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def ct100_like(tmp_path) -> Path:
    """Ten slices of 24 x 20 pixels in the form CT100 is handed out in; 0 and 5 are one acquisition."""
    folder = tmp_path / "ct100"
    y, x = np.mgrid[0:24, 0:20]
    for number in range(10):
        lesion = (x - 6 - number // 3) ** 2 + (y - 12) ** 2 < 9 + 4 * number
        save(folder / "images" / f"{number:04d}.png", 60 + 100 * lesion)
        save(folder / "masks" / f"{number:04d}.png", 255 * lesion)
    folds = {f"val{fold}": [fold, fold + 5] for fold in range(5)}
    splits = {"miniseg_folds": folds, "patient_safe_folds": folds, "same_acquisition_groups": [[0, 5]]}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


@pytest.fixture
def perfect(ct100_like, tmp_path) -> Path:
    """The masks themselves as predictions."""
    for path in (ct100_like / "masks").glob("*.png"):
        save(tmp_path / "perfect" / path.name, np.asarray(Image.open(path)))
    return tmp_path / "perfect"


@pytest.fixture
def shifted(ct100_like, tmp_path) -> Path:
    """The masks, two pixels to the right, as probabilities of 0.6."""
    for path in (ct100_like / "masks").glob("*.png"):
        save(tmp_path / "shifted" / path.name, np.roll(np.asarray(Image.open(path)), 2, axis=1) * 0.6)
    return tmp_path / "shifted"
