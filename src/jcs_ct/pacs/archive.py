"""What is asked of every server, over DICOMweb and over DIMSE: lists that are whole, and studies that are whole.

What a server lists is compared with what it counts; a study counts as fetched only when every image that the server
lists lies on disk and the server still lists the same afterwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jcs_ct.errors import ConfigError
from jcs_ct.imaging.elements import to_text
from jcs_ct.imaging.headers import CT_SOP_CLASSES
from jcs_ct.imaging.identifiers import readable_elements
from jcs_ct.pacs.remote import (
    RemoteSeries,
    RemoteStudy,
    StudyListing,
    StudyQuery,
    file_name,
    is_file_name,
    patient_key,
)
from jcs_ct.pacs.server import PacsAnswerError, PacsGoneError, PacsIncompleteError
from jcs_ct.pacs.storing import StoreReceipt

#: Images that are to be fetched: name on disk -> series and SOP Instance UID.
Wanted = Mapping[str, tuple[RemoteSeries, str]]
_IDENTITY = ("StudyInstanceUID", "SOPInstanceUID", "PatientID")


class Archive(ABC):
    """A server that holds studies."""

    @abstractmethod
    def studies(self, query: StudyQuery | None = None, *, most: int | None = None) -> list[RemoteStudy]:
        """Studies that hold CT, all of them.

        Args:
            query: Which are wanted.
            most: Do not ask for further ones when so many were found.

        Raises:
            PacsIncompleteError: the server says that there are more and does not give them.
        """

    @abstractmethod
    def study(self, study_uid: str) -> RemoteStudy:
        """What the server says of one study; without counts where it cannot search by identifier."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server answers at all: what tells an outage from one study's trouble."""

    @abstractmethod
    def store(self, paths: Sequence[Path], *, advance: Callable[[int, int], None] | None = None) -> StoreReceipt:
        """Store DICOM files, in their order; storing one that is there already changes nothing and is no failure.

        Args:
            paths: Of the files.
            advance: Called with the files that the server has answered to, and all there are.

        Raises:
            PacsRefusedError: the server refused some of them.
        """

    @abstractmethod
    def close(self) -> None:
        """Close connections."""

    @abstractmethod
    def _series_of(self, study_uid: str) -> list[RemoteSeries]:
        """Every series of a study, without images."""

    @abstractmethod
    def _instances_of(self, series: RemoteSeries) -> dict[str, str]:
        """SOP Instance UID -> SOP Class UID, or an empty text, of a series."""

    @abstractmethod
    def _fetch(self, wanted: Wanted, folder: Path, advance: Callable[[int], None]) -> None:
        """Write these images into ``folder``; ``advance`` is called with how many lie there."""

    def listing(self, study: RemoteStudy) -> StudyListing:
        """Every series of a study, and every CT image, checked against what the server counts.

        Raises:
            PacsIncompleteError: series or images are missing from the lists.
            PacsGoneError: the server does not hold the study.
        """
        found = self._series_of(study.uid)
        if not found:
            raise PacsGoneError("the PACS lists no series of the study; it was deleted, or its identifier is wrong")
        series = tuple(sorted((self._with_images(one) for one in found), key=lambda one: one.uid))
        counts = [one.instance_count for one in series if one.instance_count is not None]
        if study.instance_count is not None and len(counts) == len(series) and sum(counts) < study.instance_count:
            raise PacsIncompleteError(
                f"the PACS counts {study.instance_count} objects in the study and {sum(counts)} in the {len(series)} "
                "series that it lists; they may still be arriving: try again later"
            )
        return StudyListing(study.uid, study.patient_key, series)

    def _with_images(self, series: RemoteSeries) -> RemoteSeries:
        if series.modality not in ("CT", ""):
            return series
        listed = self._instances_of(series)
        count = series.instance_count
        if count is not None and count != len(listed):
            raise PacsIncompleteError(
                f"the PACS counts {count} images in a CT series and lists {len(listed)}; they may still be arriving, "
                "or it cuts its lists: try again later"
            )
        # Scanners put dose pages and screenshots into series of CT: the gate takes none, C-GET would not bring them.
        wanted = {*CT_SOP_CLASSES, ""} if series.modality == "CT" else CT_SOP_CLASSES
        return series.with_images(tuple(uid for uid, kind in listed.items() if kind in wanted))

    def fetch_study(
        self, study_uid: str, folder: Path, *, advance: Callable[[int, int], None] | None = None
    ) -> StudyListing:
        """Write the CT images of a study into ``folder`` as they came; those that lie there already are kept.

        Files are called by hashes of their identifiers; others of this study in ``folder`` are removed: it does not
        hold them any more.

        Args:
            study_uid: Study Instance UID.
            folder: Made when missing.
            advance: Called with the images fetched and all there are.

        Returns:
            What the server held before and after, unchanged.

        Raises:
            PacsIncompleteError: images are missing, or the study changed in the meantime.
            PacsAnswerError: images are others than those that the server lists.
            ConfigError: ``folder`` holds DICOM files that were not fetched from this study.
        """
        listing = self.listing(self.study(study_uid))
        wanted = {file_name(uid): (series, uid) for series in listing.ct_series for uid in series.images}
        if not wanted:
            raise PacsGoneError("the PACS lists no CT images of the study; check its identifier")
        _clear(folder, wanted, study_uid)
        missing = {name: one for name, one in wanted.items() if not (folder / name).exists()}
        there = len(wanted) - len(missing)
        if missing:
            self._fetch(missing, folder, lambda done: None if advance is None else advance(there + done, len(wanted)))
        after = self.listing(self.study(study_uid))
        if after.fingerprint != listing.fingerprint:
            raise PacsIncompleteError(
                "the study changed while it was fetched; it is fetched again when it is at rest"
            )
        lie_there = sum(1 for _ in folder.glob("*.dcm"))
        if lie_there != len(wanted):
            raise PacsIncompleteError(f"{lie_there} files lie on disk after a fetch of {len(wanted)} images")
        _require_listed(folder, wanted, listing)
        return listing


