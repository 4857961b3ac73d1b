"""Intervals and paired tests: coverage, groups kept together, exact small cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jcs_ct.metrics.bootstrap import Resampling, bootstrap, paired_difference
from jcs_ct.metrics.classification import roc_auc


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_interval_of_a_mean_is_the_normal_one_for_many_cases() -> None:
    values = generator(3).normal(0.7, 0.1, 400)
    found = bootstrap(lambda rows: float(values[rows].mean()), np.arange(400), generator=generator(), draws=4000)
    half = 1.96 * values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)
    assert (found.draws, found.n_undefined) == (4000, 0)


def test_rows_of_a_patient_stay_together() -> None:
    patients = np.array(["a", "b", "a", "c", "b", "a"])
    seen = []

    def statistic(rows: np.ndarray) -> float:
        seen.append(tuple(np.bincount(rows, minlength=6)))
        return 0.0

    bootstrap(statistic, patients, generator=generator(), draws=50)
    assert seen[0] == (1, 1, 1, 1, 1, 1)
    assert all(drawn[0] == drawn[2] == drawn[5] and drawn[1] == drawn[4] for drawn in seen)
    assert all(drawn[0] + drawn[1] + drawn[3] == 3 for drawn in seen)
    assert len(set(seen)) > 5


def test_slices_of_few_patients_do_not_narrow_the_interval() -> None:
    patients = np.repeat(np.arange(8), 50)
    values = np.repeat(generator(5).normal(size=8), 50)
    by_patient = bootstrap(lambda rows: float(values[rows].mean()), patients, generator=generator())
    by_slice = bootstrap(lambda rows: float(values[rows].mean()), np.arange(400), generator=generator())
    assert by_patient.high - by_patient.low > 4 * (by_slice.high - by_slice.low)


def test_undefined_draws_are_counted_not_hidden() -> None:
    truth, score = np.array([True, False, False]), np.array([0.9, 0.2, 0.4])

    def auc(rows: np.ndarray) -> float | None:
        return roc_auc(truth[rows], score[rows]) if 0 < truth[rows].sum() < len(rows) else None

    found = bootstrap(auc, np.arange(3), generator=generator(), draws=300)
    assert found.draws + found.n_undefined == 300
    assert found.n_undefined > 50
    never = bootstrap(lambda rows: None, np.arange(3), generator=generator(), draws=5)
    assert (never.value, never.low, never.high, never.n_undefined) == (None, None, None, 5)


@pytest.mark.parametrize(("infected", "uninfected", "there_is_one"), [(5, 5, True), (4, 9, False), (9, 4, False)])
def test_few_patients_have_no_interval(infected: int, uninfected: int, there_is_one: bool) -> None:
    truth = np.arange(infected + uninfected) < infected
    score = generator().random(len(truth))

    def auc(rows: np.ndarray) -> float | None:
        return roc_auc(truth[rows], score[rows]) if 0 < truth[rows].sum() < len(rows) else None

    found = bootstrap(auc, np.arange(len(truth)), generator=generator(), draws=50, parts=[truth, ~truth])
    assert (found.low is not None, found.high is not None) == (there_is_one, there_is_one)
    assert found.value is not None
    one_sided = Resampling(draws=50).interval(auc, np.arange(len(truth)), parts=[truth])
    assert (one_sided.low is not None) == (infected >= 5)
    alone = bootstrap(lambda rows: 36.13, np.zeros(9), generator=generator(), draws=50)
    assert (alone.value, alone.low, alone.high) == (36.13, None, None)


def test_draws_that_all_agree_give_no_interval_without_width() -> None:
    """Six patients who are all right do not prove a rate of 100 %; a seventh who is wrong gives a width."""
    right = np.ones(12)
    patients = np.arange(12) // 2
    found = bootstrap(lambda rows: float(right[rows].mean()), patients, generator=generator(), draws=100)
    assert (found.value, found.low, found.high, found.draws) == (1.0, None, None, 100)
    right[0] = 0.0
    found = bootstrap(lambda rows: float(right[rows].mean()), patients, generator=generator(), draws=100)
    assert found.low < found.value < found.high


def test_the_same_generator_gives_the_same_interval() -> None:
    values = generator(1).random(30)
    first, second = (
        bootstrap(lambda rows: float(values[rows].mean()), np.arange(30), generator=generator(9), draws=100)
        for _ in range(2)
    )
    assert first == second


def test_paired_difference_finds_a_small_constant_gain_among_large_spread() -> None:
    first = generator(2).random(60)
    found = paired_difference(
        first, first + 0.01 + generator(4).normal(0, 0.005, 60), range(60), generator=generator()
    )
    assert found.interval.low > 0
    assert found.interval.value == pytest.approx(0.01, abs=0.003)
    assert found.p_value < 0.002
    assert (found.n, found.n_groups) == (60, 60)


def test_permutations_of_few_groups_are_all_of_them() -> None:
    difference = np.array([0.3, 0.1, 0.4, 0.2, -0.1])
    found = paired_difference(np.zeros(5), difference, range(5), generator=generator())
    expected = stats.permutation_test(
        (difference, np.zeros(5)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert found.p_value == pytest.approx(expected.pvalue)
    same = paired_difference(difference, difference, range(5), generator=generator())
    assert same.p_value == 1.0
    assert (same.interval.value, same.interval.low, same.interval.high) == (0.0, None, None)


def test_permutations_swap_whole_patients() -> None:
    one_patient = paired_difference(np.zeros(30), np.ones(30), ["p"] * 30, generator=generator())
    assert one_patient.p_value == 1.0
    assert one_patient.n_groups == 1


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="no rows"):
        bootstrap(lambda rows: 0.0, [], generator=generator())
    with pytest.raises(ValueError, match="draws"):
        bootstrap(lambda rows: 0.0, [1], generator=generator(), draws=0)
    with pytest.raises(ValueError, match="one length"):
        paired_difference(np.zeros(3), np.zeros(3), range(2), generator=generator())
    with pytest.raises(ValueError, match="finite"):
        paired_difference(np.zeros(2), np.array([0.0, np.nan]), range(2), generator=generator())
