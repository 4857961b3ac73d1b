"""A DICOMweb server: QIDO-RS to search, WADO-RS to fetch, STOW-RS to store (PS3.18), with retries and back-off."""

from __future__ import annotations

import hashlib
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from requests.auth import HTTPBasicAuth

from jcs_ct.errors import ConfigError, JCSError
from jcs_ct.files import write_bytes
from jcs_ct.pacs.multipart import decode_parts, encode_parts

logger = logging.getLogger(__name__)

_UID = re.compile(r"[0-9A-Za-z.\-]{1,64}")
_STUDY_UID, _SERIES_UID, _INSTANCE_UID = "0020000D", "0020000E", "00080018"
_MODALITY, _INSTANCE_COUNT = "00080060", "00201209"
#: Answers after which the same request may succeed.
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
#: Bytes of one STOW-RS request, so that one lost connection does not cost a whole study.
STORE_BYTES = 32 * 1024**2


class PacsUnavailableError(JCSError):
    """The server did not answer in time, or only with transient errors, after every retry (PACS_UNAVAILABLE)."""


class PacsDeniedError(ConfigError):
    """The server wants credentials, or refuses those it got (PACS_CREDENTIALS)."""


class PacsCertificateError(ConfigError):
    """The server's certificate is not trusted: nothing was sent to it (PACS_CERTIFICATE)."""


@dataclass(frozen=True)
class PacsServer:
    """Where a DICOMweb server is and how to talk to it.

    Args:
        url: Root of its DICOMweb services, such as ``https://pacs.example/dicom-web``.
        token: Bearer token, or empty.
        user, password: Basic authentication, or empty.
        ca_bundle: PEM file of certificates to trust in place of the system's, or empty.
        timeout_s: Longest wait for an answer to begin.
        retries: How often a failed request is tried again.
        backoff_s: Wait before the first retry; doubled for each further one.

    Raises:
        ConfigError: values that cannot be used, or a password that would cross a network in the clear.
    """

    url: str
    token: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    ca_bundle: str = ""
    timeout_s: float = 60.0
    retries: int = 4
    backoff_s: float = 1.0

    def __post_init__(self) -> None:
        match = re.fullmatch(r"(https?)://([^/@:]+|\[[0-9a-fA-F:]+\])(:\d+)?(/.*)?", self.url)
        if match is None:
            raise ConfigError("the PACS address must be http(s)://host[:port]/path without a user name in it")
        self._check_credentials()
        self._check_ca_bundle()
        local = match.group(2) in ("localhost", "127.0.0.1", "[::1]")
        if (self.token or self.user) and match.group(1) == "http" and not local:
            raise ConfigError("a token or password would cross the network in the clear; use https, or loopback")
        if self.retries < 0 or self.backoff_s <= 0 or self.timeout_s <= 0:
            raise ConfigError("retries must be at least 0, back-off and time-out greater than 0 s")

    def _check_credentials(self) -> None:
        """Refuse what HTTP cannot carry, without repeating it (RFC 6750 2.1, RFC 7617 2)."""
        if self.token and self.user:
            raise ConfigError("give the PACS a token or a user name, not both")
        if bool(self.user) != bool(self.password):
            raise ConfigError("the PACS needs a user name and a password; set JCS_PACS_USER and JCS_PACS_PASSWORD")
        if re.fullmatch(r"[\x21-\x7e]*", self.token) is None:
            raise ConfigError("the token holds spaces, line ends or other letters no token has; check JCS_PACS_TOKEN")
        if ":" in self.user or not (self.user + self.password).isprintable():
            raise ConfigError(
                "a user name with a colon, or line ends in it or the password, cannot be sent to a PACS"
            )

    def _check_ca_bundle(self) -> None:
        if not self.ca_bundle:
            return
        try:
            ssl.create_default_context(cafile=self.ca_bundle)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f"{self.ca_bundle} holds no certificates that can be read ({type(error).__name__}); a PEM file of "
                "the PACS's certificate, or of the authority that signed it, is expected"
            ) from error


@dataclass(frozen=True)
class RemoteSeries:
    """A CT series on the server."""

    study_uid: str
    series_uid: str
    instance_count: int


