"""`scripts/refit_head.py`: a new last layer on a trunk that stays as it was."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from linear_probe import Probe
from refit_head import averaged_features, refit, refit_keeping_maps
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from jcs_ct.checkpoints import load_classifier, read_info
from jcs_ct.training.recipe import Recipe, make_preprocessor
from jcs_ct.training.training_tasks import make_task

SCRIPT = Path(__file__).parents[2] / "scripts" / "refit_head.py"
CLASSIFIER = Recipe(
    task="classifier",
    preset="compact",
    preprocessing={"size": 48, "channels": 1, "mean": (0.45,), "std": (0.3,)},
    network={"backbone": {"stem_channels": [4, 4, 4], "planes": [4, 4, 8, 8], "blocks": [1, 1, 1, 1]}},
)


@pytest.fixture
def classifier(tmp_path):
    path = tmp_path / "classifier.safetensors"
    make_task(CLASSIFIER).write(path, make_preprocessor(CLASSIFIER.preprocessing), {"step": 7})
    return path


def test_logits_become_the_log_odds_of_a_logistic_regression(classifier):
    network = load_classifier(classifier).network
    generator = np.random.default_rng(0)
    infected = np.arange(40) % 2 == 1
    features = generator.normal(3.0, 2.0, (40, 32)) + 0.7 * infected[:, None]
    probe = Probe(features, infected, np.array(["a"] * 40), np.array([f"p{n}" for n in range(40)]))
    refit(network, probe, 0.1)
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    expected = LogisticRegression(C=0.1, max_iter=1000).fit(scaled, infected).decision_function(scaled)
    logits = network.head_logits(torch.from_numpy(features).float()[:, :, None, None]).detach().double().numpy()
    assert logits[:, 1] - logits[:, 0] == pytest.approx(expected, abs=1e-4)
    assert logits.sum(axis=1) == pytest.approx(0.0, abs=1e-4)
    assert ((logits[:, 1] > 0) == infected).mean() > 0.8


def test_a_head_that_keeps_its_maps_changes_no_sign_and_the_channels_of_maps_least(classifier):
    """Against the minimum of the same sum that scipy finds without our gradient."""
    network = load_classifier(classifier).network
    trained = (network.head.weight[1] - network.head.weight[0]).detach().double().numpy()
    generator = np.random.default_rng(1)
    features = generator.normal(1.0, 3.0, (120, 32))
    wanted = trained + generator.normal(0.0, 0.7, 32) * np.abs(trained).max()
    infected = features @ wanted > np.median(features @ wanted)
    probe = Probe(features, infected, np.array(["a"] * 120), np.array([f"p{n}" for n in range(120)]))

    def refitted(regularisation):
        network.load_state_dict(load_classifier(classifier).network.state_dict())
        refit_keeping_maps(network, probe, regularisation)
        head = {name: value.detach().double().numpy() for name, value in network.head.state_dict().items()}
        return head["weight"][1] - head["weight"][0], head["bias"][1] - head["bias"][0]

    hardly, _ = refitted(1e-7)
    assert np.corrcoef(hardly, trained)[0, 1] > 0.9999
    weight, bias = refitted(0.1)
    assert (weight * trained >= 0.0).all()
    assert (weight[np.abs(trained) > 0.01] == 0.0).any(), "a bound is reached where labels ask for another sign"
    assert ((features @ weight + bias > 0) == infected).mean() > ((features @ trained > 0) == infected).mean()

    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    cost = np.where(trained > 0, 1 / (0.03 * 0.1), 1 / 0.1)

    def total(point):
        odds = (features - mean) @ (point[2:] / spread) + point[1]
        change = point[2:] - point[0] * trained * spread
        return np.logaddexp(0.0, np.where(infected, -odds, odds)).sum() + 0.5 * (cost * change**2).sum()

    at = weight * spread
    multiple = (cost * at) @ (trained * spread) / ((cost * trained * spread) @ (trained * spread))
    found = np.concatenate([[multiple, bias + weight @ mean], at])
    bounds = [(0, None), (None, None), *((0, None) if one > 0 else (None, 0) for one in trained)]
    other = minimize(total, found, method="L-BFGS-B", bounds=bounds, options={"maxfun": 20_000})
    assert total(found) == pytest.approx(other.fun, rel=1e-4)


@pytest.mark.slow
def test_the_command_changes_the_head_alone_and_learns_from_train_slices_alone(classifier, drawn_slices, tmp_path):
    manifest, out = tmp_path / "slices.csv", tmp_path / "refitted.safetensors"
    drawn_slices.write(manifest)
    command = [sys.executable, SCRIPT, classifier, "-m", manifest, "-o", out, "--regularisation", "0.5"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    train = drawn_slices.split("train")
    assert f"fitted to {len(train)} slices" in done.stdout
    before, after = load_classifier(classifier).network.state_dict(), load_classifier(out).network.state_dict()
    assert {name for name, value in after.items() if not torch.equal(value, before[name])} == {
        "head.weight",
        "head.bias",
    }
    info = read_info(out)
    assert info.operating_point is None
    assert info.provenance["step"] == 7
    assert info.provenance["head"] == {
        "manifest_sha256": drawn_slices.sha256,
        "slices": 16,
        "regularisation": 0.5,
        "keeps_maps": False,
    }
    assert info.provenance["ancestor_manifests"] == {"head": drawn_slices.sha256}
    by_hand = load_classifier(classifier)
    probe = Probe(
        averaged_features(by_hand, train),
        np.array([row.label == 1 for row in train]),
        np.array([row.source for row in train]),
        np.array([row.patient for row in train]),
    )
    refit(by_hand.network, probe, 0.5)
    assert torch.allclose(by_hand.network.head.weight, after["head.weight"], rtol=1e-3), "stored in half precision"
