"""Is it the features or the data that hold a classifier back? A linear probe on a segmenter's frozen encoder tells.

    python scripts/linear_probe.py SEGMENTER -m slices.csv --leave-out sarscov2 --leave-out zenodo20+iq_othnccd

The mean, mean square and largest value of every channel of the encoder's last two blocks go into one logistic
regression for all sources: labels alike, sources alike within a label, a patient's slices counting as their square
root. It is judged on each fold of the slices that have one, on each source left out, and on the val and test
splits; beside it stand trees on size, brightness and sharpness under the same protocol, with the same weights.
Leave out only sources that the segmenter has never seen: its own training cannot be undone here.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from jcs_ct.checkpoints import load_segmenter
from jcs_ct.data.datasets import SliceDataset, balanced_weights
from jcs_ct.data.manifest import Manifest, read_grey, read_manifest
from jcs_ct.engine import Execution, inference
from jcs_ct.evaluation.classifier.trivial_features import trivial_features
from jcs_ct.metrics.bootstrap import Resampling
from jcs_ct.metrics.classification import drawn_auc, roc_auc
from jcs_ct.models.segmenter import Segmenter
from jcs_ct.training.training_data import validation_batches

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
#: Feature values beyond these quantiles of the training slices are taken for the quantile.
CLIPPED = (0.001, 0.999)
DRAWS = 500


def pooled(maps: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, 3 C): mean, mean square and largest value of every channel."""
    return torch.cat([maps.mean(dim=(2, 3)), maps.square().mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)


def encoder_features(path: Path, manifest: Manifest) -> Floats:
    """(slices, features) of the last two blocks, before anything of a classifier joins."""
    ready, execution = load_segmenter(path), Execution(batch_size=8)
    network = ready.network
    if not isinstance(network, Segmenter):
        raise SystemExit(f"{path} is a comparison network; the probe reads the JCS segmenter's encoder")
    network.eval()
    found = []
    for batch in validation_batches(
        SliceDataset(manifest, ready.preprocessor, cache=False), torch.device("cpu"), size=8
    ):
        with inference(execution):
            blocks = network.encoder(batch.images)[-2:]
        found.append(torch.cat([pooled(block.float()) for block in blocks], dim=1).double().numpy())
    return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class Probe:
    """What is probed: (slices, features), and whose slices they are."""

    features: Floats
    infected: NDArray[np.bool_]
    sources: NDArray[np.str_]
    patients: NDArray[np.str_]

    def weights(self, rows: Rows) -> Floats:
        """Labels alike, sources alike within a label, patients by the square root of their slices."""
        drawn = balanced_weights(
            self.infected[rows].astype(int).tolist(), self.sources[rows].tolist(), infected_share=0.5
        )
        keys = list(zip(self.infected[rows], self.sources[rows], self.patients[rows], strict=True))
        sizes = Counter(keys)
        weights = drawn * np.array([sizes[key] ** -0.5 for key in keys])
        for label, source in {key[:2] for key in keys}:  # the patients' weights move nothing between sources
            same = (self.infected[rows] == label) & (self.sources[rows] == source)
            weights[same] *= drawn[same].sum() / weights[same].sum()
        return weights * len(rows)

    def linear(self, rows: Rows, regularisation: float) -> Floats:
        """Log odds of every slice by a logistic regression on ``rows``."""
        low, high = np.quantile(self.features[rows], CLIPPED, axis=0)
        clipped = np.clip(self.features, low, high)
        mean, spread = clipped[rows].mean(axis=0), clipped[rows].std(axis=0) + 1e-6
        scaled = (clipped - mean) / spread
        fitted = LogisticRegression(C=regularisation, max_iter=1000)
        fitted.fit(scaled[rows], self.infected[rows], sample_weight=self.weights(rows))
        scores: Floats = fitted.decision_function(scaled)
        return scores

    def trees(self, rows: Rows) -> Floats:
        """Probability of every slice by gradient-boosted trees on ``rows``."""
        fitted = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, max_leaf_nodes=8, random_state=0)
        fitted.fit(self.features[rows], self.infected[rows], sample_weight=self.weights(rows))
        scores: Floats = fitted.predict_proba(self.features)[:, 1]
        return scores


def auc_line(name: str, probe: Probe, judged: Rows, score: Floats) -> str:
    """AUC of some slices with its interval over their patients; a dash where they have one label."""
    truth, found = probe.infected[judged], score[judged]
    if truth.all() or not truth.any():
        return f"{name}: – ({len(judged)} slices of one label)"
    one = Resampling(draws=DRAWS).interval(drawn_auc(truth, found), probe.patients[judged])
    people = len(set(probe.patients[judged].tolist()))
    interval = "" if one.low is None or one.high is None else f" ({one.low:.3f}-{one.high:.3f})"
    return f"{name}: {one.value:.3f}{interval}, {len(judged)} slices of {people} patients"


def report(
    kind: str, probe: Probe, manifest: Manifest, left_out: list[str], fitted: Callable[[Rows], Floats]
) -> None:
    """Print every protocol's figures of one kind of features."""
    splits = np.array([row.split if row.fold is None else "fold" for row in manifest])
    folds = np.array([-1 if row.fold is None else row.fold for row in manifest])
    learns = (splits == "train") | (splits == "fold")
    values = []
    for fold in sorted(set(folds[folds >= 0].tolist())):
        judged = np.flatnonzero(folds == fold)
        score = fitted(np.flatnonzero(learns & (folds != fold)))
        values.append(roc_auc(probe.infected[judged], score[judged]))
        print(auc_line(f"{kind}, fold {fold}", probe, judged, score), flush=True)
    if values:
        print(f"{kind}, mean of folds: {np.mean(values):.3f}")
    for names in left_out:
        out = np.isin(probe.sources, names.split("+"))
        score = fitted(np.flatnonzero(learns & ~out))
        print(auc_line(f"{kind}, {names} left out", probe, np.flatnonzero(out), score), flush=True)
    score = fitted(np.flatnonzero(learns)) if (splits == "val").any() or (splits == "test").any() else None
    for name in ("val", "test"):
        if score is not None and (splits == name).any():
            print(auc_line(f"{kind}, {name}", probe, np.flatnonzero(splits == name), score), flush=True)


def main() -> None:
    """Print AUCs of the probe and of trivial features."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("segmenter", type=Path)
    parser.add_argument("-m", "--manifest", type=Path, required=True)
    parser.add_argument("--leave-out", action="append", default=[], help="a source, or several joined by +")
    parser.add_argument("--regularisation", type=float, default=0.01, help="C of the logistic regression")
    options = parser.parse_args()
    manifest = Manifest(tuple(row for row in read_manifest(options.manifest) if row.label is not None))
    unknown = {name for names in options.leave_out for name in names.split("+")} - {row.source for row in manifest}
    if unknown:
        parser.error(f"--leave-out: no source {', '.join(sorted(unknown))} in {options.manifest}")
    whose = (
        np.array([row.label == 1 for row in manifest]),
        np.array([row.source for row in manifest]),
        np.array([row.patient for row in manifest]),
    )
    encoder = Probe(encoder_features(options.segmenter, manifest), *whose)
    report("encoder", encoder, manifest, options.leave_out, lambda rows: encoder.linear(rows, options.regularisation))
    trivial = Probe(np.stack([trivial_features(read_grey(row.path)) for row in manifest]), *whose)
    report("trivial", trivial, manifest, options.leave_out, trivial.trees)


if __name__ == "__main__":
    main()