class DicomWeb:
    """Requests to one server.

    Args:
        server: Address, credentials, patience.
        sleep: Waits between retries.
    """

    def __init__(self, server: PacsServer, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._server, self._sleep = server, sleep
        self._session = requests.Session()
        self._session.verify = server.ca_bundle or True
        self._session.trust_env = False  # no proxy and no .netrc that nobody asked for
        if server.token:
            self._session.headers["Authorization"] = f"Bearer {server.token}"
        elif server.user:
            self._session.auth = HTTPBasicAuth(server.user.encode(), server.password.encode())

    def close(self) -> None:
        """Close connections."""
        self._session.close()

    def ct_studies(self) -> list[str]:
        """Study Instance UIDs of studies that hold CT, in the server's order."""
        found = self._query("/studies", {"ModalitiesInStudy": "CT"})
        return [uid for item in found if (uid := _uid(item, _STUDY_UID))]

    def ct_series(self, study_uid: str) -> list[RemoteSeries]:
        """CT series of a study, by UID."""
        found = self._query(f"/studies/{_checked(study_uid)}/series", {"Modality": "CT", "includefield": "00201209"})
        series = [
            RemoteSeries(study_uid, uid, int(_value(item, _INSTANCE_COUNT) or 0))
            for item in found
            if _value(item, _MODALITY) in ("CT", None) and (uid := _uid(item, _SERIES_UID))
        ]
        return sorted(series, key=lambda one: one.series_uid)

    def instances(self, series: RemoteSeries) -> list[str]:
        """SOP Instance UIDs of a series."""
        path = f"/studies/{_checked(series.study_uid)}/series/{_checked(series.series_uid)}/instances"
        return [uid for item in self._query(path, {}) if (uid := _uid(item, _INSTANCE_UID))]

    def fetch_study(self, study_uid: str, folder: Path) -> int:
        """Write the CT instances of a study into ``folder`` as they came; those that lie there already are kept.

        Returns:
            The number of files that now lie there. Names are hashes of the identifiers.
        """
        count = 0
        for series in self.ct_series(study_uid):
            for uid in self.instances(series):
                path = folder / f"{hashlib.sha256(uid.encode()).hexdigest()[:24]}.dcm"
                if not path.exists():
                    write_bytes(path, self.instance(series, uid))
                count += 1
        return count

    def instance(self, series: RemoteSeries, uid: str) -> bytes:
        """One DICOM file in the transfer syntax it is stored in."""
        path = f"/studies/{_checked(series.study_uid)}/series/{_checked(series.series_uid)}/instances/{_checked(uid)}"
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        answer = self._request("GET", path, headers={"Accept": accept})
        parts = list(decode_parts(answer.content, answer.headers.get("Content-Type", "")))
        if len(parts) != 1:
            raise JCSError(f"the PACS answered with {len(parts)} parts for one instance; 1 is expected")
        return parts[0]

    def store(self, paths: Sequence[Path]) -> None:
        """Store DICOM files; storing one that is there already changes nothing.

        Raises:
            JCSError: the server refused some of them.
        """
        for batch in _batches(paths):
            body, content_type = encode_parts([path.read_bytes() for path in batch])
            headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
            answer = self._request("POST", "/studies", data=body, headers=headers)
            stored = _json(answer) if answer.content else {}
            failed = stored.get("00081198", {}).get("Value", []) if isinstance(stored, dict) else []
            if failed:
                raise JCSError(f"the PACS did not store {len(failed)} of {len(batch)} results; see its log")

    def _query(self, path: str, parameters: dict[str, str]) -> list[dict[str, Any]]:
        headers = {"Accept": "application/dicom+json"}
        answer = self._request("GET", path, params=parameters, headers=headers)
        found = _json(answer) if answer.status_code != 204 and answer.content else []
        if not isinstance(found, list):
            raise JCSError("the PACS's answer to a search is no list; is the address that of its DICOMweb root?")
        return found

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        server, reason = self._server, ""
        for attempt in range(server.retries + 1):
            if attempt:
                self._sleep(server.backoff_s * 2 ** (attempt - 1))
            try:
                url = server.url.rstrip("/") + path
                answer = self._session.request(
                    method, url, timeout=server.timeout_s, allow_redirects=False, **options
                )
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                _refuse_certificate(error)
                reason = type(error).__name__
                continue
            if answer.status_code not in _TRANSIENT:
                return self._accepted(answer)
            reason = f"HTTP {answer.status_code}"
        raise PacsUnavailableError(
            f"the PACS cannot be reached ({reason}), tried {server.retries + 1} times; check the address, and "
            "that it runs (PACS_UNAVAILABLE)"
        )

    def _accepted(self, answer: requests.Response) -> requests.Response:
        status = answer.status_code
        if status in (401, 403):
            if self._server.token:
                what = "refuses the token", "check JCS_PACS_TOKEN, and what it may do"
            elif self._server.user:
                what = (
                    "refuses the user or password",
                    "check JCS_PACS_USER and JCS_PACS_PASSWORD, and the user's rights",
                )
            else:
                what = "asks for credentials", "set JCS_PACS_TOKEN, or JCS_PACS_USER and JCS_PACS_PASSWORD"
            raise PacsDeniedError(f"the PACS {what[0]} (HTTP {status}); {what[1]} (PACS_CREDENTIALS)")
        if 300 <= status < 400:
            raise JCSError(f"the PACS points to another address (HTTP {status}); give its DICOMweb root itself")
        return _ok(answer)


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


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except requests.exceptions.JSONDecodeError as error:
        raise JCSError("the PACS's answer is no JSON; is the address that of its DICOMweb root?") from error


def _ok(answer: requests.Response) -> requests.Response:
    if not answer.ok:
        raise JCSError(f"the PACS refuses the request (HTTP {answer.status_code}); check the address and its log")
    return answer


def _batches(paths: Sequence[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path in paths:
        length = path.stat().st_size
        if batch and size + length > STORE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += length
    if batch:
        yield batch


def _value(item: dict[str, Any], tag: str) -> Any:
    values = item.get(tag, {}).get("Value") or [None]
    return values[0]


def _uid(item: dict[str, Any], tag: str) -> str:
    """An identifier out of an answer, or an empty text: it goes into addresses, so its letters are checked."""
    value = str(_value(item, tag) or "")
    return value if _UID.fullmatch(value) else ""


def _checked(uid: str) -> str:
    if _UID.fullmatch(uid) is None or ".." in uid:
        raise ConfigError("an identifier of a study, series or instance has letters that no UID has")
    return uid
