"""Cross-validation: every slice is predicted by a network that saw neither it nor its patient, and none chose by it.

Of the folds one is held out, the next chooses the weights, the others train; a recipe that takes the last weights
(``choose_weights: last``) trains on all but the held-out one, as MiniSeg did. Finished folds are kept: a run that was
stopped continues in the fold it was in, at the step it was at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jcs_ct.checkpoints import file_sha256, load_checkpoint
from jcs_ct.data.manifest import Manifest, ManifestRow, split_problems
from jcs_ct.engine import Execution
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.cases import Case, CaseSet
from jcs_ct.evaluation.predictions import Predictions, read_predictions, write_predictions
from jcs_ct.evaluation.running import predict_cases
from jcs_ct.files import prepare_output_folder, write_text
from jcs_ct.models.presets import SEGMENTERS
from jcs_ct.training.config import Recipe
from jcs_ct.training.loop import train
from jcs_ct.training.state import drop_states
from jcs_ct.training.task import Task
from jcs_ct.training.tasks import make_task

#: Called with what is being done, the steps (or slices) done, and how many there are.
Progress = Callable[[str, int, int], None]
_RECORD = "fold.json"


@dataclass(frozen=True)
class Method:
    """What is trained in every fold.

    Args:
        name: For tables and folders.
        recipe: Of the segmenter.
        classifier: Recipe of the classifier that a joint segmenter borrows; trained anew in every fold.
        pretrained: What every fold's segmenter starts from. It must never have seen a judged slice, which nothing
            here can check. Or the folder of an earlier method's folds: each starts from the same fold's network.
        flip_average: Predict every slice and its mirror image, and average.
    """

    name: str
    recipe: Recipe
    classifier: Recipe | None = None
    pretrained: Path | None = None
    flip_average: bool = False

    def __post_init__(self) -> None:
        if self.recipe.task != "segmenter":
            raise ConfigError(
                f"the recipe of {self.name!r} trains a classifier: `jcs crossval-classifier` cross-validates those"
            )
        preset = SEGMENTERS.get(self.recipe.preset)
        if preset is not None and preset.joint and self.classifier is None:
            raise ConfigError(
                f"{self.recipe.preset!r} borrows a classifier's features, and one trained on all slices would have "
                "seen the held-out ones: give --classifier-recipe, so that every fold trains its own"
            )
        if self.classifier is not None and self.classifier.task != "classifier":
            raise ConfigError(f"the classifier's recipe of {self.name!r} trains a segmenter")


#: A fold's network predicts its held-out slices once: compiling it for another backend would not pay.
ONE_FOLD = Execution(backend="torch")


def cross_validate(
    method: Method,
    cases: CaseSet,
    folder: Path,
    *,
    extra: Manifest | None = None,
    folds: Sequence[str] | None = None,
    execution: Execution | None = None,
    progress: Progress | None = None,
) -> Predictions | None:
    """Train one network a fold and predict the slices it was kept from.

    Args:
        method: What is trained.
        cases: With images, masks and at least three folds.
        folder: ``<fold>/`` for each run, ``predictions/`` for the PNG files; classifiers, which methods share, lie in
            ``classifiers/`` beside it.
        extra: Further train and val slices for every fold (as uninfected ones, which a classifier needs).
        folds: Train these only, as on several machines.
        execution: For predicting; default torch.
        progress: Called with what is being done.

    Returns:
        The predictions of all cases; None while folds are missing.

    Raises:
        ConfigError: too few folds, unknown ones, extra slices that are among the cases, or a run in the folder that
            was started with other settings.
    """
    wanted = list(cases.folds) if folds is None else list(folds)
    unknown = [fold for fold in wanted if fold not in cases.folds]
    if unknown or len(cases.folds) < 3:
        raise ConfigError(f"needs three folds or more, and of those only; got {unknown or len(cases.folds)}")
    prepare_output_folder(folder)
    for fold in wanted:
        _run_fold(method, cases, fold, folder, extra, execution or ONE_FOLD, progress)
    if not all(_record(folder / fold) for fold in cases.folds):
        return None
    return read_predictions(folder / "predictions", cases, name=method.name)


def fold_manifest(
    cases: CaseSet, held_out: str, extra: Manifest | None = None, *, validating: bool = True
) -> Manifest:
    """The slices of one fold's run: the next fold validates, the others train, the held-out one tests.

    Args:
        cases: With images, masks and folds.
        held_out: Name of the fold that is judged.
        extra: Further slices of every fold's run.
        validating: Whether the next fold validates; else it trains, too.

    Raises:
        ConfigError: a patient in two splits, or an extra slice that is among the cases.
    """
    names = list(cases.folds)
    splits = {held_out: "test"}
    if validating:
        splits[names[(names.index(held_out) + 1) % len(names)]] = "val"
    rows = [_row(case, splits.get(case.fold, "train"), cases) for case in cases]
    if extra is not None:
        known = {row.path.resolve() for row in rows}
        common = [row.path.name for row in extra if row.path.resolve() in known]
        if common:
            raise ConfigError(
                f"{len(common)} extra slice(s) are among the judged ones, as {common[0]}: leave them out"
            )
        rows += [row for row in extra if row.split in ("train", "val") and row.label is not None]
    problems = split_problems(rows)
    if problems:
        raise ConfigError("\n  ".join(["the folds cannot be used:", *problems]))
    return Manifest(tuple(rows))


def _row(case: Case, split: str, cases: CaseSet) -> ManifestRow:
    if case.image is None:
        raise ConfigError(f"slice {case.name} has no image; cross-validation needs images/ beside masks/")
    # The published MiniSeg folds part slices of one acquisition: there a slice is its own patient, as the title says.
    parted = len({other.fold for other in cases if other.patient == case.patient}) > 1
    patient = f"{case.patient}-{case.name}" if parted else case.patient
    window = case.window
    return ManifestRow(
        case.image,
        patient,
        1 if case.mask is not None else 0,
        case.mask,
        split,
        "judged",
        level_hu=window.level if window else None,
        width_hu=window.width if window else None,
    )


def _run_fold(
    method: Method,
    cases: CaseSet,
    fold: str,
    folder: Path,
    extra: Manifest | None,
    execution: Execution,
    progress: Progress | None,
) -> None:
    held_out = [case for case in cases if case.fold == fold]
    manifest = fold_manifest(cases, fold, extra, validating=validates(method))
    start = _start(method, fold, held_out)
    settings = _settings(method, manifest, start)
    done = _record(folder / fold)
    if done is not None:
        if done["settings"] != settings:
            raise ConfigError(
                f"{folder / fold} was finished with other settings; choose another output folder, or give those"
            )
        return
    classifier = None
    if method.classifier is not None:
        classifier = _fold_classifier(method.classifier, manifest, folder.parent / "classifiers", fold, progress)
    task = make_task(method.recipe, classifier, start)
    chosen = _train(task, method.recipe, manifest, folder / fold, f"{method.name} {fold}", progress)

    def predicted(number: int, total: int) -> None:
        if progress is not None:
            progress(f"{method.name} {fold} predicts", number, total)

    ready = load_checkpoint(chosen)
    levels = list(
        predict_cases(ready, held_out, execution=execution, flip_average=method.flip_average, progress=predicted)
    )
    write_predictions(folder / "predictions", [case.name for case in held_out], levels)
    record = {
        "settings": settings,
        "checkpoint_sha256": file_sha256(chosen),
        "cases": [case.name for case in held_out],
    }
    write_text(folder / fold / _RECORD, json.dumps(record, indent=1) + "\n")
    drop_states(folder / fold)


def _fold_classifier(recipe: Recipe, manifest: Manifest, folder: Path, fold: str, progress: Progress | None) -> Path:
    """The weights of a fold's classifier; methods that borrow from the same one find it trained."""
    settings = {"recipe": recipe.model_dump(mode="json"), "manifest_sha256": manifest.sha256}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    place = folder / f"{fold}-{key}"
    if _record(place) is not None:
        return place / recipe.weights_file
    chosen = _train(make_task(recipe), recipe, manifest, place, f"{fold} classifier", progress)
    write_text(place / _RECORD, json.dumps({"settings": settings, "checkpoint_sha256": file_sha256(chosen)}) + "\n")
    drop_states(place)
    return chosen


