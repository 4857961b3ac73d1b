"""The one path from a slice to a network's tensor; it is saved inside every checkpoint.

Training, diagnosis and export all call :class:`SlicePreprocessor`, so a network never sees a slice that was
prepared in another way than the ones it learnt from.
"""

from __future__ import annotations

from jcs_ct.preprocessing.lung_box import OUTSIDE_HU, lung_box
from jcs_ct.preprocessing.region import Region
from jcs_ct.preprocessing.resampling import enlarged
from jcs_ct.preprocessing.slice_body import BODY_GREY, body_mask
from jcs_ct.preprocessing.slice_preprocessor import SlicePreprocessor
from jcs_ct.preprocessing.window import LUNG_WINDOW, Window

__all__ = [
    "BODY_GREY",
    "LUNG_WINDOW",
    "OUTSIDE_HU",
    "Region",
    "SlicePreprocessor",
    "Window",
    "body_mask",
    "enlarged",
    "lung_box",
]
