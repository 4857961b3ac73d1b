"""Checking a manifest: every file that it names is read, and all problems are reported at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from jcs_ct.data.manifest.parsing import parse_manifest, refuse_problems
from jcs_ct.data.manifest.rows import Manifest, ManifestRow
from jcs_ct.data.manifest.slice_files import contradiction, read_hu, read_mask
from jcs_ct.data.manifest.study_rows import open_row
from jcs_ct.errors import ConfigError, MaskError, StudyError
from jcs_ct.imaging.mask_pictures import mask_labels


@dataclass(frozen=True)
class CheckedManifest:
    """A manifest whose files can all be used.

    Args:
        manifest: The rows.
        notes: What is no fault, and still good to know.
    """

    manifest: Manifest
    notes: tuple[str, ...] = ()


def check_manifest(path: Path) -> CheckedManifest:
    """Read a manifest and every image and mask that it names.

    Raises:
        ConfigError: with every problem of the table and of the files at once.
    """
    parsed = parse_manifest(path)
    refuse_problems(path, [*parsed.problems, *repeated_images(parsed.rows), *file_problems(parsed.rows)])
    notes = []
    if parsed.unread_columns:
        notes.append(f"columns that are not read: {', '.join(parsed.unread_columns)}")
    notes += _label_notes(parsed.rows)
    return CheckedManifest(Manifest(parsed.rows), tuple(notes))


def check_files(manifest: Manifest, name: Path) -> None:
    """Read every image and mask of a manifest.

    Raises:
        ConfigError: everything that :func:`file_problems` finds, all at once.
    """
    refuse_problems(name, file_problems(manifest))


def repeated_images(rows: Sequence[ManifestRow]) -> list[str]:
    """One line for every image, or series of a study, that stands in several rows."""
    places: dict[tuple[Path, str], list[ManifestRow]] = defaultdict(list)
    for row in rows:
        places[row.path.resolve(), row.series].append(row)
    return [
        f"{same[0].path}: stands in {len(same)} rows, of the patient(s) "
        f"{', '.join(sorted({row.patient for row in same}))}; keep one"
        for same in places.values()
        if len(same) > 1
    ]


def file_problems(rows: Iterable[ManifestRow]) -> list[str]:
    """One line for every image or mask that cannot be used, or that contradicts its row."""
    return [problem for row in rows for problem in (_study_problems(row) if row.is_study else _slice_problems(row))]


def _slice_problems(row: ManifestRow) -> list[str]:
    """Problems of a row's image and of its mask, each looked at whatever the other is."""
    problems: list[str] = []
    image = _tried(lambda: read_hu(row.path, row.window), problems)
    if image is not None and image.min() == image.max():
        problems.append(f"{row.path}: all pixels have one value; the image is empty")
    if row.mask is None:
        return problems
    file, labels = row.mask, row.lesion_labels
    mask = _tried(lambda: read_mask(file, labels), problems)
    if mask is None:
        return problems
    if image is not None and image.shape != mask.shape:
        have, want = ("x".join(map(str, shape)) for shape in (mask.shape, image.shape))
        problems.append(f"{row.mask}: the mask has {have} pixels, its image {want}")
    return [*problems, *filter(None, [contradiction(row, mask)])]


def _tried(read: Callable[[], NDArray[Any]], problems: list[str]) -> NDArray[Any] | None:
    try:
        return read()
    except (ConfigError, MaskError) as error:
        problems.append(str(error))
        return None


def _study_problems(row: ManifestRow) -> list[str]:
    """Problems of a study: the gate's, and its mask's."""
    try:
        study, mask = open_row(row)
    except (ConfigError, MaskError) as error:
        return [str(error)]
    except StudyError as error:
        return [f"{row.path}: {error}"]
    if study.volume.hu_is_assumed:
        return [f"{row.path}: a study is a DICOM series or a NIfTI volume, here are pictures; list them as slices"]
    return [] if mask is None else [problem for problem in [contradiction(row, mask)] if problem]


def _label_notes(rows: Sequence[ManifestRow]) -> list[str]:
    """What is taken for lesion in masks of several labels."""
    found: set[int] = set()
    count = 0
    for row in rows:
        if row.mask is not None and not row.is_study and not row.lesion_labels:
            labels = mask_labels(row.mask)
            if len(labels) > 1:
                count += 1
                found |= set(labels)
    if not count:
        return []
    listed = ", ".join(map(str, sorted(found)))
    return [f"{count} mask(s) have several labels ({listed}): all count as lesion; column lesion_labels says which"]
