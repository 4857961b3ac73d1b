"""Less work for the same answer: what each step does to time and to the answer, with the networks in the box.

    python benchmarks/less_work.py [--slices 12] [--rounds 5] [--manifest slices.csv --source ct100] [--phantoms 4]

Steps, each held against the one that it is built on (``after``) and against ``eager``:

eager            slice by slice, fp32, all side outputs, the map by a backward pass
torch            the engine: folded, channels-last, one side output, the map in closed form, batches
openvino         the same graph on OpenVINO, fp32
lung slices      slices without lung are classified, not segmented
int8             networks that `jcs export openvino --precision int8` left in the cache; the step is left out without
crop to lungs    the preprocessing cuts to the lungs, at about the same pixel size (--crop-size), untrained for it

CPU seconds are of phantom slices, preparation and the way back to the slice's grid included; rounds are interleaved
and a ratio is the median of the ratios within each round. With --manifest, infected slices of its val split take
every step: mean Dice on the slice's own grid, and slice verdicts that differ from eager's. With --phantoms, whole
studies: patient verdicts, infected slices, and lesion masks beside those of ``torch``. One JSON document is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backends import SETTINGS, dice, settings_here
from jcs_ct.checkpoints import Models, load_models
from jcs_ct.data.manifest import ManifestRow, read_hu, read_manifest, read_mask
from jcs_ct.engine import Execution, ReadyNetwork, classify_slices, segment_slices
from jcs_ct.evaluation.speed.plain_way import eager_lesions, eager_probability, plain_copy
from jcs_ct.evaluation.speed.study_timing import (
    TimedNetworks,
    TimedStudy,
    eager_method,
    engine_method,
    phantom_study,
)
from jcs_ct.evaluation.speed.timing_rounds import TimedWay, interleaved, machine_facts
from jcs_ct.imaging.study import Study
from jcs_ct.lungs import lung_slices, segment_lungs
from jcs_ct.phantom import PhantomConfig, make_phantom
from jcs_ct.reading.diagnosis import diagnose

CPU = torch.device("cpu")
#: Of one slice: probability of infection and (rows, columns) probability of lesion.
Answer = tuple[float, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Step:
    """One way to run a study.

    Args:
        name: In the table.
        after: The step that it is built on; None for the first.
        models: With the step's preprocessing.
        execution: None runs eagerly.
        skips: Whether slices without lung are left out of the segmentation.
    """

    name: str
    after: str | None
    models: Models
    execution: Execution | None
    skips: bool = True

    @property
    def networks(self) -> TimedNetworks:
        """For the timing helpers."""
        return TimedNetworks(self.name, self.models.classifier, self.models.segmenter)

    def method(self, study: TimedStudy, with_lung: TimedStudy) -> TimedWay:
        """What is timed."""
        if self.execution is None:
            return replace(eager_method(self.networks, study, device=CPU), name=self.name)
        whole = engine_method(self.networks, study, self.execution, name=self.name)
        if not self.skips:
            return whole
        fewer = engine_method(self.networks, with_lung, self.execution)
        return TimedWay(self.name, {**whole.stages, "segment": fewer.stages["segment"]})

    def answers(self, slices: Sequence[NDArray[np.float32]]) -> list[Answer]:
        """Of single slices, (rows, columns) HU each."""
        classifier, segmenter = self.models.classifier, self.models.segmenter
        if self.execution is None:
            plain = plain_copy(classifier.network, CPU), plain_copy(segmenter.network, CPU)
            return [
                (eager_probability(plain[0], classifier, hu), eager_lesions(plain[1], segmenter, hu)) for hu in slices
            ]
        return [
            (
                classify_slices(classifier, hu[None], [0], execution=self.execution)[0].probability,
                next(segment_slices(segmenter, hu[None], [0], execution=self.execution))[1],
            )
            for hu in slices
        ]


def cut_to_lungs(models: Models, size: int) -> Models:
    """The same weights behind a preprocessing that cuts to the lungs."""

    def cut(ready: ReadyNetwork) -> ReadyNetwork:
        return replace(ready, preprocessor=replace(ready.preprocessor, region="lungs", size=size))

    return replace(models, classifier=cut(models.classifier), segmenter=cut(models.segmenter))


def quantised(models: Models) -> list[str]:
    """The tasks whose networks the cache has in int8; the others run in fp32 there."""
    return [ready.task for ready in (models.classifier, models.segmenter) if "openvino int8" in settings_here(ready)]


def steps_here(models: Models, crop_size: int) -> list[Step]:
    """The steps that this machine has what it takes for."""
    exact, fast, int8 = SETTINGS["torch fp32"], SETTINGS["openvino fp32"], SETTINGS["openvino int8"]
    steps = [
        Step("eager", None, models, None, skips=False),
        Step("torch", "eager", models, exact, skips=False),
        Step("openvino", "torch", models, fast, skips=False),
        Step("lung slices", "openvino", models, fast),
        Step("crop to lungs", "lung slices", cut_to_lungs(models, crop_size), fast),
    ]
    if quantised(models):
        steps.append(Step("int8", "lung slices", models, int8))
    return steps


def timings(steps: Sequence[Step], slices: int, rounds: int) -> dict[str, Any]:
    """Interleaved seconds and ratios of every step, on one phantom."""
    study = phantom_study(slices)
    with_lung = np.flatnonzero(lung_slices(segment_lungs(study.hu, spacing_mm=None), None))
    fewer = TimedStudy(study.hu, tuple(index for index in study.indices if index in with_lung))
    methods = [step.method(study, fewer) for step in steps]
    interleaved(methods, rounds=1)  # compiles and warms up
    measured = interleaved(methods, rounds=rounds)

    def seconds(name: str, stage: str | None = None) -> list[float]:
        stages = measured[name] if stage is None else {stage: measured[name][stage]}
        return [sum(one.cpu_seconds for one in runs) for runs in zip(*stages.values(), strict=True)]

    def times(slow: str, fast: str, stage: str | None = None) -> float:
        pairs = zip(seconds(slow, stage), seconds(fast, stage), strict=True)
        return round(statistics.median(one / other for one, other in pairs), 2)

    return {
        "slices": len(study.indices),
        "slices_with_lung": len(fewer.indices),
        "steps": {
            step.name: {
                "after": step.after,
                "cpu_ms_a_slice": [
                    round(1e3 * f(seconds(step.name)) / slices, 1) for f in (min, statistics.median, max)
                ],
                "times_after": times(step.after or step.name, step.name),
                "times_eager": times(steps[0].name, step.name),
                "times_eager_by_stage": {
                    stage: times(steps[0].name, step.name, stage) for stage in ("classify", "segment")
                },
            }
            for step in steps
        },
    }


def slice_answers(steps: Sequence[Step], rows: Sequence[ManifestRow]) -> dict[str, Any]:
    """Every step over infected slices with masks, on their own grid, beside the first step."""
    point = steps[0].models.operating_point
    slices = [read_hu(row.path, row.window) for row in rows]
    truths = [read_mask(row.mask) > 0 for row in rows if row.mask is not None]
    report: dict[str, Any] = {"slices": len(rows)}
    first: list[Answer] = []
    for step in steps:
        if step.name == "lung slices":  # what a single slice says does not depend on it
            continue
        answers = step.answers(slices)
        first = first or answers
        own, eager = ([dice(p >= point.lesion_probability, t) for (_, p), t in zip(found, truths, strict=True)]
                      for found in (answers, first))  # fmt: skip
        verdicts = [[p >= point.slice_probability for p, _ in found] for found in (answers, first)]
        report[step.name] = {
            "mean_dice": round(float(np.mean(own)), 5),
            "mean_dice_change": round(float(np.mean(own) - np.mean(eager)), 5),
            "largest_dice_change": round(float(np.abs(np.subtract(own, eager)).max()), 5),
            "slice_verdicts_changed": sum(a != b for a, b in zip(*verdicts, strict=True)),
            "largest_difference": {
                "classify": max(abs(a - b) for (a, _), (b, _) in zip(answers, first, strict=True)),
                "segment": float(max(np.abs(a - b).max() for (_, a), (_, b) in zip(answers, first, strict=True))),
            },
        }
    return report


def study_answers(steps: Sequence[Step], count: int) -> dict[str, Any]:
    """Whole phantoms, every other one without lesions; ``jcs diagnose`` skips slices without lung in all of them."""
    report: dict[str, Any] = {}
    for number in range(count):
        config = PhantomConfig(slices=24, lesions=8, seed=500 + number, negative=number % 2 == 1, size=256)
        study = Study(volume=make_phantom(config).volume, identifier="0" * 16, kind="nifti", paths=())
        reference: NDArray[np.bool_] | None = None
        for step in steps:
            if step.execution is None or step.name == "lung slices":
                continue
            found = diagnose(study, step.models, execution=step.execution, segment="always")
            lesions = found.lesion_labels > 0
            reference = lesions if reference is None else reference
            cut = step.models.operating_point.slice_probability
            report.setdefault(step.name, []).append(
                {
                    "verdict": str(found.verdict),
                    "infected_slices": found.positive_slice_count,
                    "verdicts_that_skipping_overrules": sum(
                        one.infection_probability >= cut and not one.has_lung for one in found.slices
                    ),
                    "dice_with_torch": round(dice(lesions, reference), 5),
                }
            )
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="compact")
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crop-size", type=int, default=176)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--source", help="of the manifest's val split: this source alone")
    parser.add_argument("--phantoms", type=int, default=0)
    arguments = parser.parse_args()
    models = load_models(arguments.models)
    steps = steps_here(models, arguments.crop_size)
    report: dict[str, Any] = {
        "machine": machine_facts(),
        "rounds": arguments.rounds,
        "int8_networks": quantised(models),
    }
    if arguments.rounds:
        report["time"] = timings(steps, arguments.slices, arguments.rounds)
    if arguments.manifest:
        rows = [row for row in read_manifest(arguments.manifest).split("val") if row.mask is not None and row.label]
        report["val slices"] = slice_answers(steps, [row for row in rows if arguments.source in (None, row.source)])
    if arguments.phantoms:
        report["phantoms"] = study_answers(steps, arguments.phantoms)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
