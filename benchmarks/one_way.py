"""One other way to read a study, as a row of `speed_table.py`: seconds a stage into ``OUT/run.json``.

python benchmarks/one_way.py floor STUDY OUT      every file read with pydicom and NumPy: nothing is checked
python benchmarks/one_way.py eager STUDY OUT      read by jcs, then the networks in the box, slice by slice in fp32
python benchmarks/one_way.py monai STUDY OUT      read by jcs, then a MONAI U-Net (untrained) in batches
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def floor(study: Path) -> dict[str, float]:
    """What no reader of the folder can go below: files parsed, pixels decoded and rescaled."""
    from pydicom import dcmread

    def read() -> None:
        files = [dcmread(path) for path in sorted(study.rglob("*")) if path.is_file()]
        np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in files])

    return timed({"read": read})


def networks(study: Path, way: str) -> dict[str, float]:
    """Read, and the stages of a way that ``jcs_ct.evaluation.speed`` knows."""
    import torch

    from jcs_ct.checkpoints import load_models
    from jcs_ct.evaluation.speed.study_timing import TimedNetworks, TimedStudy, eager_method, peer_method
    from jcs_ct.imaging import open_study
    from jcs_ct.lungs import lung_slices, segment_lungs

    started = time.perf_counter()
    volume = open_study(study).volume
    seconds = {"read": time.perf_counter() - started}
    shown = np.flatnonzero(lung_slices(segment_lungs(volume.hu, spacing_mm=volume.spacing_mm), volume.spacing_mm))
    models, cpu = load_models(), torch.device("cpu")
    every = TimedStudy(volume.hu, tuple(range(len(volume.hu))))
    lungs = TimedStudy(volume.hu, tuple(int(index) for index in shown))
    if way == "monai":
        return seconds | timed(peer_method(models.segmenter, lungs, device=cpu, batch_size=8).stages)
    both = TimedNetworks("compact", models.classifier, models.segmenter)
    whole, of_lungs = (eager_method(both, one, device=cpu).stages for one in (every, lungs))
    # As jcs does: every slice is classified, those with lung are mapped and segmented.
    return seconds | timed({"classify": whole["classify"], "map": of_lungs["map"], "segment": of_lungs["segment"]})


def timed(stages: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each."""
    seconds = {}
    for name, run in stages.items():
        started = time.perf_counter()
        run()
        seconds[name] = time.perf_counter() - started
    return seconds


def main() -> None:
    """Run it and write what it took."""
    way, study, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    seconds = floor(study) if way == "floor" else networks(study, way)
    (out / "run.json").write_text(json.dumps({"timings_s": seconds}), encoding="utf-8")


if __name__ == "__main__":
    main()
