"""Folds of a manifest -> one run each, whose network sees neither the judged slices nor their patients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jcs_ct.data.manifest import Manifest, ManifestRow, fold_by_patient, split_problems
from jcs_ct.data.manifest.slice_names import slice_names
from jcs_ct.errors import ConfigError
from jcs_ct.experiments.judged_slices import CaseSet, fold_name, slice_cases
from jcs_ct.experiments.methods import Method


@dataclass(frozen=True)
class FoldRun:
    """One training: ``train`` teaches, ``val`` chooses, ``test`` is judged.

    Args:
        name: Of its folder, as ``fold0``.
        manifest: Slices with those splits.
        names: Of the judged slices, by the image's path.

    Raises:
        ConfigError: a patient in two splits, or nothing to judge.
    """

    name: str
    manifest: Manifest
    names: Mapping[Path, str]

    def __post_init__(self) -> None:
        problems = split_problems(self.manifest)
        if not any(row.label is not None for row in self.manifest.split("test")):
            problems.append("there is no labelled slice to judge")
        self._refuse(problems)

    def check(self, method: Method) -> None:
        """Refuse a method that this run's slices cannot train.

        Raises:
            ConfigError: one label only where a classifier needs both, or no slice whose lesion pixels are known.
        """
        problems = []
        for split in ("train", "val") if method.validates else ("train",):
            part = self.manifest.split(split)
            labels = {row.label for row in part}
            if method.trains_classifier and not {0, 1} <= labels:
                problems.append(f"the split {split!r} needs infected and uninfected slices, it has {_named(labels)}")
            if method.is_segmenter and not any(row.mask is not None and row.label == 1 for row in part):
                problems.append(f"the split {split!r} has no infected slice with a lesion mask")
        if method.is_segmenter and not len(self.manifest.split("test").with_masks()):
            problems.append("there is no slice to judge whose lesion pixels are known")
        self._refuse(problems)

    def cases(self) -> CaseSet:
        """What a segmenter is judged on: the judged slices whose lesion pixels are known."""
        return slice_cases(self.manifest.split("test").with_masks().rows, self.names, title=self.name)

    def _refuse(self, problems: Sequence[str]) -> None:
        if problems:
            raise ConfigError("\n  ".join([f"the run {self.name!r} cannot be made:", *problems]))


def _named(labels: set[int | None]) -> str:
    return {frozenset({0}): "uninfected ones only", frozenset({1}): "infected ones only"}.get(
        frozenset(label for label in labels if label is not None), "none"
    )


@dataclass(frozen=True)
class Folds:
    """Labelled slices in folds, each of which is judged once, and slices that every run trains with.

    Args:
        judged: Rows with a fold and a label.
        shared: Further train and val rows of every run, of other patients.
        names: Of the judged slices, by the image's path.
        parted: Whether slices of one patient may lie in several folds, as in published ones.

    Raises:
        ConfigError: fewer than three folds, a patient in several of them, or shared slices of a judged patient.
    """

    judged: Manifest
    shared: Manifest
    names: Mapping[Path, str]
    parted: bool = False

    def __post_init__(self) -> None:
        problems = []
        if len(self.numbers) < 3:
            problems.append(
                f"needs at least three folds (one is held out, the next chooses, the others train), got "
                f"{len(self.numbers)}: `jcs data split --folds 5` makes some, and --folds 5 draws them here"
            )
        apart = self.parted_patients
        if apart and not self.parted:
            problems.append(
                f"{len(apart)} patient(s) have slices in several folds, so networks would be judged on patients they "
                "were trained on: mend the column fold, or say --parted-patients for folds that were published so"
            )
        owners = {name for row in self.judged for name in (row.patient, row.unit)}
        paths = {row.path.resolve() for row in self.judged}
        leaks = [row for row in self.shared if {row.patient, row.unit} & owners or row.path.resolve() in paths]
        if leaks:
            problems.append(
                f"{len(leaks)} further training slice(s) are among the judged ones or of a judged patient, as "
                f"{leaks[0].path.name}: leave them out"
            )
        if problems:
            raise ConfigError("\n  ".join(["the folds cannot be used:", *problems]))

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the folds, in order."""
        return tuple(sorted({row.fold for row in self.judged if row.fold is not None}))

    @property
    def parted_patients(self) -> set[str]:
        """Patients with slices in more than one fold, their own or of what their slices are kept together with."""
        found: dict[str, set[int | None]] = defaultdict(set)
        for row in self.judged:
            found[f"patient {row.patient}"].add(row.fold)
            found[f"unit {row.unit}"].add(row.fold)
        apart = {name for name, folds in found.items() if len(folds) > 1}
        return {row.patient for row in self.judged if {f"patient {row.patient}", f"unit {row.unit}"} & apart}

    def runs(self, method: Method) -> tuple[FoldRun, ...]:
        """One a fold: it is held out, the next one chooses where the method lets slices choose, the others train.

        Raises:
            ConfigError: a fold that cannot train the method.
        """
        apart = self.parted_patients
        runs = []
        for position, held_out in enumerate(self.numbers):
            splits: dict[int | None, str] = {held_out: "test"}
            if method.validates:
                splits[self.numbers[(position + 1) % len(self.numbers)]] = "val"
            rows = [self._placed(row, splits.get(row.fold, "train"), apart) for row in self.judged]
            runs.append(FoldRun(fold_name(held_out), Manifest((*rows, *self.shared)), self.names))
            runs[-1].check(method)
        return tuple(runs)

    def _placed(self, row: ManifestRow, split: str, apart: set[str]) -> ManifestRow:
        # Where published folds part a patient, a slice is its own patient, as the note says.
        if row.patient in apart:
            row = replace(row, patient=f"{row.patient}-{self.names[row.path]}", group="")
        return replace(row, split=split, fold=None)

    def cases(self, title: str) -> CaseSet:
        """What segmenters are judged on: all slices of the folds whose lesion pixels are known."""
        return slice_cases(self.judged.with_masks().rows, self.names, title=title)

    def note(self, *, validating: bool) -> str:
        """What the reader must know of how the folds were used."""
        count = len(self.numbers)
        others = (
            f"the next one chooses (weights, and a classifier's cut), {count - 2} train"
            if validating
            else f"{count - 1} train, the last step's weights are taken"
        )
        said = f"{count} folds of patients: one is held out, {others}. A segmenter's cut is 0.5."
        if self.parted_patients:
            said = said.replace(" of patients", "", 1)
            said += " These folds part slices of one acquisition, as published: figures of patient-safe folds are "
            said += "honest."
        return said


