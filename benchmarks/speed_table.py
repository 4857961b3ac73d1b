"""One table: a study from its folder to its report, by `jcs` and by other ways, in interleaved rounds.

    python benchmarks/speed_table.py [STUDY] [--rounds 5] [--parts study threads slices instructions memory]

study         `jcs diagnose` beside the same networks run the plain way (eager torch: slice by slice, fp32, all side
              outputs, the map by a backward pass), a MONAI U-Net of the segmenter's input in batches, and the floor:
              every file of the folder read with pydicom and NumPy.
threads       `jcs diagnose` on 1 and on 2 threads and cores.
slices        phantoms of 50, 300 and 1 200 slices.
instructions  `jcs diagnose` held to AVX2, AVX-512 and AVX512-BF16 (ONEDNN_MAX_CPU_ISA), networks compiled for each.
memory        the phantom of 1 200 slices with --dicom.

Every row is a process of its own, watched from outside with its children: seconds of the clock, CPU seconds, peak of
the resident memory, and seconds a stage where the way says them. A round runs every row once, each beginning with
another one; figures are medians. Without STUDY a phantom of 133 slices is read. Printed are the machine and one
table in Markdown; --json keeps every measurement, from the first run on. Nothing else is left behind; networks are
compiled before that.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

STAGES = ("read", "classify", "lungs", "map", "segment", "findings", "report")
#: Name -> what oneDNN, which multiplies for OpenVINO and torch, is held to, and how the networks are run then.
#: Held to AVX2 on a processor with AVX-512 OpenVINO compiles nothing: that row is torch's, beside torch's in AVX-512.
INSTRUCTIONS = {
    "AVX2": ("AVX2", "torch", "fp32"),
    "AVX-512": ("AVX512_CORE", "torch", "fp32"),
    "AVX-512, compiled": ("AVX512_CORE", "openvino", "fp32"),
    "AVX512-BF16": ("AVX512_CORE_BF16", "openvino", "bf16"),
    "all it has": ("DEFAULT", "auto", "auto"),
}
#: Different slices of a long phantom; those between two of them are blends of both, with noise of their own.
_DRAWN_SLICES = 150
_LOOKING_S = 0.05


@dataclass(frozen=True)
class Row:
    """One way to read one study.

    Args:
        way: In the table.
        study: Folder.
        arguments: After ``python``; ``OUT`` stands for a folder that is emptied before every run.
        environment: What is set beside the caller's own.
        cores: Cores that the process may run on; None for all.
    """

    way: str
    study: Path
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cores: int | None = None


@dataclass(frozen=True)
class Run:
    """What one run of a row took."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    stages: Mapping[str, float]


def jcs(study: Path, way: str, *more: str, cores: int | None = None, **environment: str) -> Row:
    """A row that runs the command as a user does."""
    arguments = ("-m", "jcs_ct", "diagnose", str(study), "-o", "OUT", "--segment", "always", "-q", *more)
    return Row(way, study, arguments, environment, cores)


def other(study: Path, way: str) -> Row:
    """A row that runs :mod:`one_way`."""
    return Row(way, study, (str(Path(__file__).with_name("one_way.py")), way.split(":")[0], str(study), "OUT"))


