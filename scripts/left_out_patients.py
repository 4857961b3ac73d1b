"""The patient rule on sources that a classifier has never seen: whole volumes, and chests put together out of slices.

    python scripts/left_out_patients.py MODELS -m slices.csv --threshold 12

Each patient of the manifest with an infected slice is a volume of its own. Whole uninfected chests are seldom at
hand: they are put together out of all slices of patients drawn with repeats, until they are as long as the volumes
are on average, and what is called infected in them is scaled to that length. Nothing is chosen here: the slice's
cut is the models'; give the threshold that goes with the slices' distance. One JSON document is printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.checkpoints import load_models
from jcs_ct.data.manifest import read_manifest
from jcs_ct.engine import Execution
from jcs_ct.experiments.operating_point_choice import score_slices

CHESTS = 2000


def chest_counts(called: Sequence[NDArray[np.bool_]], slices: int, generator: np.random.Generator) -> list[float]:
    """Infected slices of each of :data:`CHESTS` chests of ``slices`` slices, put together out of patients' slices.

    Args:
        called: For each patient, which of its slices are called infected.
        slices: Length of a chest.
        generator: Source of the draws.
    """
    counts = []
    for _ in range(CHESTS):
        length = infected = 0
        while length < slices:
            patient = called[generator.integers(len(called))]
            length += len(patient)
            infected += int(patient.sum())
        counts.append(infected * slices / length)
    return counts


def figures(
    called: NDArray[np.bool_], infected: NDArray[np.bool_], patients: NDArray[Any], threshold: int
) -> dict[str, Any]:
    """Volumes and chests by the rule "more than ``threshold`` slices", as plain values.

    Args:
        called, infected: (slices,) what the classifier says, and the truth.
        patients: (slices,) whose they are.
        threshold: Of the rule.

    Raises:
        SystemExit: no patient with an infected slice, or none without.
    """
    of = {str(name): np.flatnonzero(patients == name) for name in sorted(set(patients.tolist()))}
    volumes = {name: rows for name, rows in of.items() if infected[rows].any()}
    others = [called[rows] for name, rows in of.items() if name not in volumes]
    if not volumes or not others:
        raise SystemExit("needs patients with infected slices and patients without")
    length = round(sum(len(rows) for rows in volumes.values()) / len(volumes))
    counts = chest_counts(others, length, np.random.default_rng(0))
    return {
        "threshold": threshold,
        "volumes": {
            name: {
                "slices": len(rows),
                "infected": int(infected[rows].sum()),
                "called": int(called[rows].sum()),
                "of these uninfected": int((called & ~infected)[rows].sum()),
                "positive": bool(called[rows].sum() > threshold),
            }
            for name, rows in volumes.items()
        },
        "uninfected slices": {
            "patients": len(others),
            "slices": sum(map(len, others)),
            "called": int(sum(rows.sum() for rows in others)),
        },
        "chests put together": {
            "slices": length,
            "called, mean": round(float(np.mean(counts)), 1),
            "called, 95 % have at most": round(float(np.percentile(counts, 95)), 1),
            "positive, %": round(100.0 * float(np.mean(np.array(counts) > threshold)), 1),
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", type=Path, help="folder made by `jcs calibrate`")
    parser.add_argument("-m", "--manifest", type=Path, required=True, help="slices of patients never seen")
    parser.add_argument("--threshold", type=int, required=True, help="positive with more infected slices than this")
    asked = parser.parse_args(arguments)
    models, manifest = load_models(asked.models), read_manifest(asked.manifest)
    scores = score_slices(models.classifier, manifest, execution=Execution())
    called = scores.probability >= models.operating_point.slice_probability
    print(json.dumps(figures(called, scores.infected, np.array(scores.patients), asked.threshold), indent=1))


if __name__ == "__main__":
    main()
