"""One HTTP request to a PACS: retries, back-off, ``Retry-After``, and limits on what an answer may weigh and last."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from requests.auth import HTTPBasicAuth
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError
from urllib3.util import Retry

from jcs_ct.pacs.header_time import TimedAdapter
from jcs_ct.pacs.server import (
    PacsAnswerError,
    PacsCertificateError,
    PacsDeniedError,
    PacsGoneError,
    PacsRefusedError,
    PacsServer,
    PacsUnavailableError,
)

logger = logging.getLogger(__name__)

#: Answers after which the same request may succeed.
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Answer:
    """What a server said, whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def content_type(self) -> str:
        """Content-Type, or an empty text."""
        return self.headers.get("Content-Type", "")


class _TransientAnswerError(HTTPError):
    """An answer after which the same request may succeed, and the wait that it asks for (RFC 9110 10.2.3)."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        super().__init__(f"HTTP {status}")
        self.retry_after = retry_after


class _Retries(Retry):
    """urllib3's count of tries and its back-off, from the first failure on and never below ``Retry-After``.

    Asked by :meth:`Connection.request` rather than mounted in the connection pool: the pool does not try again when
    an answer breaks while it is read, and it logs addresses, in which a patient's number may stand.
    """

    def after(self, method: str, error: Exception) -> _Retries:
        """What is left after a failure.

        Raises:
            PacsUnavailableError: nothing.
        """
        try:
            return self.increment(method, error=error)
        except MaxRetryError:
            reason = str(error) if isinstance(error, _TransientAnswerError) else type(error).__name__
            tried = f", tried {len(self.history) + 1} times" if self.history else ""
            is_plain = isinstance(error, requests.exceptions.SSLError)
            hint = "whether its port speaks TLS (http:// or https://)" if is_plain else "that it runs"
            raise PacsUnavailableError(
                f"the PACS cannot be reached ({reason}){tried}; check the address, and {hint}"
            ) from error

    def get_backoff_time(self) -> float:
        """Seconds before the next try; urllib3 itself would not wait before the first."""
        return float(min(self.backoff_max, self.backoff_factor * 2 ** (len(self.history) - 1)))

    def wait_s(self, error: Exception) -> float:
        """Seconds before the next try, after this failure."""
        asked_s, stated = 0.0, error.retry_after if isinstance(error, _TransientAnswerError) else None
        if stated is not None:
            try:
                asked_s = self.parse_retry_after(stated)
            except (InvalidHeader, ValueError, OverflowError):
                logger.warning("the PACS asks to wait in words that no RFC knows; the usual wait is kept")
        return max(asked_s, self.get_backoff_time())


class Connection:
    """Requests to one server, with its credentials.

    Args:
        server: Address, credentials, patience.
        sleep: Waits between retries.
    """

    def __init__(self, server: PacsServer, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._server, self._sleep = server, sleep
        self._retries = _Retries(
            server.retries,
            status_forcelist=_TRANSIENT,
            allowed_methods=None,
            backoff_factor=server.backoff_s,
            backoff_max=server.longest_wait_s,
            retry_after_max=int(server.longest_wait_s),
        )
        self._session = requests.Session()
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, TimedAdapter(server.answer_s))
        self._session.verify = server.ca_bundle or True
        self._session.trust_env = False  # no proxy and no .netrc that nobody asked for
        if server.token:
            self._session.headers["Authorization"] = f"Bearer {server.token}"
        elif server.user:
            self._session.auth = HTTPBasicAuth(server.user.encode(), server.password.encode())

    def close(self) -> None:
        """Close connections."""
        self._session.close()

    def request(
        self, method: str, path: str, *, most_bytes: int, returned: Collection[int] = (), **options: Any
    ) -> Answer:
        """The answer to a request that may be repeated: a search, a fetch, the storing of what has identifiers.

        Args:
            method: Of HTTP.
            path: Below the server's root.
            most_bytes: What the answer may weigh, unpacked.
            returned: Statuses of 400 and above that the caller understands; all others raise.
            options: ``params``, ``headers`` and ``data`` of :meth:`requests.Session.request`.

        Raises:
            PacsUnavailableError: no answer, or only transient ones.
            PacsAnswerError: more than ``most_bytes``.
            PacsGoneError: 404 or 410.
            PacsRefusedError: another refusal, or a redirection.
            PacsDeniedError: 401 or 403.
            PacsCertificateError: an untrusted certificate.
        """
        retries = self._retries
        while True:
            try:
                return self._accepted(self._once(method, path, most_bytes, options), returned)
            except (requests.RequestException, HTTPError, OSError) as error:
                _refuse_certificate(error)
                retries = retries.after(method, error)
                self._sleep(retries.wait_s(error))

    def _once(self, method: str, path: str, most_bytes: int, options: Mapping[str, Any]) -> Answer:
        url, deadline = self._server.url.rstrip("/") + path, time.monotonic() + self._server.answer_s
        with self._session.request(
            method, url, timeout=self._server.timeout_s, allow_redirects=False, stream=True, **options
        ) as response:
            if self._retries.is_retry(method, response.status_code):
                raise _TransientAnswerError(response.status_code, response.headers.get("Retry-After"))
            content = bytearray()
            # As much as has come: ``iter_content`` waits for a whole block, for as long as a byte comes now and then.
            while block := response.raw.read1(_BLOCK_BYTES, decode_content=True):
                content += block
                if len(content) > most_bytes:
                    raise PacsAnswerError(
                        f"the PACS's answer is larger than {most_bytes / 1024**2:.0f} MiB; it was not read"
                    )
                if time.monotonic() > deadline:
                    raise requests.Timeout("the answer takes too long")
            return Answer(response.status_code, response.headers, bytes(content))

    def _accepted(self, answer: Answer, returned: Collection[int]) -> Answer:
        status = answer.status
        if status in (401, 403):
            raise PacsDeniedError(f"the PACS {self._denial(status)} (PACS_CREDENTIALS)")
        if 200 <= status < 300 or status in returned:
            return answer
        if 300 <= status < 400:
            raise PacsRefusedError(
                f"the PACS points to another address (HTTP {status}); give its DICOMweb root itself"
            )
        if status in (404, 410):
            raise PacsGoneError(
                f"the PACS does not hold what was asked for (HTTP {status}); check the identifier and the address"
            )
        raise PacsRefusedError(f"the PACS refuses the request (HTTP {status}); check the address and its log")

    def _denial(self, status: int) -> str:
        if self._server.token:
            return f"refuses the token (HTTP {status}); check JCS_PACS_TOKEN, and what it may do"
        if self._server.user:
            return (
                f"refuses the user or password (HTTP {status}); check JCS_PACS_USER and JCS_PACS_PASSWORD, and the "
                "user's rights"
            )
        return f"asks for credentials (HTTP {status}); set JCS_PACS_TOKEN, or JCS_PACS_USER and JCS_PACS_PASSWORD"


def _refuse_certificate(error: BaseException) -> None:
    """Raise when an untrusted certificate is behind a failed connection: trying again cannot help.

    Raises:
        PacsCertificateError: it is.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise PacsCertificateError(
                f"the PACS's certificate is not trusted ({cause.verify_message}), nothing was sent; check the "
                "address, or name the certificate that signed it with --ca-bundle (PACS_CERTIFICATE)"
            ) from error
        cause = cause.__cause__ or cause.__context__
