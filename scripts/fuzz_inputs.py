"""Damage good inputs in seeded ways and read them as ``jcs info`` does: never a traceback, never a hang.

    python scripts/fuzz_inputs.py --count 300 [--first 0] [--seed 0] [--kind dicom ...] [--real-child] [--json]
        [--keep FOLDER]

Every mutation of a DICOM series, an enhanced multi-frame file, a NIfTI volume, PNG slices or an archive must end in a
study or in a coded refusal, and a study whose geometry is stated must have the true one; of a DICOM study the
references of results are read, too.

To make thousands of mutations affordable, one forked process under limits on memory and time reads many of them, and
the package's decoding child works inside it; what would have cost that child its life counts as a failure here. With
``--real-child`` decoding happens where ``jcs diagnose`` lets it happen: in children of the package's own forking
process, under the package's own limits; that one of them ended is said beside its code. Exit code 1 when something
failed; ``--keep`` saves those inputs.

A mutation is named by its kind and number: the same seed makes the same bytes again, and ``--first`` goes on where
an earlier run ended.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import selectors
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import psutil
from fuzz_damage import mutation
from fuzz_seeds import Files, Seed, make_seeds
from numpy.typing import NDArray
from pydicom import config as pydicom_config

import jcs_ct.imaging.dicom_headers
import jcs_ct.imaging.dicom_voxels
import jcs_ct.imaging.nifti
import jcs_ct.imaging.picture_slices
import jcs_ct.reporting.dicom_source  # noqa: F401  (forked processes find everything imported)
from jcs_ct.errors import ConfigError, StudyError
from jcs_ct.imaging import Study, decoding_child, inspect_study, sandbox
from jcs_ct.reporting.dicom_results import require_dicom_source
from jcs_ct.volume import CTVolume

#: One mutation may take this long, in seconds; more is a hang.
HANG_S = 20.0
#: Address space of a reading process beyond what it starts with: tighter than the package's, so that a bomb shows.
MEMORY_BYTES = 2 * 1024**3
#: Mutations that one process reads.
BATCH = 50
#: A corner of an accepted volume may lie this far from the truth, in mm.
TOLERANCE_MM = 0.1

#: What the sandbox says of an item that cost a decoding child its life.
CHILD_ENDED = ("ended the decoding process", "took longer than")
FAILURES = ("TRACEBACK", "HANG", "CRASH", "WRONG GEOMETRY")


@dataclass(frozen=True)
class Finding:
    """What became of one mutation."""

    kind: str
    number: int
    outcome: str  #: ``read`` (or ``read as stated``, see :func:`says_so`), a gate code, or one of FAILURES
    detail: str
    seconds: float


class _ChildInside:
    """The sandbox's child without a process: an exception that would end the child is noted and ends its answers."""

    crash = ""
    has_ended = True

    def __init__(self, job: Mapping[str, Any], fd: int | None, *, may_fork: bool) -> None:
        self._answers: deque[dict[str, Any]] = deque()
        try:
            decoding_child.run_job(
                json.loads(json.dumps(job)), lambda one: self._answers.append(json.loads(json.dumps(one)))
            )
        except Exception:  # noqa: BLE001  (whatever gets through is the finding)
            type(self).crash = traceback.format_exc()

    def answer(self, seconds: float) -> dict[str, Any] | None:
        return self._answers.popleft() if self._answers else None

    def why_silent(self, seconds: float) -> str:
        return CHILD_ENDED[0]

    def close(self) -> None:
        self._answers.clear()


@contextmanager
def decoding(*, real_child: bool) -> Iterator[type[_ChildInside]]:
    """Let the decoding child be the package's own, or work in this process."""
    if real_child:
        yield _ChildInside
        return
    validation = pydicom_config.settings.reading_validation_mode
    with mock.patch.object(sandbox, "_Child", _ChildInside), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield _ChildInside
        finally:
            pydicom_config.settings.reading_validation_mode = validation


