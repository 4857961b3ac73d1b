"""`scripts/refit_head.py`: a new last layer on a trunk that stays as it was."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from linear_probe import Probe
from refit_head import averaged_features, refit
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


def test_what_the_trained_head_says_is_kept_where_change_is_dear(classifier):
    network = load_classifier(classifier).network
    trained = (network.head.weight[1] - network.head.weight[0]).detach().double().numpy()
    generator = np.random.default_rng(1)
    features = generator.normal(1.0, 3.0, (200, 32))
    infected = features @ trained + generator.normal(0.0, 1.0, 200) > np.median(features @ trained)
    probe = Probe(features, infected, np.array(["a"] * 200), np.array([f"p{n}" for n in range(200)]))

    def likeness(regularisation, from_trained):
        refit(network, probe, regularisation, from_trained=from_trained)
        head = {name: value.double().numpy() for name, value in network.head.state_dict().items()}
        network.load_state_dict(load_classifier(classifier).network.state_dict())
        weight, bias = head["weight"][1] - head["weight"][0], head["bias"][1] - head["bias"][0]
        assert ((features @ weight + bias > 0) == infected).mean() > 0.7
        return float(np.corrcoef(weight, trained)[0, 1])

    assert likeness(1e-5, True) > 0.999
    assert likeness(1e-5, True) > likeness(10.0, True)
    assert likeness(0.03, True) > likeness(0.03, False)


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
        "from_trained": False,
    }
    by_hand = load_classifier(classifier)
    probe = Probe(
        averaged_features(by_hand, train),
        np.array([row.label == 1 for row in train]),
        np.array([row.source for row in train]),
        np.array([row.patient for row in train]),
    )
    refit(by_hand.network, probe, 0.5)
    assert torch.allclose(by_hand.network.head.weight, after["head.weight"], rtol=1e-3), "stored in half precision"
