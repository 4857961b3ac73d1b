"""A small DIMSE receiver: C-STORE of CT images and C-ECHO (PS3.7), from named callers only.

Meant for loopback, or behind a server such as Orthanc: DIMSE knows neither passwords nor encryption here, and a
caller's title is no proof. Objects are written as they come, unparsed, under names made from hashes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.files import prepare_output_folder, write_bytes
from jcs_ct.imaging.headers import CT_SOP_CLASSES, DECODED_SYNTAXES, UNCOMPRESSED_SYNTAXES

logger = logging.getLogger(__name__)

_SUCCESS, _OUT_OF_RESOURCES = 0x0000, 0xA700


@dataclass(frozen=True)
class ReceiverSettings:
    """Who may send what to where.

    Args:
        ae_title: Our title; callers must name it.
        callers: Titles that may send.
        host: Address to listen on; anything but loopback opens an unprotected port to the network.
        port: 0 takes a free one.
        associations: Callers at a time.
        object_bytes: Largest object.
        folder_bytes: What the folder may grow to by this receiver.
        timeout_s: Longest silence on an association.

    Raises:
        ConfigError: no caller, a title that DICOM does not allow, or limits that are not greater than 0.
    """

    ae_title: str
    callers: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 11112
    associations: int = 4
    object_bytes: int = 512 * 1024**2
    folder_bytes: int = 20 * 1024**3
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.callers:
            raise ConfigError("name the callers that may send: a receiver open to everyone is not started")
        for title in (self.ae_title, *self.callers):
            if not 1 <= len(title.strip()) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
                raise ConfigError(f"an AE title has 1 to 16 printable ASCII characters, got {title!r}")
        if min(self.associations, self.object_bytes, self.folder_bytes, self.timeout_s) <= 0:
            raise ConfigError("limits of the receiver must be greater than 0")


@contextmanager
def receiving(settings: ReceiverSettings, folder: Path) -> Iterator[int]:
    """Receive into ``folder`` until the block is left; yields the port.

    An object goes to ``<hash of caller and association>/<hash of its identifier>.dcm``: what one caller sends in one
    go lies in one folder, and sending it again on the same association replaces it.

    Raises:
        OutputError: the folder cannot be written, or the port is taken.
    """
    prepare_output_folder(folder)
    store = _Store(settings, folder)
    entity = AE(ae_title=settings.ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(settings.callers)
    entity.maximum_associations = settings.associations
    entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = settings.timeout_s
    entity.add_supported_context(Verification)
    for sop_class in sorted(CT_SOP_CLASSES):
        entity.add_supported_context(sop_class, sorted(UNCOMPRESSED_SYNTAXES | DECODED_SYNTAXES))
    handlers: list[Any] = [(evt.EVT_C_STORE, store.take), (evt.EVT_C_ECHO, lambda event: _SUCCESS)]
    try:
        server = entity.start_server((settings.host, settings.port), block=False, evt_handlers=handlers)
    except OSError as error:
        raise OutputError(f"port {settings.port} cannot be opened: {error.strerror}; choose another") from error
    if server is None:
        raise OutputError("the receiver did not start")
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


class _Store:
    """Writes objects and keeps count of what they take."""

    def __init__(self, settings: ReceiverSettings, folder: Path) -> None:
        self._settings, self._folder, self._taken = settings, folder, 0

    def take(self, event: Any) -> int:
        """Answer one C-STORE request with its status (PS3.4 B.2.3)."""
        content: bytes = event.encoded_dataset()
        if len(content) > self._settings.object_bytes or self._taken + len(content) > self._settings.folder_bytes:
            logger.warning("an object of %d bytes was refused: above the receiver's limits", len(content))
            return _OUT_OF_RESOURCES
        group = _hash(f"{event.assoc.requestor.ae_title}|{event.assoc.name}")
        try:
            write_bytes(self._folder / group / f"{_hash(str(event.request.AffectedSOPInstanceUID))}.dcm", content)
        except OutputError as error:
            logger.warning("%s", error)
            return _OUT_OF_RESOURCES
        self._taken += len(content)
        return _SUCCESS


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]
