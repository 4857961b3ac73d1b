"""Tables of segmentation scores, ours and the published ones beside them."""

from __future__ import annotations

from collections.abc import Sequence

from jcs_ct.evaluation.pages import paper_results
from jcs_ct.evaluation.pages.paired_methods import LEAST_PATIENTS, mean_interval
from jcs_ct.evaluation.pages.tables import MEASURED, NO_INTERVAL, Cell, Column, Table, interval_cells
from jcs_ct.evaluation.segmentation.lesion_scores import MEASURES, MethodScores
from jcs_ct.experiments.judged_slices import CaseSet
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling
from jcs_ct.metrics.overlap import PerImage

_ORIGIN = Column("origin", "origin")
_METHOD = Column("method", "method")


def scores_table(
    methods: Sequence[MethodScores],
    cases: CaseSet,
    *,
    name: str = "scores",
    title: str = "Per image",
    beside: Sequence[paper_results.Row] = (),
    notes: Sequence[str] = (),
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Table:
    """The headline: mean over images with its interval over patients; rows of ``beside`` follow."""
    rows: list[dict[str, Cell]] = []
    for method in methods:
        row: dict[str, Cell] = {
            "method": method.name,
            "origin": MEASURED,
            "n_images": len(cases),
            "n_patients": len(set(cases.patients)),
            "n_without_lesion": method.mean("sensitivity_percent").n_excluded,
            "e_measure_mean_percent": 100 * method.e_measure.mean,
            "e_measure_maximum_percent": 100 * method.e_measure.maximum,
            "iou_official_percent": None if method.official.value is None else 100 * method.official.value,
        }
        for measure in MEASURES:
            row |= interval_cells(measure.key, method.intervals[measure.key])
        rows.append(row)
    cuts = sorted({method.threshold for method in methods})
    explained = (
        f"Mean over images; [ , ] is the {resampling.confidence:.0%} percentile interval of {resampling.draws} "
        f"bootstrap draws of patients, never of slices; {NO_INTERVAL}.",
        f"A pixel is a lesion at a probability of at least {', '.join(f'{cut:g}' for cut in cuts)}. "
        "HD is in pixels between outlines, and the slice's diagonal where only mask or only prediction is empty; "
        "sensitivity leaves out slices without a lesion.",
        "IoU official: the published JCS evaluator, p > 2 mean(p).",
        *_of_empty_masks(methods, cases),
    )
    columns = (
        _METHOD,
        _ORIGIN,
        *(Column(measure.key, measure.title, 2, True) for measure in MEASURES),
        Column("e_measure_mean_percent", "E-measure (mean) %"),
        Column("e_measure_maximum_percent", "E-measure (maximum) %"),
        Column("iou_official_percent", "IoU (official) %"),
        Column("n_images", "images"),
        Column("n_patients", "patients"),
        Column("n_without_lesion", "without lesion"),
    )
    return Table(name, f"{title} ({cases.title})", columns, (*rows, *beside), (*explained, *_notes(methods), *notes))


def _of_empty_masks(methods: Sequence[MethodScores], cases: CaseSet) -> list[str]:
    """What Dice, distances and the adaptive E-measure give where there is no lesion, if there are such slices."""
    empty = methods[0].mean("sensitivity_percent").n_excluded
    if not empty:
        return []
    return [
        f"E-measure (adaptive): {empty} of {len(cases)} slices have no lesion. A prediction of zeros, which is right "
        "there, counts 0: its threshold, 2 mean(p) = 0, marks every pixel. Any other counts the share of pixels "
        "below its threshold. Compare methods on slices with a lesion by this measure, or by Dice.",
        "Dice, IoU and precision of a slice without a lesion are 100 and HD is 0 where nothing is marked; a single "
        "marked pixel makes Dice 0.",
    ]


def _notes(methods: Sequence[MethodScores]) -> list[str]:
    return [f"{method.name}: {method.note}." for method in methods if method.note]


def pooled_table(methods: Sequence[MethodScores], cases: CaseSet) -> Table:
    """The same counts summed over all images first: one confusion matrix a method."""
    names = tuple(methods[0].pooled)
    rows = []
    for method in methods:
        row: dict[str, Cell] = {"method": method.name, "n_images": len(cases)}
        for name in names:
            value = method.pooled[name].value
            row[f"{name}_percent"] = None if value is None else 100 * value
        rows.append(row)
    columns = (_METHOD, *(Column(f"{name}_percent", f"{name} %") for name in names), Column("n_images", "images"))
    note = "Counts summed over the images first; slices with large lesions weigh more."
    return Table("pooled", f"Pooled ({cases.title})", columns, tuple(rows), (note,))


def miniseg_table(methods: Sequence[MethodScores]) -> Table:
    """Protocol ``miniseg`` with the figures published for it."""
    rows: list[paper_results.Row] = []
    for method in methods:
        if method.miniseg is not None:
            scores = method.miniseg
            rows.append(
                {
                    "method": method.name,
                    "origin": MEASURED,
                    "miou_percent": scores.miou,
                    "sensitivity_percent": scores.sensitivity,
                    "specificity_percent": scores.specificity,
                    "dice_percent": scores.dice,
                    "hausdorff_px": scores.hausdorff_px,
                    "n_images": scores.n,
                }
            )
    columns = (
        _METHOD,
        _ORIGIN,
        Column("miou_percent", "mIoU %"),
        Column("sensitivity_percent", "SEN %"),
        Column("specificity_percent", "SPC %"),
        Column("dice_percent", "DSC %"),
        Column("hausdorff_px", "HD px"),
        Column("n_images", "images"),
    )
    notes = (
        "Five folds of the 99 CT100 slices with a lesion: per image, mean in the fold, mean of folds; mIoU from one "
        "confusion matrix a fold, mean of background and lesion. HD over all pixels; an empty prediction scores 0.",
        "\N{DAGGER} trained from ImageNet weights. Published rows are the authors' own figures.",
    )
    return Table("miniseg", "Protocol miniseg (CT100)", columns, (*rows, *paper_results.MINISEG), notes)


def per_image_table(methods: Sequence[MethodScores], cases: CaseSet) -> Table:
    """Every case with every measure of every method; patients stay out of it."""
    rows = []
    for method in methods:
        for index, case in enumerate(cases):
            row: dict[str, Cell] = {"method": method.name, "case": case.name, "fold": case.fold or None}
            for measure in MEASURES:
                each = method.per_image[measure.key]
                row[measure.key] = float(each.values[index]) if each.defined[index] else None
            rows.append(row)
    columns = (
        _METHOD,
        Column("case", "slice"),
        Column("fold", "fold"),
        *(Column(measure.key, measure.title) for measure in MEASURES),
    )
    return Table("per_image", "Every slice", columns, tuple(rows))


def subgroup_table(
    methods: Sequence[MethodScores],
    cases: CaseSet,
    *,
    least: int = LEAST_PATIENTS,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Table | None:
    """Mean Dice by subgroup with its interval over patients; fewer than ``least`` are suppressed; None without
    subgroups.
    """
    members: dict[tuple[str, str], list[int]] = {}
    for index, case in enumerate(cases):
        for grouping, value in case.subgroups.items():
            members.setdefault((grouping, value), []).append(index)
    if not members:
        return None
    owners, all_units = cases.patients, cases.units
    rows: list[dict[str, Cell]] = []
    for method in methods:
        dice = method.per_image["dice_percent"]
        for (grouping, value), indices in sorted(members.items()):
            patients = len({owners[index] for index in indices})
            row: dict[str, Cell] = {"method": method.name, "grouping": grouping, "group": value}
            if patients < least:
                rows.append(row | {"suppressed": f"fewer than {least} patients"})
                continue
            units = [all_units[index] for index in indices]
            interval = mean_interval(PerImage(dice.values[indices], dice.defined[indices]), units, resampling)
            row |= {"n_images": len(indices), "n_patients": patients}
            rows.append(row | interval_cells("dice_percent", interval))
    columns = (
        _METHOD,
        Column("grouping", "by"),
        Column("group", "group"),
        Column("dice_percent", "Dice %", 2, True),
        Column("n_images", "images"),
        Column("n_patients", "patients"),
        Column("suppressed", "suppressed"),
    )
    return Table("subgroups", f"Subgroups ({cases.title})", columns, tuple(rows))
