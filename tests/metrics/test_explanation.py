"""Explanation scores: closed forms, PyTorch's interpolation, scikit-learn, and the ceilings on CT100."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn import functional as F

from jcs_ct.metrics.explanation import (
    best_iou,
    energy_pointing_game,
    iou_ceiling,
    map_similarity,
    pixel_auroc,
    pixel_average_precision,
    pointing_game,
    score_explanation,
    thresholded_iou,
    tune_threshold,
    upsample_map,
)
from jcs_ct.metrics.perturbation_curves import perturbation_curves

MASK = np.zeros((8, 8), dtype=bool)
MASK[2:4, 2:6] = True
RANDOM = np.random.default_rng(3).random((8, 8))


@pytest.mark.parametrize("shape", [(7, 7), (1, 5), (512, 300), (3, 2)])
def test_upsampling_is_pytorchs(shape: tuple[int, int]) -> None:
    coarse = np.random.default_rng(0).random((7, 5))
    expected = F.interpolate(torch.from_numpy(coarse)[None, None], shape, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(upsample_map(coarse, shape), expected[0, 0].numpy(), atol=1e-12)
    assert (upsample_map(np.array([[2.0]]), shape) == 2.0).all()


def test_pointing_game() -> None:
    assert pointing_game(MASK * 1.0, MASK) == 1.0
    assert pointing_game(~MASK * 1.0, MASK) == 0.0
    assert pointing_game(np.ones((8, 8)), MASK) == pytest.approx(8 / 64)


def test_energy() -> None:
    score = energy_pointing_game(MASK * 3.0 + ~MASK * 1.0, MASK)
    assert score.inside == pytest.approx(24 / (24 + 56))
    assert score.enrichment == pytest.approx(24 / 80 * 8)
    assert energy_pointing_game(np.ones((8, 8)), MASK).enrichment == pytest.approx(1.0)
    assert energy_pointing_game(np.zeros((8, 8)), MASK).inside == 0.0


def test_pixel_scores_equal_scikit_learn() -> None:
    for activation in (RANDOM, np.round(RANDOM * 4)):
        expected = roc_auc_score(MASK.ravel(), activation.ravel())
        assert pixel_auroc(activation, MASK) == pytest.approx(expected)
        expected = average_precision_score(MASK.ravel(), activation.ravel())
        assert pixel_average_precision(activation, MASK) == pytest.approx(expected)
    assert pixel_auroc(np.ones((8, 8)), MASK) == 0.5
    assert pixel_average_precision(np.ones((8, 8)), MASK) == pytest.approx(8 / 64)


def test_thresholds() -> None:
    activation = MASK * 1.0
    activation[6, :4] = 0.4
    assert thresholded_iou(activation, MASK, threshold=0.5) == 1.0
    assert thresholded_iou(activation, MASK, threshold=0.4) == pytest.approx(8 / 12)
    assert thresholded_iou(10 * activation, MASK, threshold=0.5) == 1.0
    assert thresholded_iou(np.zeros((8, 8)), MASK, threshold=0.5) == 0.0
    assert tune_threshold([(activation, MASK)], candidates=(0.2, 0.4, 0.5, 0.6)) == 0.5
    assert best_iou(activation, MASK) == 1.0
    assert best_iou(RANDOM, MASK) >= max(thresholded_iou(RANDOM, MASK, threshold=t) for t in np.linspace(0.01, 1, 99))


def test_ceiling_is_1_at_the_masks_own_grid_and_falls_with_it() -> None:
    assert iou_ceiling(MASK, (8, 8)) == 1.0
    ceilings = [iou_ceiling(MASK, (grid, grid)) for grid in (8, 4, 2, 1)]
    assert ceilings == sorted(ceilings, reverse=True)
    assert ceilings[-1] == pytest.approx(8 / 64)


@pytest.mark.slow
def test_ceilings_of_ct100(shared_data: Path) -> None:
    masks: list[NDArray[np.bool_]] = []
    for path in sorted((shared_data / "ct100" / "masks").glob("*.png")):
        mask = np.asarray(Image.open(path)) > 0
        if mask.any():
            masks.append(mask)
    assert len(masks) == 99
    found = [np.mean([iou_ceiling(mask, (grid, grid)) for mask in masks]) for grid in (7, 14, 28)]
    assert found == pytest.approx([0.41, 0.56, 0.71], abs=0.0075)


def test_deletion_and_insertion_of_a_scorer_that_sees_one_pixel() -> None:
    image = np.zeros((16, 16), dtype=np.float32)
    image[5, 7] = 1.0
    right, wrong = np.zeros((16, 16)), np.zeros((16, 16))
    right[5, 7] = wrong[12, 2] = 1.0
    calls: list[int] = []

    def scorer(images: NDArray[np.float32]) -> NDArray[np.floating]:
        calls.append(len(images))
        return images[:, 5, 7]

    good = perturbation_curves(image, right, scorer, steps=8, blur_px=3.0, batch_size=4)
    assert max(calls) == 4
    assert (good.deletion[0], good.insertion[-1]) == (1.0, 1.0)
    assert good.deletion[1] == good.insertion[0] < 0.05
    assert good.insertion[1] == 1.0
    assert good.fraction[[0, -1]].tolist() == [0.0, 1.0]
    bad = perturbation_curves(image, wrong, scorer, steps=8, blur_px=3.0)
    assert good.deletion_auc < bad.deletion_auc
    assert good.insertion_auc > bad.insertion_auc


def test_similarity_is_spearmans() -> None:
    other = np.random.default_rng(4).random((8, 8)) + RANDOM
    assert map_similarity(RANDOM, other) == pytest.approx(float(spearmanr(RANDOM.ravel(), other.ravel()).statistic))
    assert map_similarity(RANDOM, RANDOM**3) == pytest.approx(1.0)
    constant = np.ones((8, 8))
    assert map_similarity(RANDOM, constant) == 0.0
    assert map_similarity(constant, constant) == 1.0
    with pytest.raises(ValueError, match="maps must be finite"):
        map_similarity(RANDOM, constant * np.nan)


def test_all_scores_of_a_coarse_map() -> None:
    mask = np.kron(MASK[:4, :4], np.ones((8, 8))).astype(bool)
    scores = score_explanation(MASK[:4, :4] * 1.0, mask, threshold=0.5)
    assert scores.pointing > 0.9
    assert scores.energy_enrichment > 1.5
    assert scores.auroc > 0.95
    assert scores.average_precision > 0.9
    assert scores.iou <= scores.ceiling_iou <= 1.0
    assert scores.dice == pytest.approx(2 * scores.iou / (1 + scores.iou))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pointing_game(RANDOM, np.zeros((8, 8), dtype=bool)), "mask is empty"),
        (lambda: pointing_game(RANDOM[:4], MASK), "upsample_map"),
        (lambda: pixel_auroc(RANDOM - 1, MASK), "at least 0"),
        (lambda: pointing_game(RANDOM, MASK.astype(float)), "must be bool"),
        (lambda: thresholded_iou(RANDOM, MASK, threshold=0.0), r"\(0, 1\]"),
        (lambda: tune_threshold([]), "at least one pair"),
        (lambda: iou_ceiling(MASK, (9, 9)), "does not fit"),
        (lambda: iou_ceiling(MASK & ~MASK, (2, 2)), "mask is empty"),
        (lambda: perturbation_curves(RANDOM, RANDOM[:2], lambda x: x[:, 0, 0]), "rows, columns"),
        (lambda: perturbation_curves(RANDOM, RANDOM, lambda x: x[:, 0, 0], steps=0), "positive"),
        (lambda: map_similarity(RANDOM, RANDOM[:2]), "one shape"),
        (lambda: upsample_map(RANDOM[None], (4, 4)), "must be"),
    ],
)
def test_wrong_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
