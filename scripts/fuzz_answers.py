"""Damage a PACS's HTTP answers in seeded ways: no traceback, no hang, no part of a study taken for the whole.

    python scripts/fuzz_answers.py --count 2000 [--first 0] [--seed 0] [--json]

A server on loopback answers searches, fetches and stores as it should, except that one answer of each trial is
damaged: bytes flipped, cut, doubled, moved or replaced by awkward ones, in its status line, its headers or its body.
The client must return or raise one of its own errors, in a few seconds; a listing that it returns holds every image,
and a file that it returns has its whole length. Exit code 1 when something failed.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from jcs_ct.errors import JCSError
from jcs_ct.pacs.dicomweb import DicomWeb
from jcs_ct.pacs.multipart import encode_parts
from jcs_ct.pacs.server import PacsServer

HANG_S = 10.0
IMAGES = 6
STUDY, SERIES, REPORTS = "1.2.3", "1.2.3.1", "1.2.3.9"
FILE = bytes(128) + b"DICM" + bytes(range(256)) * 8
AWKWARD = (
    b"\0", b"\xff\xfe", b"\r\n\r\n", b"{", b"[" * 3000, b"9" * 5000, b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"--",
    b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"\\ud800", b"null",
    b"Retry-After: 99999999999999999999\r\n", b"HTTP/1.1 503 \r\n", b"1e999", b"../..", b";boundary=",
)  # fmt: skip


@dataclass
class Trial:
    """The answer that is damaged (by its number), and what it was."""

    generator: random.Random
    damaged: int
    answered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pass_through(self, answer: bytes) -> bytes:
        """The answer as it goes out."""
        with self.lock:
            number, self.answered = self.answered, self.answered + 1
            return damage(answer, self.generator) if number == self.damaged else answer


def damage(answer: bytes, generator: random.Random) -> bytes:
    """One to four faults."""
    content = bytearray(answer)
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        if not content:
            break
        head = content.find(b"\r\n\r\n")
        end = head if generator.random() < 0.4 and head > 0 else len(content)
        at = generator.randrange(end)
        length = generator.choice((1, 2, 16, 200))
        kind = generator.choice(("flip", "cut", "drop", "double", "insert", "digit", "move"))
        if kind == "flip":
            content[at] ^= 1 << generator.randrange(8)
        elif kind == "cut":
            del content[at:]
        elif kind == "drop":
            del content[at : at + length]
        elif kind == "double":
            content[at:at] = content[at : at + length]
        elif kind == "insert":
            content[at:at] = generator.choice(AWKWARD)
        elif kind == "digit":
            content[at] = ord(generator.choice("0123456789"))
        else:
            piece = content[at : at + length]
            del content[at : at + length]
            to = generator.randrange(len(content) + 1)
            content[to:to] = piece
    return bytes(content)


def right_answer(method: str, path: str) -> bytes:
    """What a good server says."""
    query = path.partition("?")[2]
    path = path.partition("?")[0]
    if method == "POST":
        stored = [{"00081155": {"vr": "UI", "Value": [f"{REPORTS}.{number}"]}} for number in range(2)]
        return _http(json.dumps({"00081199": {"vr": "SQ", "Value": stored}}).encode())
    if path.count("/") == 6:
        return _http(*encode_parts([FILE]))
    if "offset=" in query:
        return _http(b"", status="204 No Content")
    if path.endswith("/instances"):
        items = [{"0020000E": _ui(SERIES), "00080018": _ui(f"{SERIES}.{number}")} for number in range(IMAGES)]
    elif path.endswith("/series"):
        items = [_series(SERIES, "CT", IMAGES), _series(REPORTS, "SR", 2)]
    else:
        items = [{"0020000D": _ui(STUDY), "00201208": {"vr": "IS", "Value": [IMAGES + 2]}}]
    return _http(json.dumps(items).encode())


def _series(uid: str, modality: str, count: int) -> dict[str, object]:
    return {
        "0020000D": _ui(STUDY),
        "0020000E": _ui(uid),
        "00080060": {"vr": "CS", "Value": [modality]},
        "00201209": {"vr": "IS", "Value": [count]},
    }


def _ui(uid: str) -> dict[str, object]:
    return {"vr": "UI", "Value": [uid]}


def _http(body: bytes, kind: str = "application/dicom+json", status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@contextmanager
def serving(current: Callable[[], Trial]) -> Iterator[str]:
    """A server on loopback; yields its address."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(HANG_S)
            try:
                request = b""
                while b"\r\n\r\n" not in request:
                    block = connection.recv(1 << 16)
                    if not block:
                        return
                    request += block
                head, _, body = request.partition(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.splitlines() if line.startswith(b"Content-Length:")), 0
                )
                while len(body) < length:
                    body += connection.recv(1 << 16)
                method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
                connection.sendall(current().pass_through(right_answer(method, path)))
            except OSError:
                return  # the client had enough

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.close()


