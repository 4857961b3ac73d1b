"""A trained classifier's last layer fitted anew to the train slices of more sources; its trunk stays as it is.

    python scripts/refit_head.py CLASSIFIER -m slices.csv -o refitted.safetensors

For sources without masks that would teach a trunk their own look: they may say what counts, not what is seen. The
head becomes a logistic regression on what global average pooling gives, with labels alike, sources alike within a
label and a patient's slices counting as their square root; maps follow from it in closed form as before. With
--keep-maps it is fitted as a change of the trained head, in which no weight changes its sign: a map is made of what
speaks for infection (Eq. 2 leaves the rest out), so it keeps what L_seg taught the head.
Choose C on validation patients. Without an operating point: `jcs calibrate` comes after it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from linear_probe import Floats, Probe
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from jcs_ct.checkpoints import load_classifier, read_info, save_checkpoint
from jcs_ct.checkpoints.ancestry import ANCESTORS, ancestor_manifests
from jcs_ct.data.datasets import SliceDataset
from jcs_ct.data.manifest import Manifest, read_manifest
from jcs_ct.engine import Execution, ReadyClassifier, inference
from jcs_ct.models.classifier import Classifier
from jcs_ct.training.training_data import validation_batches

#: With --keep-maps, C of the channels that maps are made of, over C of the others.
OF_MAPS = 0.03


@dataclass(frozen=True)
class Refit:
    """What a head was fitted to, for the checkpoint's provenance."""

    manifest_sha256: str
    slices: int
    regularisation: float
    keeps_maps: bool


def averaged_features(ready: ReadyClassifier, manifest: Manifest) -> Floats:
    """(slices, K) of the last feature map, averaged over its pixels."""
    network = ready.network.eval()
    found = []
    for batch in validation_batches(
        SliceDataset(manifest, ready.preprocessor, cache=False), torch.device("cpu"), size=8
    ):
        with inference(Execution(batch_size=8)):
            last = network.features(batch.images)[-1]
        found.append(last.float().mean(dim=(2, 3)).double().numpy())
    return np.concatenate(found)


def refit(network: Classifier, probe: Probe, regularisation: float) -> None:
    """Set the head so that the two logits' difference is the log odds of a logistic regression on the features."""
    scaled, mean, spread = _standardised(probe.features)
    fitted = LogisticRegression(C=regularisation, max_iter=1000)
    fitted.fit(scaled, probe.infected, sample_weight=probe.weights(np.arange(len(scaled))))
    _set_head(network, fitted.coef_[0] / spread, float(fitted.intercept_[0]), mean)


def refit_keeping_maps(network: Classifier, probe: Probe, regularisation: float) -> None:
    """Likewise, as a change of the trained head's multiple in which every weight keeps its sign.

    Minimises the weighted cross-entropy and half the squared change over C, in units of the features' spread; C is
    ``regularisation`` where a weight speaks against infection, and ``OF_MAPS`` of it where it speaks for it.
    """
    scaled, mean, spread = _standardised(probe.features)
    weights = probe.weights(np.arange(len(scaled)))
    sign = np.where(probe.infected, 1.0, -1.0)
    head = network.head.weight.detach().double().numpy()
    trained = (head[1] - head[0]) * spread
    cost = 1.0 / (regularisation * np.where(trained > 0.0, OF_MAPS, 1.0))

    def objective(point: Floats) -> tuple[float, Floats]:
        """Of the trained head's multiple, the offset and the new weights, with its gradient."""
        change = point[2:] - point[0] * trained
        odds = sign * (scaled @ point[2:] + point[1])
        slope = -weights * sign * expit(-odds)
        value = weights @ np.logaddexp(0.0, -odds) + 0.5 * (cost * change) @ change
        return value, np.concatenate([[-(cost * change) @ trained, slope.sum()], slope @ scaled + cost * change])

    signs = [(0.0, None) if weight > 0.0 else (None, 0.0) for weight in trained]
    found = minimize(
        objective,
        np.concatenate([[1.0, 0.0], trained]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None), (None, None), *signs],
        options={"maxiter": 3000, "maxfun": 6000},
    )
    if not found.success:
        raise RuntimeError(f"the head could not be fitted: {found.message}")
    _set_head(network, found.x[2:] / spread, float(found.x[1]), mean)


def _standardised(features: Floats) -> tuple[Floats, Floats, Floats]:
    """(slices, K) -> the same with a mean of 0 and a spread of 1 each, and what their mean and spread were, (K,)."""
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    return (features - mean) / spread, mean, spread


def _set_head(network: Classifier, weight: Floats, offset: float, mean: Floats) -> None:
    """Let the logits differ by ``weight`` times the features' difference from their mean, plus ``offset``."""
    half, bias = torch.from_numpy(weight).float() / 2, (offset - float(weight @ mean)) / 2
    with torch.no_grad():
        network.head.weight.copy_(torch.stack([-half, half]))
        network.head.bias.copy_(torch.tensor([-bias, bias]))


def main() -> None:
    """Write the classifier with its new head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("-m", "--manifest", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--regularisation", type=float, default=0.03, help="C of the logistic regression")
    parser.add_argument("--keep-maps", action="store_true", help="change the trained head, every weight's sign kept")
    options = parser.parse_args()
    ready, info = load_classifier(options.classifier), read_info(options.classifier)
    if not ready.network.config.head_bias:
        parser.error(f"{options.classifier} has a head without a bias, which cannot hold log odds")
    whole = read_manifest(options.manifest)
    manifest = Manifest(tuple(row for row in whole.split("train") if row.label is not None))
    infected = np.array([row.label == 1 for row in manifest])
    if infected.all() or not infected.any():
        parser.error(f"{options.manifest} has no infected and uninfected slices to train on")
    probe = Probe(
        averaged_features(ready, manifest),
        infected,
        np.array([row.source for row in manifest]),
        np.array([row.patient for row in manifest]),
    )
    fit = refit_keeping_maps if options.keep_maps else refit
    fit(ready.network, probe, options.regularisation)
    head = asdict(Refit(whole.sha256, len(manifest), options.regularisation, options.keep_maps))
    behind = {**ancestor_manifests(info.provenance), "head": whole.sha256}
    provenance = {**info.provenance, "head": head, ANCESTORS: behind}
    saved = replace(info, provenance=provenance, operating_point=None)
    save_checkpoint(options.output, ready.network, saved)
    print(f"the head of {options.output} was fitted to {len(manifest)} slices")


if __name__ == "__main__":
    main()
