from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.experiments.operating_point_choice import (
    SliceScores,
    choose_lesion_probability,
    choose_operating_point,
    choose_slice_probability,
    source_weights,
)
from jcs_ct.preprocessing import SlicePreprocessor


def test_every_source_counts_alike_within_its_label():
    labels = np.array([True] * 4 + [False] * 2)
    weights = source_weights(labels, ["a", "a", "a", "b", "a", "b"])
    assert weights == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2, 1 / 2, 1 / 2])


def test_the_cut_keeps_the_specificity_and_takes_the_most_sensitivity():
    generator = np.random.default_rng(0)
    labels = np.repeat([True, False], 500)
    probability = np.clip(np.where(labels, 0.65, 0.35) + generator.normal(0, 0.15, 1000), 0, 1)
    sources = ["x"] * 1000
    cut, figures = choose_slice_probability(probability, labels, sources, least_specificity=0.95)
    assert figures["specificity"] >= 0.95
    assert figures["specificity"] == pytest.approx(np.mean(probability[~labels] < cut))
    assert figures["sensitivity"] == pytest.approx(np.mean(probability[labels] >= cut))
    # One step lower would be too unspecific, or no more sensitive.
    lower_specificity = np.mean(probability[~labels] < cut - 0.01)
    assert lower_specificity < 0.95


@pytest.mark.parametrize("uninfected", [20, 200, 1000, 1840])
def test_a_cut_with_exactly_the_specificity_asked_for_is_specific_enough(uninfected):
    """19 of 20: as a sum of weights it comes out a little below 0.95."""
    false = uninfected // 20
    probability = np.concatenate([np.full(200, 0.5), np.full(false, 0.9), np.full(uninfected - false, 0.05)])
    labels = np.repeat([True, False], [200, uninfected])
    _, figures = choose_slice_probability(probability, labels, ["x"] * len(labels), least_specificity=0.95)
    assert figures == {"sensitivity": pytest.approx(1.0), "specificity": pytest.approx(0.95)}


def test_without_a_cut_specific_enough_it_is_the_most_specific_one():
    labels, probability = np.repeat([True, False], 4), np.array([0.99] * 4 + [0.99, 0.99, 0.99, 0.3])
    cut, figures = choose_slice_probability(probability, labels, ["x"] * 8, least_specificity=0.95)
    assert figures["specificity"] == 0.25
    assert cut == pytest.approx(0.31)


def test_one_label_is_not_enough():
    with pytest.raises(ConfigError, match="infected and uninfected"):
        choose_slice_probability(np.array([0.5]), np.array([True]), ["x"])


def test_the_lesion_cut_has_the_largest_mean_dice():
    overlaps = np.array([[0.2, 0.6, 0.5], [0.4, 0.5, 0.7]])
    assert choose_lesion_probability(overlaps, (0.3, 0.5, 0.7)) == (0.7, {"dice": pytest.approx(0.6)})


class LeftHalf(nn.Module):
    """Calls the left half of every slice a lesion, and every slice infected or not alike."""

    def predict(self, images):
        found = torch.zeros(len(images), 1, *images.shape[2:])
        found[..., : images.shape[3] // 2] = 0.6
        return found

    def forward(self, images):
        return torch.zeros(len(images), 2)


def test_a_lesion_that_the_networks_size_loses_chooses_no_cut(tmp_path):
    generator = np.random.default_rng(0)
    rows = []
    for name, place in (("large", np.s_[:, :32]), ("lost", np.s_[40:41, 40:41]), ("none", np.s_[:0])):
        mask = np.zeros((64, 64), np.uint8)
        mask[place] = 255
        image, truth = tmp_path / f"{name}.png", tmp_path / f"{name}-mask.png"
        Image.fromarray(generator.integers(0, 255, (64, 64), dtype=np.uint8)).save(image)
        Image.fromarray(mask).save(truth)
        rows.append(ManifestRow(image, name, int(mask.any()), truth, "val"))
    preprocessor = SlicePreprocessor(size=32, channels=1, mean=(0.45,), std=(0.3,), body_crop=False)
    ready = SimpleNamespace(network=LeftHalf(), preprocessor=preprocessor)
    chosen = choose_operating_point(ready, ready, Manifest(tuple(rows)), execution=Execution(device="cpu"))
    assert chosen.figures["lesion"] == {"dice": 1.0}
    assert chosen.patients == {"slice": 3, "lesion": 1}
    with pytest.raises(ConfigError, match="too small for the network's input size"):
        choose_operating_point(ready, ready, Manifest(tuple(rows[1:])), execution=Execution(device="cpu"))


def test_scores_are_kept_by_patient_without_names():
    scores = SliceScores(
        np.array([0.91234, 0.1, 0.6, 0.2]),
        np.array([True, False, True, False]),
        ("a", "a", "b", "a"),
        ("Smith", "Smith", "Smith", "Jones"),
    )
    assert scores.by_patient() == [
        {"source": "a", "infected": [0.912], "uninfected": [0.1]},
        {"source": "b", "infected": [0.6], "uninfected": []},
        {"source": "a", "infected": [], "uninfected": [0.2]},
    ]
