"""Where a probability becomes a lesion, chosen for every fold on the other folds' held-out predictions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jcs_ct.errors import ConfigError
from jcs_ct.experiments.judged_slices import CaseSet
from jcs_ct.experiments.lesion_predictions import Predictions
from jcs_ct.experiments.methods import require_own_folders

#: Levels (probability times 255) that are tried.
CUTS = tuple(range(8, 248, 8))
#: First level that counts as lesion.
_HALF = 128


@dataclass(frozen=True, eq=False)
class OwnCut:
    """A method with the cut that the other folds choose.

    Args:
        predictions: Moved, so that the cut is 0.5.
        cuts: The probability that became 0.5, by fold.
    """

    predictions: Predictions
    cuts: dict[str, float]


def cut_by_other_folds(
    predictions: Predictions, cases: CaseSet, *, name: str
) -> tuple[Predictions, dict[str, float]]:
    """Move every fold's levels so that the cut that suits the other folds best becomes 0.5.

    No mask of a fold takes part in its own cut. The networks that predicted the other folds had trained on this one's
    slices, as in every cross-validation; a single number is chosen of what they say.

    Args:
        predictions: Held-out ones, of all cases.
        cases: With masks and at least two folds.
        name: Of the method that results.

    Returns:
        The predictions, and the probability that became 0.5, by fold.

    Raises:
        ConfigError: fewer than two folds.
    """
    folds = cases.folds
    if len(folds) < 2:
        raise ConfigError("a cut is chosen on other folds than it is used on: two folds or more are needed")
    dice = np.array(
        [_dice_by_cut(level, case.read_mask()) for level, case in zip(predictions.levels, cases, strict=True)]
    )
    cuts = {}
    for fold, own in folds.items():
        others = np.setdiff1d(np.arange(len(cases)), own)
        cuts[fold] = CUTS[int(dice[others].mean(axis=0).argmax())]
    levels = tuple(_moved(level, cuts[case.fold]) for level, case in zip(predictions.levels, cases, strict=True))
    chosen = {fold: cut / 255.0 for fold, cut in cuts.items()}
    listed = ", ".join(f"{fold} {cut:.2f}" for fold, cut in chosen.items())
    note = (
        f"lesion from a probability that the other folds choose: {listed}; probabilities are moved so that it "
        "becomes 0.5, which E-measure and official IoU, with thresholds of their own, see as other probabilities"
    )
    return Predictions(name, levels, note), chosen


def check_wanted(wanted: Collection[str], names: Sequence[str]) -> None:
    """Refuse names that no method has, before hours of training end in that error.

    Raises:
        ConfigError: with the names there are.
    """
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise ConfigError(f"no method is called {', '.join(unknown)}; there are {', '.join(names) or 'none'}")


def with_own_cuts(
    methods: Sequence[Predictions], wanted: Collection[str], cases: CaseSet
) -> tuple[list[Predictions], dict[str, OwnCut]]:
    """Put ``<name>, own cut`` before each wanted method.

    Args:
        methods: Held-out predictions of all cases.
        wanted: Names of those that take part once more.
        cases: As of :func:`cut_by_other_folds`.

    Returns:
        All methods, and what was chosen and moved by the name of the method.

    Raises:
        ConfigError: a wanted method that is not there, two that make one folder, or as :func:`cut_by_other_folds`.
    """
    check_wanted(wanted, [method.name for method in methods])
    require_own_folders([method.name for method in methods if method.name in wanted])
    together: list[Predictions] = []
    own_cuts = {}
    for method in methods:
        if method.name in wanted:
            own = OwnCut(*cut_by_other_folds(method, cases, name=f"{method.name}, own cut"))
            own_cuts[method.name] = own
            together.append(own.predictions)
        together.append(method)
    return together, own_cuts


def _dice_by_cut(level: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Dice of one slice at each of :data:`CUTS`; 1 where neither has a pixel."""
    bins = np.arange(257)
    found = np.cumsum(np.histogram(level, bins)[0][::-1])[::-1][list(CUTS)]
    both = np.cumsum(np.histogram(level[mask], bins)[0][::-1])[::-1][list(CUTS)]
    total = found + int(mask.sum())
    dice: NDArray[np.float64] = np.where(total > 0, 2.0 * both / np.maximum(total, 1), 1.0)
    return dice


def _moved(level: NDArray[np.uint8], cut: int) -> NDArray[np.uint8]:
    """Levels from ``cut`` on become 128 to 255, those below 0 to 127; order is kept."""
    from_cut = _HALF + (level.astype(np.float64) - cut) * (255 - _HALF) / (255 - cut)
    below = level * ((_HALF - 1) / (cut - 1))
    return np.where(level >= cut, from_cut, below).round().astype(np.uint8)
