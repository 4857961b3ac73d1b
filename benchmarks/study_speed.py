"""Where the seconds of a study go, how they grow, and how much memory it takes.

    python benchmarks/study_speed.py stages [STUDY] [--slices 300] [--rounds 3]
    python benchmarks/study_speed.py scaling [--slices 50 100 300 600 1200] [--threads 1 2]
    python benchmarks/study_speed.py work
    python benchmarks/study_speed.py command STUDY [--dicom]

stages   read, lungs, classify, map, segment, findings, write of a whole study (a phantom when none is given).
scaling  the networks over slices and threads; slices are phantoms in memory, 24 different ones, repeated.
work     GFLOP a slice of every network, the GFLOP/s it reaches, and the share of what matrix products reach here.
command  `jcs diagnose STUDY` as a user runs it: seconds, CPU seconds and peak memory, by stage and of the whole,
         decoding children included. A stage is the one that the command last said something of.

Every command prints one JSON document with the machine and its load. CPU seconds stand beside those of the clock: on
a machine that is shared the clock also counts what others do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import psutil
import torch

from jcs_ct.checkpoints import load_models
from jcs_ct.engine import Execution, ReadyNetwork
from jcs_ct.evaluation.speed.study_timing import TimedNetworks, engine_method, phantom_study, untrained_networks
from jcs_ct.evaluation.speed.timing_rounds import (
    Measured,
    TimedWay,
    interleaved,
    machine_facts,
    matmul_gflops,
    measuring,
    network_gflop,
)
from jcs_ct.imaging import open_study
from jcs_ct.models.segmenter import Segmenter
from jcs_ct.phantom import PhantomConfig, make_phantom, write_dicom
from jcs_ct.reading.diagnosis import diagnose
from jcs_ct.reporting import write_report

_LOOKING_S = 0.25


def compact() -> TimedNetworks:
    """The networks in the box."""
    models = load_models("compact")
    return TimedNetworks("compact", models.classifier, models.segmenter)


def shown(measured: Sequence[Measured]) -> dict[str, float]:
    """Median, extremes and CPU seconds of some runs."""
    seconds = [one.seconds for one in measured]
    return {
        "seconds": round(statistics.median(seconds), 3),
        "least": round(min(seconds), 3),
        "most": round(max(seconds), 3),
        "cpu_seconds": round(statistics.median(one.cpu_seconds for one in measured), 3),
        "peak_memory_mb": round(max(one.peak_memory_mb for one in measured)),
    }


def stages(study: Path | None, slices: int, rounds: int) -> dict[str, Any]:
    """Seconds of every stage of a whole study."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if study is None:
            write_dicom(make_phantom(PhantomConfig(slices=slices, seed=3)), folder)
            study = folder / "dicom"
        models = load_models("compact")
        runs: dict[str, list[Measured]] = {}
        for _ in range(rounds):
            with measuring() as read:
                opened = open_study(study)
            with measuring() as diagnosed:
                result = diagnose(opened, models, execution=Execution(), segment="always")
            with measuring() as written:
                write_report(opened, result, folder / "report")
            for name, seconds in result.timings_s.items():
                runs.setdefault(name, []).append(Measured(seconds, 0.0, diagnosed[0].peak_memory_mb))
            for name, one in (("read", read), ("diagnose", diagnosed), ("write", written)):
                runs.setdefault(name, []).extend(one)
        found = {name: shown(measured) for name, measured in runs.items()}
        for name in result.timings_s:  # the library's own clock; CPU seconds are known of the whole only
            del found[name]["cpu_seconds"]
        return {"slices": opened.volume.shape[0], "segment": "always", "stages": found}


def scaling(slices: Sequence[int], threads: Sequence[int], rounds: int) -> dict[str, Any]:
    """The networks' seconds over slices and threads."""
    networks, found = compact(), []
    for count in threads:
        torch.set_num_threads(count)
        methods = [engine_method(networks, phantom_study(n), Execution(), name=str(n)) for n in slices]
        measured = interleaved(methods, rounds=rounds)
        for name, by_stage in measured.items():
            for stage, runs in by_stage.items():
                found.append({"threads": count, "slices": int(name), "stage": stage, **shown(runs)})
    return {"networks": networks.name, "rows": found}


def work(batch: int, rounds: int) -> dict[str, Any]:
    """GFLOP, GFLOP/s and the share of the measured peak, of the networks in the box and of the paper's."""
    timed = [ready for networks in (compact(), untrained_networks("paper")) for ready in networks.both]
    return {"rows": [_work_of(ready, 1 if ready.preset == "paper" else batch, rounds) for ready in timed]}


