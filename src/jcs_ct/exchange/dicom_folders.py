"""DICOM studies with their lesions as DICOM Segmentations, and the table that brings both back."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from highdicom.seg import SegmentDescription

from jcs_ct import __version__
from jcs_ct.data.manifest import Manifest, ManifestRow
from jcs_ct.data.manifest.table_files import csv_text
from jcs_ct.errors import ConfigError
from jcs_ct.exchange.cases import ExportCase, export_cases
from jcs_ct.files import copy_file, prepare_output_folder, write_text
from jcs_ct.progress import CountProgress
from jcs_ct.reporting.dicom_common import CATEGORY, LUNG, MANUFACTURER, OPACITY, series_description, write_dataset
from jcs_ct.reporting.dicom_identity import ResultIdentity
from jcs_ct.reporting.dicom_results import names_kept_out_of_warnings
from jcs_ct.reporting.dicom_seg import lesion_segmentation
from jcs_ct.reporting.dicom_source import read_source_series

#: The table that ``jcs data make dicom --labels`` reads.
LABELS_NAME = "labels.csv"
#: Folder of the studies, from which the table's column ``folder`` counts.
STUDIES_FOLDER = "studies"


def export_dicom(manifest: Manifest, folder: Path, *, progress: CountProgress = lambda done, total: None) -> Manifest:
    """``studies/CASE/*.dcm`` as they are, ``masks/CASE.seg.dcm`` and ``labels.csv``.

    A Segmentation is BINARY with one segment, Opacity, whose frames are those of the study's images that hold
    lesion; a study without lesions has none. Masks of a manifest are taken for a person's (Segment Algorithm Type
    MANUAL). Patients' names stay in the files, which are
    copies: what is changed in them later leaves the sources as they are.

    Raises:
        ConfigError: a study that is no DICOM series in a folder, or as :func:`export_cases`.
        OutputError: as :func:`export_cases`.
    """
    return export_cases(manifest, folder, _write_case, finish=_write_labels, progress=progress)


def _write_case(case: ExportCase, staging: Path) -> ManifestRow:
    if case.study.kind != "dicom":
        raise ConfigError("it is no DICOM series, and none is invented for it; export it as nifti or nnunet")
    mask = None
    if case.lesions is not None and case.lesions.any():
        mask = prepare_output_folder(staging / "masks") / f"{case.name}.seg.dcm"
        _write_segmentation(case, mask)
    images = prepare_output_folder(staging / STUDIES_FOLDER / case.name)
    for number, path in enumerate(dict.fromkeys(case.study.paths), start=1):
        copy_file(path, images / f"{number:04d}.dcm")
    return replace(case.row, path=images, mask=mask, lesion_labels=())


def _write_segmentation(case: ExportCase, path: Path) -> None:
    source = read_source_series(case.study)
    lesions = np.asarray(case.lesions, dtype=np.uint8)
    identity = ResultIdentity(hashlib.sha256(source.series_uid.encode() + lesions.tobytes()).hexdigest())
    segment = SegmentDescription(
        segment_number=1,
        segment_label="Opacities",
        segmented_property_category=CATEGORY,
        segmented_property_type=OPACITY,
        algorithm_type="MANUAL",
        tracking_uid=identity.uid("lesions"),
        tracking_id="Opacities",
        anatomic_regions=[LUNG],
    )
    with names_kept_out_of_warnings():
        segmentation = lesion_segmentation(
            source,
            lesions,
            [segment],
            identity,
            content_description="Pulmonary opacities of a data set",
            series_description=series_description("lesions"),
            manufacturer=MANUFACTURER,
            manufacturer_model_name="jcs data export",
            software_versions=f"jcs-ct {__version__}",
            device_serial_number="none",
        )
    write_dataset(segmentation, path)


def _write_labels(written: Manifest, folder: Path) -> None:
    lines = [
        {
            "folder": row.path.name,
            "label": row.label,
            "mask": None if row.mask is None else str(row.mask.relative_to(folder)),
            "split": row.split,
        }
        for row in written
    ]
    write_text(folder / LABELS_NAME, csv_text(("folder", "label", "mask", "split"), lines))
