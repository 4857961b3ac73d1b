"""jcs-ct: explainable COVID-19 chest CT reading by joint classification and segmentation (JCS).

Research use only, not a medical device.

The public names are listed here by hand; each is imported when it is first used, so ``import jcs_ct`` is light. Type
checkers and editors read the imports below, which say the same (a test compares the two).
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers take for true; typing itself is not worth the wait of every command
if TYPE_CHECKING:
    from typing import Any

    from jcs_ct.checkpoints import Models, load_checkpoint, load_models
    from jcs_ct.engine import Execution
    from jcs_ct.errors import (
        BackendError,
        CheckpointError,
        ConfigError,
        GateCode,
        JCSError,
        MaskError,
        OutputError,
        StoppedError,
        StudyError,
    )
    from jcs_ct.imaging import QualityFlag, SeriesInfo, Study, list_series, open_study
    from jcs_ct.operating_point import OperatingPoint, Verdict
    from jcs_ct.preprocessing import SlicePreprocessor, Window
    from jcs_ct.reading.burden import Burden
    from jcs_ct.reading.diagnosis import Diagnosis, SlicePrediction, diagnose
    from jcs_ct.reading.lesions import Lesion
    from jcs_ct.reporting import ReportPaths, write_dicom_results, write_report
    from jcs_ct.volume import CTVolume, LabelVolume

__version__ = "0.1.0"

#: Stands in the command line, the reports and every DICOM output.
NOTICE = "Research use only, not a medical device."

_PUBLIC = {
    "BackendError": "jcs_ct.errors",
    "Burden": "jcs_ct.reading.burden",
    "CTVolume": "jcs_ct.volume",
    "CheckpointError": "jcs_ct.errors",
    "ConfigError": "jcs_ct.errors",
    "Diagnosis": "jcs_ct.reading.diagnosis",
    "Execution": "jcs_ct.engine",
    "GateCode": "jcs_ct.errors",
    "JCSError": "jcs_ct.errors",
    "LabelVolume": "jcs_ct.volume",
    "Lesion": "jcs_ct.reading.lesions",
    "MaskError": "jcs_ct.errors",
    "Models": "jcs_ct.checkpoints",
    "OperatingPoint": "jcs_ct.operating_point",
    "OutputError": "jcs_ct.errors",
    "QualityFlag": "jcs_ct.imaging",
    "ReportPaths": "jcs_ct.reporting",
    "SeriesInfo": "jcs_ct.imaging",
    "SlicePrediction": "jcs_ct.reading.diagnosis",
    "SlicePreprocessor": "jcs_ct.preprocessing",
    "StoppedError": "jcs_ct.errors",
    "Study": "jcs_ct.imaging",
    "StudyError": "jcs_ct.errors",
    "Verdict": "jcs_ct.operating_point",
    "Window": "jcs_ct.preprocessing",
    "diagnose": "jcs_ct.reading.diagnosis",
    "list_series": "jcs_ct.imaging",
    "load_checkpoint": "jcs_ct.checkpoints",
    "load_models": "jcs_ct.checkpoints",
    "open_study": "jcs_ct.imaging",
    "write_dicom_results": "jcs_ct.reporting",
    "write_report": "jcs_ct.reporting",
}

__all__ = [
    "NOTICE",
    "BackendError",
    "Burden",
    "CTVolume",
    "CheckpointError",
    "ConfigError",
    "Diagnosis",
    "Execution",
    "GateCode",
    "JCSError",
    "LabelVolume",
    "Lesion",
    "MaskError",
    "Models",
    "OperatingPoint",
    "OutputError",
    "QualityFlag",
    "ReportPaths",
    "SeriesInfo",
    "SlicePrediction",
    "SlicePreprocessor",
    "StoppedError",
    "Study",
    "StudyError",
    "Verdict",
    "Window",
    "__version__",
    "diagnose",
    "list_series",
    "load_checkpoint",
    "load_models",
    "open_study",
    "write_dicom_results",
    "write_report",
]

if not TYPE_CHECKING:  # else every name would be Any

    def __getattr__(name: str) -> Any:
        if name in _PUBLIC:
            from importlib import import_module

            return getattr(import_module(_PUBLIC[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
