"""`scripts/both_networks.py`: what a verdict by both networks would gain."""

import numpy as np
import pytest
from both_networks import compared, largest_probabilities, log_odds, said
from PIL import Image

from jcs_ct.checkpoints import load_segmenter
from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.engine import Execution
from jcs_ct.metrics.classification import roc_auc


def test_both_say_more_than_either_where_each_errs_elsewhere():
    generator = np.random.default_rng(0)
    infected = np.repeat([True, False], 200)
    units = [f"p{number // 4}" for number in range(400)]
    one, other = (1 / (1 + np.exp(-(2.0 * infected - 1 + generator.normal(0, 1.5, 400)))) for _ in range(2))
    both = log_odds(one) + log_odds(other)
    found = compared(infected, units, {"classifier": one, "both": both})
    assert found["classifier"].value == roc_auc(infected, one)
    gain = found["both minus classifier"]
    assert gain.value == pytest.approx(roc_auc(infected, both) - roc_auc(infected, one))
    assert 0 < gain.low < gain.value < gain.high
    assert said(found["both"]).startswith(f"{roc_auc(infected, both):.3f} (")


def test_few_patients_have_no_interval_and_certainty_has_finite_odds():
    infected = np.array([True, True, False, False])
    found = compared(infected, ["a", "a", "b", "b"], {"classifier": np.array([1.0, 0.9, 0.0, 0.1])})
    assert said(found["classifier"]) == "1.000"
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


def test_the_largest_probability_is_that_of_the_slice(random_models, tmp_path):
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (48, 56), dtype=np.uint8)).save(tmp_path / "a.png")
    manifest = Manifest((ManifestRow(tmp_path / "a.png", "p", 1, level_hu=-600.0, width_hu=1500.0),))
    ready = load_segmenter(random_models / "segmenter.safetensors")
    (found,) = largest_probabilities(ready, manifest, Execution(batch_size=1))
    assert 0.0 < found <= 1.0
