"""A month beside a PACS, in minutes: studies arrive in a real Orthanc, all fails now and then, nothing is lost.

    python scripts/soak_pacs.py --studies 3000 --minutes 60 [--real-share 0.1] [--most-open 40] [--seed 0]
        [--json FILE]

On loopback only: Orthanc (Debian packages orthanc, orthanc-dicomweb), a proxy before it that answers with errors, is
slow or down, cuts connections and answers, and a watcher that is killed (SIGKILL) and started again, now and then
with a disk that is full (a tmpfs where this may be mounted; else its watermark alone). Studies arrive image by image;
some get images later, some are sent twice, some are deleted. A share of them are phantoms, whose reading is the
product's own with networks of random weights; the reading of the others is played and costs nothing.

In the end the server must hold, for every study, its images, all objects of one result set of all of them, and
nothing else but whole earlier result sets that are named by a rejection note; nothing of a study may lie on disk.
Exit code 1 otherwise. Studies arrive during nine tenths of the time, with ``--most-open`` only as fast as they are
read, so that a slow machine plays fewer of them; what is open after it is done in calm weather.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from orthanc_server import ORTHANC, PLUGIN, Orthanc
from soak_reading import KEY
from soak_studies import Arrivals, ArrivedStudy
from soak_weather import Faults, proxy

from jcs_ct.jobs import Job, Ledger, State
from jcs_ct.pacs.book import StudyBook
from jcs_ct.pacs.dicomweb import DicomWeb
from jcs_ct.pacs.heartbeat import HEARTBEAT
from jcs_ct.pacs.remote import RemoteSeries, StudyListing
from jcs_ct.pacs.server import PacsServer
from jcs_ct.pacs.watched_reading import revision_of

SETTLE_S = 1.0
_DISK_MIB, _MIB = 96, 1024**2
_SAMPLES = 20


@dataclass
class Lives:
    """The watcher's process, killed and started again, and what it uses.

    Args:
        command: Starts it, up to the free space that it must leave.
        folder: It works in.
        longest_s: Of a life.
        generator: Chooses.
        is_small_disk: Whether the folder is a disk of its own that can be filled.
    """

    command: list[str]
    folder: Path
    longest_s: float
    generator: random.Random
    is_small_disk: bool
    counts: Counter[str] = field(default_factory=Counter)
    uses: list[tuple[float, int, int, int]] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    until: float = 0.0
    fills_at: float = 0.0

    def tend(self, *, calm: bool = False) -> None:
        """Kill it when its time is over, start it when it is dead, fill and empty its disk."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            self.counts["died by itself"] += 1
            self.process = None
        if self.process is not None and not calm and now > self.until:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.counts["killed"] += 1
            self.process = None
        if self.process is None:
            self._start(calm=calm)
        if calm or self.is_small_disk:
            self._fill(full=not calm and now > self.fills_at)

    def _start(self, *, calm: bool) -> None:
        low = not calm and self.generator.random() < 0.05
        self.counts["watermark"] += low
        here = Path(__file__).parent
        environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        self.process = subprocess.Popen([*self.command, str(1 << 60 if low else 0)], env=environment)
        life_s = 10.0 if low else self.generator.uniform(10.0, self.longest_s)
        full_soon = self.generator.random() < 0.15
        self.until = time.monotonic() + life_s
        self.fills_at = self.until - self.generator.uniform(3.0, 8.0) if full_soon else self.until + 1e9

    def _fill(self, *, full: bool) -> None:
        ballast = self.folder / "ballast"
        if not full:
            ballast.unlink(missing_ok=True)
        elif not ballast.exists():
            self.counts["disk full"] += 1
            with suppress(OSError), ballast.open("wb") as stream:  # the watcher may have taken the last of it
                stream.write(b"\0" * max(0, shutil.disk_usage(self.folder).free - 4096))

    def note_use(self, moment: float) -> None:
        """Memory of the watcher and of the studies' process, and what lies in the studies' folder."""
        if self.process is None or (self.folder / "ballast").exists():
            return
        try:
            watcher = psutil.Process(self.process.pid)
            own = watcher.memory_info().rss
            children = sum(child.memory_info().rss for child in watcher.children(recursive=True))
        except psutil.NoSuchProcess:
            return
        self.uses.append((moment, own, children, shutil.disk_usage(self.folder).used))

    def end(self) -> None:
        """Stop it for good."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(server: Orthanc) -> Iterator[Orthanc]:
    """A server that is started and stopped."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A disk of its own at ``folder``, where this program may mount one; whether it is."""
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        ).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def soak(arguments: argparse.Namespace, place: Path) -> dict[str, Any]:
    """The whole play; its figures."""
    studies, minutes, generator = arguments.studies, arguments.minutes, random.Random(arguments.seed)
    faults = Faults(random.Random(arguments.seed + 1))
    watched, models = place / "watched", make_models(place / "models")
    with running(Orthanc(place)) as server, proxy(server.port, faults) as url, small_disk(watched) as is_small_disk:
        arrivals = Arrivals(server.url, place, generator, arguments.real_share)
        started = time.monotonic()
        reading = str(Path(__file__).with_name("soak_reading.py"))
        command = [sys.executable, reading, url, str(watched), str(models), str(place / "watch.log"), str(SETTLE_S)]
        lives = Lives(command, watched, max(30.0, min(240.0, 6 * minutes)), generator, is_small_disk)
        try:
            while (played := time.monotonic() - started) < 60 * minutes:
                lives.tend()
                lives.note_use(played)
                if generator.random() < 0.006:
                    faults.down_until = time.monotonic() + generator.uniform(0.5, 10.0)
                due = int(studies * min(1.0, played / (54 * minutes)))
                if arguments.most_open:
                    due = min(due, closed_jobs(watched) + arguments.most_open)
                for _ in range(min(20, due - len(arrivals.studies))):
                    arrivals.add()
                arrivals.change()
                time.sleep(0.5)
            while len(arrivals.studies) < studies and not arguments.most_open:
                arrivals.add()
            faults.calm()
            arrivals.change(all_of_them=True)
            stormy_minutes = (time.monotonic() - started) / 60
            wait_until_done(lives, arrivals, watched, started, 60 * (arguments.calm_minutes or max(10.0, minutes)))
        finally:
            lives.end()
        figures = check(server, arrivals, watched)
    log = (place / "watch.log").read_text(encoding="utf-8")
    return {
        "minutes": {"stormy": round(stormy_minutes, 1), "all": round((time.monotonic() - started) / 60, 1)},
        "faults": dict(sorted((faults.counts + arrivals.counts + lives.counts).items())),
        "use_over_time": over_time(lives.uses),
        "tracebacks_in_log": log.count("Traceback"),
        **figures,
    }


