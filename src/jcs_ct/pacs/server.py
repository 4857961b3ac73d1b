"""Where a PACS is, how patient we are with it, and what can go wrong between us.

PacsError (exit code 5; ``code`` is what records and logs call it)
├── PacsUnavailableError  no answer, or only transient ones, after every retry
├── PacsIncompleteError   fewer images than the server counts, or a study that changed while it was fetched
├── PacsAnswerError       an answer that is not what DICOMweb says it must be
├── PacsGoneError         the server does not hold what was asked for (any more)
└── PacsRefusedError      the server refuses the request, or did not store a result
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from typing import Any

from jcs_ct.errors import ConfigError, JCSError
from jcs_ct.loopback import is_loopback


class PacsError(JCSError):
    """Something between us and the PACS went wrong; its code is appended to the message."""

    code = "PACS"

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} ({self.code})")


class PacsUnavailableError(PacsError):
    """The server did not answer in time, or only with transient errors, after every retry."""

    code = "PACS_UNAVAILABLE"


class PacsIncompleteError(PacsError):
    """A study is not whole: images are missing or still arriving."""

    code = "PACS_INCOMPLETE"


class PacsAnswerError(PacsError):
    """An answer cannot be understood."""

    code = "PACS_ANSWER"


class PacsGoneError(PacsError):
    """The server does not hold the study, series or instance (HTTP 404, 410)."""

    code = "PACS_GONE"


class PacsRefusedError(PacsError):
    """The server refuses a request for good."""

    code = "PACS_REFUSED"


class PacsDeniedError(ConfigError):
    """The server wants credentials, or refuses those it got (PACS_CREDENTIALS)."""

    code = "PACS_CREDENTIALS"


class PacsCertificateError(ConfigError):
    """The server's certificate is not trusted: nothing was sent to it (PACS_CERTIFICATE)."""

    code = "PACS_CERTIFICATE"


@dataclass(frozen=True)
class PacsServer:
    """Where a DICOMweb server is and how to talk to it.

    Args:
        url: Root of its DICOMweb services, such as ``https://pacs.example/dicom-web``.
        token: Bearer token, or empty.
        user, password: Basic authentication, or empty.
        ca_bundle: PEM file of certificates to trust in place of the system's, or empty.
        timeout_s: Longest silence while connecting or reading.
        retries: How often a failed request is tried again.
        backoff_s: Wait before the first retry; doubled for each further one.
        longest_wait_s: Longest of these waits, and what a server can make us wait by ``Retry-After``.
        answer_s: Longest time that one answer may take to arrive whole.

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
    longest_wait_s: float = 300.0
    answer_s: float = 1800.0

    @classmethod
    def from_environment(cls, url: str, ca_bundle: str = "", **patience: Any) -> PacsServer:
        """A server with the credentials of JCS_PACS_TOKEN, or of JCS_PACS_USER and JCS_PACS_PASSWORD.

        Raises:
            ConfigError: as the constructor.
        """
        token = os.environ.get("JCS_PACS_TOKEN", "")
        user, password = os.environ.get("JCS_PACS_USER", ""), os.environ.get("JCS_PACS_PASSWORD", "")
        return cls(url, token=token, user=user, password=password, ca_bundle=ca_bundle, **patience)

    def __post_init__(self) -> None:
        match = re.fullmatch(r"(https?)://([^/@:]+|\[[0-9a-fA-F:]+\])(:\d+)?(/.*)?", self.url)
        if match is None:
            raise ConfigError("the PACS address must be http(s)://host[:port]/path without a user name in it")
        self._check_credentials()
        self._check_ca_bundle()
        local = is_loopback(match.group(2))
        if (self.token or self.user) and match.group(1) == "http" and not local:
            raise ConfigError("a token or password would cross the network in the clear; use https, or loopback")
        if self.retries < 0 or min(self.backoff_s, self.timeout_s, self.longest_wait_s, self.answer_s) <= 0:
            raise ConfigError("retries must be at least 0, back-off and time-outs greater than 0 s")

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