def list_study(web: DicomWeb, folder: Path) -> str:
    """Every image, or an error; a series whose modality was damaged holds no CT, and nothing is read of it."""
    count = web.listing(web.study(STUDY)).image_count
    return "no CT seen" if not count else "" if count >= IMAGES else "PART OF A STUDY"


def fetch_image(web: DicomWeb, folder: Path) -> str:
    """The whole file, or an error."""
    found = web.listing(web.study(STUDY)).ct_series
    if not found:
        return "no CT seen"
    series = found[0]
    return "" if len(web.instance(series, series.images[0])) >= len(FILE) - 200 else "PART OF A FILE"


def search(web: DicomWeb, folder: Path) -> str:
    """Studies, or an error."""
    web.studies()
    return ""


def store(web: DicomWeb, folder: Path) -> str:
    """A receipt, or an error."""
    web.store(sorted(folder.iterdir()))
    return ""


ACTIONS: tuple[tuple[Callable[[DicomWeb, Path], str], int], ...] = (
    (list_study, 5), (fetch_image, 6), (search, 2), (store, 1))  # fmt: skip


def run(count: int, seed: int, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Outcomes of ``count`` trials from the ``first`` on, and what failed."""
    outcomes: Counter[str] = Counter()
    failed: list[str] = []
    trial = Trial(random.Random(0), 0)
    with tempfile.TemporaryDirectory() as place, serving(lambda: trial) as url:
        for number in range(2):
            (Path(place) / f"{number}.dcm").write_bytes(FILE)
        for number in range(first, first + count):
            generator = random.Random(f"{seed}-{number}")
            action, answers = generator.choice(ACTIONS)
            trial = Trial(generator, generator.randrange(answers))
            web = DicomWeb(PacsServer(url, timeout_s=2.0, retries=0, answer_s=5.0))
            started = time.monotonic()
            try:
                outcome = action(web, Path(place)) or "read"
            except JCSError as error:
                outcome = str(getattr(error, "code", type(error).__name__))
            except Exception:  # noqa: BLE001 - that is what is looked for
                outcome = "TRACEBACK"
                failed.append(f"{number}: {traceback.format_exc()}")
            web.close()
            if time.monotonic() - started > HANG_S:
                outcome = "HANG"
            if outcome in ("HANG", "PART OF A STUDY", "PART OF A FILE"):
                failed.append(f"{number}: {outcome} in {action.__name__}, answer {trial.damaged}")
            outcomes[outcome] += 1
    return outcomes, failed


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    outcomes, failed = run(arguments.count, arguments.seed, arguments.first)
    if arguments.json:
        print(json.dumps({"outcomes": dict(outcomes), "failed": failed}, indent=2))
    else:
        print("\n".join(f"{outcome}: {number}" for outcome, number in outcomes.most_common()))
        print("\n".join(failed[:20]))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
