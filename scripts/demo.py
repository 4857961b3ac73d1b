"""The main job end to end: two phantom studies as DICOM, diagnosed with the shipped weights, reports written."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

JCS = [sys.executable, "-m", "jcs_ct"]
STUDIES = {
    "positive": ["--seed", "11", "--lesions", "9"],
    "negative": ["--seed", "12", "--negative"],
}


def run(*arguments: str) -> str:
    """Run a `jcs` command, progress on the terminal, and return what it printed."""
    print(f"\n$ jcs {' '.join(arguments)}", flush=True)
    done = subprocess.run([*JCS, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"`jcs {arguments[0]}` ended with exit code {done.returncode}")
    return done.stdout


def main() -> int:
    """Make, diagnose, compare with the truth; 0 when both verdicts are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    parser.add_argument("--slices", type=int, default=60)
    options = parser.parse_args()
    started = time.perf_counter()
    right, report = True, ""
    for truth, settings in STUDIES.items():
        study, out = options.output / f"{truth}-study", options.output / f"{truth}-report"
        run("phantom", "-o", str(study), "--slices", str(options.slices), "--format", "dicom", *settings)
        answer = json.loads(run("diagnose", str(study / "dicom"), "-o", str(out), "--json", "--quiet"))
        right &= answer["verdict"] == truth
        print(
            f"truth {truth}, verdict {answer['verdict']}: {answer['positive_slice_count']} infected slices of "
            f"{answer['lung_slice_count']}, positive above {answer['positive_slice_threshold']}"
        )
        report = report or answer["report"]
    print(f"\n{'both verdicts are right' if right else 'A VERDICT IS WRONG'} ({time.perf_counter() - started:.0f} s)")
    print("Research use only, not a medical device.")
    print(f"report: {Path(report).resolve()}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
