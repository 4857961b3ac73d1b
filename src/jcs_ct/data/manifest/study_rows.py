"""Rows that are whole studies, read through the gate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jcs_ct.data.manifest.rows import ManifestRow
from jcs_ct.imaging import Study, open_study
from jcs_ct.imaging.masks import mask_on


def open_row(row: ManifestRow) -> tuple[Study, NDArray[np.bool_] | None]:
    """A row's study and, where it has a mask, its lesions on the same grid, (slices, rows, columns) bool.

    Raises:
        ConfigError: nothing there, or no such series.
        StudyError: the gate refuses.
        MaskError: the mask does not fit.
    """
    study = open_study(row.path, series=row.series or None)
    return study, None if row.mask is None else mask_on(study.volume, row.mask, row.lesion_labels)