def closed_jobs(watched: Path) -> int:
    """Jobs that are done, whatever became of them, by the watcher's last sign of life."""
    try:
        counts = json.loads((watched / HEARTBEAT).read_text(encoding="utf-8"))["jobs"]
    except FileNotFoundError:
        return 0
    return sum(count for state, count in counts.items() if state not in (State.QUEUED, State.READ))


def make_models(folder: Path) -> Path:
    """Compact networks of random weights, for which every lung slice is infected: results are never empty."""
    import torch

    from jcs_ct.checkpoints import CheckpointInfo, save_checkpoint
    from jcs_ct.models.presets import build_classifier, build_segmenter, classifier_preset, segmenter_preset
    from jcs_ct.operating_point import OperatingPoint
    from jcs_ct.preprocessing import SlicePreprocessor

    folder.mkdir()
    preprocessor = SlicePreprocessor(size=64, channels=1, mean=(0.45,), std=(0.3,))
    point = OperatingPoint(slice_probability=0.0, positive_slice_threshold=1, lesion_probability=0.0)
    torch.manual_seed(0)
    classifier, segmenter = classifier_preset("compact"), segmenter_preset("compact-joint")
    info = CheckpointInfo("classifier", "compact", classifier.to_dict(), preprocessor, point)
    save_checkpoint(folder / "classifier.safetensors", build_classifier(classifier), info)
    info = CheckpointInfo("segmenter", "compact-joint", segmenter.to_dict(), preprocessor, point)
    save_checkpoint(folder / "segmenter.safetensors", build_segmenter(segmenter), info)
    return folder


def over_time(uses: list[tuple[float, int, int, int]]) -> list[dict[str, float]]:
    """The largest use in each part of the time: minute, MiB of the watcher, of its children and on disk."""
    if not uses:
        return []
    last = uses[-1][0]
    parts: list[list[tuple[float, int, int, int]]] = [[] for _ in range(_SAMPLES)]
    for one in uses:
        parts[min(_SAMPLES - 1, int(_SAMPLES * one[0] / max(last, 1e-9)))].append(one)
    names = ("minute", "watcher_mib", "children_mib", "disk_mib")
    scales = (60, _MIB, _MIB, _MIB)
    return [
        {name: round(max(values) / scale, 1) for name, scale, values in zip(names, scales, zip(*part), strict=True)}
        for part in parts
        if part
    ]


