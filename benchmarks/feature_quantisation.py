"""What storing first-stage features as uint8 does to a network's probabilities.

    python benchmarks/feature_quantisation.py NETWORK --manifest slices.csv [--limit 20]

NETWORK is a checkpoint of a classifier or a segmenter. Every slice goes through the network three times: from the
image; from its features as `jcs features write` stores them (floor(20 x), saturating at 255); and as the COVID-CS
release stores them (floor(20 x), wrapping around). Printed per way: the mean and largest difference of probability,
the share of probabilities that cross 0.5, and for segmenters the Dice between both masks; and how many values do not
fit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jcs_ct.checkpoints import load_checkpoint
from jcs_ct.data.covid_cs.feature_files import LEVELS, dequantise, quantise
from jcs_ct.data.datasets import prepare_slice
from jcs_ct.data.manifest import read_manifest
from jcs_ct.metrics.overlap import Counts, dice_score
from jcs_ct.models.classifier import Classifier
from jcs_ct.models.first_stage import FirstStage
from jcs_ct.models.segmenter import Segmenter


def probabilities(network: Classifier | Segmenter, x: Tensor | FirstStage) -> NDArray[np.float64]:
    """A segmenter's map, or a classifier's single probability of infection."""
    with torch.inference_mode():
        if isinstance(network, Segmenter):
            return network.predict(x)[0, 0].double().numpy()
        return torch.softmax(network(x), dim=1)[0, 1:].double().numpy()


def stored(feature: Tensor | None, *, wrap: bool) -> Tensor | None:
    """A feature map after uint8 and back."""
    if feature is None:
        return None
    values = feature.double().numpy()
    levels = np.floor(values * LEVELS).astype(np.int64).astype(np.uint8) if wrap else quantise(values)[0]
    return torch.from_numpy(dequantise(levels))


def share_that_does_not_fit(first: FirstStage) -> float:
    """Share of feature values that are too large for a file."""
    maps = [feature for feature in first if feature is not None]
    return sum(float((torch.floor(f * LEVELS) > 255).sum()) for f in maps) / sum(f.numel() for f in maps)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=20, help="slices, evenly spaced over the manifest")
    arguments = parser.parse_args()
    ready = load_checkpoint(arguments.network)
    network = cast(Classifier | Segmenter, ready.network)
    rows = read_manifest(arguments.manifest).rows
    rows = rows[:: max(1, len(rows) // arguments.limit)][: arguments.limit]
    exact, not_fitting = [], []
    changed: dict[str, list[NDArray[np.float64]]] = {"saturating": [], "wrapping": []}
    for row in rows:
        grey, _ = prepare_slice(row, ready.preprocessor)
        with torch.inference_mode():
            first = network.first_stage(ready.preprocessor.normalise(grey.float() / 255.0)[None])
        exact.append(probabilities(network, first))
        not_fitting.append(share_that_does_not_fit(first))
        for way, results in changed.items():
            kept = FirstStage(*(stored(feature, wrap=way == "wrapping") for feature in first))
            results.append(probabilities(network, kept))
    report: dict[str, object] = {
        "network": f"{ready.task} {ready.preset}",
        "slices": len(rows),
        "share_of_values_above_12.75": float(np.mean(not_fitting)),
        "share_of_probabilities_at_least_0.5": float(np.mean([(p >= 0.5).mean() for p in exact])),
    }
    for way, results in changed.items():
        differences = [np.abs(one - other) for one, other in zip(exact, results, strict=True)]
        crossing = [(one >= 0.5) != (other >= 0.5) for one, other in zip(exact, results, strict=True)]
        report[way] = {
            "mean_difference": float(np.mean([d.mean() for d in differences])),
            "largest_difference": float(np.max([d.max() for d in differences])),
            "share_crossing_0.5": float(np.mean([c.mean() for c in crossing])),
        }
        if isinstance(network, Segmenter):
            pairs = zip(results, exact, strict=True)
            dice = dice_score(Counts.stack(Counts.of(one >= 0.5, other >= 0.5) for one, other in pairs)).mean().value
            report[way] = {**cast(dict[str, float], report[way]), "mean_dice_with_exact": cast(float, dice)}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
