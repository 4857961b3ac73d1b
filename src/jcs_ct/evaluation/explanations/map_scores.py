"""Activation maps judged against lesion masks (Fig. 9 in numbers), with ceilings and the randomised-weights check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.nn import functional as F

from jcs_ct.choices import MapVariant
from jcs_ct.data.manifest import read_grey
from jcs_ct.engine import Execution, ReadyClassifier, classify_slices, inference, placed
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.pages.figures import PictureCell, map_overlay, picture_rows
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.paired_methods import Measure, compare_methods, differences_table, mean_interval
from jcs_ct.evaluation.pages.tables import Cell, Column, Table, interval_cells
from jcs_ct.experiments.judged_slices import Case, CaseSet
from jcs_ct.experiments.lesion_predictions import case_hu
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling
from jcs_ct.metrics.explanation import (
    iou_ceiling,
    map_similarity,
    score_explanation,
    tune_threshold,
)
from jcs_ct.metrics.overlap import PerImage
from jcs_ct.metrics.perturbation_curves import perturbation_curves
from jcs_ct.models.presets import build_classifier
from jcs_ct.preprocessing import Region, SlicePreprocessor
from jcs_ct.progress import CountProgress
from jcs_ct.volume import spread_over

MEASURES = (
    Measure("pointing_percent", "pointing game %", 100.0, True),
    Measure("energy_inside_percent", "energy inside %", 100.0, True),
    Measure("energy_enrichment", "enrichment", 1.0, True),
    Measure("pixel_auroc", "pixel AUROC", 1.0, True),
    Measure("pixel_average_precision", "pixel AP", 1.0, True),
    Measure("iou_percent", "IoU %", 100.0, True),
    Measure("dice_percent", "Dice %", 100.0, True),
    Measure("iou_ceiling_percent", "ceiling of IoU %", 100.0, True),
    Measure("deletion_auc", "deletion AUC", 1.0, False),
    Measure("insertion_auc", "insertion AUC", 1.0, True),
    Measure("randomised_similarity", "likeness to randomised weights", 1.0, False),
)
#: Compared between classifiers; a ceiling and a check are no achievements.
COMPARED = MEASURES[:7] + MEASURES[8:10]
#: At most so many training slices tune a threshold, spread evenly.
MOST_TUNING_SLICES = 200
MOST_PICTURE_ROWS = 6


@dataclass(frozen=True, eq=False)
class CaseMap:
    """The map of one case.

    Args:
        coarse: (h, w) in [0, 1], as the network gives it.
        fine: (rows, columns) on the slice's grid; 0 outside ``region``.
        region: What of the slice the network saw.
    """

    coarse: NDArray[np.float32]
    fine: NDArray[np.float32]
    region: Region


@dataclass(frozen=True, eq=False)
class ExplanationResult:
    """What one classifier's maps score.

    Args:
        name: Of the classifier.
        per_image: (n,) values by :data:`MEASURES` key; perturbation is undefined where it was not run.
        threshold: Share of the map's maximum, tuned on training slices.
        n_tuning: So many of them.
        maps: One a case.
    """

    name: str
    per_image: Mapping[str, PerImage]
    threshold: float
    n_tuning: int
    maps: tuple[CaseMap, ...]


def score_explanations(
    ready: ReadyClassifier,
    judged: CaseSet,
    tuning: Sequence[Case],
    *,
    name: str,
    variant: MapVariant = "paper",
    perturbation_steps: int = 16,
    seed: int = 0,
    execution: Execution | None = None,
    progress: CountProgress | None = None,
) -> ExplanationResult:
    """Score a classifier's maps on slices with a lesion.

    Args:
        ready: A classifier.
        judged: Cases with a mask that is not empty.
        tuning: Training slices with a lesion: the threshold of the map is chosen on them alone.
        name: Of the classifier.
        variant: ``paper`` or ``grad_cam``.
        perturbation_steps: Of deletion and insertion; 0 leaves them out.
        seed: Of the randomised weights.
        execution: Backend, device, precision and batch size; default torch.
        progress: Called with the judged cases done.

    Raises:
        ConfigError: no training slices.
    """
    if not tuning:
        raise ConfigError("the map's threshold is tuned on training slices with a lesion mask, and there are none")
    # Each classifier, and a randomised one beside it, sees few slices one by one: compiling would not pay.
    execution = execution or Execution(backend="torch")
    chosen = [tuning[place] for place in spread_over(len(tuning), MOST_TUNING_SLICES)]
    threshold = tune_threshold(
        (case_map(ready, case, variant=variant, execution=execution).fine, case.read_mask()) for case in chosen
    )
    random = randomised(ready, seed=seed)
    rows: list[dict[str, float]] = []
    maps: list[CaseMap] = []
    for case in judged:
        found = case_map(ready, case, variant=variant, execution=execution)
        maps.append(found)
        mask = case.read_mask()
        scores = score_explanation(found.fine, mask, threshold=threshold)
        other = case_map(random, case, variant=variant, execution=execution)
        row = {
            "pointing_percent": 100 * scores.pointing,
            "energy_inside_percent": 100 * scores.energy_inside,
            "energy_enrichment": scores.energy_enrichment,
            "pixel_auroc": scores.auroc,
            "pixel_average_precision": scores.average_precision,
            "iou_percent": 100 * scores.iou,
            "dice_percent": 100 * scores.dice,
            "iou_ceiling_percent": 100 * _ceiling(mask, found),
            "randomised_similarity": map_similarity(found.coarse, other.coarse),
        }
        if perturbation_steps:
            row |= _perturbation(ready, case, found, perturbation_steps, execution)
        rows.append(row)
        if progress is not None:
            progress(len(rows), len(judged))
    return ExplanationResult(name, _columns(rows), threshold, len(chosen), tuple(maps))


def case_map(ready: ReadyClassifier, case: Case, *, variant: MapVariant, execution: Execution) -> CaseMap:
    """The normalised activation map of one case."""
    hu = case_hu(case)
    (found,) = classify_slices(ready, hu[None], [0], execution=execution, variant=variant)
    shape = (hu.shape[0], hu.shape[1])
    fine = ready.preprocessor.restore(found.activation, found.region, shape)
    return CaseMap(found.activation, fine, found.region)


def randomised(ready: ReadyClassifier, *, seed: int) -> ReadyClassifier:
    """The same classifier with weights drawn anew, for the sanity check."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_classifier(ready.network.config)
    network.eval()
    return ReadyClassifier(network, ready.preprocessor, ready.preset, "", f"{ready.name} randomised")


