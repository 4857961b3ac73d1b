"""Choosing the operating point, on validation patients only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jcs_ct.data.datasets import SliceDataset
from jcs_ct.data.manifest import Manifest
from jcs_ct.engine import Execution, ReadyClassifier, ReadySegmenter, inference, placed
from jcs_ct.errors import ConfigError
from jcs_ct.operating_point import SHARE_SLACK, OperatingPoint
from jcs_ct.progress import CountProgress, Progress, silent
from jcs_ct.training.training_data import validation_batches

#: Slice spacing that the paper's threshold of 25 slices is taken to be meant for.
_SPACING_MM = 1.0
#: Cuts tried for a lesion pixel.
LESION_CUTS = tuple(float(cut) for cut in np.round(np.arange(0.2, 0.81, 0.05), 2))


@dataclass(frozen=True, eq=False)
class SliceScores:
    """A classifier's probabilities on the labelled slices of a manifest, row by row."""

    probability: NDArray[np.float64]
    infected: NDArray[np.bool_]
    sources: tuple[str, ...]
    patients: tuple[str, ...]

    def by_patient(self) -> list[dict[str, Any]]:
        """Probabilities patient by patient, without their names, as JSON values: what other cuts would have given.

        Returns:
            For each patient ``source`` and the probabilities of the ``infected`` and the ``uninfected`` slices, to
            three digits.
        """
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for probability, infected, source, patient in zip(
            self.probability, self.infected, self.sources, self.patients, strict=True
        ):
            row = rows.setdefault((source, patient), {"source": source, "infected": [], "uninfected": []})
            row["infected" if infected else "uninfected"].append(round(float(probability), 3))
        return list(rows.values())


@dataclass(frozen=True, eq=False)
class Calibration:
    """An operating point and what it rests on.

    Args:
        point: The operating point.
        figures: ``slice`` (sensitivity, specificity) and ``lesion`` (Dice) on the validation patients.
        patients: How many patients ``slice`` and ``lesion`` are each of.
        scores: The classifier's probabilities on their slices.
    """

    point: OperatingPoint
    figures: dict[str, dict[str, float]]
    patients: dict[str, int]
    scores: SliceScores


def score_slices(
    ready: ReadyClassifier, manifest: Manifest, *, execution: Execution, progress: CountProgress | None = None
) -> SliceScores:
    """Run a classifier over a manifest's slices; ``progress`` is called with (slices done, total)."""
    labelled = Manifest(tuple(row for row in manifest if row.label is not None))
    dataset = SliceDataset(labelled, ready.preprocessor, cache=False)
    network = placed(ready.network, execution.torch_device)
    found: list[NDArray[np.float64]] = []
    done = 0
    for batch in validation_batches(dataset, execution.torch_device, size=execution.batch_size):
        with inference(execution):
            probability = torch.softmax(network(batch.images).float(), dim=1)[:, 1]
        found.append(probability.double().cpu().numpy())
        done += len(batch.images)
        if progress is not None:
            progress(done, len(labelled))
    return SliceScores(
        np.concatenate(found) if found else np.zeros(0),
        np.array([row.label == 1 for row in labelled], dtype=bool),
        tuple(row.source for row in labelled),
        tuple(row.patient for row in labelled),
    )


def with_lesions(manifest: Manifest) -> Manifest:
    """The infected slices with a lesion mask, which tell a segmenter's Dice."""
    return Manifest(tuple(row for row in manifest if row.mask is not None and row.label == 1))


def dice_at_cuts(
    ready: ReadySegmenter,
    manifest: Manifest,
    cuts: Sequence[float] = LESION_CUTS,
    *,
    execution: Execution,
    progress: CountProgress | None = None,
) -> NDArray[np.float64]:
    """(slices, cuts) Dice of every infected slice with a mask, at the network's own resolution.

    NaN where the lesion is too small for that resolution: no cut could find it.
    """
    masked = with_lesions(manifest)
    dataset = SliceDataset(masked, ready.preprocessor, cache=False)
    network = placed(ready.network, execution.torch_device)
    levels = torch.tensor(cuts, device=execution.torch_device)[None, :, None, None]
    scores: list[NDArray[np.float64]] = []
    done = 0
    for batch in validation_batches(dataset, execution.torch_device, size=execution.batch_size):
        with inference(execution):
            found = network.predict(batch.images).float() >= levels
            truth = batch.masks >= 0.5
            overlap = (found & truth).sum(dim=(2, 3)).double()
            pixels = truth.sum(dim=(2, 3)).double()  # (N, 1)
            dice = 2.0 * overlap / (found.sum(dim=(2, 3)) + pixels).clamp(min=1.0)
            scores.append(dice.masked_fill(pixels == 0, torch.nan).cpu().numpy())
        done += len(batch.images)
        if progress is not None:
            progress(done, len(masked))
    return np.concatenate(scores) if scores else np.zeros((0, len(cuts)))


