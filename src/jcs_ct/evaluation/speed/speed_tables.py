"""Table II and its figure from measured rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from jcs_ct.engine import Execution, execution_facts
from jcs_ct.evaluation.pages.figures import stacked_bars
from jcs_ct.evaluation.pages.page import Evaluation
from jcs_ct.evaluation.pages.paper_results import TABLE_II
from jcs_ct.evaluation.pages.tables import MEASURED, Cell, Column, Table
from jcs_ct.evaluation.speed.study_timing import (
    STAGES,
    TimedNetworks,
    TimedStudy,
    eager_method,
    engine_method,
    largest_differences,
    peer_method,
)
from jcs_ct.evaluation.speed.timing_rounds import Measured, Rounds, TimedWay, interleaved, machine_facts, spread_cells
from jcs_ct.progress import Progress, silent

_SECONDS = tuple(Column(f"{stage}_s", f"{stage}, s", interval=True) for stage in STAGES)
_COLUMNS = (
    Column("method", "Method"),
    Column("origin", "Origin"),
    *_SECONDS,
    Column("infected_s", "infected study, s", interval=True),
    Column("uninfected_s", "uninfected study, s", interval=True),
    Column("infected_cpu_s", "infected study, CPU s"),
    Column("infected_ratio", "eager / this, infected", interval=True),
    Column("uninfected_ratio", "eager / this, uninfected", interval=True),
    Column("peak_memory_mb", "peak memory, MiB", digits=0),
    Column("logits_difference", "largest difference to eager: logits", digits=6),
    Column("classify_difference", "probability of infection", digits=6),
    Column("map_difference", "map", digits=6),
    Column("segment_difference", "probability of lesion", digits=6),
)


def evaluate_speed(
    networks: Sequence[TimedNetworks],
    study: TimedStudy,
    *,
    slices: int,
    execution: Execution,
    rounds: int,
    peer: bool,
    progress: Progress,
) -> Evaluation:
    """Measure and tabulate.

    Args:
        networks: What is timed, by ``jcs`` and by the plain way.
        study: Slices to be timed with.
        slices: Of the study that the table is for. Where ``study`` has fewer, times are scaled linearly, and said so.
        execution: Of ``jcs``.
        rounds: Each method runs once a round.
        peer: Whether a MONAI U-Net runs beside the first networks.
        progress: Called with what runs, slices done, slices there are.
    """
    few = replace(study, indices=study.indices[: execution.batch_size])
    # What is done once only (allocation, choice of kernels) is in no method's times.
    for method in _methods(networks, few, execution, peer=peer):
        for stage in method.stages.values():
            stage()
    methods = _methods(networks, study, execution, peer=peer, progress=progress)
    ours, plain = methods[: len(networks)], methods[len(networks) : 2 * len(networks)]
    found = interleaved(methods, rounds=rounds, progress=lambda done, total: progress("rounds", done, total))
    scale = slices / len(study.indices)
    rows = []
    for one, jcs, eager in zip(networks, ours, plain, strict=True):
        differences = largest_differences(one, study, execution)
        rows.append(_row(jcs, found, found[eager.name], scale=scale, differences=differences))
        rows.append(_row(eager, found, found[eager.name], scale=scale))
    rows += [_row(method, found, None, scale=scale) for method in methods[2 * len(networks) :]]
    return Evaluation(
        title=f"Speed: a study of {slices} slices",
        tables=(_table_ii(rows, slices), _rounds_table(found, len(study.indices))),
        figures=_figures(rows),
        facts=_facts(networks, execution, rounds=rounds, measured=len(study.indices)),
        warnings=tuple(_warnings(networks, slices, len(study.indices))),
    )


def _methods(
    networks: Sequence[TimedNetworks],
    study: TimedStudy,
    execution: Execution,
    *,
    peer: bool,
    progress: Progress = silent,
) -> list[TimedWay]:
    """All that is timed: ``jcs`` with every networks, then the plain way with every networks, then the peer."""
    device = execution.torch_device
    methods = [engine_method(one, study, execution, progress=progress) for one in networks]
    methods += [eager_method(one, study, device=device, progress=progress) for one in networks]
    if peer:
        methods.append(
            peer_method(
                networks[0].segmenter,
                study,
                device=device,
                batch_size=execution.batch_size,
                progress=partial(progress, "MONAI U-Net"),
            )
        )
    return methods


def _row(
    method: TimedWay,
    found: Rounds,
    reference: Mapping[str, Sequence[Measured]] | None,
    *,
    scale: float,
    differences: Mapping[str, float] | None = None,
) -> dict[str, Cell]:
    stages = found[method.name]
    seconds = {stage: [one.seconds for one in measured] for stage, measured in stages.items()}
    row: dict[str, Cell] = {"method": method.name, "origin": MEASURED}
    for stage, values in seconds.items():
        row |= spread_cells(f"{stage}_s", values, scale=scale)
    row["peak_memory_mb"] = max(one.peak_memory_mb for measured in stages.values() for one in measured)
    if set(stages) == set(STAGES):
        whole = _whole(seconds)
        row |= spread_cells("infected_s", whole, scale=scale)
        row |= spread_cells("uninfected_s", seconds["classify"], scale=scale)
        cpu = _whole({stage: [one.cpu_seconds for one in measured] for stage, measured in stages.items()})
        row["infected_cpu_s"] = statistics.median(cpu) * scale
        if reference is not None:
            plain = {stage: [one.seconds for one in measured] for stage, measured in reference.items()}
            row |= spread_cells("infected_ratio", _ratios(_whole(plain), whole))
            row |= spread_cells("uninfected_ratio", _ratios(plain["classify"], seconds["classify"]))
    for stage, value in (differences or {}).items():
        row[f"{stage}_difference"] = value
    return row


def _whole(seconds: Mapping[str, Sequence[float]]) -> list[float]:
    """Seconds of all stages, round by round."""
    return [sum(one) for one in zip(*seconds.values(), strict=True)]


def _ratios(plain: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Plain over ours within each round."""
    return [one / other for one, other in zip(plain, ours, strict=True)]


