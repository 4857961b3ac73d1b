"""A DICOMweb server in this process, and what pynetdicom leaves behind."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from .fake_pacs import FakePacs, Handler, ct_file


@pytest.fixture
def pacs() -> Iterator[FakePacs]:
    held = FakePacs()
    handler = type("Handler", (Handler,), {"pacs": held})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda request, client_address: None  # a client that hangs up is the test
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield held
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def fill(pacs):
    """``fill("1.2", images=4)`` puts a CT study into the PACS."""

    def put(study: str, images: int = 4) -> None:
        for number in range(1, images + 1):
            pacs.add(ct_file(study, f"{study}.1", number))

    return put


def _collect() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def what_was_there_before() -> Iterator[None]:
    """Objects that are there before a file's first test are not looked through after each of its tests."""
    gc.freeze()
    yield
    gc.unfreeze()
    _collect()


@pytest.fixture
def sockets_left_open_are_collected(what_was_there_before: None) -> Iterator[None]:
    """pynetdicom leaves sockets of refused peers to the garbage collector."""
    yield
    _collect()