def wait_until_done(lives: Lives, arrivals: Arrivals, watched: Path, started: float, most_s: float) -> None:
    """In calm weather, until the book has dealt with the last state of every study and no job is open."""
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        lives.tend(calm=True)
        lives.note_use(time.monotonic() - started)
        time.sleep(2.0)
        with Ledger(watched / "jobs.sqlite") as ledger:
            counts = ledger.counts()
        book = StudyBook(watched / "studies.sqlite", KEY.reading_id)
        seen = book.sightings()
        book.close()
        settled = {study_uid for study_uid, one in seen.items() if one.is_settled}
        wanted = {study.uid for study in arrivals.studies if not study.is_deleted}
        gone = {study.uid for study in arrivals.studies if study.is_deleted} & set(seen)
        if wanted <= settled and not counts[State.QUEUED] and not counts[State.READ] and not gone:
            time.sleep(2 * SETTLE_S)
            return


def check(server: Orthanc, arrivals: Arrivals, watched: Path) -> dict[str, Any]:
    """What Orthanc, the book and the disk hold, against what they must."""
    web = DicomWeb(PacsServer(f"{server.url}/dicom-web"))
    patient_keys = {study.uid: study.patient_key for study in web.studies()}
    web.close()
    found: Counter[str] = Counter()
    with Ledger(watched / "jobs.sqlite") as ledger:
        jobs = {str(state): count for state, count in ledger.counts().items() if count}
        book = StudyBook(watched / "studies.sqlite", KEY.reading_id)
        for study in arrivals.studies:
            if study.is_deleted:
                found["deleted and forgotten"] += study.uid not in patient_keys
                found["deleted, results stored after"] += study.uid in patient_keys
                continue
            readings = [ledger.job(job_of(study, patient_keys[study.uid], images)) for images in study.states]
            found.update(judge(study, readings, arrivals.held(study), book))
        book.close()
    left = [path for path in (watched / "studies").rglob("*") if path.is_file()]
    return {
        "studies": len(arrivals.studies),
        "read_for_real": sum(study.template is not None for study in arrivals.studies),
        "results": dict(sorted(found.items())),
        "jobs": jobs,
        "files_left": len(left),
    }


def job_of(study: ArrivedStudy, patient_key: str, images: tuple[str, ...]) -> str:
    """Job of one state of a study."""
    series = RemoteSeries(study.uid, study.series, images=images)
    fingerprint = StudyListing(study.uid, patient_key, (series,)).fingerprint
    return replace(KEY, study=revision_of(study.uid, fingerprint)).job_id


def judge(study: ArrivedStudy, readings: list[Job | None], held: list[str], book: StudyBook) -> Counter[str]:
    """One study: what the server holds beside its images, against the results of the readings of its states."""
    images = {study.orthanc_id(study.series, uid) for uid in study.states[-1]}
    objects = [
        {
            study.orthanc_id(one["series"], one["instance"])
            for _, one in (job.result.get("objects", []) if job else [])
        }
        for job in readings
    ]
    results = set(held) - images
    earlier = set().union(*objects[:-1])
    current = {study.orthanc_id(one.series, one.instance) for one in book.results(study.uid)}
    return Counter(
        {
            "right": int(
                results == objects[-1] | (earlier & results) and bool(objects[-1]) and current == objects[-1]
            ),
            "lost": int(not objects[-1] or not objects[-1] <= results),
            "doubled": len(held) - len(set(held)),
            "of nothing": len(results - earlier - objects[-1]),
            "images lost": int(not images <= set(held)),
            "book wrong": int(current != objects[-1]),
            "superseded sets": sum(bool(one) and one <= results for one in objects[:-1]),
            "superseded in part": sum(bool(one & results) and not one <= results for one in objects[:-1]),
        }
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument(
        "--calm-minutes", type=float, help="longest wait for the open ones in the end (10, or --minutes)"
    )
    parser.add_argument("--real-share", type=float, default=0.1, help="studies that are phantoms, read for real")
    parser.add_argument("--most-open", type=int, help="studies that wait; further ones arrive when one is done")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    if ORTHANC is None or not PLUGIN.exists():
        sys.exit("needs Orthanc: apt-get install orthanc orthanc-dicomweb")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running or mounted
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        figures = soak(arguments, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    text = json.dumps(figures, indent=2)
    if arguments.json is not None:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")
    print(text)
    bad = sum(
        figures["results"].get(name, 0) for name in ("lost", "doubled", "of nothing", "images lost", "book wrong")
    )
    sys.exit(bool(bad or figures["files_left"] or figures["tracebacks_in_log"] or set(figures["jobs"]) - _ENDED))


#: A job that was cancelled is one of a state that was added to before it was read.
_ENDED = {"done", "refused", "cancelled"}

if __name__ == "__main__":
    main()
