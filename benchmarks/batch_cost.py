"""What a study costs a batch: CPU seconds and bytes by stage.

    python benchmarks/batch_cost.py --slices 40 80

Phantoms of 512 x 512 pixels are read as `jcs batch` reads them, in this process, with one thread. A stage's CPU
seconds are those of this process and its decoding children. A straight line through the two lengths gives what a
study costs and what each slice adds. CPU seconds, because the clock of a busy machine says little.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path

from jcs_ct.batch.batch_reading import BatchOptions, read_for_batch
from jcs_ct.batch.local_studies import find_in_folder
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.phantom.phantom_series import write_dicom

_WARM = PhantomConfig(slices=6, size=64, seed=9)


def cpu_seconds() -> float:
    """Of this process and of all its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class StageCpu:
    """CPU seconds from a stage's first word to the next stage's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._began = "", cpu_seconds()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Progress, as a task tells it."""
        if stage != self._stage:
            now = cpu_seconds()
            if self._stage:
                self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._began
            self._stage, self._began = stage, now


def measure(config: PhantomConfig) -> dict[str, object]:
    """One study, read once: CPU seconds by stage, bytes in and out."""
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name, "source"), Path(name, "output")
        write_dicom(make_phantom(config), source)
        output.mkdir()
        before = cpu_seconds()
        (study,) = find_in_folder(source / "dicom")
        clock = StageCpu()
        found = clock.seconds
        found["find"] = cpu_seconds() - before
        arguments = {"study": study.to_request(), "options": BatchOptions().to_arguments(), "output": str(output)}
        facts = read_for_batch(arguments, clock)
        clock("end", 0, 0)
        sizes = {path.name: path.stat().st_size for path in output.iterdir()}
        return {
            "slices": config.slices,
            "verdict": facts["verdict"],
            "cpu_seconds": {stage: round(seconds, 3) for stage, seconds in found.items()},
            "input_bytes": study.byte_count,
            "output_bytes": sum(sizes.values()),
            "files": sizes,
        }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, nargs=2, default=[40, 80])
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    measure(_WARM)  # networks are loaded and compiled once a process
    for negative in (False, True):
        found = [
            measure(PhantomConfig(slices=slices, size=options.size, lesions=12, seed=3, negative=negative))
            for slices in options.slices
        ]
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
