"""Trained classifiers on one split of a manifest, slice by slice, and the pages that judge them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jcs_ct.checkpoints import load_classifier, read_info
from jcs_ct.choices import SplitName
from jcs_ct.data.manifest import Manifest
from jcs_ct.data.manifest.slice_names import slice_names
from jcs_ct.engine import Execution, ReadyClassifier
from jcs_ct.evaluation.classifier.shortcut_tables import evaluate_shortcuts
from jcs_ct.evaluation.classifier.shortcuts import manifest_planes, measure_shortcuts, spread_slices
from jcs_ct.evaluation.classifier.slice_discrimination import evaluate_scores
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.unseen_slices import manifest_warnings, split_warnings
from jcs_ct.experiments.methods import method_folder
from jcs_ct.experiments.slice_scores import ScoredSlices, read_scores, score_manifest, write_scores
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling
from jcs_ct.operating_point import OperatingPoint
from jcs_ct.progress import Progress, silent


def judge_classifiers(
    checkpoints: Sequence[tuple[str, Path]],
    table: Manifest,
    split: SplitName,
    *,
    title: str,
    execution: Execution,
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
    progress: Progress = silent,
) -> tuple[Evaluation, tuple[ScoredSlices, ...]]:
    """Judge classifiers by the probabilities of a split's labelled slices.

    Args:
        checkpoints: Name and file of each; a CSV holds probabilities and is scored as it is.
        table: Slices.
        split: That is judged.
        title: Of the slices; where all are scored from CSV, the page is called by these files instead.
        execution: Device, precision and batch size.
        warnings: For the page, before those of the networks.
        resampling: Of the intervals.
        progress: Called with classifiers done and all of them.

    Returns:
        The page, and what the networks that ran here say of every slice.

    Raises:
        ConfigError: no labelled slice, or a CSV that cannot be used.
        CheckpointError: a file that is no classifier.
    """
    methods, scored, said, weights = [], [], [*split_warnings(split), *warnings], {}
    for number, (name, path) in enumerate(checkpoints):
        progress("classifiers", number, len(checkpoints))
        if path.suffix == ".csv":
            methods.append(read_scores(path, name=name))
            said.append(f"{name} was scored from {path.name}: its slices are those of that file")
            continue
        ready, cut, found = _opened(name, path, table)
        said += found
        weights[name] = ready.sha256
        names = slice_names(table.rows)
        scored.append(score_manifest(ready, table.split(split), cut=cut, name=name, names=names, execution=execution))
        methods.append(scored[-1])
    progress("classifiers", len(checkpoints), len(checkpoints))
    judged = f"{title}, split {split}" if scored else ", ".join(path.name for _, path in checkpoints)
    evaluation = evaluate_scores(
        methods,
        title=f"Slices: {judged}",
        facts={"weights_sha256": weights, "manifest_sha256": table.sha256, "split": split},
        warnings=said,
        resampling=resampling,
    )
    return evaluation, tuple(scored)


def write_all_scores(folder: Path, scored: Sequence[ScoredSlices]) -> None:
    """Write ``<classifier>.csv`` of each.

    Raises:
        OutputError: the folder cannot be written.
    """
    for one in scored:
        write_scores(folder / f"{method_folder(one.name)}.csv", one)


def judge_shortcuts(
    checkpoints: Sequence[tuple[str, Path]],
    table: Manifest,
    split: SplitName,
    *,
    title: str,
    limit: int,
    seed: int,
    execution: Execution,
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
    progress: Progress = silent,
) -> Evaluation:
    """Change slices of a split and see what classifiers make of it.

    Args:
        checkpoints: Name and file of each.
        table: Slices.
        split: That they are taken from.
        title: Of the slices.
        limit: Most slices to take, spread evenly over sources and labels.
        seed: Of the text and frames that are added.
        execution: Device, precision and batch size.
        warnings: For the page, before those of the networks.
        resampling: Of the intervals.
        progress: Called with the classifier, its changes done and all of them.

    Raises:
        ConfigError: no labelled slice, or a classifier that looks through another window.
        CheckpointError: a file that is no classifier.
    """
    chosen = spread_slices(table.split(split), limit)
    planes = manifest_planes(chosen, seed=seed)
    results, said, weights = [], [*split_warnings(split), *warnings], {}
    for name, path in checkpoints:
        ready, cut, found = _opened(name, path, table)
        said += found
        weights[name] = ready.sha256
        shown = partial(progress, name)
        results.append(
            measure_shortcuts(ready, planes, chosen, name=name, cut=cut, execution=execution, progress=shown)
        )
    cuts = {result.name: result.cut for result in results}
    return evaluate_shortcuts(
        results,
        planes,
        chosen,
        title=f"Shortcuts: {title}, split {split}",
        facts={"weights_sha256": weights, "cuts": cuts, "split": split, "seed": seed},
        warnings=said,
        resampling=resampling,
    )


def _opened(name: str, path: Path, table: Manifest) -> tuple[ReadyClassifier, float, list[str]]:
    """The classifier, its cut, and what the reader should know of both."""
    info = read_info(path)
    warnings = manifest_warnings(name, info.provenance, table)
    if info.operating_point is None:
        warnings.append(f"{name} has no operating point (see `jcs calibrate`): a slice is infected from 0.5")
    point = info.operating_point or OperatingPoint()
    return load_classifier(path), point.slice_probability, warnings
