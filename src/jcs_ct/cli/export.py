"""`jcs export`: networks as files for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jcs_ct.choices import ExportPrecision
from jcs_ct.cli.console import print_json
from jcs_ct.cli.data_check import AcceptLeaks
from jcs_ct.cli.inputs import SOME_INPUT
from jcs_ct.cli.options import MapOption
from jcs_ct.cli.outputs import FILE_OUTPUT
from jcs_ct.cli.used_manifests import open_used

if TYPE_CHECKING:
    from jcs_ct.engine import ReadyClassifier, ReadySegmenter
    from jcs_ct.engine.exporting import Exported
    from jcs_ct.operating_point import OperatingPoint

app = typer.Typer(name="export", help="Write networks for ONNX Runtime, OpenVINO and others.", no_args_is_help=True)

WeightsArgument = Annotated[Path, typer.Argument(help="A checkpoint of a classifier or a segmenter."), SOME_INPUT]
ToleranceOption = Annotated[
    float, typer.Option(min=0.0, help="Largest absolute difference from torch that is accepted (fp32).")
]
JSONOption = Annotated[bool, typer.Option("--json", help="Facts as JSON.")]


@app.command("onnx")
def onnx(
    weights: WeightsArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write (.onnx); a .json comes beside it."), FILE_OUTPUT
    ],
    variant: MapOption = "paper",
    tolerance: ToleranceOption = 1e-4,
    as_json: JSONOption = False,
) -> None:
    """Write a network as ONNX, compared with torch first (extra `onnx`).

    The JSON beside it holds preprocessing, preset, SHA-256 of the weights, names and shapes, and the comparison.
    Exit code 0: written, 2: usage, 3: no usable checkpoint, 5: the exported network differs; nothing is written.

    Example:  jcs export onnx models/classifier.safetensors -o classifier.onnx
    """
    from jcs_ct.engine.exporting import export_network

    ready, described = _load(weights)
    exported = export_network(ready, output, "onnx", variant=variant, tolerance=tolerance, described=described)
    _print(exported, as_json)


@app.command("openvino")
def openvino(
    weights: WeightsArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write (.xml); .bin and .json beside it."), FILE_OUTPUT
    ],
    variant: MapOption = "paper",
    tolerance: ToleranceOption = 1e-4,
    precision: Annotated[
        ExportPrecision, typer.Option(help="int8 needs the extra `int8` and is calibrated on --manifest.")
    ] = "fp32",
    manifest: Annotated[
        Path | None,
        typer.Option("--manifest", "-m", help="For int8: its train split calibrates, its val split judges."),
        SOME_INPUT,
    ] = None,
    slices: Annotated[
        int, typer.Option(min=1, help="For int8: calibration slices, and judging ones; as many of every source.")
    ] = 128,
    largest_change: Annotated[
        float,
        typer.Option(
            min=0.0, help="For int8: mean Dice (classifier: share of slice verdicts) that may change, in any source."
        ),
    ] = 0.002,
    accept_leaks: AcceptLeaks = False,
    as_json: JSONOption = False,
) -> None:
    """Write a network as OpenVINO IR, compared with torch first (extra `openvino`).

    int8 is also kept in the cache, where `jcs diagnose --backend openvino --precision int8` finds it. Where the
    manifest's val split has labels (segmenter: masks), layers stay in fp32 until --largest-change holds there; exit
    code 5 when it never does. Other exit codes as of `jcs export onnx`.

    Example:  jcs export openvino models/segmenter.safetensors -o segmenter.xml
    """
    from jcs_ct.engine.exporting import export_network
    from jcs_ct.errors import ConfigError
    from jcs_ct.experiments.calibration_slices import judging_slices, training_slices

    if (precision == "int8") != (manifest is not None):
        raise ConfigError("--precision int8 and --manifest go together: int8 is calibrated on its training slices")
    ready, described = _load(weights)
    table = None
    if manifest is not None:
        opened = open_used(manifest, used=("train", "val"), accept_leaks=accept_leaks)
        table = opened.manifest
        described["manifest_warnings"] = list(opened.warnings)
    exported = export_network(
        ready,
        output,
        "openvino",
        variant=variant,
        tolerance=tolerance,
        calibration=None if table is None else training_slices(ready, table, slices),
        judging=None if table is None else judging_slices(ready, table, slices, _point(weights)),
        largest_change=largest_change,
        described=described,
    )
    _print(exported, as_json)


def _load(weights: Path) -> tuple[ReadyClassifier | ReadySegmenter, dict[str, Any]]:
    from dataclasses import asdict

    from jcs_ct.checkpoints import load_checkpoint

    point = _point(weights)
    return load_checkpoint(weights), {"operating_point": asdict(point) if point is not None else None}


def _point(weights: Path) -> OperatingPoint | None:
    from jcs_ct.checkpoints import read_info

    return read_info(weights).operating_point


def _print(exported: Exported, as_json: bool) -> None:
    if as_json:
        print_json({**exported.facts, "output": [str(path) for path in exported.paths]})
        return
    facts = exported.facts
    typer.echo(f"{facts['task']} of the preset {facts['preset']}, {facts['precision']} -> {facts['format']}")
    for value in (*facts["inputs"], *facts["outputs"]):
        shape = " x ".join(map(str, value["shape"]))
        typer.echo(f"  {value['name']:<15} {shape:<24} {value['meaning']}")
    for name, difference in facts["agreement_with_torch"]["max_abs_difference"].items():
        typer.echo(f"  {name} differs from torch by at most {difference:.2g}")
    if facts["mixed_precision"] is not None:
        _print_mixed(facts["mixed_precision"])
    typer.echo(f"written: {', '.join(str(path) for path in exported.paths)}")
    typer.echo(facts["notice"])


def _print_mixed(mixed: Mapping[str, Any]) -> None:
    kept, count = mixed["fp32_groups"], len(mixed["int8_groups"]) + len(mixed["fp32_groups"])
    typer.echo(f"  groups of layers in fp32: {len(kept)} of {count}{': ' if kept else ''}{', '.join(kept)}")
    if mixed["judged"] is None:
        typer.echo("  not judged: the manifest's val split has no slice to judge with")
        return
    for source, change in mixed["judged"]["changes"].items():
        judged = f"{mixed['judged']['slices'][source]} val slices of {source or 'the manifest'}"
        typer.echo(f"  {mixed['judged']['measure']}, {judged}: {change:+.4f}")
