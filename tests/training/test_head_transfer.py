"""`scripts/head_transfer.py`: a last layer judged on sources whose labels it was not fitted to."""

from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from head_transfer import figures, judged
from linear_probe import Probe
from refit_head import refit

from jcs_ct.models.classifier import Classifier
from jcs_ct.training.recipe import Recipe
from jcs_ct.training.training_tasks import make_task

PER_SOURCE = 200


@pytest.fixture(scope="module")
def network() -> Classifier:
    recipe = Recipe(
        task="classifier",
        preset="compact",
        preprocessing={"size": 48, "channels": 1, "mean": (0.45,), "std": (0.3,)},
        network={"backbone": {"stem_channels": [4, 4, 4], "planes": [4, 4, 4, 8], "blocks": [1, 1, 1, 1]}},
    )
    return make_task(recipe).network


@pytest.fixture(scope="module")
def slices(network):
    """Disease in channel 0 everywhere; in channel 1 the look of sources a and b, which in c says the contrary."""
    generator = np.random.default_rng(5)
    sources = np.repeat(["a", "b", "c"], PER_SOURCE)
    infected = np.arange(len(sources)) % 2 == 1
    features = generator.normal(0.0, 1.0, (len(sources), network.head.in_features))
    features[:, 0] += 1.5 * infected
    features[:, 1] += 2.0 * infected * np.where(sources == "c", -1.0, 1.0)
    splits = np.where(np.arange(len(sources)) % 5 == 0, "val", "train")
    patients = np.array([f"{source}{number // 2}" for number, source in enumerate(sources)])
    return Probe(features, infected, sources, patients), splits


def test_a_look_that_a_head_may_learn_helps_where_its_sources_are_and_harms_elsewhere(network, slices):
    probe, splits = slices
    here, there, _ = judged(network, probe, splits, partial(refit, regularisation=0.1), ["c"])
    assert here.auc > 0.9
    assert here.specificity >= 0.95
    assert there.auc < 0.5
    everywhere, _, _ = judged(network, probe, splits, partial(refit, regularisation=0.1), [])
    assert everywhere.auc < here.auc
    # The others' cut finds their infected slices and hardly any of this source's.
    assert there.sensitivity < 0.2 < here.sensitivity


def test_the_network_stays_as_it_is_and_its_own_head_is_judged_without_a_fit(network, slices):
    probe, splits = slices
    own = deepcopy(network)
    with torch.no_grad():
        own.head.weight.zero_()
        own.head.weight[1, 0] = 1.0  # disease alone
    before = own.head.weight.clone()
    here, there, _ = judged(own, probe, splits, None, ["c"])
    assert there.auc == pytest.approx(here.auc, abs=0.1)
    assert there.auc > 0.8
    judged(own, probe, splits, partial(refit, regularisation=0.1), ["c"])
    assert torch.equal(own.head.weight, before)


def test_sources_count_alike_and_a_missing_label_has_no_figure():
    probe = Probe(
        np.zeros((5, 1)), np.array([False] * 5), np.array(["a", "a", "a", "a", "b"]), np.array(list("pqrst"))
    )
    found = figures(probe, np.arange(5), np.array([0.1, 0.1, 0.1, 0.9, 0.9]), 0.5)
    assert found.auc is None
    assert found.sensitivity is None
    assert found.specificity == pytest.approx((0.75 + 0.0) / 2)
    assert str(found) == "AUC –, sensitivity –, specificity 0.375"