def choose_operating_point(
    classifier: ReadyClassifier,
    segmenter: ReadySegmenter,
    validation: Manifest,
    *,
    least_specificity: float = 0.95,
    lesion_probability: float | None = None,
    execution: Execution,
    progress: Progress = silent,
) -> Calibration:
    """Choose both cuts on validation patients; the slice count is the paper's 25, for slices 1 mm apart.

    With ``lesion_probability`` the lesions' cut is given: cross-validation over whole volumes chose it, say, and the
    validation patients only tell the Dice there.

    Raises:
        ConfigError: the manifest lacks infected, uninfected or masked slices.
    """
    scores = score_slices(
        classifier,
        validation,
        execution=execution,
        progress=lambda done, total: progress("classifier", done, total),
    )
    slice_cut, slice_figures = choose_slice_probability(
        scores.probability, scores.infected, scores.sources, least_specificity=least_specificity
    )
    cuts = LESION_CUTS if lesion_probability is None else (lesion_probability,)
    overlaps = dice_at_cuts(
        segmenter,
        validation,
        cuts,
        execution=execution,
        progress=lambda done, total: progress("segmenter", done, total),
    )
    seen = ~np.isnan(overlaps[:, 0])
    if not seen.any():
        raise ConfigError(
            "choosing the lesion probability needs validation slices with a lesion mask, of lesions that are not too "
            "small for the network's input size"
        )
    lesion_cut, lesion_figures = choose_lesion_probability(overlaps[seen], cuts)
    point = OperatingPoint(slice_cut, reference_spacing_mm=_SPACING_MM, lesion_probability=lesion_cut)
    patients = {
        "slice": len(set(zip(scores.sources, scores.patients, strict=True))),
        "lesion": len({(row.source, row.patient) for row in compress(with_lesions(validation), seen)}),
    }
    return Calibration(point, {"slice": slice_figures, "lesion": lesion_figures}, patients, scores)


def source_weights(labels: NDArray[np.bool_], sources: Sequence[str]) -> NDArray[np.float64]:
    """Weights that make every source count alike within its label; each label's weights sum to 1."""
    names = np.asarray(sources)
    weights = np.zeros(len(labels), dtype=np.float64)
    for label in (False, True):
        present = sorted(set(names[labels == label]))
        for name in present:
            part = (labels == label) & (names == name)
            weights[part] = 1.0 / (len(present) * part.sum())
    return weights


def choose_slice_probability(
    probability: NDArray[np.float64],
    labels: NDArray[np.bool_],
    sources: Sequence[str],
    *,
    least_specificity: float = 0.95,
) -> tuple[float, dict[str, float]]:
    """The cut with the largest sensitivity + specificity among those specific enough, sources counted alike.

    Where no cut is specific enough it is the most specific one, and the figures say how specific that is.

    A patient's verdict counts slices, and most slices of a healthy chest are uninfected: a few per cent of false
    slices are what the patient rule tolerates, hence the floor under the specificity.

    Args:
        probability: (n,) of infection.
        labels: (n,) True where infected.
        sources: (n,) data set of each slice.
        least_specificity: Floor under the source-balanced specificity.

    Returns:
        The cut, and ``sensitivity`` and ``specificity`` at it on these slices.

    Raises:
        ConfigError: only one label is present.
    """
    if labels.all() or not labels.any():
        raise ConfigError("choosing an operating point needs infected and uninfected validation slices")
    weights = source_weights(labels, sources)
    cuts = np.round(np.arange(0.02, 0.99, 0.01), 2)
    found = probability[None, :] >= cuts[:, None]
    sensitivity = (found * (weights * labels)).sum(axis=1)
    specificity = (~found * (weights * ~labels)).sum(axis=1)
    is_enough = specificity >= least_specificity - SHARE_SLACK
    value = np.where(is_enough, sensitivity + specificity, specificity - 2.0)
    best = int(value.argmax())
    figures = {"sensitivity": float(sensitivity[best]), "specificity": float(specificity[best])}
    return float(cuts[best]), figures


def choose_lesion_probability(overlaps: NDArray[np.float64], cuts: Sequence[float]) -> tuple[float, dict[str, float]]:
    """The cut with the largest mean Dice.

    Args:
        overlaps: (slices, cuts) Dice of each validation slice at each cut.
        cuts: (cuts,) probabilities.
    """
    mean = overlaps.mean(axis=0)
    position = int(mean.argmax())
    return float(cuts[position]), {"dice": float(mean[position])}
