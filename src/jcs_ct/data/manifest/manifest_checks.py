"""Checking a manifest: every file that it names is read, and all problems are reported at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest.dealt_splits import split_remarks
from jcs_ct.data.manifest.leaks import Leak, PartedUnit, find_leaks, fold_leaks, one_slice_sources, perceptual_hash
from jcs_ct.data.manifest.listed_masks import LISTED_MASK_REMEDY, is_called_mask, listed_masks
from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind
from jcs_ct.data.manifest.mask_labels import MaskLabels, foreign_masks
from jcs_ct.data.manifest.parsing import parse_manifest, refuse_problems
from jcs_ct.data.manifest.rows import Manifest, ManifestRow
from jcs_ct.data.manifest.shared_names import alike_name_notes, shared_name_notes
from jcs_ct.data.manifest.slice_files import ReadSlice, contradiction, read_mask, read_slice
from jcs_ct.data.manifest.study_rows import open_row_mask
from jcs_ct.errors import ConfigError, MaskError, StudyError
from jcs_ct.imaging.gate_pictures import LEAST_MASK_PIXELS, MASK_LEVELS
from jcs_ct.imaging.grey_levels import GreyMeaning
from jcs_ct.imaging.mask_pictures import mask_labels
from jcs_ct.preprocessing import Window
from jcs_ct.progress import CountProgress, counted

T = TypeVar("T")


@dataclass(frozen=True)
class CheckedManifest:
    """A manifest whose files can all be used.

    Args:
        manifest: The rows.
        notes: What is no fault, and still good to know.
        leaks: Slices or patients on both sides of a split.
    """

    manifest: Manifest
    notes: tuple[str, ...] = ()
    leaks: tuple[Leak | PartedUnit, ...] = ()


@dataclass
class Findings:
    """What comes up while the files of a manifest are read.

    Args:
        problems: Files that cannot be used.
        hashes: Row and perceptual hash of every slice.
        lesion_pixels: How many pixels (voxels) the mask of a row marks.
        spans: Least and largest HU by source and by how levels were taken.
        labels: Labels of slices' masks that have several, by their file.
        wanted: What masks hold of which some values only are lesion.
        study_labels: How many labels or segments masks of studies have, by their file.
    """

    problems: list[ManifestProblem] = field(default_factory=list)
    hashes: list[tuple[ManifestRow, NDArray[np.uint64]]] = field(default_factory=list)
    lesion_pixels: dict[ManifestRow, int] = field(default_factory=dict)
    spans: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    labels: dict[Path, tuple[float, ...]] = field(default_factory=dict)
    study_labels: dict[Path, int] = field(default_factory=dict)
    wanted: list[MaskLabels] = field(default_factory=list)


def check_manifest(path: Path, *, progress: CountProgress | None = None) -> CheckedManifest:
    """Read a manifest and every image and mask that it names; ``progress`` is called with (rows read, total).

    Raises:
        ConfigError: with every problem of the table and of the files at once.
    """
    parsed = parse_manifest(path)
    found = look_at_files(parsed.rows, progress=progress)
    refuse_problems(
        path,
        [
            *parsed.problems,
            *repeated_images(parsed.rows),
            *found.problems,
            *foreign_masks(found.wanted),
            *repeated_masks(parsed.rows, found.lesion_pixels),
            *contradictions(parsed.rows, found),
        ],
    )
    notes = []
    if parsed.unread_columns:
        notes.append(f"columns that are not read: {', '.join(parsed.unread_columns)}")
    rows = [row for row, _ in found.hashes]
    leaks: list[Leak | PartedUnit] = [*fold_leaks(parsed.rows), *find_leaks(rows, [code for _, code in found.hashes])]
    return CheckedManifest(
        Manifest(parsed.rows),
        notes=(
            *notes,
            *file_notes(found),
            *one_slice_sources(rows),
            *class_notes(parsed.rows),
            *shared_name_notes({"no source": parsed.rows}),
            *alike_name_notes(parsed.rows),
            *split_remarks(Manifest(parsed.rows)),
        ),
        leaks=tuple(leaks),
    )


def leak_problems(leaks: Sequence[Leak | PartedUnit], remedy: str) -> list[ManifestProblem]:
    """The leaks as problems that ``remedy`` mends."""
    return [ManifestProblem(ProblemKind.LEAK, str(leak), remedy=remedy) for leak in leaks]


def contradictions(rows: Sequence[ManifestRow], found: Findings) -> list[ManifestProblem]:
    """Every row whose label and whose mask, as it was read, say different things."""
    said = [(row, contradiction(row, found.lesion_pixels[row])) for row in rows if row in found.lesion_pixels]
    return [
        ManifestProblem(ProblemKind.MARKED_MASK if row.label == 0 else ProblemKind.EMPTY_MASK, what, str(row.mask))
        for row, what in said
        if what
    ]


def class_notes(rows: Sequence[ManifestRow]) -> list[str]:
    """Which splits lack a label that others have; one label only is said loudest."""
    labels = {row.label for row in rows if row.label is not None}
    if len(labels) < 2:
        only = "no row has a label" if not labels else f"every labelled row is {CLASS_WORDS[labels.pop()]}"
        return [f"{only}: a classifier cannot be trained on it or judged"]
    notes = []
    for name, part in Manifest(tuple(rows)).parts().items():
        lacking = [word for label, word in CLASS_WORDS.items() if not any(row.label == label for row in part)]
        if lacking:
            notes.append(f"{name} has no {' and no '.join(lacking)} row: nothing can be said of them there")
    return notes


#: What a label means.
CLASS_WORDS = {1: "infected", 0: "uninfected"}


def repeated_images(rows: Sequence[ManifestRow]) -> list[ManifestProblem]:
    """One problem for every image, or series of a study, that stands in several rows."""
    places: dict[tuple[Path, str], list[ManifestRow]] = defaultdict(list)
    for row in rows:
        places[row.path.resolve(), row.series].append(row)
    return [
        ManifestProblem(
            ProblemKind.REPEATED,
            f"stands in {len(same)} rows, of the patient(s) {', '.join(sorted({row.patient for row in same}))}; "
            "keep one",
            str(same[0].path),
        )
        for same in places.values()
        if len(same) > 1
    ]


def repeated_masks(rows: Sequence[ManifestRow], lesion_pixels: Mapping[ManifestRow, int]) -> list[ManifestProblem]:
    """One problem for every mask that marks lesions of several slices; one empty mask may serve them all.

    Series of a study may share a mask: rows of studies are not looked at.
    """
    places: dict[Path, dict[Path, None]] = defaultdict(dict)
    for row in rows:
        if row.mask is not None and not row.is_study and lesion_pixels.get(row):
            places[row.mask.resolve()][row.path.resolve()] = None
    return [
        ManifestProblem(
            ProblemKind.MASK,
            f"is the mask of {len(images)} slices, as {' and '.join(image.name for image in list(images)[:2])}; "
            "give each its own",
            str(mask),
        )
        for mask, images in places.items()
        if len(images) > 1
    ]


def look_at_files(rows: Sequence[ManifestRow], *, progress: CountProgress | None = None) -> Findings:
    """Read every image and mask."""
    rows = tuple(rows)
    found = Findings(problems=listed_masks(rows))
    listed = {problem.place for problem in found.problems}
    for row in counted(rows, progress):
        if row.is_study:
            _look_at_study(row, found)
        else:
            _look_at_slice(row, found, is_listed_mask=str(row.path) in listed)
    return found


def _look_at_slice(row: ManifestRow, found: Findings, *, is_listed_mask: bool) -> None:
    """A row's image and its mask, each looked at whatever the other is."""
    image = None if is_listed_mask else _tried(lambda: read_slice(row.path, row.window), ProblemKind.IMAGE, found)
    if image is not None:
        low, high = float(image.hu.min()), float(image.hu.max())
        few = image.hu.size >= LEAST_MASK_PIXELS and (count := np.unique(image.hu).size) <= MASK_LEVELS
        if few and (low < high or is_called_mask(row.path)):
            what = f"has {count} grey level(s), as masks have; a slice of a CT has more"
            found.problems.append(ManifestProblem(ProblemKind.MASK_AS_IMAGE, what, str(row.path), LISTED_MASK_REMEDY))
        elif low == high:
            what = "all pixels have one value; the image is empty"
            found.problems.append(ManifestProblem(ProblemKind.IMAGE, what, str(row.path)))
        key = row.source, _how(row, image)
        least, largest = found.spans.get(key, (low, high))
        found.spans[key] = min(least, low), max(largest, high)
        found.hashes.append((row, perceptual_hash(Window()(image.hu))))
    if row.mask is None:
        return
    file, labels = row.mask, row.lesion_labels
    mask = _tried(lambda: read_mask(file, labels), ProblemKind.MASK, found)
    if mask is None:
        return
    if image is not None and image.hu.shape != mask.shape:
        have, want = ("x".join(map(str, shape)) for shape in (mask.shape, image.hu.shape))
        what = f"the mask has {have} pixels, its image {want}"
        found.problems.append(ManifestProblem(ProblemKind.MASK, what, str(row.mask)))
    found.lesion_pixels[row] = int(np.count_nonzero(mask))
    present = mask_labels(file, labels)
    if labels:
        found.wanted.append(MaskLabels(file, frozenset(present), labels))
    elif len(present) > 1:
        found.labels[file] = present


