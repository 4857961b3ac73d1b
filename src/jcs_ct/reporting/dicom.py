"""A Diagnosis as DICOM objects that a PACS stores beside the source series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jcs_ct.errors import ConfigError

if TYPE_CHECKING:
    from jcs_ct.diagnosis import Diagnosis
    from jcs_ct.imaging.study import Study

#: Every kind of result, in the order in which they are written.
KINDS = ("seg", "pm", "sr", "sc", "pdf")


def write_dicom_results(
    study: Study, diagnosis: Diagnosis, folder: Path, *, kinds: Sequence[str] = KINDS
) -> tuple[Path, ...]:
    """Write the results of a study as DICOM objects, in files with fixed names.

    ========  =======================  ==========================================================
    kind      file                     object
    ========  =======================  ==========================================================
    ``seg``   ``lesions.seg.dcm``      Segmentation, BINARY; left out when there is no lesion
    ========  =======================  ==========================================================

    Args:
        study: A study that was read from DICOM; its source files are read again, headers only.
        diagnosis: Its findings.
        folder: Where to write; created when it is absent.
        kinds: Which results to write.

    Returns:
        The files written, in the order of :data:`KINDS`.

    Raises:
        ConfigError: the study is not DICOM, a kind is not known, or highdicom is not installed.
        StudyError: a source file is gone (UNREADABLE) or states no position (NO_POSITION).
        OutputError: the folder cannot be written or the disk is full.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ConfigError(f"DICOM results are {', '.join(KINDS)}; got {', '.join(unknown)}")
    try:
        from jcs_ct.reporting import dicom_common, dicom_seg
    except ModuleNotFoundError as error:
        if error.name != "highdicom":
            raise
        raise ConfigError("DICOM results need highdicom: pip install highdicom") from error
    from jcs_ct.reporting.dicom_source import read_source_series

    source = read_source_series(study)
    identity = dicom_common.ResultIdentity.of(source, diagnosis)
    written: list[Path] = []
    if "seg" in kinds:
        path = dicom_seg.write_segmentation(source, diagnosis, identity, folder / "lesions.seg.dcm")
        written.extend([path] if path else [])
    return tuple(written)
