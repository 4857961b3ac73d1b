"""Does a classifier's last layer carry over to a source whose labels it was not fitted to, at the others' cut?

    python scripts/head_transfer.py CLASSIFIER -m slices.csv --leave-out sarscov2 --leave-out zenodo20+iq-othnccd

scripts/refit_head.py fits the last layer to many sources; how freely it may is its C. What C gains where the labels
are known shows on validation slices; what it costs elsewhere shows here: the layer is fitted anew without a source,
the slice's cut is chosen on the other sources' validation slices, as `jcs calibrate` does, and both are judged on all
slices of the one left out. Painted slices belong to the source they were painted into: leave both out together.
Where the trunk itself has seen the source's labels, figures there are those of a layer, not of a network.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from linear_probe import Floats, Probe, Rows
from numpy.typing import NDArray
from refit_head import averaged_features, refit, refit_keeping_maps
from scipy.special import expit

from jcs_ct.checkpoints import load_classifier
from jcs_ct.data.manifest import Manifest, read_manifest
from jcs_ct.experiments.operating_point_choice import choose_slice_probability, source_weights
from jcs_ct.metrics.classification import roc_auc
from jcs_ct.models.classifier import Classifier

Fit = Callable[[Classifier, Probe], None]


@dataclass(frozen=True)
class Figures:
    """Of some slices at a cut, sources alike; None where a label is missing."""

    auc: float | None
    sensitivity: float | None
    specificity: float | None

    def __str__(self) -> str:
        shown = ("–" if value is None else f"{value:.3f}" for value in (self.auc, self.sensitivity, self.specificity))
        return "AUC {}, sensitivity {}, specificity {}".format(*shown)


def figures(probe: Probe, rows: Rows, probability: Floats, cut: float) -> Figures:
    """AUC of ``rows``, and what a cut says of them; each source counts alike within its label."""
    infected, found = probe.infected[rows], probability[rows]
    weights = source_weights(infected, probe.sources[rows].tolist())
    both = bool(infected.any()) and not bool(infected.all())
    return Figures(
        roc_auc(infected, found) if both else None,
        float(weights[infected] @ (found[infected] >= cut)) if infected.any() else None,
        float(weights[~infected] @ (found[~infected] < cut)) if not infected.all() else None,
    )


def judged(
    network: Classifier, probe: Probe, splits: NDArray[np.str_], fit: Fit | None, left_out: list[str]
) -> tuple[Figures, Figures, float]:
    """A head fitted without some sources: on the others' validation slices, on the sources left out, and the cut.

    Args:
        network: Its trunk gave the probe's features; it is not changed.
        probe: Every labelled slice.
        splits: (slices,) train, val or test.
        fit: Sets the head; None leaves it as it is.
        left_out: Sources; none for a head of all of them, whose second figures are those of its test slices.
    """
    out = np.isin(probe.sources, left_out)
    learns, validates = np.flatnonzero(~out & (splits == "train")), np.flatnonzero(~out & (splits == "val"))
    tried = deepcopy(network)
    if fit is not None:
        rows = (probe.features[learns], probe.infected[learns], probe.sources[learns], probe.patients[learns])
        fit(tried, Probe(*rows))
    with torch.no_grad():
        logits = tried.head(torch.from_numpy(probe.features).float()).double().numpy()
    probability = expit(logits[:, 1] - logits[:, 0])
    cut, _ = choose_slice_probability(
        probability[validates], probe.infected[validates], probe.sources[validates].tolist()
    )
    elsewhere = np.flatnonzero(out if left_out else splits == "test")
    return figures(probe, validates, probability, cut), figures(probe, elsewhere, probability, cut), cut


def main() -> None:
    """Print how each head fares where it was fitted, and on each source left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("-m", "--manifest", type=Path, required=True)
    parser.add_argument("--leave-out", action="append", default=[], help="a source, or several joined by +")
    parser.add_argument("--regularisation", type=float, nargs="+", default=[0.001, 0.01, 0.1], help="C to try")
    options = parser.parse_args()
    manifest = Manifest(tuple(row for row in read_manifest(options.manifest) if row.label is not None))
    unknown = {name for names in options.leave_out for name in names.split("+")} - {row.source for row in manifest}
    if unknown:
        parser.error(f"--leave-out: no source {', '.join(sorted(unknown))} in {options.manifest}")
    ready = load_classifier(options.classifier)
    if not ready.network.config.head_bias:
        parser.error(f"{options.classifier} has a head without a bias, which cannot hold log odds")
    probe = Probe(
        averaged_features(ready, manifest),
        np.array([row.label == 1 for row in manifest]),
        np.array([row.source for row in manifest]),
        np.array([row.patient for row in manifest]),
    )
    splits = np.array([row.split for row in manifest])
    heads: dict[str, Fit | None] = {"as trained": None}
    for free in options.regularisation:
        heads[f"new, C {free:g}"] = partial(refit, regularisation=free)
        heads[f"keeping maps, C {free:g}"] = partial(refit_keeping_maps, regularisation=free)
    for name, fit in heads.items():
        here, test, cut = judged(ready.network, probe, splits, fit, [])
        print(f"{name}: validation {here}; test {test}; cut {cut:.2f}", flush=True)
        for names in options.leave_out:
            _, there, cut = judged(ready.network, probe, splits, fit, names.split("+"))
            print(f"  without {names}: {there}; cut {cut:.2f}", flush=True)


if __name__ == "__main__":
    main()
