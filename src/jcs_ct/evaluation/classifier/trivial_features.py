"""What size, brightness and sharpness alone tell of a label: the AUC that every classifier's AUC stands beside.

Data sets differ in how their pictures were cropped, windowed, resized and compressed. What such features reach under
the same folds is no sign of disease; a classifier's AUC says something only by as much as it lies above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jcs_ct.data.manifest import Manifest, ManifestRow, read_grey
from jcs_ct.errors import ConfigError
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.tables import NO_INTERVAL, Cell, Column, Table, interval_cells
from jcs_ct.metrics.bootstrap import DEFAULT_RESAMPLING, Resampling
from jcs_ct.metrics.classification import drawn_auc
from jcs_ct.progress import CountProgress

#: Features by what they stand for, in the order of :func:`trivial_features`.
GROUPS: Mapping[str, tuple[int, ...]] = {
    "size": (0, 1, 2),
    "brightness": (3, 4, 5, 6),
    "sharpness": (7, 8, 9),
    "all together": tuple(range(10)),
}
#: Folds where the manifest names none.
DEFAULT_FOLDS = 5


def trivial_features(grey: NDArray[np.float32]) -> NDArray[np.float64]:
    """(rows, columns) grey in [0, 1] -> (10,) features that know nothing of lungs.

    Rows, columns and their ratio; mean, standard deviation and the 10th and 90th percentile of the grey levels; mean
    absolute Laplacian, its 99th percentile, and the share of the variance that a Gaussian of 1 pixel takes away.
    """
    rows, columns = grey.shape
    edges = np.abs(ndimage.laplace(grey))
    fine = grey - ndimage.gaussian_filter(grey, 1.0)
    low, high = np.percentile(grey, (10, 90))
    spread = float(grey.std())
    lost = float(fine.var()) / max(spread**2, 1e-9)
    sharp = (float(edges.mean()), float(np.percentile(edges, 99)), lost)
    return np.array([rows, columns, columns / rows, float(grey.mean()), spread, low, high, *sharp], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class TrivialScores:
    """Out-of-fold probabilities of infection from trivial features.

    Args:
        infected: (n,) the truth.
        patients: (n,) resampled as a whole.
        probability: (n,) by the group of features.
        folds: How many folds there were.
    """

    infected: NDArray[np.bool_]
    patients: tuple[str, ...]
    probability: Mapping[str, NDArray[np.float64]]
    folds: int


def score_trivially(manifest: Manifest, *, seed: int = 0, progress: CountProgress | None = None) -> TrivialScores:
    """Predict each fold's labels by trees on trivial features of the other folds.

    Args:
        manifest: Labelled slices. Where some stand in a fold, these alone are judged, parted by their folds; where
            none does, patients are dealt to five folds, those of a group together.
        seed: Of the trees, and of the dealing.
        progress: Called with slices measured and to measure.

    Raises:
        ConfigError: fewer than two folds or patients, one label only, or studies in the place of slices.
    """
    rows = [row for row in manifest if row.label is not None and not row.is_study]
    if not rows and any(row.is_study for row in manifest):
        raise ConfigError("the manifest holds studies; write their slices with `jcs data slices` and use those")
    rows = [row for row in rows if row.fold is not None] or rows
    infected = np.array([row.label == 1 for row in rows], dtype=bool)
    if not infected.any() or infected.all():
        raise ConfigError("trivial features need infected and uninfected slices; the manifest holds one label only")
    features = []
    for number, row in enumerate(rows):
        features.append(trivial_features(read_grey(row.path)))
        if progress is not None:
            progress(number + 1, len(rows))
    folds = deal_folds(rows, infected, seed=seed)
    every = np.stack(features)
    probability = {name: _out_of_fold(every[:, list(which)], infected, folds, seed) for name, which in GROUPS.items()}
    return TrivialScores(infected, tuple(row.unit for row in rows), probability, len(set(folds)))


def deal_folds(rows: Sequence[ManifestRow], infected: NDArray[np.bool_], *, seed: int) -> NDArray[np.int64]:
    """(rows,) the fold of each: of the manifest's column, or dealt by label, patients and their groups kept together.

    Not by ``patient_folds``, which needs a third fold to choose on and evens out kinds of patients: here two folds
    do, and each has its share of infected slices.

    Raises:
        ConfigError: one patient, or one fold.
    """
    if rows[0].fold is not None:
        folds = np.array([row.fold for row in rows], dtype=np.int64)
    else:
        from sklearn.model_selection import StratifiedGroupKFold

        units = [row.unit for row in rows]
        count = min(DEFAULT_FOLDS, len(set(units)))
        if count < 2:
            raise ConfigError("trivial features are judged across patients; the manifest holds one patient")
        folds = np.zeros(len(rows), dtype=np.int64)
        dealer = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        for number, (_, held_out) in enumerate(dealer.split(folds[:, None], infected, units)):
            folds[held_out] = number
    if len(set(folds.tolist())) < 2:
        raise ConfigError("trivial features are judged across folds; the manifest's fold column names one only")
    return folds


def _out_of_fold(
    features: NDArray[np.float64], infected: NDArray[np.bool_], folds: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    found = np.zeros(len(infected), dtype=np.float64)
    for fold in np.unique(folds):
        held_out = folds == fold
        known = infected[~held_out]
        if known.all() or not known.any():
            found[held_out] = float(known.mean())
            continue
        trees = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, max_leaf_nodes=8, random_state=seed)
        found[held_out] = trees.fit(features[~held_out], known).predict_proba(features[held_out])[:, 1]
    return found


def evaluate_trivial_features(
    scores: Mapping[str, TrivialScores], *, title: str, resampling: Resampling = DEFAULT_RESAMPLING
) -> Evaluation:
    """The page: one row a source and group of features, AUC over all folds with its interval over patients."""
    rows: list[Mapping[str, Cell]] = []
    for source, one in scores.items():
        for name, probability in one.probability.items():
            auc = drawn_auc(one.infected, probability)
            interval = resampling.interval(auc, one.patients, parts=[one.infected, ~one.infected])
            cells: dict[str, Cell] = {"source": source, "features": name, "n": len(one.infected), "folds": one.folds}
            rows.append(cells | {"n_patients": len(set(one.patients))} | interval_cells("auc", interval))
    columns = (
        Column("source", "source"),
        Column("features", "features"),
        Column("auc", "AUC", 3, True),
        Column("n", "slices"),
        Column("n_patients", "patients"),
        Column("folds", "folds"),
    )
    notes = (
        "Gradient-boosted trees on features of the picture as it is stored; every slice is judged by trees that saw "
        "none of its fold. [ , ] are 95 % bootstrap intervals over patients; "
        f"{NO_INTERVAL}.",
        "What these reach is no sign of disease: a classifier's AUC under the same folds counts by what lies above.",
    )
    table = Table("trivial_features", "Trivial features: AUC of infection by slice", columns, tuple(rows), notes)
    return Evaluation(title, (table,), {}, {"bootstrap_draws": resampling.draws}, ())
