from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.classifier.trivial_features import (
    deal_folds,
    evaluate_trivial_features,
    score_trivially,
    trivial_features,
)
from jcs_ct.metrics.bootstrap import Resampling
from jcs_ct.metrics.classification import roc_auc


def noise(seed: int, *, sigma: float = 0.0, rows: int = 48) -> np.ndarray:
    grey = np.random.default_rng(seed).random((rows, 40)).astype(np.float32)
    return ndimage.gaussian_filter(grey, sigma) if sigma else grey


def test_features_see_size_brightness_and_sharpness():
    sharp, blurred = trivial_features(noise(1)), trivial_features(noise(1, sigma=1.5))
    assert sharp[:3].tolist() == [48, 40, 40 / 48]
    assert blurred[3] == pytest.approx(sharp[3], abs=0.02)
    assert (blurred[7:] < sharp[7:]).all()
    assert trivial_features(np.full((8, 8), 0.5, np.float32))[3:].tolist() == [0.5, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0]


@pytest.fixture(scope="module")
def by_sharpness(tmp_path_factory) -> Manifest:
    """Both labels alike but for a blur of the infected ones; five patients a fold, two slices each."""
    folder = tmp_path_factory.mktemp("trivial")
    rows = []
    for number in range(120):
        path, label = folder / f"{number:03d}.png", number % 2
        picture = noise(number, sigma=0.9 if label else 0.0)
        picture = 0.5 + 0.1 * (picture - picture.mean()) / picture.std()
        Image.fromarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8)).save(path)
        rows.append(ManifestRow(path, f"p{number // 2}", label, source="noise", fold=number // 2 % 3))
    return Manifest(tuple(rows))


def test_a_blur_tells_the_label_and_size_does_not(by_sharpness):
    scores = score_trivially(by_sharpness)
    auc = {name: roc_auc(scores.infected, found) for name, found in scores.probability.items()}
    assert scores.folds == 3
    assert auc["sharpness"] > 0.98
    assert auc["all together"] > 0.98
    assert auc["size"] == pytest.approx(0.5)


def test_shuffled_labels_are_not_told(by_sharpness):
    labels = np.random.default_rng(3).permutation([row.label for row in by_sharpness])
    rows = (
        ManifestRow(row.path, row.patient, int(label), fold=row.fold)
        for row, label in zip(by_sharpness, labels, strict=True)
    )
    scores = score_trivially(Manifest(tuple(rows)))
    assert abs(roc_auc(scores.infected, scores.probability["all together"]) - 0.5) < 0.2


def test_without_folds_groups_of_patients_are_never_parted(by_sharpness):
    rows = [
        ManifestRow(row.path, row.patient, row.label, group=f"g{number // 8}")
        for number, row in enumerate(by_sharpness)
    ]
    folds = deal_folds(rows, np.array([row.label == 1 for row in rows]), seed=0)
    assert len(set(folds.tolist())) == 5
    assert all(len(set(folds[first : first + 8].tolist())) == 1 for first in range(0, 120, 8))
    assert len(set(score_trivially(Manifest(tuple(rows))).patients)) == 15


def test_without_folds_patients_are_dealt_and_never_parted(by_sharpness):
    rows = tuple(ManifestRow(row.path, row.patient, row.label) for row in by_sharpness)
    scores = score_trivially(Manifest(rows))
    assert scores.folds == 5
    assert roc_auc(scores.infected, scores.probability["sharpness"]) > 0.98


def test_of_slices_with_and_without_a_fold_those_in_the_folds_are_judged(by_sharpness):
    rows = tuple(row if row.fold else ManifestRow(row.path, row.patient, row.label) for row in by_sharpness)
    kept = [row for row in rows if row.fold is not None]
    assert 0 < len(kept) < len(rows)
    scores = score_trivially(Manifest(rows))
    assert scores.patients == tuple(row.unit for row in kept)
    assert scores.folds == len({row.fold for row in kept})


def test_the_page_has_a_row_a_source_and_group(by_sharpness):
    evaluation = evaluate_trivial_features(
        {"noise": score_trivially(by_sharpness)}, title="t", resampling=Resampling(draws=20)
    )
    rows = evaluation.tables[0].rows
    assert [row["features"] for row in rows] == ["size", "brightness", "sharpness", "all together"]
    assert all(row["n_patients"] == 60 and row["n"] == 120 for row in rows)
    assert rows[2]["auc"] > 0.98
    assert rows[2]["auc_low"] is None, "all draws agree"


def test_what_cannot_be_judged_is_said(by_sharpness):
    infected = Manifest(tuple(row for row in by_sharpness if row.label == 1))
    with pytest.raises(ConfigError, match="one label only"):
        score_trivially(infected)
    one_fold = Manifest(tuple(ManifestRow(row.path, row.patient, row.label, fold=0) for row in by_sharpness))
    with pytest.raises(ConfigError, match="names one only"):
        score_trivially(one_fold)
    with pytest.raises(ConfigError, match="holds studies; write their slices"):
        score_trivially(Manifest(tuple(replace(row, series="1.2") for row in by_sharpness)))
