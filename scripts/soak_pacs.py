"""A month beside a PACS, in minutes: studies arrive in a real Orthanc, all fails now and then, nothing is lost.

    python scripts/soak_pacs.py --studies 3000 --minutes 30 [--seed 0] [--json]

On loopback only: Orthanc (Debian packages orthanc, orthanc-dicomweb), a proxy before it that answers with errors, is
slow, cuts connections and answers, and a watcher that is killed (SIGKILL) and started again, now and then with a full
disk. Studies arrive image by image; some get images later, some are sent twice. The reading costs nothing: it stands
for any. In the end every study must have exactly one result set of all its images, results of a part must not exist
(earlier states of a study that got images later are counted as superseded), and nothing may lie on disk. Exit code 1
otherwise. Studies arrive during nine tenths of the time; what is open after it is done in calm weather.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from orthanc_server import ORTHANC, PLUGIN, Orthanc
from soak_reading import KEY, write_object

from jcs_ct.jobs import Ledger, State
from jcs_ct.pacs.book import StudyBook
from jcs_ct.pacs.reading import revision_of
from jcs_ct.pacs.remote import StudyListing
from jcs_ct.pacs.server import PacsServer
from jcs_ct.pacs.web import DicomWeb
from jcs_ct.reporting.dicom_identity import report_series_uid

SETTLE_S = 1.0
_FAULTS = ("500", "503", "slow", "cut before", "cut within", "short")


@dataclass
class Faults:
    """What goes wrong, and how often it did."""

    generator: random.Random
    share: float = 0.03
    down: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> str:
        """The fault of the next request, or an empty text."""
        with self.lock:
            fault = "down" if self.down else ""
            if not fault and self.generator.random() < self.share:
                fault = self.generator.choice(_FAULTS)
            if fault:
                self.counts[fault] += 1
            return fault


def make_proxy(port: int, faults: Faults) -> type[BaseHTTPRequestHandler]:
    """A handler that passes requests on to Orthanc, most of the time."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

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


class Arrivals:
    """Sends studies to Orthanc, past the proxy, and knows what every study must hold in the end."""

    def __init__(self, url: str, folder: Path, generator: random.Random) -> None:
        self._url, self._folder, self._generator = url, folder, generator
        self.states: dict[str, list[tuple[str, ...]]] = {}
        self.counts: Counter[str] = Counter()
        self._late: list[tuple[float, str]] = []

    def add(self) -> None:
        """One new study of two to five images, now and then sent twice, or to be added to later."""
        study = f"1.2.826.0.1.3680043.8.498.{len(self.states) + 1}"
        images = tuple(f"{study}.1.{number}" for number in range(1, self._generator.randint(3, 6)))
        self._send(study, images)
        self.states[study] = [images]
        if self._generator.random() < 0.1:
            self._send(study, images)
            self.counts["sent twice"] += 1
        if self._generator.random() < 0.1:
            self._late.append((time.monotonic() + self._generator.uniform(0.0, 20.0), study))

    def add_late(self, *, all_of_them: bool = False) -> None:
        """Images that were held back and are due."""
        now = time.monotonic()
        due = [study for moment, study in self._late if all_of_them or moment <= now]
        self._late = [(moment, study) for moment, study in self._late if study not in due]
        for study in due:
            images = self.states[study][-1]
            more = (*images, f"{study}.1.{len(images) + 1}")
            self._send(study, more[-1:])
            self.states[study].append(more)
            self.counts["late images"] += 1

    def _send(self, study: str, images: tuple[str, ...]) -> None:
        path = self._folder / "image.dcm"
        for uid in images:
            write_object(path, study, f"{study}.1", uid, "CT")
            host = self._url.removeprefix("http://")
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.request("POST", "/instances", body=path.read_bytes())
            if connection.getresponse().status != 200:
                raise RuntimeError("Orthanc does not take an image")
            connection.close()


