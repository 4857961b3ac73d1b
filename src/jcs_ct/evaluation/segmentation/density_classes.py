"""Ground glass and consolidation against the three-class masks of CT100; the cut is chosen on the other folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest import read_grey, read_hu, read_mask
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.tables import MEASURED, Cell, Column, Table, interval_cells
from jcs_ct.evaluation.segmentation.slice_lungs import lungs_within_body
from jcs_ct.experiments.judged_slices import Case, CaseSet
from jcs_ct.experiments.lesion_predictions import Predictions
from jcs_ct.lungs import ASSUMED_PIXEL_MM
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling
from jcs_ct.metrics.overlap import LESION_PROBABILITY
from jcs_ct.progress import CountProgress, Progress
from jcs_ct.reading.densities import CONSOLIDATION, GROUND_GLASS, smoothed_density, tissue_levels

CLASSES = {GROUND_GLASS: "ground glass", CONSOLIDATION: "consolidation"}
#: Shares of the way from lung to soft tissue that are tried.
SHARES = tuple(round(0.30 + 0.02 * step, 2) for step in range(31))
_READERS = "the readers' lesions"


@dataclass(frozen=True, eq=False)
class DensityCase:
    """One slice: density of every lesion pixel, and the readers' classes.

    Args:
        case: The slice.
        classes: (rows, columns): 0 none, 1 ground glass, 2 consolidation; the readers'.
        lesions: (rows, columns) bool that were split.
        share: (n,) density of ``classes[lesions]`` as a share of the way from lung to soft tissue; None where those
            could not be measured.
    """

    case: Case
    classes: NDArray[np.uint8]
    lesions: NDArray[np.bool_]
    share: NDArray[np.float32] | None

    def dice(self, kind: int, cut: float) -> float:
        """Of one class against the readers' pixels of it, all of the slice; NaN where neither has any."""
        truth = int(np.count_nonzero(self.classes == kind))
        if self.share is None:
            return 0.0 if truth else float("nan")
        found = (self.share >= cut) == (kind == CONSOLIDATION)
        both = int(np.count_nonzero(found & (self.classes[self.lesions] == kind)))
        total = truth + int(np.count_nonzero(found))
        return 2.0 * both / total if total else float("nan")


@dataclass(frozen=True, eq=False)
class DensityScores:
    """What one source of lesions scores.

    Args:
        name: Whose lesions were split.
        cuts: The cut that the other folds chose, by fold.
        dice: (n,) by class, in the order of the cases; NaN where the class is in neither.
    """

    name: str
    cuts: dict[str, float]
    dice: dict[int, NDArray[np.float64]]


def read_classes(path: Path) -> NDArray[np.uint8]:
    """A three-class mask, levels or a palette: 1 ground glass, 2 consolidation; all else (effusion, unsure) is 0.

    Raises:
        MaskError: it cannot be read, or has colours.
    """
    ground_glass, consolidation = (read_mask(path, (kind,)) for kind in (GROUND_GLASS, CONSOLIDATION))
    return GROUND_GLASS * ground_glass.astype(np.uint8) + CONSOLIDATION * consolidation.astype(np.uint8)


def density_cases(
    folder: Path,
    cases: CaseSet,
    predictions: Predictions | None = None,
    progress: CountProgress | None = None,
) -> list[DensityCase]:
    """Measure every slice that has a three-class mask.

    Args:
        folder: Holds ``masks3/<case name>.png``.
        cases: With images.
        predictions: Whose lesions are split; None splits the readers'.
        progress: Called with slices done and in all.

    Raises:
        ConfigError: no three-class masks.
        MaskError: as :func:`read_classes`.
    """
    known = [(index, case) for index, case in enumerate(cases) if (folder / "masks3" / f"{case.name}.png").is_file()]
    if not known:
        raise ConfigError(f"{folder} has no three-class masks: masks3/<slice>.png, 1 ground glass, 2 consolidation")
    measured = []
    for done, (index, case) in enumerate(known, start=1):
        classes = read_classes(folder / "masks3" / f"{case.name}.png")
        lesions = classes > 0 if predictions is None else predictions.probability(index) >= LESION_PROBABILITY
        measured.append(_measure(case, classes, lesions))
        if progress is not None:
            progress(done, len(known))
    return measured


def _measure(case: Case, classes: NDArray[np.uint8], lesions: NDArray[np.bool_]) -> DensityCase:
    if case.image is None:
        raise ConfigError(f"slice {case.name} has no image; its density cannot be measured")
    grey = read_grey(case.image)
    hu = read_hu(case.image, case.window)
    lungs = lungs_within_body(grey, hu)
    levels = tissue_levels(hu[None], lungs[None], lesions[None])
    if levels is None:
        return DensityCase(case, classes, lesions, None)
    density = smoothed_density(hu, lesions, (ASSUMED_PIXEL_MM, ASSUMED_PIXEL_MM))
    return DensityCase(case, classes, lesions, (density - levels.lung) / (levels.soft_tissue - levels.lung))


