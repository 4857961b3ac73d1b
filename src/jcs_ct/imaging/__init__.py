"""Studies from disk: DICOM, NIfTI and folders of slices, through the geometry gate.

The names are imported when they are asked for: a program that only makes decoding children ready waits for no NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_OPENING = ("Inspection", "inspect_study", "list_series", "open_study")


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"jcs_ct.imaging.{'opening' if name in _OPENING else 'study'}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