def _clear(folder: Path, wanted: Wanted, study_uid: str) -> None:
    """Remove images that were fetched from this study earlier and that it does not hold any more.

    Raises:
        ConfigError: there are others, which nobody said may go; none is removed.
    """
    left = [path for path in folder.glob("*.dcm") if path.name not in wanted]
    headers = readable_elements(left, ("StudyInstanceUID",)) if left else []
    studies = ["" if header is None else to_text(header.get("StudyInstanceUID")) for header in headers]
    others = [
        path
        for path, study in zip(left, studies, strict=True)
        if not is_file_name(path.name) or study not in ("", study_uid)
    ]
    if others:
        raise ConfigError(
            f"the folder holds {len(others)} DICOM files that were not fetched from this study; give an empty one"
        )
    for path in left:
        path.unlink()


def _require_listed(folder: Path, wanted: Wanted, listing: StudyListing) -> None:
    """Believe no image that says that it is another one: results would go to its study and its patient.

    What is not stated contradicts nothing, nor does a file that cannot be read, which the gate refuses.

    Raises:
        PacsAnswerError: some are of another study or patient, or another image than the one that was asked for; they
            are removed.
    """
    headers = readable_elements([folder / name for name in wanted], _IDENTITY)
    stated = [tuple(to_text(header.get(keyword)) for keyword in _IDENTITY) if header else () for header in headers]
    others = []
    for (name, (_, uid)), identity in zip(wanted.items(), stated, strict=True):
        if identity:
            study, instance, patient = identity
            one_patient = patient_key("" if "\\" in patient else patient)
            pairs = ((study, listing.study_uid), (instance, uid), (one_patient, listing.patient_key))
            if any(said and listed and said != listed for said, listed in pairs):
                others.append(folder / name)
    for path in others:
        path.unlink()
    if others:
        raise PacsAnswerError(
            f"{len(others)} of {len(wanted)} images that the PACS sent state another study, patient or SOP Instance "
            "UID than it lists them under; they were removed, have the study put right there"
        )
