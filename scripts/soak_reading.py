"""A reading that costs nothing, and a watcher that uses it: what ``soak_pacs`` kills and starts again."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, CTImageStorage, ExplicitVRLittleEndian

from jcs_ct.imaging.identifiers import ObjectIdentifiers
from jcs_ct.jobs import JobKey, RetryPolicy
from jcs_ct.reporting.dicom_identity import ResultIdentity

KEY = JobKey("any", "soak", "soak", "soak")


def write_object(path: Path, study: str, series: str, instance: str, modality: str) -> None:
    """A DICOM file that is small and whole."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage if modality == "CT" else BasicTextSRStorage
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.PatientID, dataset.Modality = f"P{study}"[:64], modality
    dataset.save_as(path, enforce_file_format=True)


def read(arguments: dict[str, Any], progress: Any) -> dict[str, Any]:
    """The task: two results whose identifiers are those of the revision, as real ones are."""
    output = Path(arguments["output"])
    output.mkdir(parents=True)
    images = [dcmread(path) for path in sorted(Path(arguments["study"]).glob("*.dcm"))]
    study, identity, objects = str(images[0].StudyInstanceUID), ResultIdentity(arguments["revision"]), []
    for kind in ("seg", "sr"):
        series, instance = identity.uid("series", kind), identity.uid("instance", kind)
        write_object(output / f"{kind}.dcm", study, series, instance, kind.upper())
        known = ObjectIdentifiers(str(BasicTextSRStorage), instance, series, study)
        objects.append([f"{kind}.dcm", asdict(known)])
    return {"objects": objects}


def watch(url: str, folder: Path, settle_s: float, least_free_bytes: int) -> None:
    """A watcher for ever."""
    from jcs_ct.pacs.running import go_on, open_watcher
    from jcs_ct.pacs.server import PacsServer
    from jcs_ct.pacs.watch import WatchSettings
    from jcs_ct.pacs.web import DicomWeb

    logging.basicConfig(level=logging.WARNING, filename=folder / "watch.log")
    web = DicomWeb(PacsServer(url, timeout_s=5.0, retries=2, backoff_s=0.1, longest_wait_s=1.0))
    settings = WatchSettings(
        task="soak_reading:read", outage_wait_s=0.5, look_every_s=2.0, least_free_bytes=least_free_bytes
    )
    retries = RetryPolicy(most_attempts=50, first_wait_s=0.2, longest_wait_s=2.0)
    with open_watcher(
        web, folder, KEY, whole_archive=True, settle_s=settle_s, retries=retries, settings=settings
    ) as watcher:
        go_on(watcher, 0.5)


if __name__ == "__main__":
    watch(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
