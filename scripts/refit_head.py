"""A trained classifier's last layer fitted anew to the train slices of more sources; its trunk stays as it is.

    python scripts/refit_head.py CLASSIFIER -m slices.csv -o refitted.safetensors

For sources without masks that would teach a trunk their own look: they may say what counts, not what is seen. The
head becomes a logistic regression on what global average pooling gives, with labels alike, sources alike within a
label and a patient's slices counting as their square root; maps follow from it in closed form as before. With
--from-trained the regularisation holds the change instead, so that the maps keep more of what L_seg taught the head.
Choose it on validation patients. Without an operating point: `jcs calibrate` comes after it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from linear_probe import Floats, Probe
from sklearn.linear_model import LogisticRegression

from jcs_ct.checkpoints import load_classifier, read_info, save_checkpoint
from jcs_ct.data.datasets import SliceDataset
from jcs_ct.data.manifest import Manifest, read_manifest
from jcs_ct.engine import Execution, ReadyClassifier, inference
from jcs_ct.models.classifier import Classifier
from jcs_ct.training.training_data import validation_batches

#: Of what the trained head says: keeping it is penalised by the inverse of the square.
FREE = 100.0


@dataclass(frozen=True)
class Refit:
    """What a head was fitted to, for the checkpoint's provenance."""

    manifest_sha256: str
    slices: int
    regularisation: float
    from_trained: bool


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


def refit(network: Classifier, probe: Probe, regularisation: float, *, from_trained: bool = False) -> None:
    """Set the head so that the two logits' difference is the log odds of a logistic regression on the features.

    With ``from_trained`` what the trained head says is one more feature, scaled so that it costs nothing to keep.
    """
    head = network.head.weight.detach().double().numpy()
    trained = head[1] - head[0]
    mean, spread = probe.features.mean(axis=0), probe.features.std(axis=0) + 1e-6
    scaled = (probe.features - mean) / spread
    kept = FREE * (scaled * spread) @ trained if from_trained else np.zeros(len(scaled))
    fitted = LogisticRegression(C=regularisation, max_iter=1000)
    every = np.arange(len(probe.infected))
    fitted.fit(np.column_stack([kept, scaled]), probe.infected, sample_weight=probe.weights(every))
    change = fitted.coef_[0, 1:] / spread + FREE * fitted.coef_[0, 0] * trained
    bias = float(fitted.intercept_[0] - change @ mean)
    weight = torch.from_numpy(change).float()
    with torch.no_grad():
        network.head.weight.copy_(torch.stack([-weight, weight]) / 2)
        network.head.bias.copy_(torch.tensor([-bias, bias]) / 2)


def main() -> None:
    """Write the classifier with its new head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("-m", "--manifest", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--regularisation", type=float, default=0.03, help="C of the logistic regression")
    parser.add_argument("--from-trained", action="store_true", help="regularise the change of the head, not the head")
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
    refit(ready.network, probe, options.regularisation, from_trained=options.from_trained)
    head = asdict(Refit(whole.sha256, len(manifest), options.regularisation, options.from_trained))
    saved = replace(info, provenance={**info.provenance, "head": head}, operating_point=None)
    save_checkpoint(options.output, ready.network, saved)
    print(f"the head of {options.output} was fitted to {len(manifest)} slices")


if __name__ == "__main__":
    main()
