"""Discrimination and rates against scikit-learn, SciPy and closed forms."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from jcs_ct.metrics.classification import (
    average_precision,
    average_ranks,
    independent_cases,
    roc_auc,
    roc_curve,
    threshold_sweep,
    top_k_mean,
    verdict_rates,
    wilson_rate,
)


def cases(seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.random(60) < 0.4
    score = generator.normal(truth * 0.8, 1.0)
    return truth, np.round(score) if ties else score


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_curves_equal_scikit_learn(seed: int, ties: bool) -> None:
    truth, score = cases(seed, ties=ties)
    assert average_ranks(score).tolist() == stats.rankdata(score).tolist()
    assert roc_auc(truth, score) == pytest.approx(sklearn_metrics.roc_auc_score(truth, score))
    assert average_precision(truth, score) == pytest.approx(sklearn_metrics.average_precision_score(truth, score))
    expected = sklearn_metrics.roc_curve(truth, score, drop_intermediate=False)
    found = roc_curve(truth, score)
    np.testing.assert_allclose(found.false_positive_rate, expected[0])
    np.testing.assert_allclose(found.sensitivity, expected[1])
    np.testing.assert_allclose(found.thresholds, expected[2])
    assert np.trapezoid(found.sensitivity, found.false_positive_rate) == pytest.approx(roc_auc(truth, score))


def test_training_does_not_wait_for_scipys_statistics() -> None:
    code = "import sys, jcs_ct.metrics.classification; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("infected", [True, False])
def test_one_class_is_defined(infected: bool) -> None:
    truth, score = np.full(4, infected), np.arange(4.0)
    assert roc_auc(truth, score) == 0.5
    assert average_precision(truth, score) == float(infected)
    curve = roc_curve(truth, score)
    assert np.isfinite(curve.sensitivity).all()
    assert np.isfinite(curve.false_positive_rate).all()
    rates = verdict_rates(truth, score > 1)
    missing = rates.specificity if infected else rates.sensitivity
    assert (missing.value, missing.low, missing.high, missing.n) == (None, 0.0, 1.0, 0)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (7, 10), (10, 10), (189, 200), (1, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_intervals_equal_scipy(successes: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(confidence, "wilson")
    found = wilson_rate(successes, n, confidence=confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.low <= found.value <= found.high


def test_repeated_verdicts_are_worth_as_many_as_their_patients() -> None:
    assert independent_cases(np.array(["a", "b", "c"])) == 3.0
    assert independent_cases(np.repeat(["a", "b", "c"], 4)) == pytest.approx(3.0)
    assert independent_cases(np.array(["a"] * 8 + ["b", "c"])) == pytest.approx(100 / 66)
    truth = np.ones(30, dtype=bool)
    right = np.arange(30) < 20
    once, thrice = verdict_rates(truth, right), verdict_rates(truth, right, units=np.arange(30) // 3)
    expected = wilson_rate(20, 30, independent=10).low
    assert expected == pytest.approx(0.3678, abs=1e-4), "6.67 of 10, by hand"
    assert thrice.sensitivity.value == once.sensitivity.value
    assert thrice.sensitivity.low == expected < once.sensitivity.low


def test_the_patient_rule_is_more_than_the_threshold() -> None:
    truth = np.array([True, True, False, False])
    counts = np.array([30, 25, 25, 3])
    (at_25, at_2) = threshold_sweep(truth, counts, thresholds=[25, 2])
    assert (at_25.sensitivity.value, at_25.specificity.value) == (0.5, 1.0)
    assert (at_2.sensitivity.value, at_2.specificity.value) == (1.0, 0.0)
    sweep = threshold_sweep(truth, counts)
    assert [point.threshold for point in sweep] == [0, 3, 25, 30]
    assert (sweep[0].sensitivity.value, sweep[-1].sensitivity.value) == (1.0, 0.0)
    assert (sweep[0].specificity.value, sweep[-1].specificity.value) == (0.0, 1.0)


def test_top_k_mean() -> None:
    assert top_k_mean(np.array([0.1, 0.9, 0.5]), 2) == pytest.approx(0.7)
    assert top_k_mean(np.array([0.4]), 5) == pytest.approx(0.4)
    assert top_k_mean(np.zeros(0), 5) == 0.0


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="truth must be bool"):
        roc_auc(np.array([0, 1]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="must be \\(n,\\)"):
        roc_auc(np.array([True]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="finite"):
        roc_auc(np.array([True]), np.array([np.nan]))
    with pytest.raises(ValueError, match="3 of 2"):
        wilson_rate(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        wilson_rate(1, 2, confidence=95)
    with pytest.raises(ValueError, match="bool"):
        verdict_rates(np.array([True]), np.array([1.0]))
    with pytest.raises(ValueError, match="at least 1"):
        top_k_mean(np.zeros(3), 0)
