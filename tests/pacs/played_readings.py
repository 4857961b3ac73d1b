"""Readings that cost nothing, as tasks of the study's process and in this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from jcs_ct.imaging.identifiers import ObjectIdentifiers
from jcs_ct.jobs import Ending, Outcome
from jcs_ct.reporting.dicom_identity import ResultIdentity

from .fake_pacs import ct_file


def write_results(arguments: dict[str, Any], more_objects: int = 0, own_study: str = "") -> dict[str, Any]:
    """Two results: a segmentation's stand-in, and a report whose series is the revision's; what they supersede.

    ``more_objects`` lie in the report's series, after it; all in ``own_study`` where it is given.
    """
    from pydicom import dcmread

    output = Path(arguments["output"])
    output.mkdir(parents=True, exist_ok=True)
    images = sorted(Path(arguments["study"]).glob("*.dcm"))
    first = dcmread(images[0])
    study, patient = own_study or str(first.StudyInstanceUID), str(first.PatientID)
    identity = ResultIdentity(arguments["revision"])
    objects = []
    for kind in ("seg", "sr"):
        series = identity.uid("series", kind)
        content = ct_file(study, series, 1, modality=kind.upper(), patient=patient)
        (output / f"{kind}.dcm").write_bytes(content)
        known = ObjectIdentifiers("1.2.840.10008.5.1.4.1.1.88.11", f"{series}.1", series, study)
        objects.append([f"{kind}.dcm", asdict(known)])
    for number in range(2, 2 + more_objects):
        (output / f"{number}.dcm").write_bytes(ct_file(study, series, number, modality="SR", patient=patient))
        objects.append([f"{number}.dcm", asdict(replace(known, instance=f"{series}.{number}"))])
    return {"objects": objects, "images": len(images), "supersedes": arguments["supersedes"]}


@dataclass
class PlayedWorker:
    """Stands for a study's process: writes results, or ends as told.

    Args:
        ending: How the next studies end; a callable may do anything first.
        readings: What was read: number of images and what was superseded.
        more_objects: Results beyond the two of every study.
        own_study: Study of the results, where it is another than that of the images.
    """

    ending: Outcome | Callable[[], Outcome | None] | None = None
    readings: list[dict[str, Any]] = field(default_factory=list)
    calls: int = 0
    more_objects: int = 0
    own_study: str = ""

    def run(self, task: str, arguments: dict[str, Any], **limits: Any) -> Outcome:
        self.calls += 1
        ending = self.ending() if callable(self.ending) else self.ending
        if ending is not None:
            return ending
        value = write_results(arguments, self.more_objects, self.own_study)
        self.readings.append(value)
        return Outcome(Ending.DONE, value=value, seconds=1.0)