def read(files: Files, seed: Seed, *, lenient: bool, real_child: bool = False) -> tuple[str, str]:
    """What ``jcs info`` does with an input of these files -> (outcome, detail)."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "input"
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        path = folder if len(files) != 1 else folder / next(iter(files))
        return read_path(path, seed, lenient=lenient, real_child=real_child)


def read_path(path: Path, seed: Seed | None = None, *, lenient: bool, real_child: bool = False) -> tuple[str, str]:
    """What ``jcs info`` does with what lies at a path, judged by ``seed`` where there is one -> (outcome, detail)."""
    with decoding(real_child=real_child) as child:
        child.crash = ""
        try:
            outcome, detail = _judge(path, seed, lenient=lenient)
        except Exception:  # noqa: BLE001  (whatever gets through is the finding)
            return "TRACEBACK", traceback.format_exc()
        return ("CRASH", child.crash) if child.crash else (outcome, detail)


def _judge(path: Path, seed: Seed | None, *, lenient: bool) -> tuple[str, str]:
    try:
        study = inspect_study(path, lenient=lenient).result
    except ConfigError as error:
        return "usage", str(error)
    if isinstance(study, StudyError):
        ended = [words for words in CHILD_ENDED if words in str(study)]
        return ", ".join([str(study.code), *ended]), str(study)
    no_results = _without_results(study)
    if study.volume.affine is None or seed is None or seed.affine is None:
        return f"read{no_results}", "no geometry stated"
    wrong = geometry_error(study.volume.affine, study.volume.shape, seed) or content_error(study.volume, seed)
    if wrong and study.kind == "nifti" and says_so(path, study.volume):
        return "read as stated", wrong
    return ("WRONG GEOMETRY", wrong) if wrong else (f"read{no_results}", "")


def _without_results(study: Study) -> str:
    """Why results in DICOM would be refused, whose references are read from the source files once more."""
    if study.kind != "dicom":
        return ""
    try:
        require_dicom_source(study)
    except StudyError as error:
        return f", no DICOM results: {error.code}"
    except ConfigError:
        return ", no DICOM results"
    return ""


def says_so(path: Path, volume: CTVolume) -> bool:
    """Whether a NIfTI file states one geometry only, another than before the damage, and nibabel reads the same.

    By the standard a qform or sform whose code is 0 states nothing: such a file cannot be told from a good one.
    """
    try:
        image = nibabel.load(path)
        stated = [matrix for matrix, code in (image.get_sform(coded=True), image.get_qform(coded=True)) if code > 0]
        theirs = nibabel.as_closest_canonical(image)
    except (nibabel.filebasedimages.ImageFileError, ValueError, OSError):
        return False
    ours = nibabel.as_closest_canonical(
        nibabel.Nifti1Image(volume.hu.T, np.diag([-1, -1, 1, 1]) @ volume.affine[:, [2, 1, 0, 3]])
    )
    return (
        bool(stated)
        and all(np.allclose(one, image.affine, atol=TOLERANCE_MM) for one in stated)
        and np.allclose(theirs.affine, ours.affine, atol=TOLERANCE_MM)
        and np.allclose(np.asarray(theirs.dataobj), np.asarray(ours.dataobj), atol=1.0)
    )


def content_error(volume: CTVolume, seed: Seed) -> str:
    """How a volume lies turned in its grid: mirrored about its middle, it has the true grid and the wrong side."""
    if seed.hu is None or seed.affine is None or volume.affine is None:
        return ""
    start = _first_slice(volume.affine, seed.affine, seed.shape[0])
    true = seed.hu[start : start + volume.shape[0]].astype(np.float64)
    found = np.clip(volume.hu[: len(true)].astype(np.float64), -1024, 3071)
    flips = [axes for count in range(4) for axes in combinations(range(3), count)]
    apart = [float(np.abs(np.flip(found, axes) - true).mean()) for axes in flips]
    best = int(np.argmin(apart))
    return f"mirrored along axes {flips[best]}" if apart[best] < 0.8 * apart[0] else ""


def _first_slice(affine: NDArray[np.float64], true: NDArray[np.float64], slices: int) -> int:
    """Which of the true slices the first one is; fewer slices may be read."""
    tops = [true @ [number, 0, 0, 1] for number in range(slices)]
    return int(np.argmin([np.linalg.norm(top[:3] - affine[:3, 3]) for top in tops]))


def geometry_error(affine: NDArray[np.float64], shape: tuple[int, ...], seed: Seed) -> str:
    """How an accepted geometry differs from the true one at a corner; fewer slices may be read."""
    if seed.affine is None:
        return ""
    if shape[1:] != seed.shape[1:] or shape[0] > seed.shape[0]:
        return f"shape {shape}, true {seed.shape}"
    start = _first_slice(affine, seed.affine, seed.shape[0])
    worst = 0.0
    for corner in np.ndindex(2, 2, 2):
        index = np.array([*np.multiply(corner, np.subtract(shape, 1)), 1.0])
        true = seed.affine @ np.add(index, [start, 0, 0, 0])
        worst = max(worst, float(np.linalg.norm((affine @ index - true)[:3])))
    return f"a corner lies {worst:.2f} mm off" if worst > TOLERANCE_MM else ""


Turn = tuple[str, int]


def fuzz(
    seeds: Mapping[str, Seed], count: int, base: int, *, first: int = 0, real_child: bool = False
) -> Iterator[Finding]:
    """``count`` mutations from the ``first`` on, the kinds in turn."""
    kinds = sorted(seeds)
    turns: deque[Turn] = deque((kinds[turn % len(kinds)], turn // len(kinds)) for turn in range(first, first + count))

    def one(turn: Turn) -> tuple[str, str]:
        kind, number = turn
        damaged = mutation(seeds[kind], kind, number, base)
        return read(damaged, seeds[kind], lenient=number % 4 == 3, real_child=real_child)

    while turns:
        batch = [turns.popleft() for _ in range(min(BATCH, len(turns)))]
        done = 0
        with sandbox.kept_warm() if real_child else nullcontext():
            for finding in in_process(batch, one):
                done += 1
                yield finding
        turns.extendleft(reversed(batch[done:]))


def in_process(turns: Sequence[Turn], one: Callable[[Turn], tuple[str, str]]) -> Iterator[Finding]:
    """Do ``turns`` in one forked process; when it dies or hangs, that turn is the last."""
    answers_out, answers_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_the_process(turns, one, answers_in)
    os.close(answers_in)
    try:
        for (kind, number), line in zip(turns, _lines(answers_out), strict=False):
            outcome, detail, seconds = (
                ("HANG" if line is None else "CRASH", "", HANG_S) if not line else json.loads(line)
            )
            yield Finding(kind, number, outcome, detail or f"the process is gone after {seconds} s", seconds)
            if not line:
                return
    finally:
        os.close(answers_out)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _lines(fd: int) -> Iterator[bytes | None]:
    """The process's answers, each awaited for ``HANG_S``; None for one that did not come, empty for an end."""
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            deadline = time.monotonic() + HANG_S
            while b"\n" not in buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    yield None
                block = os.read(fd, 1 << 16)
                if not block:
                    yield b""
                buffer += block
            line, buffer = buffer.split(b"\n", 1)
            yield line


