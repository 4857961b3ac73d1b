"""Verdicts on patients: the sweep of the slice-count threshold (Table IV), ROC, calibration, subgroups."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jcs_ct.checkpoints import Models
from jcs_ct.data.manifest import Manifest
from jcs_ct.data.manifest.table_files import read_table
from jcs_ct.engine import Execution, ReadyClassifier
from jcs_ct.errors import ConfigError, StudyError
from jcs_ct.experiments.judged_slices import patient_subgroups
from jcs_ct.experiments.operating_point_choice import score_slices
from jcs_ct.imaging import open_study
from jcs_ct.metrics.classification import top_k_mean
from jcs_ct.operating_point import OperatingPoint, Verdict
from jcs_ct.progress import CountProgress, counted
from jcs_ct.reading.diagnosis import diagnose

#: Slices whose mean probability is a patient's own probability.
TOP_K = 5
#: Decimals of a scaled count: spacings are worked out from positions, and equal scans must have equal counts.
_COUNT_DECIMALS = 3
#: Columns of a list of studies; the last three make subgroups.
STUDY_COLUMNS = ("study", "label", "patient", "group", "source", "scanner", "sex")


@dataclass(frozen=True)
class ReportedVerdict:
    """What the report of a whole study says, at the operating point.

    Args:
        verdict: Of the patient rule.
        flags: Codes of what it is reported with.
    """

    verdict: Verdict
    flags: frozenset[str]


@dataclass(frozen=True, eq=False)
class PatientReading:
    """What the classifier says of one patient.

    Args:
        infected: The truth.
        probabilities: (slices,) of the slices that show lung.
        infected_slices: (slices,) the truth of each slice, or None where it is not known.
        slice_spacing_mm: Of a whole study, which the slice-count threshold is scaled to; None takes it literally.
        subgroups: Value by the name of a grouping.
        reported: Of a whole study that was read to its end; None of slices.
        unit: What is resampled as a whole, where several patients' slices are near-duplicates; empty: the patient.
    """

    infected: bool
    probabilities: NDArray[np.float64]
    slice_spacing_mm: float | None = None
    infected_slices: NDArray[np.bool_] | None = None
    subgroups: Mapping[str, str] = field(default_factory=dict)
    reported: ReportedVerdict | None = None
    unit: str = ""

    def count(self, slice_probability: float) -> int:
        """Slices of at least this probability."""
        return int((self.probabilities >= slice_probability).sum())


@dataclass(frozen=True, eq=False)
class Cohort:
    """The patients of an evaluation, and where they become positive.

    Raises:
        ConfigError: no patients.
    """

    title: str
    patients: tuple[PatientReading, ...]
    operating_point: OperatingPoint
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.patients:
            raise ConfigError(f"{self.title}: there is no patient with a label to judge")

    @property
    def truth(self) -> NDArray[np.bool_]:
        """(n,) True where infected."""
        return np.array([patient.infected for patient in self.patients], dtype=bool)

    @property
    def units(self) -> NDArray[np.int64]:
        """(n,) number of what each patient is resampled with."""
        named = [patient.unit or f"patient {number}" for number, patient in enumerate(self.patients)]
        return np.unique(named, return_inverse=True)[1].astype(np.int64)

    def verdicts_at(self, positive_slice_threshold: int) -> tuple[Verdict, ...]:
        """What the patient rule says of each at a slice-count threshold, scaled to each study's spacing."""
        point = replace(self.operating_point, positive_slice_threshold=positive_slice_threshold)
        return tuple(
            point.rule_for(len(patient.probabilities), patient.slice_spacing_mm).verdict(
                patient.count(point.slice_probability)
            )
            for patient in self.patients
        )

    @property
    def unit_note(self) -> str:
        """What is said where several readings are of one patient or group; empty where none are."""
        units = len(set(self.units.tolist()))
        if units == len(self.patients):
            return ""
        return (
            f"{len(self.patients)} verdicts on {units} patients or groups of patients: intervals of rates are as "
            "wide as if those of one always agreed."
        )

    @property
    def has_slices(self) -> NDArray[np.bool_]:
        """(n,) whether any slice shows lung: without one there is nothing to score."""
        return np.array([len(patient.probabilities) > 0 for patient in self.patients], dtype=bool)

    def scores(self) -> dict[str, NDArray[np.float64]]:
        """(n,) by name: count and fraction of infected slices, mean of the most probable ones; 0 without slices.

        The count is that of slices as far apart as the operating point means, where the study's spacing is known.
        """
        cut = self.operating_point.slice_probability
        counts = np.array([patient.count(cut) for patient in self.patients], dtype=np.float64)
        slices = np.array([max(1, len(patient.probabilities)) for patient in self.patients])
        top = np.array([top_k_mean(patient.probabilities, TOP_K) for patient in self.patients])
        scaled = np.round(counts * self._steps(), _COUNT_DECIMALS)
        return {"count": scaled, "fraction": counts / slices, f"top-{TOP_K} mean": top}

    def _steps(self) -> NDArray[np.float64]:
        """(n,) slices of the operating point's spacing that one slice of each study stands for."""
        reference = self.operating_point.reference_spacing_mm
        return np.array(
            [
                1.0 if reference is None or patient.slice_spacing_mm is None else patient.slice_spacing_mm / reference
                for patient in self.patients
            ]
        )