def _table_ii(rows: Sequence[Mapping[str, Cell]], slices: int) -> Table:
    return Table(
        "table_ii",
        f"Table II: seconds a study of {slices} slices, median [least, most] of the rounds",
        _COLUMNS,
        (*rows, *TABLE_II),
        notes=(
            "infected: every slice is classified, mapped and segmented; uninfected: classified. From the slices in "
            "memory to the results on their grid; reading and the report are not in it.",
            "jcs: the map's closed form is in the classifier's pass; 'map' brings it to the slices' grid.",
            "eager: the same networks slice by slice in fp32, the map by a backward pass, all side outputs.",
            "Ratios are taken within a round. Peak memory is the whole process's, all networks loaded.",
            "The paper's times are of one GPU, and of its own machine; slices without lung are not skipped here.",
        ),
    )


def _rounds_table(found: Rounds, slices: int) -> Table:
    rows: list[dict[str, Cell]] = []
    for method, stages in found.items():
        for stage, measured in stages.items():
            for number, one in enumerate(measured, start=1):
                rows.append(
                    {
                        "method": method,
                        "stage": stage,
                        "round": number,
                        "seconds": one.seconds,
                        "cpu_seconds": one.cpu_seconds,
                        "peak_memory_mb": one.peak_memory_mb,
                    }
                )
    columns = (
        Column("method", "Method"),
        Column("stage", "Stage"),
        Column("round", "Round"),
        Column("seconds", "s"),
        Column("cpu_seconds", "CPU s"),
        Column("peak_memory_mb", "peak memory, MiB", digits=0),
    )
    return Table("rounds", f"Every measurement, of {slices} slices, not scaled", columns, tuple(rows))


def _figures(rows: Sequence[Mapping[str, Cell]]) -> dict[str, Any]:
    bars = {
        str(row["method"]): {stage: float(row.get(f"{stage}_s") or 0.0) for stage in STAGES}
        for row in (*rows, TABLE_II[0])
    }
    figure = stacked_bars(bars, xlabel="seconds, infected study")
    return {"table_ii": (figure, "Seconds of an infected study by stage (medians); the paper's on its GPU.")}


def _facts(networks: Sequence[TimedNetworks], execution: Execution, *, rounds: int, measured: int) -> dict[str, Any]:
    return {
        "machine": machine_facts(),
        "execution": execution_facts([ready for one in networks for ready in one.both], execution),
        "slices_measured": measured,
        "rounds": rounds,
        "weights": {
            one.name: {"classifier": one.classifier.sha256, "segmenter": one.segmenter.sha256} for one in networks
        },
    }


def _warnings(networks: Sequence[TimedNetworks], slices: int, measured: int) -> list[str]:
    found = [
        f"{one.name}: weights were drawn, not trained: the times are meant, the answers mean nothing"
        for one in networks
        if not one.trained
    ]
    if measured != slices:
        found.append(f"{measured} slices were measured; the times of {slices} are scaled linearly from them")
    return found
