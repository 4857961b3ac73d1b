"""How well an activation map points at the lesions, on slices that have one.

Maps are at least 0, brought to the mask's grid bilinearly first (:func:`upsample_map`). Every score is to be read
beside :func:`iou_ceiling`, what a perfect map of the same coarse grid reaches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jcs_ct.metrics.classification import average_precision, average_ranks, roc_auc
from jcs_ct.metrics.overlap import Counts, dice_score, iou_score

Map = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


def upsample_map(values: Map, shape: tuple[int, int]) -> NDArray[np.float64]:
    """(h, w) -> (rows, columns), bilinear between pixel centres, constant beyond the outer ones."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 1 or min(shape) < 1:
        raise ValueError(f"a map must be (h, w) with pixels, got {values.shape} for a grid of {shape}")
    rows, columns = (_interpolation(have, wanted) for have, wanted in zip(values.shape, shape, strict=True))
    return np.asarray(rows @ values @ columns.T)


def _interpolation(have: int, wanted: int) -> NDArray[np.float64]:
    """(wanted, have) weights of linear interpolation; pixel centres at half-integers (align_corners False)."""
    position = np.clip((np.arange(wanted) + 0.5) * have / wanted - 0.5, 0, have - 1)
    lower = np.minimum(position.astype(int), max(0, have - 2))
    weights = np.zeros((wanted, have))
    share = position - lower
    weights[np.arange(wanted), lower] = 1 - share
    if have > 1:
        weights[np.arange(wanted), lower + 1] += share
    return weights


def pointing_game(activation: Map, mask: Mask) -> float:
    """1 when the map's maximum lies inside the mask, 0 when not; of equal maxima, the share that does.

    Raises:
        ValueError: an empty mask, shapes that differ, or a map with values below 0.
    """
    activation = _pair(activation, mask)
    return float(mask[activation == activation.max()].mean())


@dataclass(frozen=True)
class EnergyScore:
    """Energy-based pointing game.

    Args:
        inside: Share of the map's sum that lies inside the mask; 0 for a map of zeros.
        enrichment: ``inside`` over the lesion's share of the image; 1 is a map that knows nothing.
    """

    inside: float
    enrichment: float


def energy_pointing_game(activation: Map, mask: Mask) -> EnergyScore:
    """Sum(map * mask) / sum(map), and its enrichment.

    Raises:
        ValueError: as :func:`pointing_game`.
    """
    activation = _pair(activation, mask)
    total = float(activation.sum())
    inside = float(activation[mask].sum()) / total if total > 0 else 0.0
    return EnergyScore(inside, inside / float(mask.mean()))


def pixel_auroc(activation: Map, mask: Mask) -> float:
    """ROC AUC of the pixels; 0.5 for a constant map, or a mask that is full.

    Raises:
        ValueError: as :func:`pointing_game`.
    """
    return roc_auc(mask.ravel(), _pair(activation, mask).ravel())


def pixel_average_precision(activation: Map, mask: Mask) -> float:
    """Average precision of the pixels; a constant map scores the lesion's share of the image.

    Raises:
        ValueError: as :func:`pointing_game`.
    """
    return average_precision(mask.ravel(), _pair(activation, mask).ravel())


