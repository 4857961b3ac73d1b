"""Calibration against scikit-learn and cases with known answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from jcs_ct.metrics.calibration import (
    brier_score,
    calibration_error_by_chance,
    calibration_line,
    expected_calibration_error,
    reliability,
)


def cases(n: int = 4000, *, slope: float = 1.0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes whose true log odds are ``shift + slope * logit(p)``."""
    generator = np.random.default_rng(11)
    logit = generator.normal(-0.3, 1.5, n)
    truth = generator.random(n) < 1 / (1 + np.exp(-(shift + slope * logit)))
    return truth, 1 / (1 + np.exp(-logit))


def test_brier_equals_scikit_learn() -> None:
    truth, probability = cases(200)
    assert brier_score(truth, probability) == pytest.approx(brier_score_loss(truth, probability))


def test_calibrated_probabilities_have_a_small_error_and_bins_of_equal_mass() -> None:
    truth, probability = cases()
    assert expected_calibration_error(truth, probability) < 0.03
    points = reliability(truth, probability)
    assert len(points) == 15
    assert {point.n for point in points} <= {266, 267}
    assert all(a.highest < b.lowest for a, b in itertools.pairwise(points))
    line = calibration_line(truth, probability)
    assert line is not None
    assert line.slope == pytest.approx(1.0, abs=0.1)
    assert line.intercept == pytest.approx(0.0, abs=0.1)


def test_a_line_is_found_again() -> None:
    truth, probability = cases(slope=0.5, shift=1.0)
    line = calibration_line(truth, probability)
    logit = np.log(probability / (1 - probability))
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], truth)
    assert line is not None
    assert line.slope == pytest.approx(float(oracle.coef_[0, 0]), abs=1e-4)
    assert line.intercept == pytest.approx(float(oracle.intercept_[0]), abs=1e-4)
    shifted = 1 / (1 + np.exp(-(logit + line.intercept_in_the_large)))
    assert shifted.mean() == pytest.approx(truth.mean())


def test_error_of_a_constant_probability_does_not_depend_on_the_order() -> None:
    truth = np.array([True] * 30 + [False] * 70)
    probability = np.full(100, 0.5)
    assert len(reliability(truth, probability)) == 1
    assert expected_calibration_error(truth, probability) == pytest.approx(0.2)
    assert expected_calibration_error(truth[::-1], probability) == pytest.approx(0.2)


def test_right_probabilities_have_an_error_by_chance() -> None:
    """Known where all share a bin: of one case 2 p (1 - p), of n the mean distance of a binomial share."""

    def by_chance(probability: np.ndarray) -> float:
        return calibration_error_by_chance(probability, generator=np.random.default_rng(0), draws=4000)

    assert by_chance(np.array([0.3])) == pytest.approx(2 * 0.3 * 0.7, abs=0.01)
    expected = stats.binom(100, 0.5).expect(lambda k: abs(k / 100 - 0.5))
    assert by_chance(np.full(100, 0.5)) == pytest.approx(expected, abs=0.002)
    truth, probability = cases(150)
    assert expected_calibration_error(truth, probability) == pytest.approx(by_chance(probability), abs=0.03)


def test_fewer_cases_than_bins() -> None:
    truth, probability = np.array([True, False]), np.array([0.9, 0.2])
    assert [point.n for point in reliability(truth, probability)] == [1, 1]
    assert expected_calibration_error(truth, probability) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("truth", "probability"),
    [
        ([True, True], [0.2, 0.9]),
        ([True, False], [0.4, 0.4]),
        ([False, False, True, True], [0.1, 0.3, 0.6, 0.9]),
        ([True, True, False, False], [0.1, 0.3, 0.6, 0.9]),
    ],
)
def test_no_finite_line(truth: list[bool], probability: list[float]) -> None:
    assert calibration_line(np.array(truth), np.array(probability)) is None


def test_extreme_probabilities_are_survived() -> None:
    truth = np.array([True, False, True, False, True])
    line = calibration_line(truth, np.array([1.0, 0.0, 0.0, 0.3, 0.8]))
    assert line is not None
    assert np.isfinite([line.slope, line.intercept, line.intercept_in_the_large]).all()


def test_wrong_input() -> None:
    truth = np.array([True, False])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        brier_score(truth, np.array([0.5, 1.5]))
    with pytest.raises(ValueError, match="at least 1"):
        brier_score(truth[:0], np.zeros(0))
    with pytest.raises(ValueError, match="must be bool"):
        brier_score(np.array([1, 0]), np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="at least one bin"):
        reliability(truth, np.array([0.5, 0.5]), bins=0)
