"""Slices of whole studies, written for training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.data.manifest.slice_files import contradiction
from jcs_ct.data.manifest.study_rows import open_row
from jcs_ct.errors import ConfigError, JCSError, MaskError
from jcs_ct.files import prepare_output_folder, replacing
from jcs_ct.imaging import Study
from jcs_ct.preprocessing import LUNG_WINDOW, Window
from jcs_ct.progress import CountProgress

#: The 16 bits of a written slice span the window in steps of 0.02 HU.
_WHITE = 65535.0
#: Of PNG: the default takes twice the time for 2 % fewer bytes.
_COMPRESSION = 3


def write_slices(
    studies: Manifest,
    folder: Path,
    *,
    window: Window = LUNG_WINDOW,
    every: int = 1,
    progress: CountProgress | None = None,
) -> tuple[Manifest, int]:
    """Write the slices of every study whose label is known, and a manifest of them.

    Writes ``images/<study>/<study>-0000.png`` (16 bits, the window's span) and ``masks/`` alike (0, 255). ``<study>``
    is a hash: no name or path of the source goes into a file's name. With a mask a slice is infected when its mask
    has a pixel; without one, slices of an uninfected study are uninfected, and those of an infected study are not
    known and left out. Rows that are slices already are kept as they are.

    Args:
        studies: Rows of studies.
        folder: Output.
        window: HU that the grey levels span; what lies outside is clipped. It stands in the rows: readers undo it.
        every: Take every such slice only, from the top.
        progress: Called with (studies done, total).

    Returns:
        The slices, and how many were left out because their label is not known.

    Raises:
        ConfigError: every study that cannot be read or stands in a row before, and every mask that does not fit, all
            at once.
        OutputError: the folder cannot be written.
    """
    prepare_output_folder(folder)
    rows: list[ManifestRow] = []
    problems: list[str] = []
    unknown = 0
    seen: set[str] = set()
    for done, row in enumerate(studies, start=1):
        try:
            written, left_out = _write_study(row, folder, window, every, seen) if row.is_study else ([row], 0)
        except JCSError as error:
            problems.append(str(error) if str(row.path) in str(error) else f"{row.path}: {error}")
            continue
        rows += written
        unknown += left_out
        if progress is not None:
            progress(done, len(studies))
    if problems:
        raise ConfigError("\n  ".join([f"{len(problems)} of {len(studies)} studies cannot be used:", *problems]))
    return Manifest(tuple(rows)), unknown


def _write_study(
    row: ManifestRow, folder: Path, window: Window, every: int, seen: set[str]
) -> tuple[list[ManifestRow], int]:
    """The rows of a study's slices, written; and how many have no label. ``seen`` gets the study's identifier."""
    study, lesions = open_row(row)
    if study.identifier in seen:
        raise ConfigError("the same study stands in a row before; keep one")
    seen.add(study.identifier)
    hu = study.volume.hu
    if lesions is None and row.label != 0:
        return [], len(range(0, len(hu), every))
    problem = "" if lesions is None else contradiction(row, int(np.count_nonzero(lesions)))
    if problem:
        raise MaskError(f"{row.mask}: {problem}")
    rows = []
    for index in range(0, len(hu), every):
        name = Path(study.identifier) / f"{study.identifier}-{index:04d}.png"
        image = folder / "images" / name
        _write_png(image, np.rint(window(hu[index]) * _WHITE).astype(np.uint16))
        infected = lesions is not None and bool(lesions[index].any())
        mask = folder / "masks" / name if infected else None
        if mask is not None and lesions is not None:
            _write_png(mask, lesions[index].astype(np.uint8) * np.uint8(255))
        rows.append(
            replace(
                row,
                path=image,
                mask=mask,
                label=int(infected),
                series="",
                lesion_labels=(),
                level_hu=window.level,
                width_hu=window.width,
                thickness_mm=row.thickness_mm if row.thickness_mm is not None else _thickness_mm(study),
            )
        )
    return rows, 0


def _thickness_mm(study: Study) -> float | None:
    stated = study.acquisition.get("slice_thickness_mm")
    return float(stated) if stated is not None else None


def _write_png(path: Path, plane: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    with replacing(path) as temporary:
        Image.fromarray(plane).save(temporary, format="PNG", compress_level=_COMPRESSION)
