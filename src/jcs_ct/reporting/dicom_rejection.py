"""Results that take the place of earlier ones: a rejection note of those (IHE RAD IOCM; PS3.3 A.35.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from jcs_ct.imaging.identifiers import ObjectIdentifiers
from jcs_ct.reporting.dicom_common import equipment, series_description, write_dataset
from jcs_ct.reporting.dicom_identity import ResultIdentity
from jcs_ct.reporting.dicom_source import SourceSeries

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis

SERIES_NUMBER = 9106


def references(results: Sequence[ObjectIdentifiers]) -> list[Dataset]:
    """Earlier results as data sets that can be referred to."""
    datasets = []
    for one in results:
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = one.sop_class, one.instance
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = one.series, one.study
        datasets.append(dataset)
    return datasets


def build_rejection(
    source: SourceSeries, diagnosis: Diagnosis, identity: ResultIdentity, earlier: Sequence[Dataset]
) -> KeyObjectSelectionDocument:
    """A Key Object Selection, "Rejected for Quality Reasons" (113001, DCM), of the results in ``earlier``."""
    evidence = []
    for one in earlier:
        whole = Dataset()
        whole.update(source.first)
        whole.update(one)
        whole.StudyInstanceUID = source.first.StudyInstanceUID
        evidence.append(whole)
    note = KeyObjectSelectionDocument(
        evidence=evidence,
        content=KeyObjectSelection(
            document_title=codes.DCM.RejectedForQualityReasons,
            referenced_objects=evidence,
            description="The images of the study changed; newer results take the place of these.",
        ),
        series_instance_uid=identity.uid("series", "ko"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("instance", "ko"),
        instance_number=1,
        **equipment(diagnosis),
    )
    note.copy_patient_and_study_information(source.first)
    note.SeriesDescription = series_description("superseded")
    return note


def write_rejection(
    source: SourceSeries, diagnosis: Diagnosis, identity: ResultIdentity, earlier: Sequence[Dataset], path: Path
) -> Path:
    """Write :func:`build_rejection`'s object."""
    return write_dataset(build_rejection(source, diagnosis, identity, earlier), path)
