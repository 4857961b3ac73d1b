"""The studies of a manifest one by one, each with a name of its own, its CT and its lesions; all problems at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest import Manifest, ManifestRow, read_manifest
from jcs_ct.data.manifest.slice_files import contradiction
from jcs_ct.data.manifest.study_rows import open_row
from jcs_ct.errors import ConfigError, JCSError, MaskError, OutputError
from jcs_ct.files import refuse_filled, staged_folder
from jcs_ct.imaging import Study
from jcs_ct.progress import CountProgress

#: The exported studies as a manifest again, written into every export.
MANIFEST_NAME = "manifest.csv"


@dataclass(frozen=True, eq=False)
class ExportCase:
    """One study as it is exported.

    Args:
        name: Number of the patient in the manifest and hash of the study, ``p0001_1f3870be274f6c49``: no identity.
        row: What the manifest says of it.
        study: The CT, read through the gate.
        lesions: (slices, rows, columns) bool on the volume's grid; None where they are not known. Of an uninfected
            study without a mask they are known: there are none.
    """

    name: str
    row: ManifestRow
    study: Study
    lesions: NDArray[np.bool_] | None


def export_cases(
    manifest: Manifest,
    folder: Path,
    write: Callable[[ExportCase, Path], ManifestRow | None],
    *,
    finish: Callable[[Manifest, Path], None] = lambda written, folder: None,
    progress: CountProgress = lambda done, total: None,
) -> Manifest:
    """Write every study into ``folder``, and a manifest of what was written; all of it, or nothing.

    Args:
        manifest: Studies.
        folder: Made; empty where it exists.
        write: Writes a case into a folder and returns its row there, None where it is to be left out.
        finish: Writes what belongs to the data set as a whole.
        progress: Called with (studies done, total).

    Returns:
        The manifest as it was written.

    Raises:
        ConfigError: ``folder`` is not empty, or every row that is no study, cannot be read or cannot be written in
            this form, all at once.
        OutputError: the folder cannot be written or the disk is full.
    """
    refuse_filled(folder)
    slices = [row for row in manifest if not row.is_study]
    if slices:
        raise ConfigError(
            f"{len(slices)} of {len(manifest)} rows are slices, as {slices[0].path}, and a slice has no place in the "
            "patient: export the manifest of the studies they come from; slices go to nnU-Net as they are (`jcs data "
            "export nnunet`)"
        )
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(row.patient for row in manifest), 1)}
    written: dict[str, ManifestRow | None] = {}
    problems: list[str] = []
    with staged_folder(folder, last=MANIFEST_NAME) as staging:
        for done, row in enumerate(manifest, start=1):
            try:
                case = _open(row, numbers[row.patient])
                if case.name in written:
                    raise ConfigError("the same study stands in a row before; keep one")
                written[case.name] = write(case, staging)
            except OutputError:
                raise
            except JCSError as error:
                problems.append(str(error) if str(row.path) in str(error) else f"{row.path}: {error}")
            progress(done, len(manifest))
        rows = Manifest(tuple(row for row in written.values() if row is not None))
        if not rows.rows and not problems:
            problems.append("no row is left")
        if problems:
            head = f"{len(problems)} problem(s) with {len(manifest)} rows, nothing is exported:"
            raise ConfigError("\n  ".join([head, *problems]))
        finish(rows, staging)
        rows.write(staging / MANIFEST_NAME)
    return read_manifest(folder / MANIFEST_NAME)


def _open(row: ManifestRow, patient_number: int) -> ExportCase:
    study, lesions = open_row(row)
    if study.volume.affine is None:
        raise ConfigError("its geometry is not known; other tools would take an invented one for true")
    problem = "" if lesions is None else contradiction(row, int(np.count_nonzero(lesions)))
    if problem:
        raise MaskError(f"{row.mask}: {problem}")
    if lesions is None and row.label == 0:
        lesions = np.zeros(study.volume.shape, dtype=bool)
    return ExportCase(f"p{patient_number:04d}_{study.identifier}", row, study, lesions)