def _ceiling(mask: NDArray[np.bool_], found: CaseMap) -> float:
    """What a perfect map of this grid over this region reaches; 0 where the region holds no lesion pixel."""
    region = found.region
    seen = mask[region.top : region.bottom, region.left : region.right]
    if not seen.any():
        return 0.0
    rows, columns = found.coarse.shape
    return iou_ceiling(seen, (min(rows, seen.shape[0]), min(columns, seen.shape[1])))


def _perturbation(
    ready: ReadyClassifier, case: Case, found: CaseMap, steps: int, execution: Execution
) -> dict[str, float]:
    """Deletion and insertion at the network's own input size."""
    preprocessor: SlicePreprocessor = ready.preprocessor
    grey, _ = preprocessor.grey_and_region(case_hu(case))
    image = preprocessor.resize(grey)[0]
    size = (preprocessor.size, preprocessor.size)
    plane = torch.from_numpy(found.coarse)[None, None]
    activation = F.interpolate(plane, size, mode="bilinear", align_corners=False)[0, 0].numpy()
    network = placed(ready.network, execution.torch_device)

    def infected(images: NDArray[np.float32]) -> NDArray[np.float64]:
        prepared = preprocessor.normalise(torch.from_numpy(images)[:, None]).to(execution.torch_device)
        with inference(execution):
            probability = torch.softmax(network(prepared).float(), dim=1)[:, 1]
        return probability.double().cpu().numpy()

    curves = perturbation_curves(image, activation, infected, steps=steps, batch_size=execution.batch_size)
    return {"deletion_auc": curves.deletion_auc, "insertion_auc": curves.insertion_auc}


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, PerImage]:
    found = {}
    for measure in MEASURES:
        defined = np.array([measure.key in row for row in rows], dtype=bool)
        found[measure.key] = PerImage(np.array([row.get(measure.key, 0.0) for row in rows]), defined)
    return found