@dataclass
class Lives:
    """The watcher's process, killed and started again."""

    url: str
    folder: Path
    generator: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    until: float = 0.0

    def tend(self, *, calm: bool = False) -> None:
        """Kill it when its time is over, start it when it is dead, note its memory."""
        if self.process is not None and self.process.poll() is not None:
            self.counts["died by itself"] += 1
            self.process = None
        if self.process is not None and not calm and time.monotonic() > self.until:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.counts["killed"] += 1
            self.process = None
        if self.process is None:
            full = not calm and self.generator.random() < 0.1
            self.counts["disk full"] += full
            self.start(1 << 60 if full else 0)
            self.until = time.monotonic() + (10.0 if full else self.generator.uniform(15.0, 60.0))
        beat = self.folder / "heartbeat.json"
        if beat.exists():
            self.memory.append(int(json.loads(beat.read_text())["memory_bytes"]))

    def start(self, least_free_bytes: int) -> None:
        """A new process."""
        here = Path(__file__).parent
        environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        command = [sys.executable, str(here / "soak_reading.py"), self.url, str(self.folder), str(SETTLE_S)]
        self.process = subprocess.Popen([*command, str(least_free_bytes)], env=environment)

    def end(self) -> None:
        """Stop it for good."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def soak(studies: int, minutes: float, seed: int, place: Path) -> dict[str, Any]:
    """The whole play; its figures."""
    generator = random.Random(seed)
    server = Orthanc(place)
    server.start()
    watched = place / "watched"
    watched.mkdir()
    faults = Faults(random.Random(seed + 1))
    arrivals = Arrivals(server.url, place, generator)
    started = time.monotonic()
    with proxy(server.port, faults) as url:
        lives = Lives(url, watched, generator)
        try:
            while (played := time.monotonic() - started) < 60 * minutes:
                lives.tend()
                faults.down = generator.random() < 0.01
                while len(arrivals.states) < studies * min(1.0, played / (54 * minutes)):
                    arrivals.add()
                arrivals.add_late()
                time.sleep(0.5)
            faults.share, faults.down = 0.0, False
            arrivals.add_late(all_of_them=True)
            wait_until_done(lives, arrivals, watched, 60 * max(1.0, minutes))
        finally:
            lives.end()
        figures = check(server, arrivals, watched)
    server.stop()
    return {
        "minutes": round((time.monotonic() - started) / 60, 1),
        "faults": dict(faults.counts + arrivals.counts + lives.counts),
        "memory_mib": [round(value / 1024**2) for value in (lives.memory[0], max(lives.memory), lives.memory[-1])],
        **figures,
    }


def wait_until_done(lives: Lives, arrivals: Arrivals, watched: Path, most_s: float) -> None:
    """In calm weather, until the book has dealt with the last state of every study and no job is open."""
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        lives.tend(calm=True)
        time.sleep(1.0)
        with Ledger(watched / "jobs.sqlite") as ledger:
            counts = ledger.counts()
        book = StudyBook(watched / "studies.sqlite", KEY.reading_id)
        seen = book.sightings()
        book.close()
        settled = all(study in seen and seen[study].is_settled for study in arrivals.states)
        if settled and not counts[State.QUEUED] and not counts[State.READ]:
            time.sleep(2 * SETTLE_S)
            return


def check(server: Orthanc, arrivals: Arrivals, watched: Path) -> dict[str, Any]:
    """What Orthanc and the disk hold, against what they must."""
    web = DicomWeb(PacsServer(f"{server.url}/dicom-web"))
    found: Counter[str] = Counter()
    for study, states in arrivals.states.items():
        listing = web.listing(web.study(study))
        reports = [one.uid for one in listing.series if one.modality == "SR"]
        allowed = [report_of(listing, state) for state in states]
        found["lost"] += allowed[-1] not in reports
        found["doubled"] += len(reports) - len(set(reports)) + (reports.count(allowed[-1]) > 1)
        found["of a part"] += len(set(reports) - set(allowed))
        found["superseded"] += len(set(reports) & set(allowed[:-1]))
        found["images lost"] += listing.image_count != len(states[-1])
    web.close()
    with Ledger(watched / "jobs.sqlite") as ledger:
        jobs = {str(state): count for state, count in ledger.counts().items() if count}
    left = [path for path in (watched / "studies").rglob("*") if path.is_file()]
    kept = sum(path.stat().st_size for path in watched.rglob("*") if path.is_file())
    return {
        "studies": len(arrivals.states),
        "results": dict(found),
        "jobs": jobs,
        "files_left": len(left),
        "folder_mib": round(kept / 1024**2, 1),
    }


def report_of(listing: StudyListing, images: tuple[str, ...]) -> str:
    """Series of the report of one state of a study."""
    series = replace(listing.ct_series[0], images=images)
    fingerprint = replace(listing, series=(series,)).fingerprint
    return report_series_uid(replace(KEY, study=revision_of(listing.study_uid, fingerprint)).job_id)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if ORTHANC is None or not PLUGIN.exists():
        sys.exit("needs Orthanc: apt-get install orthanc orthanc-dicomweb")
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        figures = soak(arguments.studies, arguments.minutes, arguments.seed, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(json.dumps(figures, indent=2) if arguments.json else "\n".join(f"{k}: {v}" for k, v in figures.items()))
    bad = sum(figures["results"][name] for name in ("lost", "doubled", "of a part", "images lost"))
    sys.exit(bool(bad or figures["files_left"] or set(figures["jobs"]) - {"done", "refused"}))


if __name__ == "__main__":
    main()
