"""Time and memory measured so that they can be compared: interleaved rounds, their spread, and the machine."""

from __future__ import annotations

import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from jcs_ct.disk_space import GIB
from jcs_ct.engine import multiplies_bf16
from jcs_ct.evaluation.pages.tables import Cell
from jcs_ct.progress import CountProgress

_SAMPLING_S = 0.02


@dataclass(frozen=True)
class Measured:
    """One run of one thing.

    Args:
        seconds: On the clock.
        cpu_seconds: Of all threads of this process. On a machine that is shared it says what the clock cannot.
        peak_memory_mb: Largest resident memory of the process meanwhile, in MiB.
    """

    seconds: float
    cpu_seconds: float
    peak_memory_mb: float


@contextmanager
def measuring() -> Iterator[list[Measured]]:
    """The list gets one :class:`Measured` when the block is left without an error."""
    found: list[Measured] = []
    with _peak_memory() as peak_mib:
        started, cpu = time.perf_counter(), time.process_time()
        yield found
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    found.append(Measured(seconds, cpu_seconds, peak_mib[0]))


@contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """Resident memory is looked at fifty times a second: the highest value in MiB is the list's only entry."""
    process, ended = psutil.Process(), threading.Event()
    peak_mib = [process.memory_info().rss / 2**20]

    def watch() -> None:
        while not ended.wait(_SAMPLING_S):
            peak_mib[0] = max(peak_mib[0], process.memory_info().rss / 2**20)

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    thread.start()
    try:
        yield peak_mib
    finally:
        ended.set()
        thread.join()
        peak_mib[0] = max(peak_mib[0], process.memory_info().rss / 2**20)


@dataclass(frozen=True, eq=False)
class TimedWay:
    """Something that is measured in stages.

    Args:
        name: In tables.
        stages: By name, in the order they run in; a later one may use what an earlier one found.
    """

    name: str
    stages: Mapping[str, Callable[[], object]] = field(default_factory=dict)


#: TimedWay -> stage -> one measurement a round.
Rounds = Mapping[str, Mapping[str, Sequence[Measured]]]


def interleaved(methods: Sequence[TimedWay], *, rounds: int, progress: CountProgress | None = None) -> Rounds:
    """Every method once a round, each round beginning with another one.

    So whatever else the machine does falls on all of them, and ratios of one round can be trusted more than ratios
    of runs that were far apart.

    Raises:
        ValueError: no rounds, or two methods of one name.
    """
    if rounds < 1:
        raise ValueError(f"at least 1 round is needed, got {rounds}")
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise ValueError(f"methods need names of their own, got {', '.join(names)}")
    found: dict[str, dict[str, list[Measured]]] = {
        method.name: {stage: [] for stage in method.stages} for method in methods
    }
    for number in range(rounds):
        first = number % len(methods)
        for position, method in enumerate([*methods[first:], *methods[:first]]):
            for stage, run in method.stages.items():
                with measuring() as measured:
                    run()
                found[method.name][stage] += measured
            if progress is not None:
                progress(number * len(methods) + position + 1, rounds * len(methods))
    return found


def spread_cells(key: str, values: Sequence[float], *, scale: float = 1.0) -> dict[str, Cell]:
    """Median under ``key`` and the least and the largest value under ``<key>_low`` and ``<key>_high``."""
    found = (statistics.median(values), min(values), max(values))
    return {name: value * scale for name, value in zip((key, f"{key}_low", f"{key}_high"), found, strict=True)}


def machine_facts() -> dict[str, Any]:
    """What a time depends on: processor, its instructions, threads, memory (GiB), GPU, how busy the machine is."""
    cpu = torch.device("cpu")
    facts: dict[str, Any] = {
        "processor": _processor(),
        "logical_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_in_hardware": multiplies_bf16(cpu),
        "memory_gb": round(psutil.virtual_memory().total / GIB, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    facts["load_average"] = round(psutil.getloadavg()[0], 1)
    return facts


def _processor() -> str:
    """The processor's name where the system tells it."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def matmul_gflops(*, size: int = 1536, repeats: int = 5, dtype: torch.dtype = torch.float32) -> float:
    """The most GFLOP a second that square matrix products reach here: what a network is held against."""
    one = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).to(dtype)
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        one @ one
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times[1:]) / 1e9


def network_gflop(run: Callable[[Tensor], object], images: Tensor) -> float:
    """GFLOP of one call (a multiplication and an addition are two), counted by torch at its operators."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        run(images)
    return counter.get_total_flops() / 1e9
