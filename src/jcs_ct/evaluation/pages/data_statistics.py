"""A data set described as the paper describes its own: Table III, Fig. 7 and Fig. 8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jcs_ct.data.covid_cs.slice_annotations import SliceAnnotation, annotate_manifest
from jcs_ct.data.manifest import Manifest, ManifestRow, count_manifest
from jcs_ct.evaluation.pages.figures import bars
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.tables import Cell, Column, Table
from jcs_ct.progress import CountProgress


def describe_manifest(manifest: Manifest, *, title: str, progress: CountProgress | None = None) -> Evaluation:
    """Counts, scanners, ages, thickness and lesions of a manifest; what is not known is counted as such.

    Raises:
        ConfigError, MaskError: a mask that cannot be read.
    """
    patients = list({row.patient: row for row in manifest}.values())
    annotations = annotate_manifest(manifest, progress=progress)
    tables = [_counts(manifest), _scanners(manifest), _known(patients), _lesions(annotations)]
    figures = {**_patient_figures(patients), **_lesion_figures(annotations)}
    facts = {"slices": len(manifest), "patients": len(patients), "manifest_sha256": manifest.sha256}
    return Evaluation(f"Data set: {title}", tuple(tables), figures, facts)


def _counts(manifest: Manifest) -> Table:
    rows: list[Mapping[str, Cell]] = [dict(row) for row in count_manifest(manifest)]
    names = ("split", "source", "patients", "infected", "uninfected", "with_mask")
    columns = tuple(Column(name, name.replace("_", " ")) for name in names)
    return Table("counts", "Slices and patients by split and source", columns, tuple(rows))


def _scanners(manifest: Manifest) -> Table:
    """Table III: positive patients by scanner."""
    of_patient: dict[str, tuple[str, bool]] = {}
    for row in manifest:
        scanner, infected = of_patient.get(row.patient, ("", False))
        of_patient[row.patient] = (scanner or row.scanner, infected or row.label == 1)
    positive = Counter(scanner or "not known" for scanner, infected in of_patient.values() if infected)
    rows: list[Mapping[str, Cell]] = [
        {"scanner": name, "patients": count} for name, count in sorted(positive.items(), key=lambda item: item[1])
    ]
    columns = (Column("scanner", "scanner"), Column("patients", "positive patients"))
    return Table("table_iii", "Table III: scanners of positive patients", columns, tuple(rows))


def _known(patients: Sequence[ManifestRow]) -> Table:
    """Ages, sexes and slice thickness of patients, with how many are not known."""
    ages = [row.age for row in patients if row.age is not None]
    thickness = [row.thickness_mm for row in patients if row.thickness_mm is not None]
    rows: list[Mapping[str, Cell]] = []
    for name, values in (("age_years", ages), ("thickness_mm", thickness)):
        row: dict[str, Cell] = {"quantity": name, "known": len(values), "not_known": len(patients) - len(values)}
        if values:
            row |= {"mean": float(np.mean(values)), "minimum": float(min(values)), "maximum": float(max(values))}
        rows.append(row)
    for sex, count in sorted(Counter(row.sex for row in patients if row.sex).items()):
        rows.append({"quantity": f"sex {sex}", "known": count})
    columns = (
        Column("quantity", "quantity"),
        Column("known", "patients"),
        Column("not_known", "not known"),
        Column("mean", "mean"),
        Column("minimum", "minimum"),
        Column("maximum", "maximum"),
    )
    return Table("patients", "Patients", columns, tuple(rows))


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


def _patient_figures(patients: Sequence[ManifestRow]) -> dict[str, tuple[Figure, str]]:
    """Fig. 7: ages by decade, sexes, thickness; only what is known for somebody."""
    figures: dict[str, tuple[Figure, str]] = {}
    decades = Counter(int(row.age // 10) * 10 for row in patients if row.age is not None)
    if decades:
        named = {f"{low}-{low + 9}": decades.get(low, 0) for low in range(min(decades), max(decades) + 10, 10)}
        figures["figure-7-age"] = (bars(named, title="Ages", xlabel="years", ylabel="patients"), "Ages (Fig. 7)")
    sexes = dict(sorted(Counter(row.sex for row in patients if row.sex).items()))
    if sexes:
        figures["figure-7-sex"] = (bars(sexes, title="Sexes", xlabel="sex", ylabel="patients"), "Sexes (Fig. 7)")
    thick = Counter(row.thickness_mm for row in patients if row.thickness_mm is not None)
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