def folds_of(
    manifest: Manifest,
    *,
    sources: Sequence[str] | None = None,
    with_test: bool = False,
    extra: Manifest | None = None,
    parted: bool = False,
    count: int | None = None,
    seed: int = 0,
) -> Folds:
    """The folds of a manifest's column ``fold``, or drawn anew; unlabelled slices are left aside.

    Rows of train and val that stand in no fold are never judged: they train in every run.

    Args:
        manifest: With the column filled; what is in its test split takes no part.
        sources: Slices of these only.
        with_test: Also what is in the test split, where it stands in a fold; then choose nothing by the figures.
        extra: Further train and val slices of every run.
        parted: Whether slices of one patient may lie in several folds.
        count: Draw so many folds of patients, where the manifest has none.
        seed: Of the folds that are drawn.

    Raises:
        ConfigError: a source that is not there, folds twice, too few patients, or as :class:`Folds`.
    """
    chosen = labelled_slices(manifest, sources, with_test=with_test)
    if count is not None:
        if any(row.fold is not None for row in chosen):
            raise ConfigError("the manifest has folds of its own (column fold): leave --folds out")
        chosen = fold_by_patient(chosen, count, seed=seed)
    further = [row for row in extra or () if row.split in ("train", "val") and row.label is not None]
    return Folds(
        Manifest(tuple(row for row in chosen if row.fold is not None)),
        Manifest((*(row for row in chosen if row.fold is None and row.split != "test"), *further)),
        slice_names(manifest.rows),
        parted,
    )


def labelled_slices(manifest: Manifest, sources: Sequence[str] | None, *, with_test: bool) -> Manifest:
    """The labelled slices that take part in an experiment.

    Args:
        manifest: Slices.
        sources: Of these only; None takes all.
        with_test: Also the manifest's test split. What chooses between recipes must leave it out.

    Raises:
        ConfigError: a source that is not there.
    """
    known = sorted({row.source for row in manifest})
    unknown = [name for name in sources or () if name not in known]
    if unknown:
        raise ConfigError(f"the manifest has no source {', '.join(unknown)}; it has {', '.join(known)}")
    return Manifest(
        tuple(
            row
            for row in manifest
            if row.label is not None
            and (sources is None or row.source in sources)
            and (with_test or row.split != "test")
        )
    )
