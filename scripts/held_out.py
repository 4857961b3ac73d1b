"""Figures of trained models on patients they have never seen: slices per source, and whole studies slice by slice.

    python scripts/held_out.py --manifest slices.csv --positive STUDY --slice-labels LABELS.csv --negative STUDY

Nothing is chosen here: the operating point comes from the checkpoint. Dice is `jcs evaluate segmentation`'s.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from jcs_ct.checkpoints import Models, load_models
from jcs_ct.data.manifest import Manifest, read_manifest
from jcs_ct.engine import Execution
from jcs_ct.experiments.operating_point_choice import score_slices
from jcs_ct.imaging import open_study
from jcs_ct.metrics.classification import roc_auc
from jcs_ct.reading.diagnosis import diagnose


def slice_figures(models: Models, manifest: Manifest) -> dict[str, Any]:
    """AUC where a source has both labels, sensitivity and specificity at the stored cut, per source."""
    scores = score_slices(models.classifier, manifest, execution=Execution())
    found = scores.probability >= models.operating_point.slice_probability
    sources = np.array(scores.sources)
    figures: dict[str, Any] = {}
    for source in [*sorted(set(scores.sources)), "all"]:
        part = np.ones(len(sources), dtype=bool) if source == "all" else sources == source
        infected = scores.infected & part
        clean = ~scores.infected & part
        figures[source] = {
            "infected": int(infected.sum()),
            "uninfected": int(clean.sum()),
            "sensitivity": round(float(found[infected].mean()), 4) if infected.any() else None,
            "specificity": round(float((~found[clean]).mean()), 4) if clean.any() else None,
            "auc": round(roc_auc(scores.infected[part], scores.probability[part]), 4)
            if infected.any() and clean.any()
            else None,
        }
    return figures


def study_figures(models: Models, path: Path, labels: Path | None) -> dict[str, Any]:
    """Verdict, counts, seconds, and the agreement of slice verdicts with coarse labels."""
    started = time.perf_counter()
    study = open_study(path)
    result = diagnose(study, models)
    figures: dict[str, Any] = {
        "verdict": str(result.verdict),
        "positive_slice_count": result.positive_slice_count,
        "positive_slice_threshold": result.positive_slice_threshold,
        "lung_slice_count": result.lung_slice_count,
        "slices": len(result.slices),
        "lesions": len(result.lesions),
        "percent_opacity": result.burden.percent_opacity if result.burden else None,
        "opacification_volume_ml": result.burden.opacification_volume_ml if result.burden else None,
        "seconds": round(time.perf_counter() - started, 1),
        "timings_s": dict(result.timings_s),
    }
    if labels is not None:
        column = "infection_label_if_order_is_superior_to_inferior"
        truth = np.array([int(row[column]) for row in csv.DictReader(labels.open(encoding="utf-8-sig"))], dtype=bool)
        found = np.array([item.infected for item in result.slices])
        probability = np.array([item.infection_probability for item in result.slices])
        figures["against_slice_labels"] = {
            "agreement": round(float((found == truth).mean()), 4),
            "sensitivity": round(float(found[truth].mean()), 4),
            "specificity": round(float((~found[~truth]).mean()), 4),
            "auc": round(roc_auc(truth, probability), 4),
            "infected": int(truth.sum()),
            "slices": len(truth),
        }
    return figures


def main() -> None:
    """Print every figure as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="compact")
    parser.add_argument("--manifest", type=Path, help="its test split is looked at")
    parser.add_argument("--positive", type=Path, help="a study known to be positive")
    parser.add_argument("--slice-labels", type=Path, help="coarse labels of its slices, superior to inferior")
    parser.add_argument("--negative", type=Path, help="a study known to be negative")
    options = parser.parse_args()
    models = load_models(options.models)
    figures: dict[str, Any] = {}
    if options.manifest:
        held_out = read_manifest(options.manifest).split("test")
        figures["slices"] = slice_figures(models, held_out)
    if options.positive:
        figures["positive_study"] = study_figures(models, options.positive, options.slice_labels)
    if options.negative:
        figures["negative_study"] = study_figures(models, options.negative, None)
    figures["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