def score_densities(name: str, judged: Sequence[DensityCase], choosing: Sequence[DensityCase]) -> DensityScores:
    """Dice of both classes, every fold with the cut that the other folds' readers' lesions choose.

    Args:
        name: Whose lesions ``judged`` holds.
        judged: In the order of the result.
        choosing: The same slices with the readers' lesions.

    Raises:
        ConfigError: fewer than two folds, or a class that no fold but one holds.
    """
    folds = sorted({item.case.fold for item in judged})
    if len(folds) < 2:
        raise ConfigError("the cut is chosen on other folds than it is judged on: two folds or more are needed")
    cuts = {}
    for fold in folds:
        others = [item for item in choosing if item.case.fold != fold]
        absent = [name for kind, name in CLASSES.items() if not any((item.classes == kind).any() for item in others)]
        if absent:
            raise ConfigError(
                f"no slice outside {fold} shows {' or '.join(absent)}, and the cut of {fold} is chosen on those; "
                "give folds that share the classes out"
            )
        cuts[fold] = _best_cut(others)
    dice = {kind: np.array([item.dice(kind, cuts[item.case.fold]) for item in judged]) for kind in CLASSES}
    return DensityScores(name, cuts, dice)


def _best_cut(cases: Sequence[DensityCase]) -> float:
    """The share with the largest mean Dice of both classes; every share is judged on all slices.

    A slice on which a class is neither read nor found counts 1.
    """

    def mean_dice(cut: float) -> float:
        return float(np.mean([np.nan_to_num(item.dice(kind, cut), nan=1.0) for kind in CLASSES for item in cases]))

    return max(SHARES, key=mean_dice)


def evaluate_densities(
    folder: Path,
    cases: CaseSet,
    methods: Sequence[Predictions] = (),
    *,
    resampling: Resampling = DEFAULT_RESAMPLING,
    progress: Progress | None = None,
) -> Evaluation:
    """The page of `jcs evaluate densities`.

    Args:
        folder: Holds ``masks3/``.
        cases: With images and folds.
        methods: Whose lesions are split, beside the readers' own.
        resampling: Of the intervals.
        progress: Called with what is being done.

    Raises:
        ConfigError: no three-class masks, or as :func:`score_densities`.
    """

    def measured(name: str, predictions: Predictions | None) -> list[DensityCase]:
        def report(done: int, total: int) -> None:
            if progress is not None:
                progress(name, done, total)

        return density_cases(folder, cases, predictions, report)

    readers = measured(_READERS, None)
    scores = [score_densities(_READERS, readers, readers)]
    scores += [score_densities(method.name, measured(method.name, method), readers) for method in methods]
    units = CaseSet(cases.title, tuple(item.case for item in readers)).units
    columns = (
        Column("lesions", "lesions of"),
        Column("density", "class"),
        Column("slices", "slices with it"),
        Column("dice_percent", "Dice %", 1, interval=True),
        Column("origin", "origin"),
    )
    rows = tuple(row for score in scores for row in _rows(score, units, resampling))
    table = Table(
        "densities",
        f"Ground glass and consolidation: {cases.title}, {len(readers)} slices with three-class masks",
        columns,
        rows,
        (
            "Mean over the slices on which the class is found or read, with the 95 % interval over patients; a slice "
            "on which it is in one of both only counts 0.",
            "A lesion pixel is consolidation when its density, smoothed over 1.4 mm, lies at least the cut's share "
            "of the way from lung to soft tissue. In every fold the cut is the one that suits the other folds best: "
            + ", ".join(f"{fold} {cut:g}" for fold, cut in scores[0].cuts.items())
            + ".",
            *(f"{method.name}: {method.note}." for method in methods if method.note),
        ),
    )
    return Evaluation(f"Densities: {cases.title}", (table,), {}, {"cuts": scores[0].cuts})


def _rows(score: DensityScores, units: Sequence[str], resampling: Resampling) -> Iterator[dict[str, Cell]]:
    for kind, name in CLASSES.items():
        values = score.dice[kind]
        kept = np.flatnonzero(~np.isnan(values))

        def mean(chosen: NDArray[np.int64], values: NDArray[np.float64] = values[kept]) -> float:
            return float(values[chosen].mean())

        interval = resampling.interval(mean, [units[index] for index in kept])
        yield {
            "lesions": score.name,
            "density": name,
            "slices": len(kept),
            **interval_cells("dice_percent", interval, scale=100.0),
            "origin": MEASURED,
        }