def cohort_of_manifest(
    ready: ReadyClassifier,
    point: OperatingPoint,
    manifest: Manifest,
    *,
    execution: Execution,
    title: str,
    progress: CountProgress | None = None,
) -> Cohort:
    """Every patient of a manifest's labelled slices; infected when one of the slices is.

    One name in two sources is two patients, who are resampled together all the same: they may be one person.
    The slice-count threshold is taken literally: a manifest's slices are rarely whole studies, which the notes say.
    A patient with uninfected slices and others without a label may be infected, and is left out, as the notes say.
    """
    open_labels = {(row.source, row.patient) for row in manifest if row.label is None}
    infected = {(row.source, row.patient) for row in manifest if row.label == 1}
    unknown = open_labels - infected
    labelled = Manifest(
        tuple(row for row in manifest if row.label is not None and (row.source, row.patient) not in unknown)
    )
    scores = score_slices(ready, labelled, execution=execution, progress=progress)
    members: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(labelled):
        members.setdefault((row.source, row.patient), []).append(index)
    readings = [
        PatientReading(
            infected=bool(scores.infected[indices].any()),
            probabilities=scores.probability[indices],
            infected_slices=scores.infected[indices],
            subgroups=patient_subgroups([labelled.rows[index] for index in indices]),
            unit=labelled.rows[indices[0]].unit,
        )
        for indices in members.values()
    ]
    slices = np.array([len(indices) for indices in members.values()] or [0])
    note = (
        f"Patients by their slices in the manifest, {np.median(slices):g} each (median; {slices.min()} to "
        f"{slices.max()}): the slice-count rule is meant for whole studies."
    )
    notes = [note]
    if unknown:
        notes.append(
            f"{len(unknown)} patient(s) without an infected slice have slices without a label: whether they are "
            "infected is not known, and they are left out."
        )
    if open_labels & infected:
        notes.append(f"Slices without a label of {len(open_labels & infected)} infected patient(s) do not count.")
    return Cohort(title, tuple(readings), replace(point, small_study_share=None), tuple(notes))


@dataclass(frozen=True)
class StudyRow:
    """One study of a list.

    Args:
        study: Where it is.
        infected: Whether the patient is, in this study.
        subgroups: Value by the name of a grouping.
        unit: What is resampled as a whole: the group of patients, or the patient; empty: the study alone.
        where: The line, as errors name it.
    """

    study: Path
    infected: bool
    subgroups: Mapping[str, str]
    unit: str = ""
    where: str = ""


@dataclass(frozen=True)
class StudyList:
    """The studies of a table.

    Args:
        rows: Each study once, by its place.
        unread_columns: Columns that no list of studies has.
    """

    rows: tuple[StudyRow, ...]
    unread_columns: tuple[str, ...] = ()


