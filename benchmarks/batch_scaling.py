"""How a batch scales over the cores of this machine, and what it saves over a command for each study.

    python benchmarks/batch_cohort.py cohort/ --studies 200
    python benchmarks/batch_scaling.py cohort/ --studies 200 --separate 100

The same studies are read by `jcs batch run` with each executor and number of workers, one thread a study, and some
of them by `jcs diagnose`, a command a study, one after the other. Rounds are interleaved; medians are printed. The
time of a batch is that of its whole command, the search for studies and the start of its engine included; "studies"
is the part from the first study to the last.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_JCS = [str(Path(sys.executable).with_name("jcs"))]


def places(cohort: Path, count: int) -> list[Path]:
    """The first study folders of a cohort."""
    found = sorted(folder for folder in cohort.glob("*/*") if folder.is_dir())[:count]
    if len(found) < count:
        raise SystemExit(f"{cohort} holds {len(found)} studies; give --studies {len(found)} or make more")
    return found


def batch(listed: Path, executor: str, workers: int) -> dict[str, float]:
    """One run of `jcs batch`: seconds of the command, and of the part in which studies were read."""
    with tempfile.TemporaryDirectory() as output:
        command = [*_JCS, "batch", "run", str(listed), "-o", output, "--json", "--study-gib", "2"]
        command += ["--executor", executor, "--workers", str(workers), "--threads", "1"]
        began = time.monotonic()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        wall = time.monotonic() - began
    return {"command": wall, "studies": float(json.loads(done.stdout)["seconds"])}


def separate(studies: list[Path]) -> dict[str, float]:
    """A command a study: seconds of the clock, and CPU seconds of all of them."""
    before, began = os.times(), time.monotonic()
    with tempfile.TemporaryDirectory() as output:
        for number, study in enumerate(studies):
            command = [*_JCS, "diagnose", str(study), "-o", str(Path(output, str(number)))]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"command": time.monotonic() - began, "cpu": cpu}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path, help="made by batch_cohort.py")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--separate", type=int, default=100, help="commands of their own")
    parser.add_argument("--executors", nargs="+", default=["local", "ray"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    studies = places(options.cohort, options.studies)
    ways = [(executor, workers) for executor in options.executors for workers in options.workers]
    found: dict[tuple[str, int], list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as name:
        listed = Path(name, "studies.csv")
        with listed.open("w", newline="") as stream:
            csv.writer(stream).writerows([["study"], *([str(one.absolute())] for one in studies)])
        for number in range(options.rounds):
            for way in ways:
                found[way].append(batch(listed, *way))
                print(f"round {number + 1}: {way} {found[way][-1]}", file=sys.stderr)
    alone = separate(studies[: options.separate]) if options.separate else None
    print("executor  workers  command s  studies s  studies a minute  s a study")
    for (executor, workers), rounds in found.items():
        command = statistics.median(one["command"] for one in rounds)
        reading = statistics.median(one["studies"] for one in rounds)
        each = reading / len(studies)
        print(f"{executor:<8}  {workers:>7}  {command:9.1f}  {reading:9.1f}  {60 / each:16.1f}  {each:9.3f}")
    if alone is not None:
        each, cpu = alone["command"] / options.separate, alone["cpu"] / options.separate
        print(f"separate  {options.separate} commands: {each:.3f} s and {cpu:.3f} CPU s a study")


if __name__ == "__main__":
    main()
