"""Studies from disk: DICOM, NIfTI and folders of slices, through the geometry gate."""

from __future__ import annotations

from jcs_ct.imaging.opening import list_series, open_study
from jcs_ct.imaging.study import QualityFlag, SeriesFate, SeriesInfo, Study

__all__ = ["QualityFlag", "SeriesFate", "SeriesInfo", "Study", "list_series", "open_study"]
