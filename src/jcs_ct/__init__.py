"""jcs-ct: explainable COVID-19 chest CT reading by joint classification and segmentation.

Research use only, not a medical device.

The public names are listed here by hand; each is imported when it is first used, so ``import jcs_ct`` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: Stands in the command line, the reports and every DICOM output.
NOTICE = "Research use only, not a medical device."

_PUBLIC = {
    "CTVolume": "jcs_ct.volume",
    "LabelVolume": "jcs_ct.volume",
    "JCSError": "jcs_ct.errors",
    "StudyError": "jcs_ct.errors",
    "MaskError": "jcs_ct.errors",
    "CheckpointError": "jcs_ct.errors",
    "ConfigError": "jcs_ct.errors",
    "OutputError": "jcs_ct.errors",
    "Window": "jcs_ct.preprocessing",
    "SlicePreprocessor": "jcs_ct.preprocessing",
    "Study": "jcs_ct.imaging.study",
    "open_study": "jcs_ct.imaging",
    "Diagnosis": "jcs_ct.reading.diagnosis",
    "OperatingPoint": "jcs_ct.operating_point",
    "Execution": "jcs_ct.engine",
    "Models": "jcs_ct.checkpoints",
    "load_checkpoint": "jcs_ct.checkpoints",
    "load_models": "jcs_ct.checkpoints",
    "diagnose": "jcs_ct.reading.diagnosis",
    "write_report": "jcs_ct.reporting",
}

__all__ = ["NOTICE", "__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
