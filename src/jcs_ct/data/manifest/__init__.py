"""Manifests: one table of slices or studies with patient, label, mask, split and fold; checked before training."""

from jcs_ct.data.manifest.parsing import parse_manifest, read_manifest, refuse_problems, split_problems
from jcs_ct.data.manifest.patient_folds import assign_splits, fold_by_patient, patient_folds, split_by_patient
from jcs_ct.data.manifest.rows import (
    COLUMNS,
    SPLITS,
    Manifest,
    ManifestRow,
    combine,
    count_manifest,
    is_volume,
)
from jcs_ct.data.manifest.slice_files import read_grey, read_hu, read_lesions, read_mask

__all__ = [
    "COLUMNS",
    "SPLITS",
    "Manifest",
    "ManifestRow",
    "assign_splits",
    "combine",
    "count_manifest",
    "fold_by_patient",
    "is_volume",
    "parse_manifest",
    "patient_folds",
    "read_grey",
    "read_hu",
    "read_lesions",
    "read_manifest",
    "read_mask",
    "refuse_problems",
    "split_by_patient",
    "split_problems",
]
