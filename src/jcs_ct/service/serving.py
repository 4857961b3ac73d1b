"""The page's sockets, and the server on them: an address that cannot be had is said before anything is begun."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from jcs_ct.errors import ConfigError, JCSError

if TYPE_CHECKING:
    from fastapi import FastAPI

_WAITING_CONNECTIONS = 2048


@contextmanager
def listening(host: str, port: int) -> Iterator[Sequence[socket.socket]]:
    """Sockets that listen on every address of a host; they are closed at the end.

    Args:
        host: Name or address.
        port: 0 takes a free one.

    Raises:
        ConfigError: the port is taken, or cannot be had for another reason.
    """
    with ExitStack() as opened:
        try:
            sockets = [opened.enter_context(one) for one in _open(host, port)]
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(f"port {port} is taken; give another --port") from error
            why = error.strerror or str(error)
            raise ConfigError(
                f"cannot listen on {host}, port {port}: {why}; give another --host or --port"
            ) from error
        yield sockets


def _open(host: str, port: int) -> Iterator[socket.socket]:
    """A socket an address, all on one port; a family that this machine lacks is left out where there is another."""
    lacking: OSError | None = None
    has_one = False
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
        try:
            opened = socket.create_server((address[0], port), family=family, backlog=_WAITING_CONNECTIONS)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            lacking = error
            continue
        has_one, port = True, opened.getsockname()[1]
        yield opened
    if lacking is not None and not has_one:
        raise lacking


def run_server(app: FastAPI, sockets: Sequence[socket.socket]) -> None:
    """Serve until stopped.

    Raises:
        JCSError: the page could not start; what stopped it was logged.
    """
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
            forwarded_allow_ips="127.0.0.1",
        )
    )
    with suppress(KeyboardInterrupt):
        server.run(sockets=list(sockets))
    if not server.started:
        raise JCSError("the page could not be started; the lines above say why")
