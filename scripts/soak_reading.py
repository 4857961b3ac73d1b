"""What ``soak_pacs`` kills and starts again: a watcher that reads phantoms, and plays the reading of stand-ins."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, CTImageStorage, ExplicitVRLittleEndian

from jcs_ct.imaging.identifiers import ObjectIdentifiers
from jcs_ct.jobs import JobKey, RetryPolicy
from jcs_ct.pacs.watched_reading import read_for_pacs
from jcs_ct.reporting.dicom_identity import ResultIdentity

KEY = JobKey("any", "soak", "soak", "soak")


def stand_in(study: str, series: str, instance: str, modality: str) -> Dataset:
    """A DICOM object that is small and whole."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage if modality == "CT" else BasicTextSRStorage
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = study, series, modality
    return dataset


def read(arguments: dict[str, Any], progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """The task: the product's own for a phantom; else two results whose identifiers follow from the revision."""
    images = [dcmread(path) for path in sorted(Path(arguments["study"]).glob("*.dcm"))]
    if "PixelData" in images[0]:
        return read_for_pacs(arguments, progress)
    output = Path(arguments["output"])
    output.mkdir(parents=True)
    study, identity, objects = str(images[0].StudyInstanceUID), ResultIdentity(arguments["revision"]), []
    for kind in ("seg", "sr"):
        series, instance = identity.uid("series", kind), identity.uid("instance", kind)
        dataset = stand_in(study, series, instance, kind.upper())
        dataset.PatientID = images[0].PatientID
        dataset.save_as(output / f"{kind}.dcm", enforce_file_format=True)
        known = ObjectIdentifiers(str(BasicTextSRStorage), instance, series, study)
        objects.append([f"{kind}.dcm", asdict(known)])
    return {"objects": objects}


def watch(url: str, folder: Path, models: Path, log: Path, settle_s: float, least_free_bytes: int) -> None:
    """A watcher for ever."""
    from jcs_ct.pacs.dicomweb import DicomWeb
    from jcs_ct.pacs.server import PacsServer
    from jcs_ct.pacs.watch import WatchSettings
    from jcs_ct.pacs.watcher_setup import go_on, open_watcher

    logging.basicConfig(level=logging.WARNING, filename=log, format="%(asctime)s %(levelname)s %(message)s")
    web = DicomWeb(PacsServer(url, timeout_s=30.0, retries=2, backoff_s=0.1, longest_wait_s=1.0))
    settings = WatchSettings(
        models=str(models),
        task="soak_reading:read",
        outage_wait_s=0.5,
        look_every_s=10.0,
        least_free_bytes=least_free_bytes,
    )
    retries = RetryPolicy(most_attempts=50, first_wait_s=0.2, longest_wait_s=2.0)
    with open_watcher(
        web, folder, KEY, whole_archive=True, settle_s=settle_s, retries=retries, settings=settings
    ) as watcher:
        go_on(watcher, 0.5)


if __name__ == "__main__":
    watch(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6]))
