"""Rows that are whole studies, read through the gate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest.rows import ManifestRow
from jcs_ct.imaging import Study, open_study
from jcs_ct.imaging.masks import StudyMask, study_mask


def open_row(row: ManifestRow) -> tuple[Study, NDArray[np.bool_] | None]:
    """A row's study and, where it has a mask, its lesions on the same grid, (slices, rows, columns) bool.

    Raises:
        ConfigError: nothing there, or no such series.
        StudyError: the gate refuses.
        MaskError: the mask does not fit.
    """
    study, mask = open_row_mask(row)
    return study, None if mask is None else mask.lesions.labels


def open_row_mask(row: ManifestRow) -> tuple[Study, StudyMask | None]:
    """As :func:`open_row`, with what is known of the mask's file.

    Raises:
        ConfigError, StudyError, MaskError: as :func:`open_row`.
    """
    study = open_study(row.path, series=row.series or None)
    if row.mask is None:
        return study, None
    return study, study_mask(study.volume, row.mask, row.lesion_labels, source=study.source)
