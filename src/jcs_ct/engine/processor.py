"""What the processor multiplies fast, and how many threads are given, without importing torch."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"

#: Flag of Linux -> the name in which people know it; what networks gain from, the most first.
FEATURES = {
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "avx512_bf16": "AVX512-BF16",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX512",
    "avx2": "AVX2",
}


@cache
def cpu_flags() -> frozenset[str] | None:
    """The processor's flags as Linux states them; None on other systems and processors."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("flags")), None)
    return None if found is None else frozenset(found.partition(":")[2].split())


def cpu_features() -> tuple[str, ...] | None:
    """Names of :data:`FEATURES` that the processor has, the most useful first; None where that is not known."""
    flags = cpu_flags()
    return None if flags is None else tuple(name for flag, name in FEATURES.items() if flag in flags)


def cpu_multiplies_bf16() -> bool:
    """Whether the processor multiplies bf16 natively (AVX512-BF16 or AMX), so that it is faster than fp32."""
    flags = cpu_flags()
    if flags is not None:
        return "avx512_bf16" in flags or "amx_bf16" in flags
    import torch  # where the system does not say, torch finds out

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def thread_count() -> int:
    """Threads that networks may use: torch's number where torch is in use, else what torch would take.

    One setting (``OMP_NUM_THREADS``, ``torch.set_num_threads``) holds for every backend; without one it is the cores,
    hyperthreads not counted, that this process may run on.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(named) if named.isdecimal() and int(named) > 0 else cores()


def cores() -> int:
    """Cores that this process may run on, hyperthreads not counted; where the system does not say, those it has."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        try:
            siblings.add(Path(_TOPOLOGY.format(cpu)).read_text(encoding="ascii").strip())
        except OSError:
            siblings.add(str(cpu))
    return len(siblings)
