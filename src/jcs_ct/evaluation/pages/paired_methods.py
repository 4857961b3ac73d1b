"""Methods beside each other: means with intervals over patients, and every method against the first, paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jcs_ct.evaluation.pages.tables import NO_INTERVAL, Cell, Column, Table, interval_cells
from jcs_ct.experiments.judged_slices import CaseSet
from jcs_ct.metrics.bootstrap import (
    DEFAULT_RESAMPLING,
    Interval,
    PairedDifference,
    Resampling,
    paired_difference,
)
from jcs_ct.metrics.overlap import PerImage

#: Groups of fewer patients than this are not reported.
LEAST_PATIENTS = 5


@dataclass(frozen=True)
class Measure:
    """A per-image figure: its key with unit, its title, what to multiply it by, and which way is better."""

    key: str
    title: str
    scale: float
    higher_is_better: bool


def mean_interval(values: PerImage, patients: Sequence[str], resampling: Resampling) -> Interval:
    """The mean over the images that define a measure, with its interval over patients.

    No interval where fewer than ``LEAST_GROUPS`` patients have an image that defines it.
    """

    def mean(rows: NDArray[np.int64]) -> float | None:
        defined = values.defined[rows]
        return float(values.values[rows][defined].mean()) if defined.any() else None

    return resampling.interval(mean, patients, parts=[values.defined])


@dataclass(frozen=True)
class Comparison:
    """One measure of two methods on the same cases: ``second`` minus ``first``.

    Args:
        first, second: Names of the methods.
        measure: What is compared.
        difference: With its interval over patients and the p of the paired permutation test.
        p_holm: The p adjusted for all comparisons of this measure made together (Holm 1979).
    """

    first: str
    second: str
    measure: Measure
    difference: PairedDifference
    p_holm: float


class Scored(Protocol):
    """A method with one value an image and measure."""

    @property
    def name(self) -> str:
        """Of the method."""
        ...

    @property
    def per_image(self) -> Mapping[str, PerImage]:
        """(n,) values by measure."""
        ...


def compare_methods(
    methods: Sequence[Scored],
    cases: CaseSet,
    *,
    measures: Sequence[Measure],
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> tuple[Comparison, ...]:
    """Compare every method with the first one, measure by measure, on the images that define the measure.

    Raises:
        ValueError: scores of other cases.
    """
    units = np.asarray(cases.units)
    found: list[Comparison] = []
    for measure in measures:
        made = []
        for other in methods[1:]:
            first, second = methods[0].per_image[measure.key], other.per_image[measure.key]
            defined = first.defined & second.defined
            if not defined.any():
                continue
            difference = paired_difference(
                first.values[defined],
                second.values[defined],
                units[defined],
                generator=resampling.generator(),
                draws=resampling.draws,
                confidence=resampling.confidence,
            )
            made.append((other.name, difference))
        adjusted = holm([difference.p_value for _, difference in made])
        found += [
            Comparison(methods[0].name, name, measure, difference, p)
            for (name, difference), p in zip(made, adjusted, strict=True)
        ]
    return tuple(found)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p-values that are judged together, in their order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def differences_table(comparisons: Sequence[Comparison], *, resampling: Resampling = DEFAULT_RESAMPLING) -> Table:
    """Paired differences of every method to the first one."""
    rows: list[dict[str, Cell]] = []
    for item in comparisons:
        row: dict[str, Cell] = {
            "method": item.second,
            "minus": item.first,
            "measure": item.measure.key,
            "better": "higher" if item.measure.higher_is_better else "lower",
            "p_value": item.difference.p_value,
            "p_holm": item.p_holm,
            "n_images": item.difference.n,
            "n_patients": item.difference.n_groups,
        }
        rows.append(row | interval_cells("difference", item.difference.interval))
    columns = (
        Column("method", "method"),
        Column("minus", "minus"),
        Column("measure", "measure"),
        Column("better", "better is"),
        Column("difference", "difference", 2, True),
        Column("p_value", "p", 4),
        Column("p_holm", "p (Holm)", 4),
        Column("n_images", "images"),
        Column("n_patients", "patients"),
    )
    notes = (
        f"Paired by slice; interval of {resampling.draws} bootstrap draws of patients ({NO_INTERVAL}), p of the "
        "paired permutation test that swaps the methods patient by patient; Holm over the methods of one "
        "measure. Differences in the measure's own unit.",
    )
    return Table("differences", "Paired differences", columns, tuple(rows), notes)
