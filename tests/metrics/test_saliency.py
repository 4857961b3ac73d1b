"""The E-measure against pysodmetrics."""

from __future__ import annotations

import numpy as np
import py_sod_metrics
import pytest
from numpy.typing import NDArray

from jcs_ct.metrics.overlap import Counts
from jcs_ct.metrics.saliency import (
    THRESHOLDS,
    adaptive_threshold,
    counts_per_threshold,
    e_measure,
    e_measure_set,
)

SHAPE = (23, 31)


def disc(row: float, column: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside: NDArray[np.bool_] = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return inside


def one_pixel() -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[-1, -1] = True
    return mask


RANDOM = np.random.default_rng(7)
MASKS = {
    "empty": np.zeros(SHAPE, dtype=bool),
    "full": np.ones(SHAPE, dtype=bool),
    "disc": disc(10, 12, 6),
    "random": RANDOM.random(SHAPE) < 0.3,
    "pixel": one_pixel(),
    "all but one": ~one_pixel(),
}
MAPS = {
    "zero": np.zeros(SHAPE),
    "one": np.ones(SHAPE),
    "constant": np.full(SHAPE, 0.4),
    "uniform": RANDOM.random(SHAPE),
    "sparse": RANDOM.random(SHAPE) ** 8,
    "disc": disc(11, 14, 6).astype(float),
    "levels": np.round(RANDOM.random(SHAPE) * 255) / 255,
    "single": RANDOM.random(SHAPE).astype(np.float32).astype(np.float64),
    "pixel": one_pixel().astype(float),
}
PAIRS = [pytest.param(p, g, id=f"{p}-{g}") for p in MAPS for g in MASKS]


@pytest.mark.parametrize(("map_name", "mask_name"), PAIRS)
def test_e_measure_equals_pysodmetrics(map_name: str, mask_name: str) -> None:
    probability, mask = MAPS[map_name], MASKS[mask_name]
    oracle = py_sod_metrics.Emeasure()
    oracle.step(probability, mask, normalize=False)
    expected = oracle.get_results()["em"]
    found = e_measure_set([(probability, mask)])
    assert found.adaptive == pytest.approx(float(expected["adp"]), abs=1e-9)
    curve = e_measure(counts_per_threshold(probability, mask))
    assert curve.shape == (THRESHOLDS,)
    np.testing.assert_allclose(curve[::-1], expected["curve"], atol=1e-9, rtol=0)
    assert found.mean == pytest.approx(float(np.mean(expected["curve"])), abs=1e-9)
    assert found.maximum == pytest.approx(float(np.max(expected["curve"])), abs=1e-9)


def test_a_set_averages_curves_before_the_maximum() -> None:
    pairs = [(MAPS["uniform"], MASKS["disc"]), (MAPS["sparse"], MASKS["random"])]
    oracle = py_sod_metrics.Emeasure()
    for probability, mask in pairs:
        oracle.step(probability, mask, normalize=False)
    expected = oracle.get_results()["em"]
    found = e_measure_set(pairs)
    assert found.n == 2
    assert found.maximum == pytest.approx(float(np.max(expected["curve"])), abs=1e-9)
    assert found.maximum < np.mean([e_measure_set([pair]).maximum for pair in pairs])


def test_e_measure_closed_forms() -> None:
    n = SHAPE[0] * SHAPE[1]
    mask = MASKS["disc"]
    assert e_measure(Counts.of(mask, mask)) == pytest.approx(n / (n - 1))
    assert e_measure(Counts.of(MASKS["empty"], mask)) == pytest.approx(n / (n - 1) / 4)
    assert e_measure(Counts.of(mask, MASKS["empty"])) == pytest.approx((~mask).sum() / (n - 1))
    with pytest.raises(ValueError, match="two pixels"):
        e_measure(Counts.of(np.ones((1, 1), dtype=bool), np.ones((1, 1), dtype=bool)))


def test_adaptive_threshold_is_capped() -> None:
    assert adaptive_threshold(np.full((3, 3), 0.2)) == pytest.approx(0.4)
    assert adaptive_threshold(np.full((3, 3), 0.9)) == 1.0


def test_maps_must_be_probabilities_on_the_masks_grid() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        counts_per_threshold(np.full(SHAPE, 255.0), MASKS["disc"])
    with pytest.raises(ValueError, match="one grid"):
        counts_per_threshold(np.zeros((2, 2)), MASKS["disc"])
    with pytest.raises(ValueError, match="must be bool"):
        counts_per_threshold(np.zeros(SHAPE), np.zeros(SHAPE))
    with pytest.raises(ValueError, match="at least one image"):
        e_measure_set([])
