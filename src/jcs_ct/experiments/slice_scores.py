"""A classifier's probabilities slice by slice, as arrays and as a CSV that anyone can score again."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest import Manifest
from jcs_ct.data.manifest.slice_names import slice_names
from jcs_ct.data.manifest.table_files import TextTable, read_table
from jcs_ct.engine import Execution, ReadyClassifier
from jcs_ct.errors import ConfigError
from jcs_ct.experiments.operating_point_choice import score_slices
from jcs_ct.files import write_text

#: Columns of the CSV. ``patient`` is a hash: equal for slices of one patient, and nothing else.
COLUMNS = ("slice", "patient", "source", "label", "run", "probability", "cut")


@dataclass(frozen=True, eq=False)
class ScoredSlices:
    """What classifiers say of slices that they were not trained on.

    Args:
        name: Of the method.
        slices: (n,) names.
        patients: (n,) hashes of the patients, or of the groups that splits keep together: resampled as a whole.
        sources: (n,) data set of each slice.
        infected: (n,) the truth.
        probability: (n,) of infection.
        cuts: (n,) probability from which the slice counts as infected, chosen on other patients.
        runs: (n,) which trained network spoke, as the fold it was held out in.

    Raises:
        ValueError: columns of different lengths.
    """

    name: str
    slices: tuple[str, ...]
    patients: tuple[str, ...]
    sources: tuple[str, ...]
    infected: NDArray[np.bool_]
    probability: NDArray[np.float64]
    cuts: NDArray[np.float64]
    runs: tuple[str, ...]

    def __post_init__(self) -> None:
        columns = (
            self.slices, self.patients, self.sources, self.infected, self.probability, self.cuts, self.runs
        )  # fmt: skip
        if len({len(column) for column in columns}) > 1:
            raise ValueError(f"columns of {self.name!r} have {[len(column) for column in columns]} rows")

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def positive(self) -> NDArray[np.bool_]:
        """(n,) verdicts at the cuts."""
        return self.probability >= self.cuts

    @property
    def has_both_classes(self) -> bool:
        """Whether an AUC is defined."""
        return bool(self.infected.any() and not self.infected.all())

    def where(self, chosen: NDArray[np.bool_]) -> ScoredSlices:
        """The chosen rows."""
        return self.at(np.flatnonzero(chosen).tolist())

    def at(self, rows: Sequence[int]) -> ScoredSlices:
        """Rows by their indices, in this order."""
        return ScoredSlices(
            self.name,
            tuple(self.slices[row] for row in rows),
            tuple(self.patients[row] for row in rows),
            tuple(self.sources[row] for row in rows),
            self.infected[list(rows)],
            self.probability[list(rows)],
            self.cuts[list(rows)],
            tuple(self.runs[row] for row in rows),
        )

    def of_source(self, *names: str) -> ScoredSlices:
        """The rows of some sources."""
        return self.where(np.isin(np.array(self.sources, dtype=object), names))


def joined(name: str, parts: Sequence[ScoredSlices]) -> ScoredSlices:
    """Several runs' slices as one table."""
    return ScoredSlices(
        name,
        tuple(value for part in parts for value in part.slices),
        tuple(value for part in parts for value in part.patients),
        tuple(value for part in parts for value in part.sources),
        np.concatenate([part.infected for part in parts]),
        np.concatenate([part.probability for part in parts]),
        np.concatenate([part.cuts for part in parts]),
        tuple(value for part in parts for value in part.runs),
    )


def score_manifest(
    ready: ReadyClassifier,
    manifest: Manifest,
    *,
    cut: float,
    name: str,
    run: str = "",
    names: Mapping[Path, str] | None = None,
    execution: Execution,
) -> ScoredSlices:
    """Run a classifier over a manifest's labelled slices.

    Args:
        ready: A classifier.
        manifest: Slices.
        cut: Probability from which a slice counts as infected.
        name: Of the method.
        run: Which trained network speaks.
        names: Of the slices by the image's path; by default those of :func:`slice_names` in ``manifest``.
        execution: Device, precision and batch size.

    Raises:
        ConfigError: no labelled slices, or a picture that cannot be read.
    """
    labelled = Manifest(tuple(row for row in manifest if row.label is not None))
    if not len(labelled):
        raise ConfigError(f"{name}: there is no labelled slice to judge")
    scores = score_slices(ready, labelled, execution=execution)
    named = names or slice_names(manifest.rows)
    return ScoredSlices(
        name,
        tuple(named[row.path] for row in labelled),
        tuple(patient_hash(row.unit) for row in labelled),
        scores.sources,
        scores.infected,
        scores.probability,
        np.full(len(labelled), cut),
        (run,) * len(labelled),
    )


def patient_hash(patient: str) -> str:
    """Stands for a patient in files that are handed on: a patient's name may be an identity."""
    return hashlib.sha256(f"jcs-ct patient {patient}".encode()).hexdigest()[:12]


def write_scores(path: Path, scores: ScoredSlices) -> None:
    """Write the table as CSV; numbers keep all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for index in range(len(scores)):
        writer.writerow(
            [
                scores.slices[index],
                scores.patients[index],
                scores.sources[index],
                int(scores.infected[index]),
                scores.runs[index],
                repr(float(scores.probability[index])),
                repr(float(scores.cuts[index])),
            ]
        )
    write_text(path, text.getvalue())


def read_scores(path: Path, *, name: str | None = None) -> ScoredSlices:
    """The inverse of :func:`write_scores`; other classifiers' tables of the same columns are as welcome.

    Raises:
        ConfigError: no such file, columns that are missing, values that are none, or slices that stand in several
            lines; all at once.
    """
    table = read_table(path, what="table of scores")
    records = [record for _, record in table]
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing or not (records or table.problems):
        raise ConfigError(f"the scores {path} lack rows or the column(s) {', '.join(missing or COLUMNS)}")
    problems = [*table.problems, *(problem for where, record in table for problem in _problems(where, record))]
    problems += _repeated(table)
    if problems:
        raise ConfigError("\n  ".join([f"the scores {path} have {len(problems)} problem(s):", *problems]))
    return ScoredSlices(
        name or path.stem,
        tuple(record["slice"] for record in records),
        tuple(record["patient"] for record in records),
        tuple(record["source"] for record in records),
        np.array([record["label"] == "1" for record in records], dtype=bool),
        np.array([float(record["probability"]) for record in records]),
        np.array([float(record["cut"]) for record in records]),
        tuple(record["run"] for record in records),
    )


def _repeated(table: TextTable) -> list[str]:
    """One line for every slice that would be counted twice."""
    first: dict[str, str] = {}
    return [
        f"{where}: the slice {record['slice']!r} is that of {first[record['slice']]}; give each slice one line"
        for where, record in table
        if first.setdefault(record["slice"], where) != where
    ]


def _problems(where: str, record: Mapping[str, str]) -> list[str]:
    found = [] if record["label"] in ("0", "1") else [f"{where}: label must be 0 or 1, got {record['label']!r}"]
    for column in ("probability", "cut"):
        try:
            is_share = 0.0 <= float(record[column]) <= 1.0
        except ValueError:
            is_share = False
        if not is_share:
            found.append(f"{where}: {column} must be a number from 0 to 1, got {record[column]!r}")
    return found
