"""Slices as a two-dimensional raw data set of nnU-Net (v2): PNG in HU + 1024 and masks of 0 and 1.

nnU-Net reads PNG with its ``NaturalImage2DIO`` and wants one lossless format for images and masks
(MIC-DKFZ/nnUNet, documentation/dataset_format.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jcs_ct.data.manifest import Manifest, ManifestRow, read_hu, read_lesions, read_manifest
from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind, refuse
from jcs_ct.data.sources.nnunet_splits import CHANNEL_ENDING_2D
from jcs_ct.errors import ConfigError, MaskError
from jcs_ct.exchange.cases import MANIFEST_NAME
from jcs_ct.files import refuse_filled, replacing, staged_folder
from jcs_ct.imaging.grey_levels import SHIFTED_HU_BELOW
from jcs_ct.progress import CountProgress, counted


def export_slices(
    manifest: Manifest,
    folder: Path,
    *,
    finish: Callable[[Manifest, Path], None],
    skip_unmasked: bool = False,
    progress: CountProgress | None = None,
) -> Manifest:
    """Write every slice into ``imagesTr`` or ``imagesTs`` and its lesions beside it; all of it, or nothing.

    A case is called by the number of its patient in the manifest and a hash of its pixels:
    ``p0001_1f3870be274f6c49``. HU are rounded to whole ones and kept from -1024 to 7167; under the window of an
    8-bit picture they are what its levels stand for.

    Args:
        manifest: Slices.
        folder: Made; empty where it exists.
        finish: Writes what belongs to the data set as a whole.
        skip_unmasked: Leave slices out whose lesions are not known, instead of refusing them; those of the test split
            need no mask.
        progress: Called with (slices done, total).

    Returns:
        The manifest as it was written.

    Raises:
        ManifestError: every slice that cannot be read or whose lesions are not known, at once.
        ConfigError, OutputError: ``folder`` is not empty, or cannot be written.
    """
    refuse_filled(folder)
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(row.patient for row in manifest), 1)}
    written: dict[str, ManifestRow] = {}
    problems: list[ManifestProblem] = []
    with staged_folder(folder, last=MANIFEST_NAME) as staging:
        for row in counted(manifest.rows, progress):
            try:
                hu, lesions = read_hu(row.path, row.window), read_lesions(row)
            except (ConfigError, MaskError) as error:
                problems.append(ManifestProblem(ProblemKind.IMAGE, str(error)))
                continue
            if lesions is None and row.label == 0:
                lesions = np.zeros(hu.shape, dtype=bool)
            if lesions is None and row.split != "test":
                problems += [] if skip_unmasked else [_unmasked(row)]
                continue
            levels = np.clip(np.rint(hu) + 1024, 0, SHIFTED_HU_BELOW - 1).astype(np.uint16)
            name = f"p{numbers[row.patient]:04d}_{hashlib.sha256(levels.tobytes()).hexdigest()[:16]}"
            if name in written:
                problems.append(
                    ManifestProblem(ProblemKind.REPEATED, "the same slice stands in a row before", str(row.path))
                )
                continue
            written[name] = _write_case(row, name, levels, lesions, staging)
        refuse(f"nothing is exported, {{count}} problem(s) with {len(manifest)} slices:", problems)
        rows = Manifest(tuple(written.values()))
        finish(rows, staging)
        rows.write(staging / MANIFEST_NAME)
    return read_manifest(folder / MANIFEST_NAME)


def _unmasked(row: ManifestRow) -> ManifestProblem:
    remedy = "give a mask, or leave such slices out with --skip-unmasked"
    return ManifestProblem(ProblemKind.UNMASKED, "no mask, and no label 0", str(row.path), remedy)


def _write_case(
    row: ManifestRow, name: str, levels: NDArray[np.uint16], lesions: NDArray[np.bool_] | None, staging: Path
) -> ManifestRow:
    part = "Ts" if row.split == "test" else "Tr"
    image = staging / f"images{part}" / f"{name}{CHANNEL_ENDING_2D}"
    mask = None if lesions is None else staging / f"labels{part}" / f"{name}.png"
    _write_png(image, levels)
    if mask is not None and lesions is not None:
        _write_png(mask, lesions.astype(np.uint8))
    labels = () if mask is None else (1,)
    return replace(row, path=image, mask=mask, level_hu=None, width_hu=None, lesion_labels=labels)


def _write_png(path: Path, plane: NDArray[np.uint16] | NDArray[np.uint8]) -> None:
    with replacing(path) as temporary:
        Image.fromarray(plane).save(temporary)


def refuse_mixed(manifest: Manifest) -> Sequence[ManifestRow]:
    """The rows that are slices: all, or none.

    Raises:
        ConfigError: slices and studies in one manifest.
    """
    slices = [row for row in manifest if not row.is_study]
    if slices and len(slices) < len(manifest):
        raise ConfigError(
            f"{len(slices)} rows of the manifest are slices, as {slices[0].path}, and {len(manifest) - len(slices)} "
            "are studies; export them one after the other"
        )
    return slices
