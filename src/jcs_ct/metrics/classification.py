"""Metrics of verdicts: discrimination."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def roc_auc(truth: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Area under the ROC curve: the chance that an infected case scores above an uninfected one, ties counting half.

    Args:
        truth: (n,) True where infected.
        score: (n,) greater means more infected.

    Returns:
        In [0, 1]; NaN when only one class is present.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))
