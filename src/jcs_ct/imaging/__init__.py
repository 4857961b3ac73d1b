"""Studies from disk: DICOM, NIfTI and folders of slices, through the geometry gate."""

from __future__ import annotations

from jcs_ct.imaging.opening import Inspection, inspect_study, list_series, open_study
from jcs_ct.imaging.study import HeaderWindow, QualityFlag, SeriesFate, SeriesInfo, Study

__all__ = [
    "HeaderWindow",
    "Inspection",
    "QualityFlag",
    "SeriesFate",
    "SeriesInfo",
    "Study",
    "inspect_study",
    "list_series",
    "open_study",
]
