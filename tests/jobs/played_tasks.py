"""Tasks that do to their process what studies and libraries do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from jcs_ct.errors import GateCode, OutputError, StudyError

_CALLS = 0


def write(arguments, progress):
    """Write one file; say how many tasks this process has done."""
    global _CALLS
    _CALLS += 1
    progress("read", 0, 2)
    progress("read", 2, 2)
    print("what a library prints")
    Path(arguments["output"], "answer.txt").write_text(arguments.get("text", "yes"))
    return {"calls": _CALLS, "pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")}


def refuse(arguments, progress):
    raise StudyError(GateCode.GAP, "a slice is missing")


def cannot_write(arguments, progress):
    raise OutputError("a file is in the way (OUTPUT_UNWRITABLE)")


def fill_the_disk(arguments, progress):
    raise OutputError("the disk is full (DISK_FULL)", code="DISK_FULL")


def fail_with_a_name(arguments, progress):
    raise ValueError("PatientName is DOE^JANE")


def no_memory(arguments, progress):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")


def eat_memory(arguments, progress):
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1 << 10)) * (8 << 10))
        time.sleep(0.01)


def eat_memory_in_a_grandchild(arguments, progress):
    code = "import time\nx = bytearray(b'x' * (400 << 20))\ntime.sleep(600)"
    subprocess.run([sys.executable, "-c", code], check=True)


def hang(arguments, progress):
    while True:
        progress("hang", 0, 1)
        time.sleep(0.05)


def fall_silent(arguments, progress):
    progress("silent", 0, 1)
    time.sleep(600)


def die(arguments, progress):
    os.kill(os.getpid(), getattr(signal, arguments["signal"]))
    time.sleep(600)


def leave(arguments, progress):
    os._exit(7)


def wait_for(arguments, progress):
    """Note the process and a grandchild, then wait to be killed."""
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    place = Path(arguments["note"])
    place.with_suffix(".part").write_text(f"{os.getpid()} {grandchild.pid}")
    place.with_suffix(".part").rename(place)
    progress("waiting", 0, 1)
    time.sleep(600)


def write_slowly(arguments, progress):
    """Stages that a kill can meet; each is noted before it begins."""
    for stage in ("read", "classify", "report"):
        progress(stage, 0, 1)
        Path(arguments["output"], f"{stage}.txt").write_text(stage)
        time.sleep(arguments.get("seconds", 0.0))
    return {"stages": 3}
