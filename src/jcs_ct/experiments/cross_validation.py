"""The engine of every experiment: each run's slices are judged by a network that saw neither them nor their patients.

Of each run the training slices teach, the validation slices choose where the method lets them, and the test slices
are judged. Finished runs are kept: an experiment that was stopped continues in the run it was in, at the step it was
at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jcs_ct.checkpoints import file_sha256, load_classifier, load_segmenter
from jcs_ct.data.manifest import Manifest
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError, StoppedError
from jcs_ct.experiments.experiment_record import ExperimentRecord, read_record, write_record
from jcs_ct.experiments.fold_runs import FoldRun, Folds
from jcs_ct.experiments.judged_slices import CaseSet, fold_name
from jcs_ct.experiments.lesion_predictions import Predictions, predict_cases, read_predictions, write_predictions
from jcs_ct.experiments.methods import Method, method_folder, require_own_folders
from jcs_ct.experiments.operating_point_choice import choose_slice_probability, score_slices
from jcs_ct.experiments.slice_scores import ScoredSlices, joined, read_scores, score_manifest, write_scores
from jcs_ct.files import prepare_output_folder
from jcs_ct.progress import Progress, silent
from jcs_ct.training.recipe import Recipe
from jcs_ct.training.training_run import Stopping, never_stopping, train
from jcs_ct.training.training_state import drop_states
from jcs_ct.training.training_tasks import Task, make_task

_SCORES, _PREDICTIONS = "scores.csv", "predictions"


@dataclass(frozen=True)
class _Experiment:
    """Where it is kept, and how its runs are trained."""

    folder: Path
    device: str
    progress: Progress
    stopping: Stopping


def run_experiment(
    methods: Sequence[Method],
    folds: Folds,
    folder: Path,
    *,
    only: Sequence[int] | None = None,
    device: str = "auto",
    progress: Progress = silent,
    stopping: Stopping = never_stopping,
) -> bool:
    """Methods x folds: :func:`cross_validate` for each method, every fold once.

    Args:
        methods: Of one task, with names of their own.
        folds: Each method's runs follow from them.
        folder: Of the experiment.
        only: Numbers of the folds to finish now, as on several machines.
        device: On which networks train and judge, see ``Execution``.
        progress: Called with what is being done.
        stopping: Whether to stop before a training's last step; its state is saved then.

    Returns:
        Whether all runs of all methods are finished.

    Raises:
        ConfigError: methods that cannot be told apart or compared, before anything is trained; or as
            :func:`cross_validate`.
        StoppedError: ``stopping`` asked to stop.
    """
    require_own_folders([method.name for method in methods])
    if len({method.is_segmenter for method in methods}) != 1:
        raise ConfigError("the methods of an experiment are of one task: segmenters, or classifiers")
    runs = [folds.runs(method) for method in methods]
    chosen = None if only is None else [fold_name(number) for number in only]
    finished = [
        cross_validate(method, each, folder, only=chosen, device=device, progress=progress, stopping=stopping)
        for method, each in zip(methods, runs, strict=True)
    ]
    return all(finished)


def cross_validate(
    method: Method,
    runs: Sequence[FoldRun],
    folder: Path,
    *,
    only: Sequence[str] | None = None,
    device: str = "auto",
    progress: Progress = silent,
    stopping: Stopping = never_stopping,
) -> bool:
    """Train one network a run (or go on training) and keep what it says of the slices it was kept from.

    Args:
        method: What is trained.
        runs: On which slices.
        folder: Of the experiment. Gets ``<method>/<run>/`` with weights and record, ``<method>/predictions/`` for a
            segmenter's PNG files or ``<method>/<run>/scores.csv`` for a classifier's probabilities; and
            ``classifiers/`` for those that joint methods share.
        only: Names of the runs to finish now, as on several machines.
        device: On which networks train and judge, see ``Execution``.
        progress: Called with what is being done.
        stopping: Whether to stop before a training's last step; its state is saved then.

    Returns:
        Whether all runs are finished.

    Raises:
        ConfigError: unknown runs, slices that cannot train the method, or a run, asked for or not, that was finished
            with other settings: no page may mix them.
        StoppedError: ``stopping`` asked to stop.
    """
    names = [run.name for run in runs]
    unknown = [name for name in only or () if name not in names]
    if unknown:
        raise ConfigError(f"there is no {', '.join(unknown)}; there are {', '.join(names)}")
    for run in runs:
        run.check(method)
    _refuse_others(method, runs, folder)
    prepare_output_folder(folder)
    experiment = _Experiment(folder, device, progress, stopping)
    for run in runs:
        if only is None or run.name in only:
            _finish(method, run, experiment)
    _refuse_others(method, runs, folder)  # another machine may have finished one meanwhile
    return all(read_record(folder / method_folder(method.name) / name) is not None for name in names)


def held_out_lesions(method: Method, cases: CaseSet, folder: Path) -> Predictions:
    """What a segmenter's networks say of all cases, once every run is finished."""
    return read_predictions(folder / method_folder(method.name) / _PREDICTIONS, cases, name=method.name)


def held_out_scores(method: Method, runs: Sequence[FoldRun], folder: Path) -> ScoredSlices:
    """What a classifier's networks say of all slices, once every run is finished; kept as one ``scores.csv``, too."""
    place = folder / method_folder(method.name)
    scores = joined(method.name, [run_scores(method, run, folder) for run in runs])
    write_scores(place / _SCORES, scores)
    return scores


def run_scores(method: Method, run: FoldRun, folder: Path) -> ScoredSlices:
    """What the classifier of one finished run says."""
    return read_scores(folder / method_folder(method.name) / run.name / _SCORES, name=method.name)


