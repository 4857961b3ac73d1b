"""Overlap metrics: closed forms, empty cases, reductions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.metrics import DiceMetric

from jcs_ct.metrics.overlap import (
    Counts,
    dice_score,
    iou_score,
    precision,
    reduce_metric,
    sensitivity,
    specificity,
)

FULL, EMPTY = np.ones((4, 5), dtype=bool), np.zeros((4, 5), dtype=bool)


def test_counts_and_metrics_of_a_known_pair() -> None:
    prediction = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
    mask = np.array([[0, 1, 1, 1], [1, 0, 0, 0]], dtype=bool)
    counts = Counts.of(prediction, mask)
    assert [int(part) for part in (counts.tp, counts.fp, counts.fn, counts.tn)] == [2, 1, 2, 3]
    assert dice_score(counts).item() == pytest.approx(4 / 7)
    assert iou_score(counts).item() == pytest.approx(2 / 5)
    assert sensitivity(counts).item() == pytest.approx(1 / 2)
    assert specificity(counts).item() == pytest.approx(3 / 4)
    assert precision(counts).item() == pytest.approx(2 / 3)
    assert dice_score(counts.inverted()).item() == pytest.approx(6 / 9)


@pytest.mark.parametrize(
    ("prediction", "mask", "dice", "sens", "spec", "prec"),
    [
        (EMPTY, EMPTY, 1.0, None, 1.0, 1.0),
        (FULL, EMPTY, 0.0, None, 0.0, 0.0),
        (EMPTY, FULL, 0.0, 0.0, None, 0.0),
        (FULL, FULL, 1.0, 1.0, None, 1.0),
    ],
)
def test_empty_and_full_cases(prediction, mask, dice, sens, spec, prec) -> None:
    counts = Counts.of(prediction, mask)
    assert dice_score(counts).item() == iou_score(counts).item() == dice
    assert sensitivity(counts).item() == sens
    assert specificity(counts).item() == spec
    assert precision(counts).item() == prec


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_dice_equals_monai(seed: int, dense_prediction: float, dense_mask: float) -> None:
    generator = np.random.default_rng(seed)
    prediction, mask = generator.random((9, 7)) < dense_prediction, generator.random((9, 7)) < dense_mask
    oracle = DiceMetric(ignore_empty=False)(
        torch.from_numpy(prediction)[None, None], torch.from_numpy(mask)[None, None]
    )
    assert dice_score(Counts.of(prediction, mask)).item() == pytest.approx(float(oracle), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(bool, (3, 6, 4)), arrays.arrays(bool, (3, 6, 4)))
def test_values_are_in_the_unit_interval_and_never_nan(prediction, mask) -> None:
    counts = Counts.stack(Counts.of(p, g) for p, g in zip(prediction, mask, strict=True))
    for metric in (dice_score, iou_score, sensitivity, specificity, precision):
        values = metric(counts).values
        assert ((values >= 0) & (values <= 1)).all()
        for reduction in ("image", "pooled"):
            reduced = reduce_metric(metric, counts, reduction=reduction)
            assert reduced.n + reduced.n_excluded == 3
            assert reduced.value is None or 0 <= reduced.value <= 1
    np.testing.assert_allclose(
        dice_score(counts).values, 2 * iou_score(counts).values / (1 + iou_score(counts).values)
    )


def test_reductions_say_how_many_images_they_left_out() -> None:
    half = FULL.copy()
    half[:2] = False
    counts = Counts.stack([Counts.of(half, FULL), Counts.of(EMPTY, EMPTY), Counts.of(half, half)])
    assert len(counts) == 3
    image = reduce_metric(sensitivity, counts)
    assert (image.value, image.n, image.n_excluded) == (0.75, 2, 1)
    pooled = reduce_metric(sensitivity, counts, reduction="pooled")
    assert pooled.value == pytest.approx(20 / 30)
    assert (pooled.n, pooled.n_excluded) == (3, 0)
    nothing = reduce_metric(sensitivity, counts[1:2], reduction="pooled")
    assert (nothing.value, nothing.n, nothing.n_excluded) == (None, 0, 1)
    assert reduce_metric(dice_score, Counts.stack([])).value is None
    assert reduce_metric(dice_score, Counts.stack([]), reduction="pooled").value is None


def test_what_cannot_be_counted_is_an_error() -> None:
    with pytest.raises(ValueError, match="must be bool, got float"):
        Counts.of(FULL.astype(float), FULL)
    with pytest.raises(ValueError, match="on one grid"):
        Counts.of(FULL, FULL[:2])
    with pytest.raises(ValueError, match="no pixels"):
        Counts.of(FULL[:0], FULL[:0])
    with pytest.raises(ValueError, match="cannot be negative"):
        Counts(*(np.array([value]) for value in (1, -1, 0, 0)))
    with pytest.raises(ValueError, match="one shape"):
        Counts(np.zeros(2), np.zeros(3), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="image or pooled"):
        reduce_metric(dice_score, Counts.stack([Counts.of(FULL, FULL)]), reduction="sum")
