"""Trained segmenters on one split of a manifest: predictions, and the page that judges them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jcs_ct.checkpoints import load_segmenter, read_info
from jcs_ct.choices import SplitName
from jcs_ct.data.manifest import Manifest
from jcs_ct.engine import Execution
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.paper_results import TABLE_VI, TABLE_VII
from jcs_ct.evaluation.pages.unseen_slices import manifest_warnings, split_warnings
from jcs_ct.evaluation.segmentation.lesion_comparison import evaluate_predictions
from jcs_ct.experiments.judged_slices import CaseSet, manifest_cases
from jcs_ct.experiments.lesion_predictions import Predictions, predict_cases, write_predictions
from jcs_ct.experiments.methods import method_folder
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling
from jcs_ct.progress import Progress, silent


def judge_segmenters(
    checkpoints: Sequence[tuple[str, Path]],
    table: Manifest,
    split: SplitName,
    *,
    title: str,
    execution: Execution,
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
    progress: Progress = silent,
) -> tuple[Evaluation, CaseSet, tuple[Predictions, ...]]:
    """Run segmenters over a split and judge them at the lesion probability of their operating points, else 0.5.

    Args:
        checkpoints: Name and file of each; the first is what the others are compared with.
        table: Slices.
        split: That is judged.
        title: Of the slices.
        execution: Device, precision and batch size.
        warnings: For the page, before those of the networks.
        resampling: Of intervals and tests.
        progress: Called with the network that runs, its slices done and all of them.

    Returns:
        The page, what was judged, and every network's predictions.

    Raises:
        ConfigError: no slices to judge, or names that repeat.
        CheckpointError: a file that is no segmenter.
    """
    cases = manifest_cases(table, split, title=title)
    methods, thresholds, said, weights = [], {}, [*split_warnings(split), *warnings], {}
    for name, path in checkpoints:
        ready, info = load_segmenter(path), read_info(path)
        levels = predict_cases(ready, cases.cases, execution=execution, progress=partial(progress, name))
        methods.append(Predictions(name, tuple(levels)))
        if info.operating_point is not None:
            thresholds[name] = info.operating_point.lesion_probability
        said += manifest_warnings(name, info.provenance, table)
        weights[name] = ready.sha256
    evaluation = evaluate_predictions(
        methods,
        cases,
        title=f"Segmentation: {cases.title}",
        thresholds=thresholds,
        beside=(*TABLE_VI, *TABLE_VII),
        facts={"weights_sha256": weights},
        warnings=said,
        resampling=resampling,
        progress=progress,
    )
    return evaluation, cases, tuple(methods)


def write_all_predictions(folder: Path, methods: Sequence[Predictions], cases: CaseSet) -> None:
    """Write every method's predictions into ``<its folder>/<slice>.png``.

    Raises:
        OutputError: the folder cannot be written.
    """
    for method in methods:
        write_predictions(folder / method_folder(method.name), [case.name for case in cases], method.levels)
