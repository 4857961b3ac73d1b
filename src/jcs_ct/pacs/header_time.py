"""HTTP connections on which the head of an answer has a longest time: a socket's own begins anew with every byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse


class TimedAdapter(HTTPAdapter):
    """Of a session of requests: status line and header lines come within a time, or the connection is closed.

    Args:
        head_s: Longest time from the request's last byte to the header's last one.
    """

    def __init__(self, head_s: float) -> None:
        self._head_s = head_s
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Pools whose connections know the time."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), {"ConnectionCls": type("Timed", (kind,), {"head_s": self._head_s})})
            for scheme, pool, kind in (
                ("http", HTTPConnectionPool, _TimedConnection),
                ("https", HTTPSConnectionPool, _TimedTlsConnection),
            )
        }


class _TimedConnection(HTTPConnection):
    """Without TLS."""

    head_s: ClassVar[float]

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3's own kind of answer
        """The head of the answer; too late, it ends as if the server had hung up."""
        with _shut_after(self.sock, self.head_s):
            return super().getresponse()


class _TimedTlsConnection(HTTPSConnection):
    """With TLS."""

    head_s: ClassVar[float]

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3's own kind of answer
        """The head of the answer; too late, it ends as if the server had hung up."""
        with _shut_after(self.sock, self.head_s):
            return super().getresponse()


@contextmanager
def _shut_after(sock: socket.socket | None, seconds: float) -> Iterator[None]:
    """Shut a socket when the block lasts longer: who reads from it reads the end (``close`` would let it wait)."""

    def shut() -> None:
        with suppress(OSError):  # hung up in the meantime
            if sock is not None:
                sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
