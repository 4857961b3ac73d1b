"""A manifest as training and evaluation take it: looked at first, as `jcs data check` does."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from jcs_ct.data.manifest.dealt_splits import few_patients
from jcs_ct.data.manifest.leaks import Leak, PartedUnit, find_leaks, fold_leaks
from jcs_ct.data.manifest.manifest_checks import (
    contradictions,
    leak_problems,
    look_at_files,
    repeated_images,
    repeated_masks,
)
from jcs_ct.data.manifest.manifest_problems import ManifestProblem, refuse
from jcs_ct.data.manifest.mask_labels import foreign_masks
from jcs_ct.data.manifest.parsing import parse_manifest
from jcs_ct.data.manifest.rows import Manifest, ManifestRow
from jcs_ct.data.manifest.shared_names import alike_name_notes
from jcs_ct.engine.cache import cache_folder
from jcs_ct.errors import OutputError
from jcs_ct.files import write_text
from jcs_ct.progress import CountProgress

logger = logging.getLogger(__name__)

#: Part of a record's name; changes when more is looked for.
_LOOK_VERSION = 2
_SHOWN = 3


@dataclass(frozen=True)
class UsableManifest:
    """A manifest and what the reader of figures made with it must know.

    Args:
        manifest: All of its rows.
        warnings: Leaks that were accepted, what was not looked for, and patients who may be one under two names.
    """

    manifest: Manifest
    warnings: tuple[str, ...] = ()


def usable_manifest(
    path: Path,
    *,
    used: Collection[str] | None = None,
    accept_leaks: bool = False,
    progress: CountProgress | None = None,
) -> UsableManifest:
    """Read a manifest and look at its files: wrong labels and masks, images in two rows, leaks.

    That nothing was found is kept in the user's cache, by what the table says and by the size and time of every file;
    nothing is read a second time then. Rows of studies are not looked at: training takes slices.

    Args:
        path: CSV or Parquet.
        used: Splits whose files must be right; those of others are looked at for leaks where they are there. All
            without it.
        accept_leaks: Leaks become warnings.
        progress: Called with (rows read, total).

    Raises:
        ManifestError: every problem at once.
        LeakError: leaks alone.
    """
    parsed = parse_manifest(path)
    refuse(f"the manifest {path} has {{count}} problem(s):", parsed.problems)
    manifest = Manifest(parsed.rows)
    slices = [row for row in manifest if not row.is_study]
    needed = [row for row in slices if used is None or row.split in used]
    others = [row for row in slices if used is not None and row.split not in used and row.path.is_file()]
    absent = len(slices) - len(needed) - len(others)
    unseen = alike_name_notes(manifest)
    if absent:
        unseen.append(f"{absent} slice(s) of other splits are not here: leaks from them were not looked for")
    record = None if absent else _record(manifest)
    if record is not None and record.is_file():
        return UsableManifest(manifest, tuple(unseen))
    problems, others_problems, leaks = _look(needed, others, progress)
    leaks = [*fold_leaks(manifest.rows), *leaks]
    if not accept_leaks:
        remedy = f"jcs data split {path} -o NEW.csv --join-duplicates deals anew; --accept-leaks goes on as it is"
        problems += leak_problems(leaks, remedy)
    records = [leak.record() for leak in leaks]
    refuse(f"the manifest {path} has {{count}} problem(s), and nothing is begun:", problems, records)
    if record is not None and not (others_problems or leaks):
        _keep(record)
    return UsableManifest(manifest, (*leak_warnings(leaks), *unseen))


def remember_clean(manifest: Manifest) -> None:
    """Keep in the user's cache that nothing is wrong with a manifest's files and that nothing leaks."""
    record = _record(manifest)
    if record is not None:
        _keep(record)


def _keep(record: Path) -> None:
    try:
        write_text(record, "looked at: no problem, no leak\n")
    except OutputError as error:
        logger.info("that the manifest was looked at cannot be kept (%s): it is looked at each time", error)


def leak_warnings(leaks: Sequence[Leak | PartedUnit]) -> list[str]:
    """What the reader of figures must know of leaks that were accepted."""
    if not leaks:
        return []
    shown = "; ".join(str(leak) for leak in leaks[:_SHOWN])
    return [
        f"{len(leaks)} leak(s) between the parts of the manifest were accepted: slices are judged whose like was "
        f"trained on, and figures are better than they would be; {shown}"
    ]


def few_patients_warning(manifest: Manifest, split: str) -> list[str]:
    """That a split has few patients of a label, so that its intervals say little."""
    said = few_patients(manifest.split(split).rows)
    if not said:
        return []
    return [f"the split {split!r} has {said}; figures of so few patients say little"]


def _look(
    needed: Sequence[ManifestRow], others: Sequence[ManifestRow], progress: CountProgress | None
) -> tuple[list[ManifestProblem], list[ManifestProblem], list[Leak | PartedUnit]]:
    """Problems of the rows that are needed, those of the others, and leaks between all."""
    total = len(needed) + len(others)
    found = look_at_files(needed, progress=_part_of(progress, 0, total))
    beside = look_at_files(others, progress=_part_of(progress, len(needed), total))
    problems = [
        *repeated_images([*needed, *others]),
        *repeated_masks(needed, found.lesion_pixels),
        *found.problems,
        *foreign_masks([*found.wanted, *beside.wanted]),
        *contradictions(needed, found),
    ]
    hashed = [*found.hashes, *beside.hashes]
    leaks = find_leaks([row for row, _ in hashed], [code for _, code in hashed])
    return problems, [*beside.problems, *contradictions(others, beside)], list(leaks)


def _part_of(progress: CountProgress | None, before: int, total: int) -> CountProgress | None:
    if progress is None:
        return None
    told = progress
    return lambda done, _: told(before + done, total)


def _record(manifest: Manifest) -> Path | None:
    """Where it is kept that nothing is wrong; None without a cache."""
    folder = cache_folder()
    if folder is None:
        return None
    digest = hashlib.sha256(f"{_LOOK_VERSION} {manifest.sha256}\n".encode())
    for file in (file for row in manifest for file in (row.path, row.mask) if file is not None):
        state = file.stat() if file.is_file() else None
        stamp = "absent" if state is None else f"{state.st_size} {state.st_mtime_ns}"
        digest.update(f"{file.resolve()} {stamp}\n".encode())
    return folder / "manifests" / f"{digest.hexdigest()[:32]}.txt"