def measured(row: Row, scratch: Path) -> Run:
    """Run a row once.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as out:
        command = [sys.executable, *(out if argument == "OUT" else argument for argument in row.arguments)]
        if row.cores is not None:
            command = ["taskset", "-c", f"0-{row.cores - 1}", *command]
        log = Path(out) / "log"
        started = time.perf_counter()
        with log.open("wb") as stream:
            process = subprocess.Popen(command, env={**os.environ, **row.environment}, stdout=stream, stderr=stream)
            cpu_seconds, peak_mib = watched(process)
        seconds = time.perf_counter() - started
        if process.returncode != 0:
            said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"{row.way} ended with {process.returncode}: {said}")
        timings = json.loads((Path(out) / "run.json").read_text(encoding="utf-8"))["timings_s"]
    return Run(seconds, cpu_seconds, peak_mib, timings)


def watched(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """(CPU seconds, peak MiB of the proportional resident memory) of a process and its children until it ends."""
    cpu: dict[int, float] = {}
    peak = 0
    whole = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for one in (whole, *whole.children(recursive=True)):
                times = one.cpu_times()
                cpu[one.pid] = times.user + times.system
                # Pages that several processes share count once between them.
                total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # one ended meanwhile: the next look sees the rest
            total = 0
        peak = max(peak, total)
        time.sleep(_LOOKING_S)
    return sum(cpu.values()), peak / 2**20


def phantom(folder: Path, slices: int) -> Path:
    """A DICOM study of so many slices; beyond ``_DRAWN_SLICES`` others lie between those that were drawn."""
    from pydicom import dcmread

    from jcs_ct.phantom import PhantomConfig, make_phantom, write_dicom
    from jcs_ct.phantom.phantom_series import PADDING_HU

    drawn = min(slices, _DRAWN_SLICES)
    write_dicom(make_phantom(PhantomConfig(slices=drawn, seed=3)), folder / "drawn")
    sources = [dcmread(path) for path in sorted((folder / "drawn" / "dicom").glob("*.dcm"))]
    if slices == drawn:
        return folder / "drawn" / "dicom"
    study = folder / "study"
    study.mkdir()
    planes, noise = [source.pixel_array.copy() for source in sources], np.random.default_rng(0)
    first, last = (float(source.ImagePositionPatient[2]) for source in (sources[0], sources[-1]))
    step = (last - first) / (slices - 1)
    for number in range(slices):
        place = number * (drawn - 1) / (slices - 1)
        above = min(int(place), drawn - 2)
        source, near, far, share = sources[above], planes[above], planes[above + 1], place - above
        noisy = np.rint((1 - share) * near + share * far).astype(np.int16)
        noisy += noise.integers(-6, 7, near.shape, dtype=np.int16)
        source.PixelData = np.where(near <= PADDING_HU + 1024, near, noisy).astype("<i2").tobytes()
        x, y, _ = source.ImagePositionPatient
        source.ImagePositionPatient = [x, y, f"{first + number * step:.6g}"]
        source.SliceLocation = source.ImagePositionPatient[2]
        source.SliceThickness = source.SpacingBetweenSlices = f"{abs(step):.6g}"
        source.InstanceNumber = number + 1
        source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number + 1}"
        source.save_as(study / f"{number + 1:04d}.dcm")
    return study


def rows_of(parts: Sequence[str], study: Path, made: Callable[[int], Path], caches: Path) -> list[Row]:
    """The rows of the parts that were asked for."""
    rows: list[Row] = []
    if "study" in parts:
        rows += [jcs(study, "jcs"), jcs(study, "jcs, fp32", "--precision", "fp32")]
        rows += [other(study, way) for way in ("eager", "monai: U-Net, segments alone", "floor: pydicom and NumPy")]
    if "threads" in parts:
        rows += [jcs(study, f"jcs, {n} thread(s)", cores=n, OMP_NUM_THREADS=str(n)) for n in (1, 2)]
    if "slices" in parts:
        rows += [jcs(made(n), f"jcs, {n} slices") for n in (50, 300, 1200)]
    if "memory" in parts:
        rows.append(jcs(made(1200), "jcs, 1200 slices, --dicom", "--dicom"))
    if "instructions" in parts:
        for name, (isa, backend, precision) in INSTRUCTIONS.items():
            more = ("--backend", backend, "--precision", precision)
            pinned = {"ONEDNN_MAX_CPU_ISA": isa, "JCS_CT_CACHE": str(caches / isa)}
            pinned |= {"ATEN_CPU_CAPABILITY": "avx2"} if isa == "AVX2" else {}
            rows.append(jcs(study, f"jcs, {name}, {backend} {precision}", *more, **pinned))
    return rows


def in_rounds(rows: Sequence[Row], rounds: int, scratch: Path, kept: Path | None) -> dict[str, list[Run]]:
    """Every row once a round, each round beginning with another one; kept as JSON after every run."""
    found: dict[str, list[Run]] = {row.way: [] for row in rows}
    for number in range(rounds):
        first = number % len(rows)
        for row in [*rows[first:], *rows[:first]]:
            run = measured(row, scratch)
            found[row.way].append(run)
            print(f"round {number + 1}: {row.way}: {run.seconds:.1f} s, {run.cpu_seconds:.1f} CPU s", file=sys.stderr)
            if kept is not None:
                everything = {way: [vars(one) for one in runs] for way, runs in found.items()}
                kept.write_text(json.dumps({"runs": everything}, indent=2), encoding="utf-8")
    return found


def table(found: Mapping[str, Sequence[Run]]) -> str:
    """The medians in Markdown; the ratio is that of the first row, within the rounds."""
    lines = [
        "| | " + " | ".join(STAGES) + " | whole, s | CPU s | peak MiB | this / first row |",
        "|---" * (len(STAGES) + 5) + "|",
    ]
    reference = next(iter(found.values()))
    for way, runs in found.items():
        stages = [_median(runs, lambda run, stage=stage: run.stages.get(stage)) for stage in STAGES]
        ratio = statistics.median(run.seconds / other.seconds for run, other in zip(runs, reference, strict=True))
        whole = f"{statistics.median(run.seconds for run in runs):.1f}"
        spread = f"({min(run.seconds for run in runs):.1f}–{max(run.seconds for run in runs):.1f})"
        cpu, peak = _median(runs, lambda run: run.cpu_seconds), max(run.peak_mib for run in runs)
        lines.append(f"| {way} | {' | '.join(stages)} | {whole} {spread} | {cpu} | {peak:.0f} | {ratio:.2f} |")
    return "\n".join(lines)


def _median(runs: Sequence[Run], value: Callable[[Run], float | None]) -> str:
    values = [found for run in runs if (found := value(run)) is not None]
    return f"{statistics.median(values):.2f}" if values else ""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ("study", "threads", "slices", "instructions", "memory")
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=known, default=["study", "threads", "instructions"])
    parser.add_argument("--json", type=Path, default=None, help="Keep every measurement here.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        studies: dict[int, Path] = {}

        def made(slices: int) -> Path:
            if slices not in studies:
                studies[slices] = phantom(scratch / str(slices), slices)
            return studies[slices]

        rows = rows_of(given.parts, given.study or made(133), made, scratch / "caches")
        for settings in {json.dumps(dict(row.environment), sort_keys=True) for row in rows}:
            warm = next(row for row in rows if json.dumps(dict(row.environment), sort_keys=True) == settings)
            measured(warm, scratch)  # networks are compiled and files are in the system's cache
        found = in_rounds(rows, given.rounds, scratch, given.json)
    from jcs_ct.evaluation.speed.timing_rounds import machine_facts  # imports torch, which no row should wait for

    facts = machine_facts()
    print(json.dumps(facts, indent=2), table(found), sep="\n\n")
    if given.json is not None:
        everything: dict[str, Any] = {way: [vars(run) for run in runs] for way, runs in found.items()}
        given.json.write_text(json.dumps({"machine": facts, "runs": everything}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
