"""Trained classifiers' activation maps on one split of a manifest, and the page that judges them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jcs_ct.checkpoints import load_classifier, read_info
from jcs_ct.choices import MapVariant, SplitName
from jcs_ct.data.manifest import Manifest
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.explanations.map_scores import evaluate_explanations, score_explanations
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.unseen_slices import manifest_warnings, split_warnings
from jcs_ct.experiments.judged_slices import CaseSet, manifest_cases
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling
from jcs_ct.progress import Progress, silent


def judge_maps(
    checkpoints: Sequence[tuple[str, Path]],
    table: Manifest,
    split: SplitName,
    *,
    title: str,
    variant: MapVariant = "paper",
    perturbation_steps: int = 16,
    execution: Execution,
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
    progress: Progress = silent,
) -> Evaluation:
    """Judge the maps on a split's slices with a lesion; their threshold is tuned on those of the train split.

    Args:
        checkpoints: Name and file of each; the first is what the others are compared with.
        table: Slices.
        split: That is judged.
        title: Of the slices.
        variant: ``paper`` or ``grad_cam``.
        perturbation_steps: Of deletion and insertion; 0 leaves them out.
        execution: Backend, device, precision and batch size.
        warnings: For the page, before those of the networks.
        resampling: Of intervals and tests.
        progress: Called with the network that runs, its slices done and all of them.

    Raises:
        ConfigError: no slice with a lesion in the split, or none in the train split.
        CheckpointError: a file that is no classifier.
    """
    judged, tuning = (_with_lesions(table, name, title) for name in (split, "train"))
    if not len(judged):
        raise ConfigError(f"the split {split} has no slice with a lesion mask, and maps are judged on those")
    if not len(tuning):
        raise ConfigError("the split train has no slice with a lesion mask, and the maps' threshold is tuned there")
    results, said, weights = [], [*split_warnings(split), *warnings], {}
    for name, path in checkpoints:
        ready = load_classifier(path)
        results.append(
            score_explanations(
                ready,
                judged,
                tuning.cases,
                name=name,
                variant=variant,
                perturbation_steps=perturbation_steps,
                execution=execution,
                progress=partial(progress, name),
            )
        )
        said += manifest_warnings(name, read_info(path).provenance, table)
        weights[name] = ready.sha256
    facts = {"map_variant": variant, "weights_sha256": weights}
    return evaluate_explanations(results, judged, facts=facts, warnings=said, resampling=resampling)


def _with_lesions(table: Manifest, split: str, title: str) -> CaseSet:
    rows = tuple(row for row in table.split(split) if row.mask is not None and row.label == 1)
    if not rows:
        return CaseSet(title, ())
    found = manifest_cases(Manifest(rows), None, title=f"{title}, split {split}, slices with a lesion")
    return CaseSet(found.title, tuple(case for case in found if case.read_mask().any()))
