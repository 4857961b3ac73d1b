"""A data set described as the paper describes its own: Table III, Fig. 7 and Fig. 8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from jcs_ct.data.covid_cs.slice_annotations import SliceAnnotation, annotate_manifest
from jcs_ct.data.manifest import Manifest, ManifestRow, count_manifest
from jcs_ct.evaluation.pages.figures import bars
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.tables import Cell, Column, Table
from jcs_ct.experiments.judged_slices import SEVERAL
from jcs_ct.progress import CountProgress


def describe_manifest(manifest: Manifest, *, title: str, progress: CountProgress | None = None) -> Evaluation:
    """Counts, scanners, ages, thickness and lesions of a manifest; what is not known is counted as such.

    Raises:
        ConfigError, MaskError: a mask that cannot be read.
    """
    patients = _patients(manifest)
    annotations = annotate_manifest(manifest, progress=progress)
    tables = [_counts(manifest), _scanners(patients), _known(patients), _lesions(annotations)]
    figures = {**_patient_figures(patients), **_lesion_figures(annotations)}
    facts = {"slices": len(manifest), "patients": len(patients), "manifest_sha256": manifest.sha256}
    return Evaluation(f"Data set: {title}", tuple(tables), figures, facts)


def _counts(manifest: Manifest) -> Table:
    rows: list[Mapping[str, Cell]] = [dict(row) for row in count_manifest(manifest)]
    names = ("split", "source", "patients", "infected", "uninfected", "with_mask")
    columns = tuple(Column(name, name.replace("_", " ")) for name in names)
    return Table("counts", "Slices and patients by split and source", columns, tuple(rows))


@dataclass(frozen=True)
class _Patient:
    """One patient, by all rows; of a quantity every value that a row states.

    One name in two sources is two patients.
    """

    infected: bool
    scanners: frozenset[str]
    ages: frozenset[float]
    sexes: frozenset[str]
    thicknesses_mm: frozenset[float]


def _patients(manifest: Manifest) -> list[_Patient]:
    members: dict[tuple[str, str], list[ManifestRow]] = {}
    for row in manifest:
        members.setdefault((row.source, row.patient), []).append(row)
    return [
        _Patient(
            any(row.label == 1 for row in rows),
            frozenset(row.scanner for row in rows if row.scanner),
            frozenset(row.age for row in rows if row.age is not None),
            frozenset(row.sex for row in rows if row.sex),
            frozenset(row.thickness_mm for row in rows if row.thickness_mm is not None),
        )
        for rows in members.values()
    ]


def _word(stated: Collection[str]) -> str:
    """The value that all rows share which state one, ``several`` where they differ, else empty."""
    return SEVERAL if len(stated) > 1 else next(iter(stated), "")


def _scanners(patients: Sequence[_Patient]) -> Table:
    """Table III: positive patients by scanner."""
    positive = Counter(_word(patient.scanners) or "not known" for patient in patients if patient.infected)
    rows: list[Mapping[str, Cell]] = [
        {"scanner": name, "patients": count} for name, count in sorted(positive.items(), key=lambda item: item[1])
    ]
    columns = (Column("scanner", "scanner"), Column("patients", "positive patients"))
    return Table("table_iii", "Table III: scanners of positive patients", columns, tuple(rows))


def _known(patients: Sequence[_Patient]) -> Table:
    """Ages, sexes and slice thickness of patients, with how many are not known and how many have several."""
    quantities = (
        ("age_years", [patient.ages for patient in patients]),
        ("thickness_mm", [patient.thicknesses_mm for patient in patients]),
    )
    rows: list[Mapping[str, Cell]] = []
    for name, stated in quantities:
        values = _single(stated)
        several, unknown = sum(len(one) > 1 for one in stated), sum(not one for one in stated)
        row: dict[str, Cell] = {"quantity": name, "known": len(values), SEVERAL: several, "not_known": unknown}
        if values:
            row |= {"mean": float(np.mean(values)), "minimum": float(min(values)), "maximum": float(max(values))}
        rows.append(row)
    for sex, count in _sexes(patients).items():
        rows.append({"quantity": f"sex {sex}", "known": count})
    columns = (
        Column("quantity", "quantity"),
        Column("known", "patients"),
        Column(SEVERAL, "several values"),
        Column("not_known", "not known"),
        Column("mean", "mean"),
        Column("minimum", "minimum"),
        Column("maximum", "maximum"),
    )
    return Table("patients", "Patients", columns, tuple(rows))


def _single(stated: Iterable[frozenset[float]]) -> list[float]:
    """The values of those who have one."""
    return [value for values in stated if len(values) == 1 for value in values]


def _sexes(patients: Sequence[_Patient]) -> dict[str, int]:
    return dict(sorted(Counter(_word(patient.sexes) for patient in patients if patient.sexes).items()))


def _lesions(annotations: Sequence[SliceAnnotation]) -> Table:
    """Ranges of the lesions' fields (Fig. 8)."""
    lesions = [lesion for one in annotations for lesion in one.lesions]
    rows: list[Mapping[str, Cell]] = [
        {"quantity": "lesions on a slice", **_range([one.lesion_count for one in annotations if one.lesions])}
    ]
    rows += [
        {"quantity": name, **_range([getattr(lesion, name) for lesion in lesions])}
        for name in ("area_pixel", "width", "height")
    ]
    columns = (
        Column("quantity", "quantity"),
        Column("n", "n"),
        Column("minimum", "minimum"),
        Column("median", "median", 1),
        Column("maximum", "maximum"),
    )
    return Table("lesions", f"Lesions on {len(annotations)} slices with a mask", columns, tuple(rows))


