"""What the backends cost and what they change: ms a slice, and answers beside torch's in fp32.

    python benchmarks/backends.py [--models compact] [--rounds 7] [--batch 8] [--manifest ct100.csv --split val]

Every round runs each backend once, one after the other, so that what else the machine does falls on all of them;
printed are minimum, median and maximum of ms a slice, and the median of the ratio to plain eager torch in the same
round. ``eager`` is the network as it was trained (BatchNorm apart, all side outputs); ``torch`` is the engine's. int8
takes part where `jcs export openvino --precision int8` has put calibrated networks into the cache.

With --manifest, the split's slices go through every backend: mean Dice with the masks, its change against torch fp32,
and the classifier's verdicts that change at the operating point. --phantoms N does the same with whole studies.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jcs_ct.checkpoints import Models, load_models
from jcs_ct.data.datasets import prepare_slice
from jcs_ct.data.manifest import Manifest, read_manifest
from jcs_ct.engine import Execution, ReadyNetwork, runner_for
from jcs_ct.engine.execution import is_installed
from jcs_ct.imaging.study import Study
from jcs_ct.models.closed_form import probabilities
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.reading.diagnosis import diagnose

SETTINGS = {
    "torch fp32": Execution(device="cpu", backend="torch", precision="fp32"),
    "openvino fp32": Execution(device="cpu", backend="openvino", precision="fp32"),
    "onnxruntime fp32": Execution(device="cpu", backend="onnxruntime", precision="fp32"),
    "torch bf16": Execution(device="cpu", backend="torch", precision="bf16"),
    "openvino bf16": Execution(device="cpu", backend="openvino", precision="bf16"),
    "openvino int8": Execution(device="cpu", backend="openvino", precision="int8"),
}


def settings_here(ready: ReadyNetwork) -> dict[str, Execution]:
    """The settings that this machine has for a network."""
    installed = {name: execution for name, execution in SETTINGS.items() if is_installed(execution.backend)}
    return {
        name: execution
        for name, execution in installed.items()
        if execution.precision == "fp32" or runner_for(ready, execution).choice.precision == execution.precision
    }


def timings(ready: ReadyNetwork, batch: int, rounds: int) -> dict[str, Any]:
    """Interleaved ms a slice of every setting, on one batch of noise."""
    images = torch.randn(batch, *ready.input_shape, generator=torch.Generator().manual_seed(0))
    last = images.to(memory_format=torch.channels_last)

    def eager() -> None:
        with torch.inference_mode():
            ready.network(last)

    runs: dict[str, Callable[[], object]] = {"eager": eager}
    for name, execution in settings_here(ready).items():
        model = runner_for(ready, execution).model
        placed = model.place(images.numpy())
        runs[name] = lambda model=model, placed=placed: model(placed)
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if number > 0:  # the first warms up
                found[name].append(1e3 * (time.perf_counter() - started) / batch)
    return {
        name: {
            "ms_a_slice": [round(f(values), 1) for f in (min, statistics.median, max)],
            "times_eager": round(statistics.median(e / v for e, v in zip(found["eager"], values, strict=True)), 2),
        }
        for name, values in found.items()
    }


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Of two masks; 1 where both are empty."""
    total = int(found.sum() + truth.sum())
    return 2.0 * int((found & truth).sum()) / total if total else 1.0


def slice_answers(models: Models, manifest: Manifest) -> dict[str, Any]:
    """Every setting over a manifest's slices with masks, at the network's own resolution."""
    rows = [row for row in manifest if row.mask is not None and row.label == 1]
    report: dict[str, Any] = {"slices": len(rows)}
    point = models.operating_point
    for ready in (models.classifier, models.segmenter):
        samples = [prepare_slice(row, ready.preprocessor) for row in rows]
        images = [ready.preprocessor.normalise(grey.float() / 255.0)[None] for grey, _ in samples]
        truths = [mask[0].numpy() > 0 for _, mask in samples if mask is not None]
        exact: list[NDArray[np.float32]] = []
        for name, execution in settings_here(ready).items():
            model = runner_for(ready, execution).model
            outputs = [model(model.place(image.numpy()))[0] for image in images]
            if ready.task == "classifier":
                values = [probabilities(logits)[:, 1] for logits in outputs]
                exact = exact or values
                flipped = sum(
                    int((a >= point.slice_probability) != (b >= point.slice_probability))
                    for a, b in zip(np.concatenate(values), np.concatenate(exact), strict=True)
                )
                facts = {"slice_verdicts_changed": flipped}
            else:
                values = [probability[0, 0] for probability in outputs]
                exact = exact or values
                cut = point.lesion_probability
                own = [dice(value >= cut, truth) for value, truth in zip(values, truths, strict=True)]
                reference = [dice(value >= cut, truth) for value, truth in zip(exact, truths, strict=True)]
                facts = {
                    "mean_dice": round(float(np.mean(own)), 5),
                    "mean_dice_change": round(float(np.mean(own) - np.mean(reference)), 5),
                    "largest_dice_change": round(float(np.abs(np.subtract(own, reference)).max()), 5),
                }
            facts["largest_difference"] = float(max(np.abs(a - b).max() for a, b in zip(values, exact, strict=True)))
            report[f"{ready.task}, {name}"] = facts
    return report


def study_answers(models: Models, count: int) -> dict[str, Any]:
    """Verdict, infected slices and lesion volume of whole phantoms, every other one without lesions."""
    report: dict[str, Any] = {}
    for number in range(count):
        config = PhantomConfig(slices=24, lesions=8, seed=500 + number, negative=number % 2 == 1, size=256)
        study = Study(volume=make_phantom(config).volume, identifier="0" * 16, kind="nifti", paths=())
        exact: NDArray[np.bool_] | None = None
        for name, execution in settings_here(models.segmenter).items():
            found = diagnose(study, models, execution=execution, segment="always")
            lesions = found.lesion_labels > 0
            exact = lesions if exact is None else exact
            report.setdefault(name, []).append(
                {
                    "verdict": str(found.verdict),
                    "infected_slices": found.positive_slice_count,
                    "volume_ml": round(found.burden.opacification_volume_ml or 0.0, 2) if found.burden else None,
                    "dice_with_torch": round(dice(lesions, exact), 5),
                }
            )
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="compact")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--phantoms", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=SETTINGS, help="these settings beside torch fp32")
    arguments = parser.parse_args()
    if arguments.only is not None:
        for name in set(SETTINGS) - {"torch fp32", *arguments.only}:
            del SETTINGS[name]
    models = load_models(arguments.models)
    report: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "batch": arguments.batch,
        "rounds": arguments.rounds,
    }
    if arguments.rounds:
        for ready in (models.classifier, models.segmenter):
            report[ready.task] = timings(ready, arguments.batch, arguments.rounds)
    if arguments.manifest:
        report["slices"] = slice_answers(models, read_manifest(arguments.manifest).split(arguments.split))
    if arguments.phantoms:
        report["phantoms"] = study_answers(models, arguments.phantoms)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