def validates(method: Method) -> bool:
    """Whether a fold of its own chooses the weights of one of the method's networks."""
    recipes = [method.recipe, method.classifier]
    return any(recipe is not None and recipe.choose_weights == "best" for recipe in recipes)


def _train(
    task: Task, recipe: Recipe, manifest: Manifest, folder: Path, what: str, progress: Progress | None
) -> Path:
    """Train and give the file with the weights that the recipe chooses."""

    def step(done: int, total: int, losses: Mapping[str, float]) -> None:
        if progress is not None:
            progress(what, done, total)

    train(task, recipe, manifest, folder, progress=step)
    return folder / recipe.weights_file


def _start(method: Method, fold: str, held_out: Sequence[Case]) -> Path | None:
    """What a fold's segmenter starts from: of an earlier cross-validation, the network that was kept from its slices.

    Raises:
        ConfigError: a folder without that fold finished, or whose fold was kept from other slices.
    """
    if method.pretrained is None or not method.pretrained.is_dir():
        return method.pretrained
    place = method.pretrained / fold
    record = _record(place)
    if record is None:
        raise ConfigError(
            f"{place} is not a finished fold: give a file of weights, or a method's folder inside an earlier --output"
        )
    if sorted(record["cases"]) != sorted(case.name for case in held_out):
        raise ConfigError(f"{place} was kept from other slices than fold {fold} here: it may have seen judged ones")
    chosen: str = record["settings"]["recipe"]["choose_weights"]
    return place / f"{chosen}.safetensors"


def _settings(method: Method, manifest: Manifest, start: Path | None) -> dict[str, Any]:
    return {
        "recipe": method.recipe.model_dump(mode="json"),
        "classifier": method.classifier.model_dump(mode="json") if method.classifier else None,
        "pretrained_sha256": file_sha256(start) if start else None,
        "flip_average": method.flip_average,
        "manifest_sha256": manifest.sha256,
    }


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / _RECORD
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def fold_note(cases: CaseSet, *, validating: bool = True) -> str:
    """What the reader must know of how the folds were used."""
    count = len(cases.folds)
    if validating:
        text = f"{count} folds: one is held out, the next one chooses the weights, {count - 2} train. The cut is 0.5."
    else:
        text = (
            f"{count} folds: one is held out, {count - 1} train, the last step's weights are taken. The cut is 0.5."
        )
    if len({(case.patient, case.fold) for case in cases}) > len(set(cases.patients)):
        text += " These folds part slices of one acquisition, as published: figures of patient-safe folds are honest."
    return text
