"""The map that inference computes is the one that training differentiates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jcs_ct.models.activation_map import activation_map_from_features, normalise_map
from jcs_ct.models.closed_form import normalised_maps, probabilities

GENERATOR = np.random.default_rng(0)
FEATURES = GENERATOR.normal(0, 1, (3, 24, 5, 6)).astype(np.float32)
WEIGHT = GENERATOR.normal(0, 1, (2, 24)).astype(np.float32)


@pytest.mark.parametrize("variant", ["paper", "grad_cam"])
@pytest.mark.parametrize("gap", [0.5, 30.0], ids=["unsure", "sure"])
def test_both_forms_of_the_map_agree(variant, gap):
    logits = np.array([[0.0, gap], [gap, 0.0], [0.2, 0.1]], np.float32)
    tensors = (torch.from_numpy(values) for values in (FEATURES, logits, WEIGHT))
    expected = normalise_map(activation_map_from_features(*tensors, 1, variant=variant))[:, 0].numpy()
    found = normalised_maps(FEATURES, logits, WEIGHT, 1, variant=variant)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(probabilities(logits), torch.softmax(torch.from_numpy(logits), 1).numpy(), rtol=1e-6)


def test_a_constant_map_is_zero():
    found = normalised_maps(np.ones_like(FEATURES), np.zeros((3, 2), np.float32), WEIGHT, 1)
    assert not found.any()


def test_another_variant_is_refused():
    with pytest.raises(ValueError, match="variant must be one of paper, grad_cam, got 'score'"):
        normalised_maps(FEATURES, np.zeros((3, 2), np.float32), WEIGHT, 1, variant="score")