def _refuse_others(method: Method, runs: Sequence[FoldRun], folder: Path) -> None:
    """See before anything is trained that every finished run was made with these settings."""
    for run in runs:
        place = folder / method_folder(method.name) / run.name
        record = read_record(place)
        if record is not None:
            record.refuse_other(_settings(method, run.manifest, _start(method, run)), place)


def _finish(method: Method, run: FoldRun, experiment: _Experiment) -> None:
    place = experiment.folder / method_folder(method.name) / run.name
    if read_record(place) is None:
        start = _start(method, run)
        settings = _settings(method, run.manifest, start)
        borrowed = _borrowed(method.classifier, run, experiment) if method.classifier else None
        task = make_task(method.recipe, borrowed, start)
        chosen = _train(task, method.recipe, run.manifest, place, f"{method.name} {run.name}", experiment)
        # A network judges its slices once: compiling it for another backend would not pay.
        execution = Execution(backend="torch", device=experiment.device)
        judge = _judge_lesions if method.is_segmenter else _judge_slices
        judged, found = judge(method, run, chosen, place, execution, experiment.progress)
        write_record(place, ExperimentRecord(settings, file_sha256(chosen), tuple(judged), found))
    drop_states(place)


def _judge_lesions(
    method: Method, run: FoldRun, weights: Path, place: Path, execution: Execution, progress: Progress
) -> tuple[Sequence[str], Mapping[str, Any]]:
    """Write a probability a pixel of every judged slice, as PNG."""
    cases = run.cases().cases

    def predicted(done: int, total: int) -> None:
        progress(f"{method.name} {run.name} predicts", done, total)

    ready = load_segmenter(weights)
    levels = predict_cases(ready, cases, execution=execution, flip_average=method.flip_average, progress=predicted)
    names = [case.name for case in cases]
    write_predictions(place.parent / _PREDICTIONS, names, list(levels))
    return names, {}


def _judge_slices(
    method: Method, run: FoldRun, weights: Path, place: Path, execution: Execution, progress: Progress
) -> tuple[Sequence[str], Mapping[str, Any]]:
    """Choose the cut on the validation slices, and write the probability of every judged one, as CSV."""
    progress(f"{method.name} {run.name} judges", 0, 1)
    ready = load_classifier(weights)
    choosing = score_slices(ready, run.manifest.split("val"), execution=execution)
    cut, figures = choose_slice_probability(
        choosing.probability, choosing.infected, choosing.sources, least_specificity=method.least_specificity
    )
    test = run.manifest.split("test")
    scores = score_manifest(
        ready, test, cut=cut, name=method.name, run=run.name, names=run.names, execution=execution
    )
    write_scores(place / _SCORES, scores)
    progress(f"{method.name} {run.name} judges", 1, 1)
    return scores.slices, {"cut": cut, "on_validation": figures}


def _borrowed(recipe: Recipe, run: FoldRun, experiment: _Experiment) -> Path:
    """The weights of a run's classifier; methods that borrow from the same one find it trained."""
    settings = {"recipe": recipe.model_dump(mode="json"), "manifest_sha256": run.manifest.sha256}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    place = experiment.folder / "classifiers" / f"{run.name}-{key}"
    chosen = place / recipe.weights_file
    if read_record(place) is None:
        _train(make_task(recipe), recipe, run.manifest, place, f"{run.name} classifier", experiment)
        write_record(place, ExperimentRecord(settings, file_sha256(chosen)))
    drop_states(place)
    return chosen


def _train(task: Task, recipe: Recipe, manifest: Manifest, folder: Path, what: str, experiment: _Experiment) -> Path:
    """Train and give the file with the weights that the recipe chooses.

    Raises:
        StoppedError: before the last step, as the experiment was asked to.
    """

    def step(done: int, total: int, losses: Mapping[str, float]) -> None:
        experiment.progress(what, done, total)

    state = train(
        task, recipe, manifest, folder, device=experiment.device, progress=step, stopping=experiment.stopping
    )
    if state.step < recipe.steps:
        raise StoppedError(
            f"{folder} holds the run up to step {state.step}", "the same experiment goes on from there"
        )
    return folder / recipe.weights_file


def _start(method: Method, run: FoldRun) -> Path | None:
    """What a run's network starts from: of an earlier experiment, the network that was kept from its slices.

    Raises:
        ConfigError: a folder without that run finished, or whose run was kept from other slices.
    """
    if method.pretrained is None or not method.pretrained.is_dir():
        return method.pretrained
    place = method.pretrained / run.name
    record = read_record(place)
    if record is None:
        raise ConfigError(
            f"{place} is not a finished run: give a file of weights, or a method's folder inside an earlier --output"
        )
    judged = run.cases() if method.is_segmenter else run.manifest.split("test")
    names = [case.name for case in judged] if isinstance(judged, CaseSet) else [run.names[row.path] for row in judged]
    if sorted(record.judged) != sorted(names):
        raise ConfigError(f"{place} was kept from other slices than {run.name} here: it may have seen judged ones")
    return place / Recipe.model_validate(record.settings["recipe"]).weights_file


def _settings(method: Method, manifest: Manifest, start: Path | None) -> dict[str, Any]:
    return {
        "recipe": method.recipe.model_dump(mode="json"),
        "classifier": method.classifier.model_dump(mode="json") if method.classifier else None,
        "pretrained_sha256": file_sha256(start) if start else None,
        "flip_average": method.flip_average,
        "least_specificity": None if method.is_segmenter else method.least_specificity,
        "manifest_sha256": manifest.sha256,
    }