def _be_the_process(turns: Sequence[Turn], one: Callable[[Turn], tuple[str, str]], fd: int) -> None:
    """Read under limits, one line a mutation; never returns."""
    try:
        memory = psutil.Process().memory_info().vms + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        logging.disable(logging.CRITICAL)
        for turn in turns:
            started = time.perf_counter()
            outcome, detail = one(turn)
            seconds = round(time.perf_counter() - started, 3)
            os.write(fd, json.dumps([outcome, detail[-4000:], seconds]).encode() + b"\n")
    finally:
        os._exit(0)


def summary(findings: Sequence[Finding]) -> dict[str, Any]:
    """Counts by kind and outcome, and everything that must not happen."""
    counts: dict[str, Counter[str]] = {}
    for finding in findings:
        counts.setdefault(finding.kind, Counter())[finding.outcome] += 1
    return {
        "mutations": len(findings),
        "outcomes": {kind: dict(counter.most_common()) for kind, counter in sorted(counts.items())},
        "failures": [asdict(finding) for finding in findings if finding.outcome in FAILURES],
        "slowest_s": max((finding.seconds for finding in findings), default=0.0),
    }


def _keep(finding: Finding, seeds: Mapping[str, Seed], base: int, folder: Path) -> None:
    inside = folder / f"{finding.kind}-{base}-{finding.number}"
    inside.mkdir(parents=True, exist_ok=True)
    for name, data in mutation(seeds[finding.kind], finding.kind, finding.number, base).items():
        (inside / name).write_bytes(data)


def main() -> int:
    """Fuzz and print; 1 when something got through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", help="only this kind of input; may be given several times")
    parser.add_argument("--keep", type=Path, help="save inputs that fail here")
    parser.add_argument("--real-child", action="store_true", help="decode in the package's own children")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seeds = make_seeds()
    if unknown := set(options.kind or ()) - set(seeds):
        parser.error(f"unknown kind {', '.join(sorted(unknown))}; there are {', '.join(seeds)}")
    chosen = {kind: seed for kind, seed in seeds.items() if not options.kind or kind in options.kind}
    findings = []
    for finding in fuzz(chosen, options.count, options.seed, first=options.first, real_child=options.real_child):
        findings.append(finding)
        if finding.outcome in FAILURES:
            print(
                f"{finding.outcome}: {finding.kind} {finding.number}: {finding.detail}", file=sys.stderr, flush=True
            )
            if options.keep is not None:
                _keep(finding, seeds, options.seed, options.keep)
        if len(findings) % 500 == 0:
            print(f"{len(findings)} of {options.count}", file=sys.stderr, flush=True)
    found = summary(findings)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for kind, outcomes in found["outcomes"].items():
            print(f"{kind:<17}" + ", ".join(f"{outcome} {count}" for outcome, count in outcomes.items()))
        print(f"{found['mutations']} mutations, {len(found['failures'])} failures, slowest {found['slowest_s']} s")
    return int(bool(found["failures"]))


if __name__ == "__main__":
    sys.exit(main())
