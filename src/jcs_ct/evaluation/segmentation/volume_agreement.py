"""Whole volumes: Dice of each, and its burden beside the true one (Bland-Altman).

Slices of a manifest say nothing of their pixels' size, so that burden is the share of the lungs in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest import read_grey, read_hu
from jcs_ct.evaluation.pages.tables import Cell, Column, Table
from jcs_ct.evaluation.segmentation.slice_lungs import lungs_within_body
from jcs_ct.experiments.judged_slices import Case, CaseSet
from jcs_ct.experiments.lesion_predictions import Predictions
from jcs_ct.metrics.agreement import Agreement, limits_of_agreement
from jcs_ct.metrics.overlap import Counts, dice_score

#: A patient with fewer slices is not taken for a volume.
LEAST_SLICES = 10
#: Volumes below which there is no table of them; of those with lung, no limits of agreement.
LEAST_VOLUMES = 3


@dataclass(frozen=True, eq=False)
class Volumes:
    """The patients that are volumes.

    Args:
        members: Indices of each volume's cases; volumes in the order of their first case.
        lung_pixels: Pixels of lung, lesions included, of each; None where not every slice's picture is known.
        lesion_pixels: True ones of each.
    """

    members: tuple[tuple[int, ...], ...]
    lung_pixels: NDArray[np.int64] | None
    lesion_pixels: NDArray[np.int64]


def find_volumes(cases: CaseSet, masks: Sequence[NDArray[np.bool_]]) -> Volumes | None:
    """The volumes of a set of cases; None where there are fewer than :data:`LEAST_VOLUMES`.

    Args:
        cases: Those of a patient of one source are one volume.
        masks: (rows, columns) bool, one a case.

    Raises:
        ConfigError: a picture cannot be read.
    """
    by_patient: dict[tuple[str, str], list[int]] = {}
    for index, patient in enumerate(cases.patients):
        by_patient.setdefault(patient, []).append(index)
    members = tuple(tuple(indices) for indices in by_patient.values() if len(indices) >= LEAST_SLICES)
    if len(members) < LEAST_VOLUMES:
        return None
    lesions = np.array([sum(int(masks[index].sum()) for index in indices) for indices in members])
    wanted = [index for indices in members for index in indices]
    pictured = all((image := cases.cases[index].image) is not None and image.is_file() for index in wanted)
    if not pictured:
        return Volumes(members, None, lesions)
    pixels = {index: int((_lungs(cases.cases[index]) | masks[index]).sum()) for index in wanted}
    return Volumes(members, np.array([sum(pixels[index] for index in indices) for indices in members]), lesions)


def _lungs(case: Case) -> NDArray[np.bool_]:
    assert case.image is not None  # only pictured slices are asked for
    return lungs_within_body(read_grey(case.image), read_hu(case.image, case.window)) > 0


@dataclass(frozen=True, eq=False)
class VolumeScores:
    """What a method says of every volume.

    Args:
        name: Of the method.
        dice_percent: (volumes,) of all pixels of a volume together; 100 where neither has a lesion.
        burden_percent, true_burden_percent: (volumes,) lesions in percent of the lungs; NaN for a volume in which no
            lung is found; None where not every slice's picture is known.
    """

    name: str
    dice_percent: NDArray[np.float64]
    burden_percent: NDArray[np.float64] | None
    true_burden_percent: NDArray[np.float64] | None

    @property
    def burdens(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """(with lung,) burdens and true ones of the volumes that have lung; None where too few have any."""
        if self.burden_percent is None or self.true_burden_percent is None:
            return None
        known = ~np.isnan(self.burden_percent)
        if known.sum() < LEAST_VOLUMES:
            return None
        return self.burden_percent[known], self.true_burden_percent[known]

    @property
    def agreement(self) -> Agreement | None:
        """Of :attr:`burdens`."""
        return None if self.burdens is None else limits_of_agreement(*self.burdens)


def score_volumes(
    method: Predictions, masks: Sequence[NDArray[np.bool_]], volumes: Volumes, *, threshold: float
) -> VolumeScores:
    """Judge a method's predictions volume by volume.

    Args:
        method: One prediction a case.
        masks: (rows, columns) bool, one a case.
        volumes: Of the same cases.
        threshold: A pixel is a lesion when its probability is at least this.
    """
    totals, found = [], []
    for indices in volumes.members:
        counts = [Counts.of(method.probability(index) >= threshold, masks[index]) for index in indices]
        total = Counts.stack(counts).pooled()
        totals.append(total)
        found.append(int(total.tp + total.fp))
    percent = 100.0 * dice_score(Counts.stack(totals)).values
    if volumes.lung_pixels is None:
        return VolumeScores(method.name, percent, None, None)
    lungs = np.where(volumes.lung_pixels > 0, volumes.lung_pixels, np.nan)
    return VolumeScores(method.name, percent, 100.0 * np.array(found) / lungs, 100.0 * volumes.lesion_pixels / lungs)


def volumes_table(methods: Sequence[VolumeScores], volumes: Volumes, cases: CaseSet) -> Table:
    """A row a method and volume; bias and limits of agreement of the burden below."""
    rows: list[dict[str, Cell]] = []
    for method in methods:
        for number, indices in enumerate(volumes.members):
            row: dict[str, Cell] = {
                "method": method.name,
                "volume": cases.cases[indices[0]].name,
                "n_images": len(indices),
                "dice_percent": float(method.dice_percent[number]),
            }
            if method.burden_percent is not None and method.true_burden_percent is not None:
                burden, true = float(method.burden_percent[number]), float(method.true_burden_percent[number])
                if not np.isnan(burden):
                    row |= {
                        "true_burden_percent": true,
                        "burden_percent": burden,
                        "difference_percent": burden - true,
                    }
            rows.append(row)
    columns = (
        Column("method", "method"),
        Column("volume", "volume (its first slice)"),
        Column("n_images", "slices"),
        Column("dice_percent", "Dice %", 1),
        Column("true_burden_percent", "true burden, % of lung"),
        Column("burden_percent", "burden, % of lung"),
        Column("difference_percent", "difference, % of lung"),
    )
    return Table("volumes", f"Volumes ({cases.title})", columns, tuple(rows), _notes(methods, volumes))


def _notes(methods: Sequence[VolumeScores], volumes: Volumes) -> tuple[str, ...]:
    notes = [
        f"A patient with at least {LEAST_SLICES} judged slices is a volume; Dice is of all its pixels together. "
        "Lungs are found in the slices, true lesions counted in; pixels have no known size, so there are no ml. "
        "A method's burden counts every pixel that it calls lesion, beside the lungs too, which a report leaves out."
    ]
    without_lung = 0 if volumes.lung_pixels is None else int((volumes.lung_pixels == 0).sum())
    if without_lung:
        notes.append(
            f"{without_lung} volume(s) in which no lung is found have no burden and stay out of the agreement."
        )
    healthy = int((volumes.lesion_pixels == 0).sum())
    if healthy:
        notes.append(
            f"{healthy} of {len(volumes.members)} volumes have no lesion: their Dice is 100 where nothing is marked "
            "in any slice and 0 otherwise, in the mean, too."
        )
    for method in methods:
        mean = f"{method.name}: mean Dice of volumes {method.dice_percent.mean():.1f} %"
        agreement = method.agreement
        if agreement is None:
            why = (
                "the slices' pictures are not at hand, so that burden is not known"
                if volumes.lung_pixels is None
                else f"no limits of agreement of fewer than {LEAST_VOLUMES} volumes with lung"
            )
            notes.append(f"{mean}; {why}.")
            continue
        (low, high), bottom, top = agreement.mean_interval, agreement.low_interval, agreement.high_interval
        notes.append(
            f"{mean}; burden less the true one {agreement.mean:.2f} (95 % interval {low:.2f} to {high:.2f}) % of "
            f"lung, limits of agreement {agreement.low:.2f} ({bottom[0]:.2f} to {bottom[1]:.2f}) to "
            f"{agreement.high:.2f} ({top[0]:.2f} to {top[1]:.2f}), n = {agreement.n}."
        )
    return tuple(notes)