def evaluate_explanations(
    results: Sequence[ExplanationResult],
    judged: CaseSet,
    *,
    facts: Mapping[str, object] | None = None,
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Evaluation:
    """Table, paired differences to the first classifier, and Fig. 9."""
    tables = [explanation_table(results, judged, resampling=resampling)]
    if len(results) > 1:
        compared = compare_methods(results, judged, measures=COMPARED, resampling=resampling)
        tables.append(differences_table(compared, resampling=resampling))
    caption = "Activation maps and masks (Fig. 9); slices from the smallest to the largest lesion, chosen by area"
    figures = {"figure-9": (_figure_9(results, judged), caption)}
    known = {"cases": judged.title, "bootstrap_draws": resampling.draws, "bootstrap_seed": resampling.seed}
    return Evaluation(
        "Explanations: activation maps against lesion masks",
        tuple(tables),
        figures,
        {**known, **(facts or {})},
        tuple(warnings),
    )


def explanation_table(
    results: Sequence[ExplanationResult], judged: CaseSet, *, resampling: Resampling = DEFAULT_RESAMPLING
) -> Table:
    """Mean over slices with a lesion, with intervals over patients."""
    rows = []
    for result in results:
        row: dict[str, Cell] = {
            "method": result.name,
            "map_grid": "x".join(str(side) for side in result.maps[0].coarse.shape),
            "threshold": result.threshold,
            "n_tuning": result.n_tuning,
            "n_images": len(judged),
            "n_patients": len(set(judged.patients)),
        }
        for measure in MEASURES:
            interval = mean_interval(result.per_image[measure.key], judged.units, resampling)
            row |= interval_cells(measure.key, interval)
        rows.append(row)
    columns = (
        Column("method", "classifier"),
        *(Column(measure.key, measure.title, 1 if measure.scale == 100 else 3, True) for measure in MEASURES),
        Column("map_grid", "grid"),
        Column("threshold", "threshold"),
        Column("n_tuning", "training slices it was tuned on"),
        Column("n_images", "images"),
        Column("n_patients", "patients"),
    )
    notes = (
        "Slices with a lesion only. IoU and Dice cut the map at a share of its maximum that was tuned on training "
        "slices. The ceiling is what a perfect map of the same grid reaches at its best threshold.",
        "Enrichment 1 is a map that knows nothing. Low deletion and high insertion are good (blurred baseline).",
        "Likeness to the map of the same network with weights drawn anew (Spearman): near 0 passes the sanity check.",
    )
    return Table("explanations", f"Explanations ({judged.title})", columns, tuple(rows), notes)


def _figure_9(results: Sequence[ExplanationResult], judged: CaseSet) -> Figure:
    masks = [case.read_mask() for case in judged]
    order = sorted(range(len(judged)), key=lambda index: int(masks[index].sum()))
    places = spread_over(len(order), MOST_PICTURE_ROWS)
    rows = []
    for index in (order[place] for place in places):
        case = judged.cases[index]
        assert case.image is not None  # a network ran on it
        grey = read_grey(case.image)
        cells: list[PictureCell] = [(grey, None)]
        cells += [(map_overlay(grey, result.maps[index].fine), masks[index]) for result in results]
        rows.append((case.name, [*cells, (grey, masks[index])]))
    return picture_rows(rows, ["slice", *(result.name for result in results), "mask"])
