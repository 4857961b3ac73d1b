"""Studies that arrive in Orthanc during a soak: phantoms, read for real, and stand-ins, whose reading is played."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from soak_reading import stand_in

from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom

_TEMPLATES, _SLICES, _SIZE = 8, 7, 32


@dataclass
class ArrivedStudy:
    """One study and what it held, state by state.

    Args:
        uid: Study Instance UID.
        patient: Patient ID.
        template: Phantom that its images are slices of; None for a stand-in.
        states: Its images, by identifier, after each arrival.
        is_deleted: Whether it was deleted on the server.
    """

    uid: str
    patient: str
    template: int | None
    states: list[tuple[str, ...]]
    is_deleted: bool = False

    @property
    def series(self) -> str:
        """Series Instance UID of its images."""
        return f"{self.uid}.1"

    def orthanc_id(self, *below: str) -> str:
        """Orthanc's name of the study, or of a series and an instance below it."""
        digest = hashlib.sha1("|".join((self.patient, self.uid, *below)).encode(), usedforsecurity=False).hexdigest()
        return "-".join(digest[start : start + 8] for start in range(0, 40, 8))


class Arrivals:
    """Sends studies to Orthanc, past the proxy, and knows what every study must hold in the end.

    Args:
        url: Of Orthanc.
        folder: For the phantoms.
        generator: Chooses.
        real_share: Of studies that are phantoms.
    """

    def __init__(self, url: str, folder: Path, generator: random.Random, real_share: float) -> None:
        self._host, self._generator, self._real_share = url.removeprefix("http://"), generator, real_share
        self._templates = [_phantom(folder / f"phantom-{seed}", seed) for seed in range(_TEMPLATES)]
        self.studies: list[ArrivedStudy] = []
        self.counts: Counter[str] = Counter()
        self._late: list[tuple[float, ArrivedStudy]] = []
        self._to_delete: list[tuple[float, ArrivedStudy]] = []

    def add(self) -> None:
        """One new study, now and then sent twice, to be added to later, or to be deleted later."""
        chance, uid = self._generator.random, f"1.2.826.0.1.3680043.8.498.{len(self.studies) + 1}"
        is_real = len(self.studies) % max(1, round(1 / self._real_share)) == 0 if self._real_share else False
        count = self._generator.randint(_SLICES - 2, _SLICES - 1) if is_real else self._generator.randint(2, 4)
        images = tuple(f"{uid}.1.{number}" for number in range(1, count + 1))
        template = self._generator.randrange(_TEMPLATES) if is_real else None
        study = ArrivedStudy(uid, f"P{len(self.studies) + 1}", template, [images])
        self._send(study, images)
        self.studies.append(study)
        if chance() < 0.1:
            self._send(study, images)
            self.counts["sent twice"] += 1
        moment = time.monotonic() + self._generator.uniform(0.0, 60.0)
        if chance() < 0.1:
            self._late.append((moment, study))
        elif chance() < 0.02:
            self._to_delete.append((moment, study))

    def change(self, *, all_of_them: bool = False) -> None:
        """Images that were held back and deletions that are due."""
        now = time.monotonic()
        for one in [one for one in self._late if all_of_them or one[0] <= now]:
            self._late.remove(one)
            study = one[1]
            more = f"{study.uid}.1.{len(study.states[-1]) + 1}"
            self._send(study, (more,))
            study.states.append((*study.states[-1], more))
            self.counts["late images"] += 1
        for one in [one for one in self._to_delete if all_of_them or one[0] <= now]:
            self._to_delete.remove(one)
            self.ask("DELETE", f"/studies/{one[1].orthanc_id()}")
            one[1].is_deleted = True
            self.counts["deleted"] += 1

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """One request to Orthanc itself, which must succeed."""
        connection = http.client.HTTPConnection(self._host, timeout=60)
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"Orthanc answers {answer.status} to {method} {path}")
        return content

    def held(self, study: ArrivedStudy) -> list[str]:
        """Orthanc's names of all objects of a study."""
        found = json.loads(self.ask("GET", f"/studies/{study.orthanc_id()}/series"))
        return [instance for series in found for instance in series["Instances"]]

    def _send(self, study: ArrivedStudy, images: tuple[str, ...]) -> None:
        for uid in images:
            if study.template is None:
                dataset = stand_in(study.uid, study.series, uid, "CT")
            else:
                dataset = self._templates[study.template][int(uid.rpartition(".")[2]) - 1]
                dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study.uid, study.series
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
            dataset.PatientID = study.patient
            content = io.BytesIO()
            dataset.save_as(content, enforce_file_format=True)
            self.ask("POST", "/instances", content.getvalue())


def _phantom(folder: Path, seed: int) -> list[Dataset]:
    """The slices of a small phantom with lesions, from the top."""
    write_dicom(make_phantom(PhantomConfig(slices=_SLICES, size=_SIZE, lesions=2, seed=seed)), folder)
    return [dcmread(path) for path in sorted((folder / "dicom").iterdir())]