def _range(values: Sequence[int]) -> dict[str, Cell]:
    if not values:
        return {"n": 0}
    return {"n": len(values), "minimum": min(values), "median": float(np.median(values)), "maximum": max(values)}


def _patient_figures(patients: Sequence[_Patient]) -> dict[str, tuple[Figure, str]]:
    """Fig. 7: ages by decade, sexes, thickness; only what is known for somebody, and one value."""
    figures: dict[str, tuple[Figure, str]] = {}
    decades = Counter(int(age // 10) * 10 for age in _single(patient.ages for patient in patients))
    if decades:
        named = {f"{low}-{low + 9}": decades.get(low, 0) for low in range(min(decades), max(decades) + 10, 10)}
        figures["figure-7-age"] = (bars(named, title="Ages", xlabel="years", ylabel="patients"), "Ages (Fig. 7)")
    if sexes := _sexes(patients):
        figures["figure-7-sex"] = (bars(sexes, title="Sexes", xlabel="sex", ylabel="patients"), "Sexes (Fig. 7)")
    thick = Counter(_single(patient.thicknesses_mm for patient in patients))
    if thick:
        named = {f"{value:g}": thick[value] for value in sorted(thick)}
        figure = bars(named, title="Slice thickness", xlabel="mm", ylabel="patients")
        figures["figure-7-thickness"] = (figure, "Slice thickness (Fig. 7)")
    return figures


def _lesion_figures(annotations: Sequence[SliceAnnotation]) -> dict[str, tuple[Figure, str]]:
    """Fig. 8: (a) lesions on a slice, (b) width and height, (c) area against location."""
    lesions = [(lesion, one.shape) for one in annotations for lesion in one.lesions]
    if not lesions:
        return {}
    figure = Figure(figsize=(13, 4), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    counts = Counter(one.lesion_count for one in annotations if one.lesions)
    first.bar(list(counts), list(counts.values()))
    first.set(xlabel="lesions on a slice", ylabel="slices", title="(a)")
    second.scatter([one.width for one, _ in lesions], [one.height for one, _ in lesions], s=6, alpha=0.5)
    second.set(xlabel="width (pixels)", ylabel="height (pixels)", title="(b)")
    across = [one.position_x / shape[1] for one, shape in lesions]
    down = [one.position_y / shape[0] for one, shape in lesions]
    area = np.array([one.area_pixel for one, _ in lesions], dtype=np.float64)
    dots = third.scatter(across, down, c=np.log10(area), s=6, alpha=0.7)
    figure.colorbar(dots, ax=third, label="log10 of area (pixels)")
    third.set(xlabel="centre across / width", ylabel="centre down / height", xlim=(0, 1), ylim=(1, 0), title="(c)")
    return {"figure-8": (figure, "Lesion count, size, and area against location (Fig. 8)")}
