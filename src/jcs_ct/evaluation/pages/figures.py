"""Figures of an evaluation, drawn without touching matplotlib's global state, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from jcs_ct import NOTICE
from jcs_ct.files import replacing
from jcs_ct.metrics.agreement import limits_of_agreement
from jcs_ct.metrics.calibration import ReliabilityBin
from jcs_ct.metrics.classification import RocCurve, VerdictRates

#: Dice from which a slice counts as good, and below which as failed (paper, V-B on Fig. 11).
GOOD_DICE, FAILED_DICE = 0.6, 0.1
#: Of a lesion's outline: on grey, and told from the warm colours of an activation map by everybody.
_LESION_COLOUR = "#00e6ff"
#: Of :func:`agreement_picture`, told apart by the colour-blind (Okabe and Ito): method alone, mask alone, both.
AGREEMENT_COLOURS = {"too much": "#56b4e9", "missed": "#d55e00", "both": "#009e73"}
#: Makes ids in SVG files the same from run to run.
_SVG_SALT = "jcs-ct"


#: A picture in [0, 1], grey or RGB, and the lesion whose outline is drawn on it.
PictureCell = tuple[NDArray[np.floating[Any]], NDArray[np.bool_] | None]


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write ``<name>.png`` and ``<name>.svg`` with the notice below; equal data give equal files.

    Raises:
        OutputError: the folder cannot be written.
    """
    FigureCanvasAgg(figure)
    figure.supxlabel(NOTICE, fontsize=6, color="0.4")
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with replacing(png) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    with mpl.rc_context({"svg.hashsalt": _SVG_SALT}), replacing(svg) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    return png, svg


def _figure(columns: int = 1, *, width: float = 5.0, height: float = 4.0) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)
    return figure, list(axes[0])


def dice_by_lesion(area_px: NDArray[np.int64], count: NDArray[np.int64], dice: NDArray[np.float64]) -> Figure:
    """Fig. 11: (a) Dice against lesion area, (b) distribution of Dice by lesion count.

    Args:
        area_px, count: (n,) lesion pixels and lesions (8-neighbourhood) of slices with a lesion.
        dice: (n,) in [0, 1].
    """
    figure, (left, right) = _figure(2)
    left.scatter(area_px, dice, s=12, alpha=0.7)
    for level in (GOOD_DICE, FAILED_DICE):
        left.axhline(level, color="0.6", linewidth=0.8, linestyle="--")
    shares = dice_shares(dice)
    left.set(
        xlabel="lesion area (pixels)",
        ylabel="Dice",
        ylim=(-0.02, 1.02),
        title=f"≥ {GOOD_DICE}: {shares[0]:.1f} %, {FAILED_DICE}–{GOOD_DICE}: {shares[1]:.1f} %, "
        f"< {FAILED_DICE}: {shares[2]:.1f} % (n = {len(dice)})",
    )
    left.title.set_fontsize(9)
    groups = [(name, dice[inside]) for name, inside in _count_groups(count)]
    right.boxplot([values for _, values in groups], whis=(2.5, 97.5))
    right.set_xticks(range(1, len(groups) + 1), [f"{name}\nn = {len(values)}" for name, values in groups])
    right.set(xlabel="lesions in the slice", ylabel="Dice", ylim=(-0.02, 1.02), title="quartiles and 95 %")
    right.title.set_fontsize(9)
    return figure


def dice_shares(dice: NDArray[np.float64]) -> tuple[float, float, float]:
    """Percent of slices, at least one, of Dice at least 0.6, from 0.1 to below 0.6, and below 0.1."""
    good, failed = float((dice >= GOOD_DICE).mean()), float((dice < FAILED_DICE).mean())
    return 100 * good, 100 * (1 - good - failed), 100 * failed


def _count_groups(count: NDArray[np.int64]) -> list[tuple[str, NDArray[np.bool_]]]:
    """1, 2, 3 and 4 or more lesions; groups without a slice are left out."""
    groups = [(str(number), count == number) for number in (1, 2, 3)] + [("4 or more", count >= 4)]
    return [(name, inside) for name, inside in groups if inside.any()]


