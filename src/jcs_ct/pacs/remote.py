"""What a server holds, in the words of a search: studies, series, images; no names and no dates of birth."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import date

from jcs_ct.errors import ConfigError
from jcs_ct.imaging.elements import has_controls


def file_name(instance_uid: str) -> str:
    """What an instance is called on disk: a hash."""
    return f"{hashlib.sha256(instance_uid.encode()).hexdigest()[:24]}.dcm"


def is_file_name(name: str) -> bool:
    """Whether a file is called as a fetched instance."""
    return re.fullmatch(r"[0-9a-f]{24}\.dcm", name) is not None


def patient_key(patient_id: str) -> str:
    """What a patient is called: a hash; empty when the Patient ID is."""
    return hashlib.sha256(patient_id.encode("utf-8", "surrogatepass")).hexdigest()[:16] if patient_id else ""


@dataclass(frozen=True)
class RemoteStudy:
    """A study as a search finds it.

    Args:
        uid: Study Instance UID.
        instance_count: Objects of all kinds in it; None where the server does not count.
        patient_key: Hash of the Patient ID, so that a UID used for another patient is seen; empty when not stated.
        date: Study Date as stated, or empty.
        description: Study Description, or empty.
    """

    uid: str
    instance_count: int | None = None
    patient_key: str = ""
    date: str = ""
    description: str = ""


@dataclass(frozen=True)
class RemoteSeries:
    """A series of a study.

    Args:
        study_uid: Study Instance UID.
        uid: Series Instance UID.
        instance_count: Objects in it; None where the server does not count.
        modality: As stated, or empty.
        body_part: Body Part Examined, or empty.
        description: Series Description, or empty.
        images: SOP Instance UIDs of its CT images; empty for other modalities.
    """

    study_uid: str
    uid: str
    instance_count: int | None = None
    modality: str = ""
    body_part: str = ""
    description: str = ""
    images: tuple[str, ...] = ()

    def with_images(self, images: tuple[str, ...]) -> RemoteSeries:
        """The same with its images."""
        return replace(self, images=images)


@dataclass(frozen=True)
class StudyListing:
    """Every series of a study and every CT image."""

    study_uid: str
    patient_key: str
    series: tuple[RemoteSeries, ...]

    @property
    def ct_series(self) -> tuple[RemoteSeries, ...]:
        """Those with CT images."""
        return tuple(one for one in self.series if one.images)

    @property
    def image_count(self) -> int:
        """CT images in all."""
        return sum(len(one.images) for one in self.series)

    @property
    def fingerprint(self) -> str:
        """Hash over the patient and all CT images: another one means that other images are to be read."""
        digest = hashlib.sha256(self.patient_key.encode())
        for one in self.ct_series:
            digest.update("\n".join((f"\n{one.uid}", *sorted(one.images))).encode())
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class StudyQuery:
    """Which studies are wanted.

    Args:
        since: Earliest Study Date; studies without one are wanted, too.
        body_parts: Body Part Examined of at least one CT series, or none stated; empty for every one.
        description: Text that the Study or a Series Description holds, in any case; empty for every one.
        patient_id: The whole Patient ID; empty for every patient.
        accession_number: The whole Accession Number; empty for every one.
    """

    since: date | None = None
    body_parts: tuple[str, ...] = ()
    description: str = ""
    patient_id: str = ""
    accession_number: str = ""

    def __post_init__(self) -> None:
        for value in (self.patient_id, self.accession_number):
            if has_controls(value) or any(letter in value for letter in "*?\\") or len(value) > 64:
                raise ConfigError("a Patient ID or Accession Number is looked for whole: up to 64 letters, no * or ?")
        if any(not part.strip() for part in self.body_parts):
            raise ConfigError("a body part is a word such as CHEST, got an empty one")

    def admits_date(self, stated: str) -> bool:
        """Whether a Study Date is late enough: servers may ignore what they were asked."""
        return self.since is None or not stated or stated.replace(".", "") >= f"{self.since:%Y%m%d}"

    def admits(self, study: RemoteStudy, listing: StudyListing) -> bool:
        """Whether a study is wanted by its body parts and descriptions."""
        wanted = {part.strip().upper() for part in self.body_parts}
        parts = {one.body_part.upper() for one in listing.ct_series}
        if wanted and not parts & (wanted | {""}):
            return False
        texts = [study.description, *(one.description for one in listing.ct_series)]
        return any(self.description.lower() in text.lower() for text in texts)
