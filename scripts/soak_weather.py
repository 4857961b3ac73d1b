"""What goes wrong between watcher and server in a soak: a proxy before Orthanc that is down, slow, wrong or cut."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_FAULTS = ("500", "503", "slow", "cut before", "cut within", "short")


@dataclass
class Faults:
    """What goes wrong, and how often it did.

    Args:
        generator: Chooses requests and faults.
        share: Of requests that meet a fault.
        down_until: Until this moment (monotonic) the server is down.
    """

    generator: random.Random
    share: float = 0.03
    down_until: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> str:
        """The fault of the next request, or an empty text."""
        with self.lock:
            fault = "down" if time.monotonic() < self.down_until else ""
            if not fault and self.generator.random() < self.share:
                fault = self.generator.choice(_FAULTS)
            if fault:
                self.counts[fault] += 1
            return fault

    def calm(self) -> None:
        """No more faults."""
        self.share, self.down_until = 0.0, 0.0


def make_proxy(port: int, faults: Faults) -> type[BaseHTTPRequestHandler]:
    """A handler that passes requests on to Orthanc, most of the time."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else head and body of an answer wait 40 ms for each other

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

        def _pass_on(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            body, fault = self.rfile.read(length), faults.next()
            if fault in ("500", "503"):
                self._say(int(fault), b"", {})
                return
            if fault in ("cut before", "down"):
                self.close_connection = True
                return
            if fault == "slow":
                time.sleep(1.0)
            inside = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {name: self.headers[name] for name in ("Accept", "Content-Type") if name in self.headers}
            inside.request(self.command, self.path, body=body or None, headers=headers)
            answer = inside.getresponse()
            content = answer.read()
            inside.close()
            kept = {name: value for name, value in answer.getheaders() if name in ("Content-Type", "Warning")}
            if fault == "short":  # whole by its length, and not by its content
                content = content[: len(content) * 2 // 3]
            self._say(answer.status, content, kept, cut=fault == "cut within")

        def _say(self, status: int, content: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = cut

        do_GET = do_POST = _pass_on  # noqa: N815 - the base class's names

    return Proxy


@contextmanager
def proxy(port: int, faults: Faults) -> Iterator[str]:
    """The proxy's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_proxy(port, faults))
    server.daemon_threads = True
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # the watcher was killed
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    server.shutdown()
