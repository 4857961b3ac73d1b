"""Studies as NIfTI volumes on their source's grid: pairs of images and masks, and raw data sets of nnU-Net (v2)."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from jcs_ct import NOTICE
from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.data.sources.nnunet_splits import CHANNEL_ENDINGS, SPLITS_NAME, splits_text
from jcs_ct.errors import ConfigError
from jcs_ct.exchange.cases import ExportCase, export_cases
from jcs_ct.exchange.nnunet_slices import export_slices, refuse_mixed
from jcs_ct.files import write_text
from jcs_ct.progress import CountProgress

#: What nnU-Net calls the folder of a raw data set.
_DATASET_NAME = re.compile(r"Dataset\d{3}_\w+")


def export_nifti_pairs(
    manifest: Manifest, folder: Path, *, progress: CountProgress = lambda done, total: None
) -> Manifest:
    """``images/CASE.nii.gz`` in HU and, where the lesions are known, ``masks/CASE.nii.gz`` (0, 1).

    Raises:
        ConfigError, OutputError: as :func:`export_cases`.
    """

    def write(case: ExportCase, staging: Path) -> ManifestRow:
        return _write_pair(
            case, staging / "images" / f"{case.name}.nii.gz", staging / "masks" / f"{case.name}.nii.gz"
        )

    return export_cases(manifest, folder, write, progress=progress)


def export_nnunet(
    manifest: Manifest,
    folder: Path,
    *,
    skip_unmasked: bool = False,
    progress: CountProgress = lambda done, total: None,
) -> Manifest:
    """A raw data set of nnU-Net: ``imagesTr``, ``labelsTr``, ``imagesTs``, ``labelsTs`` and ``dataset.json``.

    Rows of the test split go to ``Ts``. ``splits_final.json`` holds the manifest's own folds, or its train and val:
    left to itself nnU-Net deals cases, and one patient's studies end up in different folds. It belongs in
    ``nnUNet_preprocessed``.

    Args:
        manifest: Studies; or slices, which make a two-dimensional data set (:func:`export_slices`).
        folder: ``DatasetNNN_NAME``.
        skip_unmasked: Leave studies out whose lesions are not known, instead of refusing them; those of the test
            split need no mask.
        progress: Called with (studies done, total).

    Raises:
        ConfigError: another name of the folder, or as :func:`export_cases`.
        OutputError: as :func:`export_cases`.
    """
    if not _DATASET_NAME.fullmatch(folder.name):
        raise ConfigError(
            f"nnU-Net finds folders that are called DatasetNNN_NAME, as Dataset115_COVID; got {folder.name}"
        )

    def write(case: ExportCase, staging: Path) -> ManifestRow | None:
        part = "Ts" if case.row.split == "test" else "Tr"
        if case.lesions is None and part == "Tr":
            if skip_unmasked:
                return None
            raise ConfigError("its lesions are not known: give a mask, or leave such studies out (--skip-unmasked)")
        labels = staging / f"labels{part}" / f"{case.name}.nii.gz"
        return _write_pair(case, staging / f"images{part}" / f"{case.name}{CHANNEL_ENDINGS[0]}", labels)

    if refuse_mixed(manifest):
        return export_slices(manifest, folder, finish=_write_facts, skip_unmasked=skip_unmasked, progress=progress)
    return export_cases(manifest, folder, write, finish=_write_facts, progress=progress)


def _write_pair(case: ExportCase, image: Path, mask: Path) -> ManifestRow:
    case.study.save_nifti(case.study.volume.hu, image)
    if case.lesions is not None:
        case.study.save_nifti(case.lesions.astype(np.uint8), mask)
    known = None if case.lesions is None else mask
    return replace(case.row, path=image, mask=known, series="", lesion_labels=() if known is None else (1,))


def _write_facts(written: Manifest, folder: Path) -> None:
    """``dataset.json`` as version 2 of nnU-Net reads it, and the splits."""
    trained = [row for row in written if row.split != "test"]
    if not trained:
        raise ConfigError(
            "every case is of the test split, and nnU-Net needs some to train on: `jcs data split` deals splits anew"
        )
    facts = {
        "name": written.rows[0].source or "jcs-ct",
        "description": NOTICE,
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": len(trained),
        "file_ending": ".nii.gz" if trained[0].is_study else ".png",
    }
    if not trained[0].is_study:
        facts["overwrite_image_reader_writer"] = "NaturalImage2DIO"
    write_text(folder / "dataset.json", json.dumps(facts, indent=2) + "\n")
    splits = splits_text(trained)
    if splits:
        write_text(folder / SPLITS_NAME, splits)
