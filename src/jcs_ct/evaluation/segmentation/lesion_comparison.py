"""Comparing methods by their predictions: what every command that judges segmentations shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.choices import EvaluationProtocol
from jcs_ct.data.manifest import read_grey
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.pages import paper_results
from jcs_ct.evaluation.pages.figures import (
    AGREEMENT_COLOURS,
    PictureCell,
    agreement_figure,
    agreement_picture,
    dice_by_lesion,
    dice_shares,
    picture_rows,
)
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.paired_methods import compare_methods, differences_table
from jcs_ct.evaluation.pages.tables import MEASURED, Cell, Column, Table
from jcs_ct.evaluation.segmentation.lesion_scores import MEASURES, MethodScores, score_method
from jcs_ct.evaluation.segmentation.lesion_tables import (
    miniseg_table,
    per_image_table,
    pooled_table,
    scores_table,
    subgroup_table,
)
from jcs_ct.evaluation.segmentation.volume_agreement import Volumes, find_volumes, score_volumes, volumes_table
from jcs_ct.experiments.judged_slices import CaseSet
from jcs_ct.experiments.lesion_predictions import Predictions
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling
from jcs_ct.metrics.overlap import LESION_PROBABILITY
from jcs_ct.progress import Progress, silent
from jcs_ct.volume import spread_over

#: Rows of the qualitative figure.
MOST_PICTURE_ROWS = 6
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def evaluate_predictions(
    methods: Sequence[Predictions],
    cases: CaseSet,
    *,
    title: str,
    protocol: EvaluationProtocol = "image",
    thresholds: Mapping[str, float] | None = None,
    beside: Sequence[paper_results.Row] = (),
    facts: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
    progress: Progress = silent,
) -> Evaluation:
    """Score, compare and draw the predictions of one or more methods.

    Args:
        methods: The first is what the others are compared with.
        cases: What is judged.
        title: Of the page.
        protocol: ``miniseg`` adds that table; ``official`` is in the headline table anyway.
        thresholds: Probability from which a pixel is a lesion, by method; 0.5 where absent. Never chosen here.
        beside: Published rows below the headline.
        facts, warnings: For the page.
        resampling: Of intervals and tests.
        progress: Called with the method that is scored, its cases that are done, and all of them.

    Raises:
        ConfigError: no methods, or names that repeat.
    """
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"methods need names of their own, got {', '.join(names) or 'none'}; use NAME=FOLDER")
    masks = [case.read_mask() for case in cases]
    scores = []
    for method in methods:
        cut = (thresholds or {}).get(method.name, LESION_PROBABILITY)
        scores.append(
            score_method(
                method,
                masks,
                cases,
                threshold=cut,
                with_miniseg=protocol == "miniseg",
                resampling=resampling,
                progress=partial(progress, f"scoring {method.name}"),
            )
        )
    tables = [scores_table(scores, cases, beside=beside, resampling=resampling)]
    if protocol == "miniseg":
        tables.insert(0, miniseg_table(scores))
    if len(scores) > 1:
        compared = compare_methods(scores, cases, measures=MEASURES, resampling=resampling)
        tables.append(differences_table(compared, resampling=resampling))
    groups = subgroup_table(scores, cases, resampling=resampling)
    tables += [pooled_table(scores, cases), *([groups] if groups else [])]
    volumes = find_volumes(cases, masks)
    agreement: dict[str, tuple[Figure, str]] = {}
    if volumes is not None:
        table, agreement = _volume_figures(methods, scores, masks, volumes, cases)
        tables.append(table)
    shares, figures = _lesion_figures(scores, masks)
    figures.update(agreement)
    tables += [shares, per_image_table(scores, cases)]
    figures.update(_pictures(methods, scores, masks, cases))
    known = {
        "protocol": protocol,
        "cases": cases.title,
        "bootstrap_draws": resampling.draws,
        "bootstrap_seed": resampling.seed,
    }
    return Evaluation(title, tuple(tables), figures, {**known, **(facts or {})}, tuple(warnings))


def _volume_figures(
    methods: Sequence[Predictions],
    scores: Sequence[MethodScores],
    masks: Sequence[NDArray[np.bool_]],
    volumes: Volumes,
    cases: CaseSet,
) -> tuple[Table, dict[str, tuple[Figure, str]]]:
    """Every volume as a table, and how its burden agrees with the true one."""
    judged = [
        score_volumes(method, masks, volumes, threshold=score.threshold)
        for method, score in zip(methods, scores, strict=True)
    ]
    figures: dict[str, tuple[Figure, str]] = {}
    for number, one in enumerate(judged, start=1):
        if one.burdens is not None:
            name = "burden-agreement" if len(judged) == 1 else f"burden-agreement-{number}"
            drawn = agreement_figure(*one.burdens, unit="% of lung")
            figures[name] = (drawn, f"{one.name}: burden of every volume less the true one (Bland-Altman)")
    return volumes_table(judged, volumes, cases), figures


def _lesion_figures(
    scores: Sequence[MethodScores], masks: Sequence[NDArray[np.bool_]]
) -> tuple[Table, dict[str, tuple[Figure, str]]]:
    """Fig. 11 of every method, on slices with a lesion, and its shares as a table."""
    area = np.array([int(mask.sum()) for mask in masks])
    count = np.array([int(ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)[1]) for mask in masks])
    lesion = area > 0
    rows: list[dict[str, Cell]] = []
    figures: dict[str, tuple[Figure, str]] = {}
    for number, method in enumerate(scores, start=1):
        dice = method.per_image["dice_percent"].values[lesion] / 100.0
        rows.append({"method": method.name, "origin": MEASURED, "n_images": len(dice)})
        if len(dice):
            keys = ("dice_at_least_0_6_percent", "dice_0_1_to_0_6_percent", "dice_below_0_1_percent")
            rows[-1] |= zip(keys, dice_shares(dice), strict=True)
            caption = f"{method.name}: Dice against lesion area, and by lesion count (Fig. 11), slices with a lesion"
            name = "figure-11" if len(scores) == 1 else f"figure-11-{number}"
            figures[name] = (dice_by_lesion(area[lesion], count[lesion], dice), caption)
    columns = (
        Column("method", "method"),
        Column("origin", "origin"),
        Column("dice_at_least_0_6_percent", "Dice ≥ 0.6, %", 1),
        Column("dice_0_1_to_0_6_percent", "0.1 to 0.6, %", 1),
        Column("dice_below_0_1_percent", "< 0.1, %", 1),
        Column("n_images", "images"),
    )
    shown = (*rows, paper_results.FIGURE_11_SHARES)
    return Table("dice_shares", "Shares of slices with a lesion by Dice", columns, shown), figures


def _pictures(
    methods: Sequence[Predictions],
    scores: Sequence[MethodScores],
    masks: Sequence[NDArray[np.bool_]],
    cases: CaseSet,
) -> dict[str, tuple[Figure, str]]:
    """Fig. 10, and the failures of Fig. 11; none where no picture of a slice with a lesion is known."""
    pictured = [
        index
        for index, case in enumerate(cases)
        if masks[index].any() and case.image is not None and case.image.is_file()
    ]
    if not pictured:
        return {}
    order = sorted(pictured, key=lambda index: int(masks[index].sum()))
    places = spread_over(len(order), MOST_PICTURE_ROWS)
    worst = failures(scores, pictured)
    agreement: list[tuple[str, list[PictureCell]]] = [
        (
            cases.cases[index].name,
            [
                (agreement_picture(method.probability(index) >= score.threshold, masks[index]), None)
                for method, score in zip(methods, scores, strict=True)
            ],
        )
        for index in worst
    ]
    return {
        "figure-10-qualitative": (
            _picture_rows([order[place] for place in places], methods, scores, masks, cases),
            "Slices from the smallest to the largest lesion area, chosen by area alone, with mask and methods",
        ),
        "figure-11-failures": (
            _picture_rows(worst, methods, scores, masks, cases),
            "The slices with the lowest Dice of each method, worst first: chosen for their failure",
        ),
        "figure-11-failures-agreement": (
            picture_rows(agreement, [method.name for method in methods], legend=AGREEMENT_COLOURS),
            "The same slices as what mask and method call a lesion; nothing of the slices themselves is shown",
        ),
    }


def failures(scores: Sequence[MethodScores], pictured: Sequence[int]) -> list[int]:
    """Indices of every method's worst slices by Dice, by turns, as many as a figure holds.

    Args:
        scores: Of the methods.
        pictured: Indices of the slices that can be shown.
    """
    shown = np.asarray(pictured)
    ranked = [
        shown[np.argsort(score.per_image["dice_percent"].values[shown], kind="stable")].tolist() for score in scores
    ]
    by_turns = [index for turn in zip(*ranked, strict=True) for index in turn]
    return list(dict.fromkeys(by_turns))[:MOST_PICTURE_ROWS]


def _picture_rows(
    indices: Sequence[int],
    methods: Sequence[Predictions],
    scores: Sequence[MethodScores],
    masks: Sequence[NDArray[np.bool_]],
    cases: CaseSet,
) -> Figure:
    """One row a slice: the slice, its mask, and what every method says."""
    rows = []
    for index in indices:
        case = cases.cases[index]
        assert case.image is not None  # only pictured slices are asked for
        grey = read_grey(case.image)
        cells: list[PictureCell] = [(grey, None), (grey, masks[index])]
        for method, score in zip(methods, scores, strict=True):
            cells.append((grey, method.probability(index) >= score.threshold))
        rows.append((case.name, cells))
    return picture_rows(rows, ["slice", "mask", *(method.name for method in methods)])