def _work_of(ready: ReadyNetwork, batch: int, rounds: int) -> dict[str, Any]:
    size = ready.preprocessor.size
    images = torch.randn(batch, ready.preprocessor.channels, size, size).to(memory_format=torch.channels_last)
    network = ready.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = cast(Segmenter, network).predict if ready.task == "segmenter" else network

    def forward() -> None:
        with torch.inference_mode():
            run(images)

    forward()
    peaks: list[float] = []
    methods = [
        TimedWay("network", {"run": forward}),
        TimedWay("peak", {"run": lambda: peaks.append(matmul_gflops())}),
    ]
    measured = interleaved(methods, rounds=rounds)
    seconds = statistics.median(one.seconds for one in measured["network"]["run"])
    gflop = network_gflop(run, images)
    return {
        "network": ready.name,
        "pixels": size,
        "batch": batch,
        "gflop_a_slice": round(gflop / batch, 2),
        "ms_a_slice": round(1000 * seconds / batch, 1),
        "gflop_a_second": round(gflop / seconds, 1),
        "matmul_gflop_a_second": round(max(peaks), 1),
        "share_of_peak_percent": round(100 * gflop / seconds / max(peaks), 1),
    }


def command(study: Path, *, dicom: bool) -> dict[str, Any]:
    """`jcs diagnose` in a process of its own, watched from outside."""
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["diagnose", str(study), "-o", scratch, "--json", "--segment", "always"]
        arguments += ["--dicom"] if dicom else []
        started = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "jcs_ct", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            stages = _watched(process)
        seconds = time.perf_counter() - started
        record = Path(scratch) / "run.json"
        run = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return {
        "exit_code": process.returncode,
        "slices": run.get("inputs", [{}])[0].get("slice_count"),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(sum(stage["cpu_seconds"] for stage in stages.values()), 1),
        "peak_memory_mb_with_children": round(max(stage["peak_memory_mb"] for stage in stages.values())),
        "stages": {name: {key: round(value, 1) for key, value in stage.items()} for name, stage in stages.items()},
        "timings_s": run.get("timings_s"),
    }


def _watched(process: subprocess.Popen[str]) -> dict[str, dict[str, float]]:
    """Seconds, CPU seconds and peak memory of a `jcs diagnose --json`, by the stage it last told of."""
    current = ["start"]

    def listen() -> None:
        for line in process.stderr or ():
            if line.startswith("{"):
                told = json.loads(line)
                current[0] = told["stage"] if told["done"] < told["total"] else f"after {told['stage']}"

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    watched, stages, known = psutil.Process(process.pid), dict[str, dict[str, float]](), {process.pid: 0.0}
    then = time.perf_counter()
    while process.poll() is None:
        stage = stages.setdefault(current[0], {"seconds": 0.0, "cpu_seconds": 0.0, "peak_memory_mb": 0.0})
        before = sum(known.values())
        stage["peak_memory_mb"] = max(stage["peak_memory_mb"], _looked_at(watched, known))
        stage["cpu_seconds"] += sum(known.values()) - before
        now = time.perf_counter()
        stage["seconds"] += now - then
        then = now
        time.sleep(_LOOKING_S)
    listener.join()
    return stages


def _looked_at(process: psutil.Process, cpu_seconds: dict[int, float]) -> float:
    """Resident MB of a process and its children now; their CPU seconds until now are kept by process."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            with one.oneshot():
                times = one.cpu_times()
                cpu_seconds[one.pid] = times.user + times.system
                total += one.memory_info().rss
    except psutil.NoSuchProcess:  # one of them ended meanwhile: the next look sees the rest
        return 0.0
    return total / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("stages", "scaling", "work", "command"))
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("--slices", type=int, nargs="+", default=None)
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dicom", action="store_true")
    given = parser.parse_args()
    facts = machine_facts()
    if given.what == "stages":
        found = stages(given.study, (given.slices or [300])[0], given.rounds)
    elif given.what == "scaling":
        found = scaling(given.slices or [50, 100, 300, 600, 1200], given.threads, given.rounds)
    elif given.what == "work":
        found = work(given.batch, given.rounds)
    elif given.study is None:
        parser.error("command needs a study")
    else:
        found = command(given.study, dicom=given.dicom)
    print(json.dumps({"machine": facts, **found}, indent=2))


if __name__ == "__main__":
    main()