def thresholded_iou(activation: Map, mask: Mask, *, threshold: float) -> float:
    """IoU of the map's pixels of at least ``threshold`` times its maximum; a map of zeros finds nothing: 0.

    Args:
        activation: (rows, columns), at least 0.
        mask: Same shape, not empty.
        threshold: In (0, 1]; tuned on training data only, with :func:`tune_threshold`.

    Raises:
        ValueError: as :func:`pointing_game`, or a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], as a share of the map's maximum, got {threshold}")
    activation = _pair(activation, mask)
    highest = float(activation.max())
    found = activation >= threshold * highest if highest > 0 else np.zeros_like(mask)
    return float(iou_score(Counts.of(found, mask)).values)


def tune_threshold(
    pairs: Iterable[tuple[Map, Mask]], *, candidates: Sequence[float] = tuple(np.arange(1, 20) / 20)
) -> float:
    """The candidate with the best mean IoU over (map, mask) pairs of **training** slices; the lowest of equals.

    Raises:
        ValueError: no pairs or no candidates.
    """
    scores = np.array(
        [[thresholded_iou(activation, mask, threshold=cut) for cut in candidates] for activation, mask in pairs]
    )
    if scores.size == 0:
        raise ValueError("needs at least one pair and one candidate to tune a threshold")
    return float(candidates[int(scores.mean(axis=0).argmax())])


def best_iou(activation: Map, mask: Mask) -> float:
    """The largest IoU that any threshold reaches on this very mask: a bound, not a result.

    Raises:
        ValueError: as :func:`pointing_game`.
    """
    values = _pair(activation, mask).ravel()
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    tp = np.cumsum(mask.ravel()[order])[last]
    found = last + 1
    return float((tp / (found + np.count_nonzero(mask) - tp)).max())


def iou_ceiling(mask: Mask, grid: tuple[int, int]) -> float:
    """What a perfect map of a coarse grid reaches: the mask's own area per cell, upsampled, at its best threshold.

    Args:
        mask: (rows, columns), not empty.
        grid: (h, w) of the network's map, as (7, 7).

    Raises:
        ValueError: an empty mask or a grid finer than the mask.
    """
    if not mask.any():
        raise ValueError("explanations are scored on slices with a lesion: the mask is empty")
    if min(grid) < 1 or grid[0] > mask.shape[0] or grid[1] > mask.shape[1]:
        raise ValueError(f"grid {grid} does not fit a mask of {mask.shape}")
    rows, columns = (_cells(have, wanted) for have, wanted in zip(mask.shape, grid, strict=True))
    return best_iou(upsample_map(rows @ mask.astype(np.float64) @ columns.T, _shape(mask)), mask)


def _cells(have: int, wanted: int) -> NDArray[np.float64]:
    """(wanted, have) weights that average the pixels each cell covers, shares of pixels included."""
    edges = np.arange(wanted + 1) * have / wanted
    covered = np.minimum(edges[1:, None], np.arange(1, have + 1)) - np.maximum(edges[:-1, None], np.arange(have))
    return np.asarray(np.clip(covered, 0, None) * wanted / have)


@dataclass(frozen=True)
class ExplanationScores:
    """All scores of one slice's map."""

    pointing: float
    energy_inside: float
    energy_enrichment: float
    auroc: float
    average_precision: float
    iou: float
    dice: float
    ceiling_iou: float


def score_explanation(activation: Map, mask: Mask, *, threshold: float) -> ExplanationScores:
    """Score one slice's map against its mask.

    Args:
        activation: (h, w) as the network gives it, at least 0.
        mask: (rows, columns), not empty.
        threshold: Share of the maximum, from :func:`tune_threshold` on training slices.

    Raises:
        ValueError: as the single scores.
    """
    fine = upsample_map(activation, _shape(mask))
    energy = energy_pointing_game(fine, mask)
    iou = thresholded_iou(fine, mask, threshold=threshold)
    found = fine >= threshold * fine.max() if fine.max() > 0 else np.zeros_like(mask)
    rows, columns = activation.shape
    return ExplanationScores(
        pointing=pointing_game(fine, mask),
        energy_inside=energy.inside,
        energy_enrichment=energy.enrichment,
        auroc=pixel_auroc(fine, mask),
        average_precision=pixel_average_precision(fine, mask),
        iou=iou,
        dice=float(dice_score(Counts.of(found, mask)).values),
        ceiling_iou=iou_ceiling(mask, (min(rows, mask.shape[0]), min(columns, mask.shape[1]))),
    )


def map_similarity(first: Map, second: Map) -> float:
    """Spearman correlation of two maps' pixels: the randomised-weights check (Adebayo et al., NeurIPS 2018).

    A map of a network whose weights were drawn anew must not resemble the trained network's map: near 0 passes.

    Returns:
        In [-1, 1]; 0 when a map is constant, unless both are: 1.

    Raises:
        ValueError: shapes that differ, or values that are not finite.
    """
    if first.shape != second.shape:
        raise ValueError(f"maps must have one shape, got {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("maps must be finite to be ranked")
    a, b = (average_ranks(values.ravel()) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    if scale == 0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return float(np.clip(a @ b / scale, -1.0, 1.0))


def _pair(activation: Map, mask: Mask) -> NDArray[np.float64]:
    if mask.dtype != np.bool_:
        raise ValueError(f"mask must be bool, got {mask.dtype}")
    if activation.shape != mask.shape:
        raise ValueError(f"map {activation.shape} must be on the mask's grid {mask.shape}: see upsample_map")
    if not mask.any():
        raise ValueError("explanations are scored on slices with a lesion: the mask is empty")
    values = np.asarray(activation, dtype=np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError("an activation map must be finite and at least 0")
    return values


def _shape(mask: Mask) -> tuple[int, int]:
    rows, columns = mask.shape
    return rows, columns
