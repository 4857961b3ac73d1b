"""`scripts/linear_probe.py`: whose slices it learns from, and how much each of them counts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from linear_probe import Probe, auc_line, pooled, report

from jcs_ct.data.manifest import Manifest, ManifestRow


def probe_of(rows):
    infected = np.array([row.label == 1 for row in rows])
    features = np.stack([infected + 0.1 * np.arange(len(rows)) % 1, np.ones(len(rows))], axis=1)
    return Probe(features, infected, np.array([row.source for row in rows]), np.array([row.patient for row in rows]))


@pytest.fixture
def rows():
    made = [("a", 0, None), ("a", 1, None), ("b", 0, 0), ("b", 1, 0), ("b", 0, 1), ("b", 1, 1)]
    of_folds = [
        ManifestRow(Path(f"{n}{copy}.png"), f"p{n}", label, source=source, fold=fold)
        for n, (source, label, fold) in enumerate(made)
        for copy in range(1 + n % 3)
    ]
    return [
        *of_folds,
        ManifestRow(Path("v0.png"), "v0", 0, split="val", source="a"),
        ManifestRow(Path("v1.png"), "v1", 1, split="val", source="a"),
    ]


def test_features_are_mean_mean_square_and_largest_value():
    maps = torch.tensor([[[[1.0, 3.0]], [[0.0, -2.0]]]])
    assert pooled(maps).tolist() == [[2.0, -1.0, 5.0, 2.0, 3.0, 0.0]]


def test_labels_sources_and_patients_are_weighted_as_said(rows):
    probe = probe_of(rows)
    used = np.arange(len(rows) - 2)
    weights = probe.weights(used)
    for label in (False, True):
        for source in ("a", "b"):
            part = (probe.infected[used] == label) & (probe.sources[used] == source)
            assert weights[part].sum() == pytest.approx(len(used) / 4)
    two_of_b = {name: weights[probe.patients[used] == name].sum() for name in ("p2", "p4")}  # 3 slices and 2
    assert two_of_b["p2"] / two_of_b["p4"] == pytest.approx((3 / 2) ** 0.5)


def test_nothing_is_learnt_from_what_is_judged(rows, capsys):
    probe, manifest, seen = probe_of(rows), Manifest(tuple(rows)), []

    def recorded(learnt):
        seen.append(set(learnt.tolist()))
        return probe.trees(learnt)

    report("encoder", probe, manifest, ["b"], recorded)
    numbers = {
        name: {n for n, row in enumerate(rows) if row.fold == fold}
        for name, fold in {"fold 0": 0, "fold 1": 1}.items()
    }
    held_out = {n for n, row in enumerate(rows) if row.split == "val"}
    every = set(range(len(rows))) - held_out
    from_a = {n for n, row in enumerate(rows) if row.source == "a"} - held_out
    assert seen == [every - numbers["fold 0"], every - numbers["fold 1"], from_a, every]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "encoder, fold 0",
        "encoder, fold 1",
        "encoder, mean of folds",
        "encoder, b left out",
        "encoder, val",
    ]


def test_a_figure_stands_with_its_interval_and_one_label_has_none(rows):
    probe = probe_of(rows)
    every, score = np.arange(len(rows)), probe.infected.astype(np.float64)
    assert auc_line("x", probe, every, score) == f"x: 1.000, {len(rows)} slices of 8 patients"
    score[np.flatnonzero(probe.infected)[0]] = 0.0
    assert auc_line("x", probe, every, score).startswith("x: 0.9")
    assert "-1.000)" in auc_line("x", probe, every, score)
    assert auc_line("x", probe, np.flatnonzero(probe.infected), probe.features[:, 0]).startswith("x: – (")


def test_the_linear_rule_is_that_of_the_slices_it_learnt_from(rows):
    probe = probe_of(rows)
    learnt = np.flatnonzero(probe.sources == "b")
    score = probe.linear(learnt, 1.0)
    assert score[learnt][probe.infected[learnt]].min() > score[learnt][~probe.infected[learnt]].max()
    moved = Probe(
        probe.features + 5.0 * (probe.sources == "a")[:, None], probe.infected, probe.sources, probe.patients
    )
    assert np.allclose(moved.linear(learnt, 1.0)[learnt], score[learnt])
