"""A DIMSE server in this process (pynetdicom as SCP) that behaves, on demand, as real ones do."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

_LEVELS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


@dataclass
class FakeDimse:
    """What the server holds and how it behaves.

    Args:
        instances: SOP Instance UID -> object.
        modalities: Of each series.
        stops_after: Searches end with ``stops_with`` after so many matches.
        count_error: Added to the true number of images in a series.
        states_counts: Whether it counts at all.
        offers_get: Whether it answers C-GET.
        sends_at_most: Images that one retrieval sends.
        sends_wrong: Whether it sends an image that nobody asked for in place of the first one.
        destinations: AE title -> port that C-MOVE sends to.
        destination_tls: For C-MOVE over TLS.
        store_status: What it says to a C-STORE.
        pictures_in: Transfer syntaxes in which it takes Secondary Capture images.
        requests: Level and keys of each search and retrieval.
    """

    port: int = 0
    instances: dict[str, Dataset] = field(default_factory=dict)
    stops_after: int = 1 << 30
    stops_with: int = 0xA700
    count_error: int = 0
    states_counts: bool = True
    offers_get: bool = True
    sends_at_most: int = 1 << 30
    sends_wrong: bool = False
    destinations: dict[str, int] = field(default_factory=dict)
    destination_tls: ssl.SSLContext | None = None
    store_status: int = 0x0000
    pictures_in: tuple[str, ...] = ()
    requests: list[tuple[str, str]] = field(default_factory=list)

    def add(self, content: bytes) -> None:
        """Take a DICOM file."""
        dataset = dcmread(BytesIO(content))
        self.instances[str(dataset.SOPInstanceUID)] = dataset

    def of_modality(self, modality: str) -> list[Dataset]:
        """Objects of one modality."""
        return [one for one in self.instances.values() if one.Modality == modality]

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        """C-FIND."""
        asked = event.identifier
        level = asked.QueryRetrieveLevel
        self.requests.append(("find", level))
        key, seen = _LEVELS[level], {}
        for one in self._matching(asked):
            seen.setdefault(str(one[key].value), []).append(one)
        for number, several in enumerate(seen.values()):
            if number >= self.stops_after:
                yield self.stops_with, None
                return
            yield 0xFF00, self._match(asked, level, several)

    def _matching(self, asked: Dataset) -> list[Dataset]:
        uids = {key: str(asked.get(key, "") or "") for key in _LEVELS.values()}
        return [
            one
            for one in list(self.instances.values())
            if all(uid in ("", str(one[key].value)) for key, uid in uids.items())
        ]

    def _match(self, asked: Dataset, level: str, several: list[Dataset]) -> Dataset:
        match = Dataset()
        match.QueryRetrieveLevel = level
        for element in asked:
            if element.keyword in several[0]:
                match[element.keyword] = several[0][element.keyword]
        if "ModalitiesInStudy" in asked:
            match.ModalitiesInStudy = sorted({str(one.Modality) for one in several})
        if self.states_counts:
            for keyword in ("NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances"):
                if keyword in asked:
                    setattr(match, keyword, len(several) + self.count_error)
        return match

    def retrieve(self, event: Any) -> Iterator[Any]:
        """C-GET, and C-MOVE after the destination."""
        self.requests.append(("retrieve", event.identifier.QueryRetrieveLevel))
        found = self._matching(event.identifier)[: self.sends_at_most]
        if self.sends_wrong and found:
            stranger = dcmread(BytesIO(_bytes(found[0])))
            stranger.SOPInstanceUID = stranger.file_meta.MediaStorageSOPInstanceUID = "9.9.9"
            found = [stranger, *found[1:]]
        yield len(found)
        for one in found:
            yield 0xFF00, one

    def move(self, event: Any) -> Iterator[Any]:
        """C-MOVE."""
        title = str(event.move_destination)
        if title not in self.destinations:
            yield None, None
            return
        tls = {} if self.destination_tls is None else {"tls_args": (self.destination_tls, "127.0.0.1")}
        yield "127.0.0.1", self.destinations[title], tls
        yield from self.retrieve(event)

    def store(self, event: Any) -> int:
        """C-STORE."""
        if self.store_status < 0xA000:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.instances.setdefault(str(dataset.SOPInstanceUID), dataset)
        return self.store_status


def _bytes(dataset: Dataset) -> bytes:
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


@contextmanager
def serving(held: FakeDimse, *, callers: tuple[str, ...] = ("JCS",), tls: ssl.SSLContext | None = None):
    """The server runs until the block is left; its port is ``held.port``."""
    entity = AE(ae_title="PACS")
    entity.require_called_aet, entity.require_calling_aet = True, list(callers)
    entity.add_supported_context(Verification)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    if held.offers_get:
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    for syntax in (ExplicitVRLittleEndian, RLELossless):
        entity.add_supported_context(CTImageStorage, syntax, scu_role=True, scp_role=True)
        entity.add_requested_context(CTImageStorage, syntax)  # what it sends as C-MOVE's other half
    entity.add_supported_context(BasicTextSRStorage, ExplicitVRLittleEndian)
    if held.pictures_in:
        entity.add_supported_context(SecondaryCaptureImageStorage, list(held.pictures_in))
    handlers = [
        (evt.EVT_C_FIND, held.find),
        (evt.EVT_C_GET, held.retrieve),
        (evt.EVT_C_MOVE, held.move),
        (evt.EVT_C_STORE, held.store),
        (evt.EVT_C_ECHO, lambda event: 0x0000),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    held.port = server.server_address[1]
    try:
        yield held
    finally:
        server.shutdown()
