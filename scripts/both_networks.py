"""How well a classifier, a segmenter, and both together tell infected slices of some sources from the others.

    python scripts/both_networks.py CLASSIFIER SEGMENTER -m slices.csv --source sarscov2 --source zenodo20+iq-othnccd

Of a source that neither was trained on it shows what a verdict by both would gain. A slice's score is the
classifier's probability, the largest lesion probability of the segmenter, or the sum of the two's log odds. Intervals
resample patients, differences are paired. About a fifth of a second a slice on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from jcs_ct.checkpoints import load_classifier, load_segmenter
from jcs_ct.data.manifest import Manifest, read_hu, read_manifest
from jcs_ct.engine import Execution, ReadySegmenter, segment_slices
from jcs_ct.experiments.operating_point_choice import score_slices
from jcs_ct.metrics.bootstrap import Interval, Resampling
from jcs_ct.metrics.classification import drawn_auc

Floats = NDArray[np.float64]
#: Probabilities are kept this far from 0 and 1, so that their log odds are finite.
_LEAST = 1e-6
DRAWS = 1000


def log_odds(probability: Floats) -> Floats:
    """Of probabilities, those of 0 and 1 included."""
    odds: Floats = logit(np.clip(probability, _LEAST, 1.0 - _LEAST))
    return odds


def largest_probabilities(ready: ReadySegmenter, manifest: Manifest, execution: Execution) -> Floats:
    """(slices,) the largest lesion probability of each."""
    found = np.zeros(len(manifest), dtype=np.float64)
    for number, row in enumerate(manifest):
        hu = read_hu(row.path, row.window)
        ((_, probability),) = segment_slices(ready, hu[None], [0], execution=execution)
        found[number] = probability.max()
    return found


def compared(infected: NDArray[np.bool_], units: list[str], scores: dict[str, Floats]) -> dict[str, Interval]:
    """AUC of every score, and of every further one the difference to the first, over resampled patients."""
    resampling, classes = Resampling(draws=DRAWS), [infected, ~infected]
    aucs = {name: drawn_auc(infected, score) for name, score in scores.items()}
    found = {name: resampling.interval(auc, units, parts=classes) for name, auc in aucs.items()}
    first = next(iter(scores))

    def gain(name: str, rows: NDArray[np.int64]) -> float | None:
        before, after = aucs[first](rows), aucs[name](rows)
        return None if before is None or after is None else after - before

    for name in list(scores)[1:]:
        found[f"{name} minus {first}"] = resampling.interval(
            lambda rows, name=name: gain(name, rows), units, parts=classes
        )
    return found


def said(interval: Interval) -> str:
    """A value with its interval."""
    if interval.value is None:
        return "–"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def main() -> None:
    """Print the AUCs of each group of sources."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("segmenter", type=Path)
    parser.add_argument("-m", "--manifest", type=Path, required=True)
    parser.add_argument("--source", action="append", required=True, help="a source, or several joined by +")
    options = parser.parse_args()
    labelled = [row for row in read_manifest(options.manifest) if row.label is not None]
    unknown = {name for names in options.source for name in names.split("+")} - {row.source for row in labelled}
    if unknown:
        parser.error(f"--source: no source {', '.join(sorted(unknown))} in {options.manifest}")
    classifier, segmenter = load_classifier(options.classifier), load_segmenter(options.segmenter)
    execution = Execution(batch_size=1)
    for names in options.source:
        manifest = Manifest(tuple(row for row in labelled if row.source in names.split("+")))
        scores = {"classifier": score_slices(classifier, manifest, execution=execution).probability}
        scores["segmenter"] = largest_probabilities(segmenter, manifest, execution)
        scores["both"] = log_odds(scores["classifier"]) + log_odds(scores["segmenter"])
        infected, units = np.array([row.label == 1 for row in manifest]), [row.unit for row in manifest]
        for name, interval in compared(infected, units, scores).items():
            print(
                f"{names}, {name}: {said(interval)}, {len(manifest)} slices of {len(set(units))} patients", flush=True
            )


if __name__ == "__main__":
    main()