def _how(row: ManifestRow, image: ReadSlice) -> str:
    """How a slice's levels were taken, as a note says it."""
    if row.window is not None:
        return f"{image.bits}-bit, under the stated window (level {row.level_hu:g}, width {row.width_hu:g} HU)"
    if image.meaning is GreyMeaning.HU:
        return "stored as HU"
    return f"{image.bits}-bit, taken as {image.meaning}; no window is stated"


def _tried(read: Callable[[], T], kind: ProblemKind, found: Findings) -> T | None:
    try:
        return read()
    except (ConfigError, MaskError) as error:
        found.problems.append(ManifestProblem(kind, str(error)))
        return None


def _look_at_study(row: ManifestRow, found: Findings) -> None:
    """A study through the gate, and its mask."""
    try:
        study, mask = open_row_mask(row)
    except (ConfigError, MaskError, StudyError) as error:
        what = str(error) if str(row.path) in str(error) or isinstance(error, MaskError) else f"{row.path}: {error}"
        kind = ProblemKind.MASK if isinstance(error, MaskError) else ProblemKind.IMAGE
        found.problems.append(ManifestProblem(kind, what))
        return
    if study.volume.hu_is_assumed:
        what = "a study is a DICOM series or a NIfTI volume, here are pictures; list them as slices"
        found.problems.append(ManifestProblem(ProblemKind.IMAGE, what, str(row.path)))
    elif row.mask is not None and mask is not None:
        found.lesion_pixels[row] = int(np.count_nonzero(mask.lesions.labels))
        if row.lesion_labels:
            found.wanted.append(MaskLabels(row.mask, mask.labels, row.lesion_labels))
        else:
            found.study_labels[row.mask] = mask.label_count


def file_notes(found: Findings) -> list[str]:
    """What is taken for lesion in masks of several labels, and which HU the values span."""
    return [*_label_notes(found), *_span_notes(found)]


def _label_notes(found: Findings) -> list[str]:
    """What is taken for lesion in masks of several labels."""
    several = [path for path, count in found.study_labels.items() if count > 1]
    if several:
        said = f"{len(several)} mask(s) of studies have several labels: all count as lesion"
        return [f"{said}; column lesion_labels says which", *_slice_label_notes(found)]
    return _slice_label_notes(found)


def _slice_label_notes(found: Findings) -> list[str]:
    if not found.labels:
        return []
    listed = ", ".join(f"{one:g}" for one in sorted({label for labels in found.labels.values() for label in labels}))
    count = len(found.labels)
    return [f"{count} mask(s) have several labels ({listed}): all count as lesion; column lesion_labels says which"]


def _span_notes(found: Findings) -> list[str]:
    """Which HU the values of every source span, and under which window."""
    return [
        f"{source or 'slices without a source'}: {low:.0f} to {high:.0f} HU, {how}"
        for (source, how), (low, high) in sorted(found.spans.items())
    ]
