"""The cut of a fold comes from the other folds."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from jcs_ct.errors import ConfigError
from jcs_ct.experiments.judged_slices import CaseSet, ct100_cases
from jcs_ct.experiments.lesion_predictions import Predictions
from jcs_ct.experiments.own_cut import CUTS, cut_by_other_folds


def quiet_predictions(cases: CaseSet) -> Predictions:
    """Right at a cut of 80, with 40 beside the lesions: at 128 nothing is found."""
    return Predictions("quiet", tuple(np.where(case.read_mask(), 90, 40).astype(np.uint8) for case in cases))


def test_a_network_that_says_too_little_is_right_at_its_own_cut(ct100_like):
    cases = ct100_cases(ct100_like)
    moved, cuts = cut_by_other_folds(quiet_predictions(cases), cases, name="cut")
    for level, case in zip(moved.levels, cases, strict=True):
        assert ((level >= 128) == case.read_mask()).all()
    assert set(cuts) == set(cases.folds)
    assert all(40 / 255 < cut <= 90 / 255 for cut in cuts.values())
    assert moved.name == "cut"
    assert "E-measure and official IoU, with thresholds of their own, see as other probabilities" in moved.note


def test_a_fold_does_not_choose_its_own_cut(ct100_like):
    cases = ct100_cases(ct100_like)
    before = cut_by_other_folds(quiet_predictions(cases), cases, name="cut")[1]
    first = next(iter(cases.folds))
    for case in cases:
        if case.fold == first:
            other = np.zeros(case.read_mask().shape, dtype=np.uint8)
            other[: other.shape[0] // 3] = 255
            Image.fromarray(other).save(case.mask)
    after = cut_by_other_folds(quiet_predictions(ct100_cases(ct100_like)), ct100_cases(ct100_like), name="cut")[1]
    assert after[first] == before[first]


def test_order_is_kept_and_one_fold_is_refused(ct100_like):
    cases = ct100_cases(ct100_like)
    shape = cases.cases[0].read_mask().shape
    ramp = np.resize(np.arange(256, dtype=np.uint8), shape)
    moved, cuts = cut_by_other_folds(Predictions("ramp", (ramp,) * len(cases)), cases, name="cut")
    order = np.argsort(ramp.ravel(), kind="stable")
    assert (np.diff(moved.levels[0].ravel()[order].astype(int)) >= 0).all()
    cut = round(255 * cuts[cases.cases[0].fold])
    assert cut in CUTS
    assert ((moved.levels[0] >= 128) == (ramp >= cut)).all()
    alone = CaseSet("one", tuple(case for case in cases if case.fold == "val0"))
    with pytest.raises(ConfigError, match="two folds"):
        cut_by_other_folds(Predictions("ramp", (ramp,) * len(alone)), alone, name="cut")
