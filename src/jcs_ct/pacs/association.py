"""DIMSE as the one who calls (PS3.7, PS3.8): the address of a server, and associations with it, TLS or not."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from jcs_ct.disk_space import GIB
from jcs_ct.errors import ConfigError
from jcs_ct.loopback import is_loopback
from jcs_ct.pacs.pdu_limits import PduLimits
from jcs_ct.pacs.server import PacsCertificateError, PacsDeniedError, PacsUnavailableError

_PERMANENT = 1
#: What one message of a server may weigh: an answer to a search, or an image.
_MESSAGE_BYTES = 2 * GIB
#: Reasons of a rejection by the service user (PS3.8 9.3.4).
_REASONS = {3: "it does not know the calling AE title", 7: "it is not called so"}


def check_ae_title(title: str) -> None:
    """Refuse what DICOM does not allow as an AE title (PS3.5 6.2).

    Raises:
        ConfigError: it is empty, too long, or has other letters than printable ASCII.
    """
    if not 1 <= len(title.strip()) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ConfigError(f"an AE title has 1 to 16 printable ASCII characters, got {title!r}")


@dataclass(frozen=True)
class DimseServer:
    """Where a DIMSE server is and how to talk to it.

    Args:
        url: ``dimse://TITLE@host:port``, or ``dimses://`` for TLS.
        ae_title: Ours; the server must know it.
        move_port: Port on which we take what a C-MOVE sends us; None fetches by C-GET.
        certificate, key: PEM files that say who we are under TLS, where the server asks for them.
        ca_bundle: PEM file of certificates to trust in place of the system's, or empty.
        timeout_s: Longest silence while connecting or between two messages, and longest time for one protocol data
            unit.
        retries: How often a request is tried again that found no server.
        backoff_s: Wait before the first retry; doubled for each further one.
        answer_s: Longest silence while the server moves images.

    Raises:
        ConfigError: values that cannot be used.
    """

    url: str
    ae_title: str = "JCS"
    move_port: int | None = None
    certificate: Path | None = None
    key: Path | None = None
    ca_bundle: str = ""
    timeout_s: float = 60.0
    retries: int = 4
    backoff_s: float = 1.0
    answer_s: float = 1800.0

    def __post_init__(self) -> None:
        self._parts()
        check_ae_title(self.called)
        check_ae_title(self.ae_title)
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("a certificate and its key belong together; give both")
        if self.move_port is not None and not 0 <= self.move_port <= 65535:
            raise ConfigError(f"a port is 1 to 65535, got {self.move_port}")
        if self.move_port is not None and self.is_tls and (self.certificate is None or not self.ca_bundle):
            raise ConfigError(
                "C-MOVE over TLS makes us a server, too: it needs our certificate, its key, and what signed the "
                "PACS's (--ca-bundle)"
            )
        if self.retries < 0 or min(self.backoff_s, self.timeout_s, self.answer_s) <= 0:
            raise ConfigError("retries must be at least 0, back-off and time-outs greater than 0 s")
        if self.is_tls:
            self.tls_context()

    def _parts(self) -> tuple[str, str, str, int]:
        match = re.fullmatch(r"(dimses?)://([^@/]+)@([^/@:]+|\[[0-9a-fA-F:]+\]):(\d{1,5})/?", self.url)
        if match is None:
            raise ConfigError("a DIMSE address is dimse://TITLE@host:port, or dimses:// for TLS")
        return match.group(1), match.group(2), match.group(3), int(match.group(4))

    @property
    def called(self) -> str:
        """The server's AE title."""
        return self._parts()[1]

    @property
    def host(self) -> str:
        """Its address."""
        return self._parts()[2].strip("[]")

    @property
    def port(self) -> int:
        """Its port."""
        return self._parts()[3]

    @property
    def is_tls(self) -> bool:
        """Whether it speaks TLS."""
        return self._parts()[0] == "dimses"

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return is_loopback(self._parts()[2])

    def tls_context(self) -> ssl.SSLContext:
        """TLS 1.2 or later; the server's certificate and name are checked (PS3.15 B.9).

        Raises:
            ConfigError: a file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_bundle or None)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f"the TLS files cannot be used ({type(error).__name__}); PEM files of a certificate, its key without "
                "a password, and the authorities that signed the PACS's are expected"
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


@contextmanager
def associated(
    server: DimseServer,
    contexts: Sequence[PresentationContext],
    *,
    negotiation: Sequence[Any] = (),
    handlers: Sequence[Any] = (),
    silence_s: float | None = None,
) -> Iterator[Association]:
    """An association that is established, and released in the end.

    Args:
        server: With whom.
        contexts: What may be asked.
        negotiation: Roles.
        handlers: Of pynetdicom's events.
        silence_s: Longest silence between two messages, where it is not the server's.

    Raises:
        PacsUnavailableError: nobody answers, or the server has no place or accepts nothing of it.
        PacsDeniedError: it refuses us for good.
        PacsCertificateError: its certificate is not trusted.
    """
    entity = AE(ae_title=server.ae_title)
    entity.connection_timeout = entity.acse_timeout = server.timeout_s
    entity.network_timeout = entity.dimse_timeout = silence_s or server.timeout_s
    association = entity.associate(
        server.host,
        server.port,
        contexts=list(contexts),
        ae_title=server.called,
        ext_neg=list(negotiation),
        evt_handlers=[*handlers, *PduLimits(server.timeout_s, _MESSAGE_BYTES).handlers()],
        tls_args=(server.tls_context(), server.host) if server.is_tls else None,
    )
    if not association.is_established:
        raise _explain(server, association)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _explain(server: DimseServer, association: Association) -> Exception:
    """Why there is no association."""
    if association.is_rejected:
        said = association.acceptor.primitive
        if said is not None and said.result == _PERMANENT:
            reason = _REASONS.get(int(said.diagnostic or 0), "it gives no other reason")
            return PacsDeniedError(
                f"the PACS {server.called!r} refuses {server.ae_title!r}: {reason}; check both AE titles, and that "
                "the PACS lists ours with this machine's address (PACS_CREDENTIALS)"
            )
        return PacsUnavailableError("the PACS has no place for another association now; trying again later")
    if server.is_tls:
        _check_certificate(server)
    return PacsUnavailableError(
        "the PACS does not answer, or ends the association; check address and port, and that it runs and offers "
        "query, retrieval and storage"
    )


def _check_certificate(server: DimseServer) -> None:
    """Shake hands once more, where an error says what is wrong.

    Raises:
        PacsCertificateError: the certificate is not trusted.
    """
    try:
        with (
            socket.create_connection((server.host, server.port), timeout=server.timeout_s) as plain,
            server.tls_context().wrap_socket(plain, server_hostname=server.host),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        raise PacsCertificateError(
            f"the PACS's certificate is not trusted ({error.verify_message}), nothing was sent; check the address, "
            "or name the certificate that signed it with --ca-bundle (PACS_CERTIFICATE)"
        ) from error
    except OSError as error:
        raise PacsUnavailableError(
            f"the PACS cannot be reached over TLS ({type(error).__name__}); check address and port"
        ) from error
