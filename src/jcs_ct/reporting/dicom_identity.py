"""Identifiers of DICOM results: always the same for the same findings, or for the same reading of the same images."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jcs_ct import __version__

if TYPE_CHECKING:
    from jcs_ct.reading.diagnosis import Diagnosis

#: Root of every UID that jcs-ct derives from something else (name-based UUIDs, PS3.5 B.2).
_NAMESPACE = uuid.UUID("6f2d8d3c-2a77-5b36-9c1e-0f6a4c53d119")


def derived_uid(*parts: str) -> str:
    """A UID that is always the same for the same parts: ``2.25.`` and a name-based UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(parts)).int}"


@dataclass(frozen=True)
class Correction:
    """Who corrected the lesions that the networks found.

    Args:
        reader: Name of the person as the observer of the results.
        version: Which correction of the study it is, from 1.
    """

    reader: str
    version: int


@dataclass(frozen=True)
class ResultIdentity:
    """Names of the objects of one result set.

    Args:
        fingerprint: Hash over what the result set is one of: equal ones give equal UIDs, so a result that is sent
            twice is stored once.
    """

    fingerprint: str

    @classmethod
    def of(cls, series_uid: str, diagnosis: Diagnosis, correction: Correction | None = None) -> ResultIdentity:
        """Identity of a diagnosis of a series, or of a person's correction of it."""
        digest = hashlib.sha256()
        digest.update(repr((__version__, series_uid, weights(diagnosis), diagnosis.operating_point)).encode())
        digest.update(repr((diagnosis.slices, diagnosis.lesions, diagnosis.burden)).encode())
        for plane in (*diagnosis.lesion_labels, *diagnosis.activation):
            digest.update(plane.tobytes())
        if correction is not None:
            digest.update(repr(correction).encode())
        return cls(digest.hexdigest())

    def uid(self, *role: str) -> str:
        """UID of a part of the result set, such as ``("series", "seg")``."""
        return derived_uid(self.fingerprint, *role)


def weights(diagnosis: Diagnosis) -> dict[str, str]:
    """SHA-256 of each network's weights, by role; empty where it is not known."""
    return {role: str(facts.get("sha256", "")) for role, facts in sorted(diagnosis.models.items())}


def report_series_uid(revision: str) -> str:
    """Series Instance UID of the structured report of a reading that was named ``revision`` beforehand."""
    return ResultIdentity(revision).uid("series", "sr")
