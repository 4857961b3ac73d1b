"""The published evaluators, and MiniSeg's published figures to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from jcs_ct.metrics.protocols import miniseg_scores, official_iou
from jcs_ct.metrics.saliency import e_measure_set


def mask_of(*rows: str) -> NDArray[np.bool_]:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


LESION = mask_of("....", ".##.", ".##.", "....")


def test_official_cuts_strictly_above_twice_the_mean() -> None:
    probability = np.zeros((4, 4))
    probability[0, :2] = 0.8  # mean 0.1, cut 0.2
    probability[1, 0] = 0.0
    assert official_iou([(probability, probability > 0)]).value == 1.0
    exactly = np.zeros((2, 2))
    exactly[0] = 0.5  # mean 0.25: 0.5 is not above 0.5
    assert official_iou([(exactly, exactly > 0)]).value == 0.0


def test_miniseg_averages_folds_and_scores_an_empty_prediction_0() -> None:
    empty = np.zeros((4, 4), dtype=bool)
    scores = miniseg_scores([[(LESION, LESION), (LESION, LESION)], [(empty, LESION)]])
    assert scores.dice == scores.sensitivity == 50.0
    assert scores.specificity == 100.0
    assert scores.miou == pytest.approx(100 * (1 + (12 / 16 + 0) / 2) / 2)
    assert scores.hausdorff_px == 0.0
    assert (scores.n, scores.folds) == (3, 2)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        miniseg_scores([[]])
    with pytest.raises(ValueError, match="images with a lesion only"):
        miniseg_scores([[(LESION, ~LESION & LESION)]])


def test_miniseg_published_predictions_give_the_published_figures(shared_data: Path) -> None:
    root = shared_data / "ct100"
    folds = json.loads((root / "splits.json").read_text())["miniseg_folds"]

    def read(folder: str, number: int) -> NDArray[np.bool_]:
        return np.asarray(Image.open(root / folder / f"{number:04d}.png")) > 127

    pairs = {
        name: [(read("reference_predictions/miniseg", number), read("masks", number)) for number in numbers]
        for name, numbers in folds.items()
    }
    scores = miniseg_scores(list(pairs.values()))
    assert (scores.n, scores.folds) == (99, 5)
    assert round(scores.miou, 2) == 82.15
    assert round(scores.sensitivity, 2) == 84.95
    assert round(scores.specificity, 2) == 97.72
    assert round(scores.dice, 2) == 75.91
    assert round(scores.hausdorff_px, 2) == 74.42
    images = [(prediction.astype(float), mask) for fold in pairs.values() for prediction, mask in fold]
    assert round(100 * e_measure_set(images).adaptive, 1) == 93.2
