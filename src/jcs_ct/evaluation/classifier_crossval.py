"""Cross-validation of a classifier: every slice is judged by a network that saw neither it nor its patient.

Of the folds one is held out, the next chooses the weights and the cut, the others train. Finished folds are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jcs_ct.data.manifest import Manifest
from jcs_ct.data.manifest.patient_folds import patient_folds
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.budgets import budget_warnings
from jcs_ct.evaluation.classifier_runs import ClassifierMethod, ClassifierRun, Progress, finish_run, is_finished
from jcs_ct.evaluation.page import Evaluation
from jcs_ct.evaluation.segmentation import DEFAULT_RESAMPLING, Resampling
from jcs_ct.evaluation.slice_scores import ScoredSlices, joined, write_scores
from jcs_ct.evaluation.slice_tables import evaluate_scores, run_table


def judged_slices(manifest: Manifest, sources: Sequence[str] | None, *, with_test: bool) -> Manifest:
    """The labelled slices that take part.

    Args:
        manifest: Slices.
        sources: Of these only; None takes all.
        with_test: Also the manifest's test split. What chooses between recipes must leave it out.

    Raises:
        ConfigError: a source that is not there.
    """
    known = sorted({row.source for row in manifest})
    unknown = [name for name in sources or () if name not in known]
    if unknown:
        raise ConfigError(f"the manifest has no source {', '.join(unknown)}; it has {', '.join(known)}")
    return Manifest(
        tuple(
            row
            for row in manifest
            if row.label is not None
            and (sources is None or row.source in sources)
            and (with_test or row.split != "test")
        )
    )


def fold_runs(
    judged: Manifest, *, folds: int = 5, seed: int = 0, extra: Manifest | None = None
) -> tuple[ClassifierRun, ...]:
    """One run a fold: ``fold0`` judges fold 0, lets fold 1 choose, and trains on the others.

    Args:
        judged: Labelled slices; their own splits are not looked at.
        folds: How many.
        seed: Of the folds.
        extra: Further train and val slices of every run.

    Raises:
        ConfigError: too few patients, a fold of one label, or extra slices of a judged patient.
    """
    fold_of = patient_folds(judged, folds, seed=seed)
    joining = () if extra is None else tuple(r for r in extra if r.split in ("train", "val") and r.label is not None)
    shared = sorted({row.patient for row in joining} & set(fold_of))
    if shared:
        raise ConfigError(f"{len(shared)} patient(s) of the extra slices are among the judged ones: leave them out")
    runs = []
    for held_out in range(folds):
        splits = {held_out: "test", (held_out + 1) % folds: "val"}
        rows = [replace(row, split=splits.get(fold_of[row.unit], "train")) for row in judged]
        runs.append(ClassifierRun(f"fold{held_out}", Manifest((*rows, *joining))))
    return tuple(runs)


def cross_validate_classifier(
    method: ClassifierMethod,
    runs: Sequence[ClassifierRun],
    folder: Path,
    *,
    only: Sequence[str] | None = None,
    execution: Execution | None = None,
    progress: Progress | None = None,
) -> ScoredSlices | None:
    """Train one classifier a fold and score the slices it was kept from.

    Args:
        method: What is trained.
        runs: From :func:`fold_runs`.
        folder: Gets ``<fold>/`` for each run and ``scores.csv`` of all slices.
        only: Names of the folds to train now, as on several machines.
        execution: For scoring.
        progress: Called with what is being done.

    Returns:
        The scores of all slices; None while folds are missing.

    Raises:
        ConfigError: unknown folds, or a folder with a run of other settings.
    """
    names = [run.name for run in runs]
    unknown = [name for name in only or () if name not in names]
    if unknown:
        raise ConfigError(f"unknown fold(s) {', '.join(unknown)}; there are {', '.join(names)}")
    for run in runs:
        if only is None or run.name in only:
            finish_run(method, run, folder, execution=execution, progress=progress)
    if not all(is_finished(name, folder) for name in names):
        return None
    # All are finished: each is read, and checked to be of these settings.
    scores = joined(method.name, [finish_run(method, run, folder, execution=execution) for run in runs])
    write_scores(folder / "scores.csv", scores)
    return scores


def evaluate_folds(
    scores: ScoredSlices,
    method: ClassifierMethod,
    *,
    title: str,
    folds: int,
    seed: int,
    with_test: bool,
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Evaluation:
    """The page of a cross-validation."""
    facts = {
        "folds": f"{folds} folds of patients, alike in sources and labels: one is held out, the next one chooses the "
        f"weights and the cut, {folds - 2} train.",
        "fold_seed": seed,
        "test_split_took_part": with_test,
        "recipe": method.recipe.model_dump(mode="json"),
        "pretrained": method.pretrained.name if method.pretrained else None,
        "least_specificity": method.least_specificity,
    }
    return evaluate_scores(
        [scores],
        title=title,
        facts=facts,
        warnings=(*budget_warnings([method.recipe]), *warnings),
        more_tables=[run_table(scores, resampling)],
        resampling=resampling,
    )