def read_study_list(path: Path) -> StudyList:
    """CSV or Parquet with the columns study and label (1 infected, 0 not), and perhaps others.

    Studies of one ``patient`` (of one ``source``) or of one ``group`` are resampled together; a patient may be
    infected in one and not in another. ``sex``, ``scanner`` and ``source`` make subgroups.

    Raises:
        ConfigError: with every problem at once; a study in two lines is one.
    """
    table = read_table(path, what="list of studies")
    problems = list(table.problems)
    rows = []
    lines: dict[Path, str] = {}
    grouped: dict[tuple[str, str], tuple[str, str]] = {}
    for where, record in table:
        study, label = path.parent / record.get("study", ""), record.get("label", "")
        if not record.get("study") or not study.exists():
            problems.append(f"{where}: no study at {record.get('study') or 'an empty path'}")
        elif label not in ("0", "1"):
            problems.append(f"{where}: label must be 0 or 1, got {label!r}")
        elif (first := lines.setdefault(study.resolve(), where)) != where:
            problems.append(f"{where}: the study at {record['study']} is that of {first}; give each study one line")
        else:
            patient, group = record.get("patient", ""), record.get("group", "")
            known, earlier = grouped.setdefault((record.get("source", ""), patient), (group, where))
            if patient and known != group:
                problems.append(
                    f"{where}: its patient is in the group {group!r}, in {earlier} in {known!r}; give one"
                )
            groups = {name: value for name in ("source", "scanner", "sex") if (value := record.get(name, ""))}
            rows.append(StudyRow(study, label == "1", groups, _unit(record), where))
    if problems or not rows:
        listed = "\n".join(
            f"  {problem}" for problem in problems or ["it needs the columns study and label, and rows"]
        )
        raise ConfigError(f"the list of studies {path} cannot be used:\n{listed}")
    return StudyList(tuple(rows), tuple(name for name in table.columns if name and name not in STUDY_COLUMNS))


def _unit(record: Mapping[str, str]) -> str:
    """What a line's study is resampled with: its group, else its patient, whose name counts within the source."""
    if group := record.get("group", ""):
        return f"group {group}"
    patient = record.get("patient", "")
    return f"of {record.get('source', '')!r}: {patient}" if patient else ""


def refuse_repeated_studies(studies: Sequence[StudyRow], *, progress: CountProgress | None = None) -> None:
    """Open every study, and refuse those that stand in the list twice under other names.

    One study has the identifier of another (one series, copied), or its voxels (one series as DICOM and as NIfTI).
    What the gate refuses is passed over.

    Raises:
        ConfigError: with every study that repeats.
    """
    first: dict[str, StudyRow] = {}
    problems = []
    for row in counted(studies, progress):
        try:
            study = open_study(row.study)
        except StudyError:
            continue
        known = [first.setdefault(key, row) for key in (study.identifier, _voxel_hash(study.volume.hu))]
        earlier = next((one for one in known if one is not row), None)
        if earlier is not None:
            problems.append(f"{row.where}: the study at {row.study} is that of {earlier.where}, {earlier.study}")
    if problems:
        raise ConfigError("\n  ".join(["studies are listed twice; give each one line:", *problems]))


def _voxel_hash(hu: NDArray[np.generic]) -> str:
    """Of whole HU, slice by slice, so that it does not matter how a file stores them."""
    digest = hashlib.sha256(repr(hu.shape).encode())
    for plane in hu:
        digest.update(np.rint(plane).astype("<i4").tobytes())
    return digest.hexdigest()


def cohort_of_studies(
    models: Models,
    studies: Sequence[StudyRow],
    *,
    execution: Execution,
    title: str,
    progress: CountProgress | None = None,
) -> Cohort:
    """Diagnose whole studies as `jcs diagnose` does, with flags, and the threshold scaled to each one's spacing.

    A study that the gate refuses is left out and counted in the notes, with the gate's codes. That no study is
    listed twice is :func:`refuse_repeated_studies`'s to say.
    """
    readings = []
    refused: dict[str, int] = {}
    for done, row in enumerate(studies, start=1):
        try:
            study = open_study(row.study)
            diagnosis = diagnose(study, models, execution=execution)
        except StudyError as error:
            refused[str(error.code)] = refused.get(str(error.code), 0) + 1
            continue
        finally:
            if progress is not None:
                progress(done, len(studies))
        readings.append(
            PatientReading(
                infected=row.infected,
                probabilities=np.array(
                    [each.infection_probability for each in diagnosis.slices if each.has_lung], dtype=np.float64
                ),
                slice_spacing_mm=study.volume.spacing_mm[0] if study.volume.spacing_mm else None,
                subgroups=row.subgroups,
                unit=row.unit,
                reported=ReportedVerdict(diagnosis.verdict, frozenset(flag.code for flag in diagnosis.flags)),
            )
        )
    notes = ["Thresholds are scaled to each study's slice spacing, as `jcs diagnose` does."]
    if refused:
        codes = ", ".join(f"{code} {count}" for code, count in sorted(refused.items()))
        notes.append(f"{sum(refused.values())} of {len(studies)} studies were refused by the gate: {codes}.")
    return Cohort(title, tuple(readings), models.operating_point, tuple(notes))
