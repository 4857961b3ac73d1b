"""`scripts/left_out_patients.py`: volumes as they are, and chests put together."""

import numpy as np
import pytest
from left_out_patients import chest_counts, figures


def test_chests_have_the_share_of_infected_slices_that_their_patients_have():
    called = [np.array([True] + 9 * [False]), np.zeros(10, bool)]
    counts = chest_counts(called, 40, np.random.default_rng(0))
    assert np.mean(counts) == pytest.approx(2.0, abs=0.1), "four patients of ten slices, every second with one"
    assert set(counts) == {0.0, 1.0, 2.0, 3.0, 4.0}


def test_a_longer_chest_is_scaled_to_the_volumes_length():
    assert set(chest_counts([np.array([True, True, False])], 4, np.random.default_rng(0))) == {4 * 4 / 6}


def test_volumes_are_judged_by_more_than_the_threshold():
    patients = np.array(["a"] * 4 + ["b"] * 4 + ["c"] * 2)
    infected = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], bool)
    called = np.array([1, 1, 0, 1, 1, 1, 0, 0, 1, 0], bool)
    found = figures(called, infected, patients, 2)
    assert found["volumes"]["a"] == {
        "slices": 4, "infected": 3, "called": 3, "of these uninfected": 1, "positive": True
    }  # fmt: skip
    assert found["volumes"]["b"]["positive"] is False
    assert found["uninfected slices"] == {"patients": 1, "slices": 2, "called": 1}
    assert found["chests put together"] == {
        "slices": 4, "called, mean": 2.0, "called, 95 % have at most": 2.0, "positive, %": 0.0
    }  # fmt: skip


def test_one_kind_of_patients_is_refused():
    with pytest.raises(SystemExit, match="patients without"):
        figures(np.ones(2, bool), np.ones(2, bool), np.array(["a", "b"]), 1)
