"""Checking a manifest: every file that it names is read, and all problems are reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from jcs_ct.data.manifest import Manifest, ManifestRow, parse_manifest, read_grey, read_mask, refuse_problems
from jcs_ct.data.manifest.study_rows import open_row
from jcs_ct.errors import ConfigError, MaskError, StudyError


def check_manifest(path: Path) -> Manifest:
    """Read a manifest and every image and mask that it names.

    Raises:
        ConfigError: with every problem of the table and of the files at once.
    """
    rows, problems = parse_manifest(path)
    refuse_problems(path, [*problems, *file_problems(rows)])
    return Manifest(tuple(rows))


def check_files(manifest: Manifest, name: Path) -> None:
    """Read every image and mask of a manifest.

    Raises:
        ConfigError: missing or unreadable files, masks with more than two values or of another size; all at once.
    """
    refuse_problems(name, file_problems(manifest))


def file_problems(rows: Iterable[ManifestRow]) -> list[str]:
    """One line for every image or mask that cannot be used."""
    return [problem for row in rows for problem in _row_problems(row)]


def _row_problems(row: ManifestRow) -> list[str]:
    """Problems of a row's image and of its mask, each looked at whatever the other is."""
    if row.is_study:
        return _study_problems(row)
    problems: list[str] = []
    shapes: list[tuple[int, ...]] = []
    if row.mask is None:
        readers: list[tuple[Callable[[Path], NDArray[Any]], Path]] = [(read_grey, row.path)]
    else:
        readers = [(read_grey, row.path), (read_mask, row.mask)]
    for read, path in readers:
        try:
            shapes.append(read(path).shape)
        except (ConfigError, MaskError) as error:
            problems.append(str(error))
    if len(shapes) == 2 and shapes[0] != shapes[1]:
        image, mask = shapes
        problems.append(f"{row.mask}: the mask has {mask[0]}x{mask[1]} pixels, its image {image[0]}x{image[1]}")
    return problems


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
    if row.label == 0 and mask is not None and mask.any():
        return [f"{row.mask}: the study is labelled 0 (not infected), and its mask has lesion voxels"]
    return []
