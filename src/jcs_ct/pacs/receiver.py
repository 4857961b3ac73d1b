"""A small DIMSE receiver: C-STORE of CT images and C-ECHO (PS3.7), from named callers only.

Without TLS it is meant for loopback, or behind a server such as Orthanc: a caller's title is no proof. With TLS
callers prove who they are by a certificate. Objects are written as they come, unparsed, under names made from hashes.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
import socket
import ssl
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from jcs_ct.disk_space import GIB
from jcs_ct.errors import ConfigError, OutputError
from jcs_ct.files import prepare_output_folder, write_bytes
from jcs_ct.imaging.headers import CT_SOP_CLASSES, DECODED_SYNTAXES, UNCOMPRESSED_SYNTAXES
from jcs_ct.pacs.association import check_ae_title
from jcs_ct.pacs.pdu_limits import PduLimits

logger = logging.getLogger(__name__)

_SUCCESS, _OUT_OF_RESOURCES = 0x0000, 0xA700
#: An object that is larger than it may be by so much is refused with a status; one that goes on ends the association.
_REFUSED_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of DICOM over TLS (PS3.15 B.9): callers must show a certificate that ``authorities`` signed.

    Raises:
        ConfigError: a file cannot be read.
    """

    certificate: Path
    key: Path
    authorities: Path

    def __post_init__(self) -> None:
        self.context()

    def context(self, timeout_s: float = 60.0) -> ssl.SSLContext:
        """TLS 1.2 or later, with certificates on both sides; a peer is waited for so long."""
        context = _PatientContext(ssl.PROTOCOL_TLS_SERVER)
        context.handshake_s = timeout_s
        try:
            context.load_verify_locations(self.authorities)
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f"the receiver's TLS files cannot be used ({type(error).__name__}); PEM files of a certificate, its "
                "key without a password, and the authorities that signed the callers' are expected"
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        return context


class _PatientContext(ssl.SSLContext):
    """Shakes hands when the association's thread reads first: in the accepting one a silent peer would stop all."""

    handshake_s = 60.0

    def wrap_socket(self, sock: socket.socket, *given: Any, **named: Any) -> ssl.SSLSocket:
        sock.settimeout(self.handshake_s)
        return super().wrap_socket(sock, *given, **{**named, "do_handshake_on_connect": False})


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
        folder_bytes: What the folder may grow to; what lies there at the start counts.
        least_free_bytes: What must stay free on the disk.
        timeout_s: Longest silence on an association, and longest time for one protocol data unit: a slow or half-open
            peer gives its place back after it.
        tls: The receiver's certificate with its key, and what signed its callers', when it speaks TLS.

    Raises:
        ConfigError: no caller, a title that DICOM does not allow, or limits that are not greater than 0.
    """

    ae_title: str
    callers: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 11112
    associations: int = 4
    object_bytes: int = 512 * 1024**2
    folder_bytes: int = 20 * GIB
    least_free_bytes: int = GIB
    timeout_s: float = 60.0
    tls: TlsFiles | None = None

    def __post_init__(self) -> None:
        if not self.callers:
            raise ConfigError("name the callers that may send: a receiver open to everyone is not started")
        for title in (self.ae_title, *self.callers):
            check_ae_title(title)
        if min(self.associations, self.object_bytes, self.folder_bytes, self.timeout_s) <= 0:
            raise ConfigError("limits of the receiver must be greater than 0")


@contextmanager
def receiving(settings: ReceiverSettings, folder: Path) -> Iterator[int]:
    """Receive into ``folder`` until the block is left; yields the port.

    An object goes to ``<name of the association>/<hash of its identifier>.dcm``: what one caller sends in one
    go lies in one folder, and sending it again on the same association replaces it.

    Raises:
        OutputError: the folder cannot be written.
        ConfigError: the port cannot be opened.
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
    limits = PduLimits(settings.timeout_s, settings.object_bytes + _REFUSED_BYTES)
    handlers: list[Any] = [
        (evt.EVT_C_STORE, store.take),
        (evt.EVT_C_ECHO, lambda event: _SUCCESS),
        (evt.EVT_RELEASED, store.note_release),
        (evt.EVT_CONN_CLOSE, store.note_end),
        *limits.handlers(),
    ]
    try:
        server = entity.start_server(
            (settings.host, settings.port),
            block=False,
            evt_handlers=handlers,
            ssl_context=None if settings.tls is None else settings.tls.context(settings.timeout_s),
        )
    except OSError as error:
        raise ConfigError(f"port {settings.port} cannot be opened: {error.strerror}; choose another") from error
    if server is None:
        raise RuntimeError("a server that was told not to block was not returned")
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


class _Store:
    """Writes objects and keeps count of what they take, for several associations at a time."""

    def __init__(self, settings: ReceiverSettings, folder: Path) -> None:
        self._settings, self._folder, self._lock = settings, folder, threading.Lock()
        self._groups: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._taken = sum(path.stat().st_size for path in folder.rglob("*.dcm"))

    def take(self, event: Any) -> int:
        """Answer one C-STORE request with its status (PS3.4 B.2.3)."""
        content: bytes = event.encoded_dataset()
        path = self._folder / self._group(event.assoc) / f"{_hash(str(event.request.AffectedSOPInstanceUID))}.dcm"
        if not self._reserve(len(content)):
            logger.warning("an object of %d bytes was refused: above the receiver's limits", len(content))
            return _OUT_OF_RESOURCES
        replaced = path.stat().st_size if path.exists() else 0
        try:
            write_bytes(path, content)
        except OutputError as error:
            logger.warning("%s", error)
            self._release(len(content))
            return _OUT_OF_RESOURCES
        self._release(replaced)
        return _SUCCESS

    def note_release(self, event: Any) -> None:
        """A caller has sent all that it wanted to send."""
        with self._lock:
            self._groups.pop(event.assoc, None)

    def note_end(self, event: Any) -> None:
        """Say where a part of a study may lie: its caller was cut off before it released the association."""
        with self._lock:
            group = self._groups.pop(event.assoc, None)
        if group is not None:
            count = sum(1 for _ in (self._folder / group).glob("*.dcm"))
            logger.warning(
                "an association was cut off after %d objects: folder %s may hold a part of a study", count, group
            )

    def _group(self, association: Any) -> str:
        """Folder of one association: its name in pynetdicom is that of the second it began in, others share it."""
        with self._lock:
            return self._groups.setdefault(association, secrets.token_hex(12))

    def _reserve(self, count: int) -> bool:
        """Take so many bytes of what the folder may grow to, before they are written; whether they are to be had."""
        with self._lock:
            fits = count <= self._settings.object_bytes and self._taken + count <= self._settings.folder_bytes
            roomy = shutil.disk_usage(self._folder).free - count >= self._settings.least_free_bytes
            if fits and roomy:
                self._taken += count
            return fits and roomy

    def _release(self, count: int) -> None:
        with self._lock:
            self._taken -= count


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]
