"""What a watcher does with a study it fetched: the same as ``jcs diagnose --dicom``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from jcs_ct.checkpoints import Models
from jcs_ct.diagnosis import diagnose
from jcs_ct.imaging import open_study
from jcs_ct.pacs.watch import ReadStudy
from jcs_ct.reporting import write_report


def models_identity(models: Models) -> str:
    """One hash for a classifier and a segmenter."""
    both = f"{models.classifier.sha256}|{models.segmenter.sha256}|{models.operating_point}"
    return hashlib.sha256(both.encode()).hexdigest()


def reader(models: Models) -> ReadStudy:
    """What ``jcs diagnose --dicom`` does, as a function of a study's folder and an output folder."""

    def read(study_folder: Path, output: Path) -> tuple[Path, ...]:
        study = open_study(study_folder)
        return write_report(study, diagnose(study, models), output, dicom=True).dicom

    return read