def picture_rows(
    rows: Sequence[tuple[str, Sequence[PictureCell]]],
    titles: Sequence[str],
    *,
    legend: Mapping[str, str] | None = None,
) -> Figure:
    """Fig. 9 and 10: one row a slice, one column a method.

    Args:
        rows: Label of each row and its (picture in [0, 1], lesion outline or None) cells.
        titles: Of the columns.
        legend: Colours of the pictures by what they mean.
    """
    height = 1.75 * max(1, len(rows)) + 0.4
    figure = Figure(figsize=(1.75 * len(titles), height), layout="constrained")
    axes = figure.subplots(max(1, len(rows)), len(titles), squeeze=False)
    for line, (label, cells) in zip(axes, rows):
        for axis, (picture, outline) in zip(line, cells, strict=True):
            colours = "gray" if picture.ndim == 2 else None
            axis.imshow(picture, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
            if outline is not None and outline.any() and not outline.all():
                axis.contour(outline, levels=[0.5], colors=_LESION_COLOUR, linewidths=0.7)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(label, fontsize=7)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    if legend:
        patches = [Patch(color=colour, label=meaning) for meaning, colour in legend.items()]
        figure.legend(handles=patches, loc="outside upper center", ncols=len(patches), fontsize=8)
    return figure


def map_overlay(grey: NDArray[np.floating[Any]], activation: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(rows, columns) grey and map, both in [0, 1] -> (rows, columns, 3) with the map's colours where it is high."""
    colours = mpl.colormaps["inferno"](np.clip(activation, 0, 1))[..., :3]
    share = 0.65 * np.clip(activation, 0, 1)[..., None]
    return np.asarray((1 - share) * np.asarray(grey, dtype=np.float64)[..., None] + share * colours)


def agreement_picture(found: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(rows, columns) twice -> (rows, columns, 3): what both, the mask alone and the method alone call a lesion.

    Nothing of the slice itself is in it, so that pictures of data that may not be passed on can be shown.
    """
    colours = np.array([to_rgb(colour) for colour in ("black", *AGREEMENT_COLOURS.values())])
    return np.asarray(colours[found.astype(np.intp) + 2 * mask.astype(np.intp)])


def agreement_figure(measured: NDArray[Any], true: NDArray[Any], *, unit: str) -> Figure:
    """Bland and Altman's plot: measured minus true against the mean of both, with bias and limits of agreement.

    Args:
        measured, true: (n,) of the same studies, n >= 2.
        unit: Of both.
    """
    agreement = limits_of_agreement(measured, true)
    figure, (axis,) = _figure()
    axis.scatter((measured + true) / 2, measured - true, s=18, alpha=0.8)
    lines = (("mean", agreement.mean, "-"), ("limits", agreement.low, "--"), ("limits", agreement.high, "--"))
    for name, value, style in lines:
        axis.axhline(value, color="0.4", linewidth=0.9, linestyle=style)
        axis.annotate(
            f"{name} {value:.2f}",
            (1.0, value),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
        )
    axis.axhline(0.0, color="0.8", linewidth=0.8)
    axis.set(
        xlabel=f"mean of measured and true ({unit})",
        ylabel=f"measured minus true ({unit})",
        title=f"n = {agreement.n}",
    )
    axis.title.set_fontsize(9)
    return figure


def bars(values: Mapping[str, int], *, title: str, xlabel: str, ylabel: str) -> Figure:
    """Counts by name."""
    figure, (axis,) = _figure(width=max(5.0, 0.5 * len(values) + 2.0))
    axis.bar(range(len(values)), list(values.values()))
    axis.set_xticks(range(len(values)), list(values), rotation=45 if len(values) > 6 else 0, ha="center", fontsize=8)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure


def stacked_bars(values: Mapping[str, Mapping[str, float]], *, xlabel: str) -> Figure:
    """Parts by name, one lying bar a row, in the order given; the sum is written behind."""
    figure = Figure(figsize=(8.0, 0.45 * len(values) + 1.4), layout="constrained")
    axis = figure.subplots()
    names = list(values)
    left = np.zeros(len(names))
    for part in next(iter(values.values())):
        lengths = np.array([values[name][part] for name in names])
        axis.barh(range(len(names)), lengths, left=left, label=part)
        left += lengths
    for position, total in enumerate(left):
        axis.text(total, position, f" {total:.1f}", va="center", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel=xlabel, xlim=(0, 1.12 * max(1e-9, float(left.max()))))
    axis.legend(loc="lower right", fontsize=8)
    return figure


def roc_figure(curves: Mapping[str, tuple[RocCurve, float]]) -> Figure:
    """ROC curves by the name of the score, with their AUC."""
    figure, (axis,) = _figure()
    for name, (curve, auc) in curves.items():
        axis.step(curve.false_positive_rate, curve.sensitivity, where="post", label=f"{name}: AUC {auc:.3f}")
    axis.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
    axis.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.legend(loc="lower right", fontsize=8)
    return figure


def sweep_figure(sweep: Sequence[VerdictRates], chosen: float) -> Figure:
    """Sensitivity and specificity with their intervals against the threshold; the one in use is marked."""
    figure, (axis,) = _figure()
    thresholds = [rates.threshold for rates in sweep]
    for name in ("sensitivity", "specificity"):
        rates = [getattr(one, name) for one in sweep]
        if any(rate.value is None for rate in rates):
            continue
        line = axis.step(thresholds, [rate.value for rate in rates], where="post", label=name)[0]
        low, high = [rate.low for rate in rates], [rate.high for rate in rates]
        axis.fill_between(thresholds, low, high, step="post", alpha=0.2, color=line.get_color(), linewidth=0)
    axis.axvline(chosen, color="0.4", linewidth=0.8, linestyle="--", label=f"in use: more than {chosen:g}")
    axis.set(xlabel="positive when more slices than this are infected", ylabel="rate", ylim=(-0.02, 1.02))
    axis.legend(loc="best", fontsize=8)
    return figure


def reliability_figure(points: Mapping[str, Sequence[ReliabilityBin]]) -> Figure:
    """Observed rate against mean probability of bins of equal mass."""
    figure, (axis,) = _figure()
    for name, bins in points.items():
        axis.plot(
            [one.mean_probability for one in bins],
            [one.observed_rate for one in bins],
            marker="o",
            label=f"{name} (n = {sum(one.n for one in bins)})",
        )
    axis.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
    axis.set(xlabel="predicted probability", ylabel="observed rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.legend(loc="best", fontsize=8)
    return figure
