"""The manifest of a cohort: every study that was found, where it lies, and what the gate said of its headers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from jcs_ct.errors import ConfigError, DamagedFileError
from jcs_ct.files import replacing

COLUMNS = ("study", "kind", "where", "files", "series", "slice_count", "byte_count", "scanner", "code", "message")


class Kind(StrEnum):
    """What a study is made of, and so how it is brought to a reader."""

    DICOM = "dicom"  #: DICOM files in a folder
    SINGLE = "single"  #: NIfTI volume, pictures or an archive
    DICOMWEB = "dicomweb"  #: on a server, fetched when it is read


@dataclass(frozen=True)
class FoundStudy:
    """One study of a cohort.

    Args:
        study: Hash of its identity and its images (of its place, size and time where it is no DICOM): equal ones are
            one study.
        kind: What it is made of.
        where: Folder, file or address.
        files: Names below ``where`` when only some of the files there are this study's; empty for all of them.
        series: Identifier of the series to read, empty for the best.
        slice_count: Slices of the series that is read, 0 where only a reading can tell.
        byte_count: Of all its files, 0 where that is not known.
        scanner: Manufacturer and model.
        code, message: Why the gate refuses its headers; empty where it does not.
    """

    study: str
    kind: Kind
    where: str
    files: tuple[str, ...] = ()
    series: str = ""
    slice_count: int = 0
    byte_count: int = 0
    scanner: str = ""
    code: str = ""
    message: str = ""

    def to_request(self) -> dict[str, Any]:
        """What a reader needs, as JSON values."""
        return {
            "kind": str(self.kind),
            "where": self.where,
            "files": list(self.files),
            "series": self.series,
            "slice_count": self.slice_count,
            "byte_count": self.byte_count,
            "scanner": self.scanner,
        }


@dataclass(frozen=True)
class ManifestCounts:
    """What a manifest holds.

    Args:
        studies: To be read.
        slices, bytes: Of those, as far as their headers tell.
        refused: Studies by the gate's code.
        duplicates: Studies that were found before, with the same images.
    """

    studies: int
    slices: int
    bytes: int
    refused: dict[str, int]
    duplicates: int


def write_manifest(
    path: Path, studies: Iterable[FoundStudy], *, progress: Callable[[int], None] | None = None
) -> ManifestCounts:
    """Write the studies as they are found, one at a time, readable by the owner only; duplicates are left out.

    Raises:
        OutputError: it cannot be written.
    """
    seen: set[str] = set()
    duplicates = 0

    def written() -> Iterator[FoundStudy]:
        nonlocal duplicates
        for study in studies:
            if study.study in seen:
                duplicates += 1
                continue
            seen.add(study.study)
            table.writerow(_cells(study))
            if progress is not None:
                progress(len(seen))
            yield study

    with replacing(path, private=True) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(COLUMNS)
        counts = count_studies(written())
    return replace(counts, duplicates=duplicates)


def count_studies(studies: Iterable[FoundStudy]) -> ManifestCounts:
    """How many studies there are to read and how large they are, and how many are refused for what."""
    refused: dict[str, int] = {}
    wanted = slices = size = 0
    for study in studies:
        if study.code:
            refused[study.code] = refused.get(study.code, 0) + 1
        else:
            wanted, slices, size = wanted + 1, slices + study.slice_count, size + study.byte_count
    return ManifestCounts(wanted, slices, size, dict(sorted(refused.items())), 0)


def read_manifest(path: Path) -> Iterator[FoundStudy]:
    """The studies of a manifest, one at a time.

    Raises:
        ConfigError: it cannot be read, or is none.
        DamagedFileError: a line is not as it was written.
    """
    csv.field_size_limit(1 << 30)  # the names of a study's files stand in one cell
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            table = csv.reader(stream)
            if tuple(next(table, ())) != COLUMNS:
                raise ConfigError(f"{path} is no manifest of this version; run `jcs batch run` anew")
            for cells in table:
                yield _study(cells)
    except (csv.Error, TypeError, ValueError) as error:
        raise DamagedFileError(
            path, f"line {table.line_num} is no study's", instead="give `jcs batch run` with its source again"
        ) from error
    except OSError as error:
        raise ConfigError(f"the manifest {path} cannot be read: {error.strerror}") from error


def _cells(study: FoundStudy) -> list[str | int]:
    files = json.dumps(list(study.files)) if study.files else ""
    facts = (study.slice_count, study.byte_count, study.scanner, study.code, study.message)
    return [study.study, str(study.kind), study.where, files, study.series, *facts]


def _study(cells: list[str]) -> FoundStudy:
    study, kind, where, files, series, slices, size, scanner, code, message = cells
    names = tuple(json.loads(files)) if files else ()
    return FoundStudy(study, Kind(kind), where, names, series, int(slices), int(size), scanner, code, message)
