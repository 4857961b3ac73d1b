"""The search for layers that stay in fp32 beside NNCF's accuracy control, on the same slices and limit.

    python benchmarks/int8_search.py segmenter -m slices.csv [--slices 24] [--limit 0.002] [--fixed-batch]

Both quantise on the manifest's training slices until no source's answers on its validation slices change by more than
the limit. NNCF is given one figure for that: 1 less the largest change. --fixed-batch hands it a copy of the graph
for one slice at a time, in which no shape is computed; the engine cannot run that copy on batches. Printed as JSON:
for each seconds, CPU seconds, weighted operations in int8, and the changes, or why there is no result.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jcs_ct.checkpoints import load_models
from jcs_ct.data.manifest import read_manifest
from jcs_ct.engine.graphs import graph_of
from jcs_ct.engine.mixed_precision import mixed_precision, probabilities_of
from jcs_ct.engine.onnx_graph import onnx_bytes
from jcs_ct.engine.openvino_backend import OpenVINOModel, read_onnx, without_telemetry
from jcs_ct.errors import BackendError
from jcs_ct.experiments.calibration_slices import judging_slices, training_slices

_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")


def int8_operations(graph: Any) -> str:
    """How many of the weighted operations have quantised weights."""
    weighted = [one for one in graph.get_ordered_ops() if one.get_type_name() in _WEIGHTED]
    return f"{sum(_is_quantised(one) for one in weighted)} of {len(weighted)}"


def _is_quantised(operation: Any) -> bool:
    node = operation.input_value(1).get_node()
    while node.get_input_size():
        if node.get_type_name() == "FakeQuantize":
            return True
        node = node.input_value(0).get_node()
    return node.get_element_type().to_string() in ("i8", "u8")


def without_shapes(graph: Any, shape: tuple[int, ...]) -> Any:
    """The graph for one slice at a time, whose computed shapes have become constants."""
    from openvino.passes import ConstantFolding, Manager

    graph.reshape([1, *shape])
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(graph)
    return graph


def timed(search: Callable[[], tuple[Any, dict[str, float]]]) -> dict[str, Any]:
    """What a search finds and takes; an error is a result, too."""
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        graph, changes = search()
        found: dict[str, Any] = {"int8": int8_operations(graph), "changes": changes}
    except (BackendError, LookupError, RuntimeError) as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    return {
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        **found,
    }


def main() -> None:
    """Search twice and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("classifier", "segmenter"))
    parser.add_argument("-m", "--manifest", type=Path, required=True)
    parser.add_argument("--models", default="compact")
    parser.add_argument("--slices", type=int, default=24, help="to calibrate, and to judge")
    parser.add_argument("--limit", type=float, default=0.002)
    parser.add_argument("--fixed-batch", action="store_true")
    arguments = parser.parse_args()
    without_telemetry()
    import nncf

    nncf.set_log_level(logging.ERROR)
    models, manifest = load_models(arguments.models), read_manifest(arguments.manifest)
    ready = models.classifier if arguments.task == "classifier" else models.segmenter
    calibration = training_slices(ready, manifest, arguments.slices)
    judging = judging_slices(ready, manifest, arguments.slices, models.operating_point)
    if judging is None:
        raise SystemExit("the manifest's val split has no slice to judge with")
    onnx = onnx_bytes(graph_of(ready), ready.input_shape)
    exact = probabilities_of(OpenVINOModel.from_onnx(onnx, "fp32"), ready.task, judging.images)

    def ours() -> tuple[Any, dict[str, float]]:
        found = mixed_precision(ready, calibration, judging, largest_change=arguments.limit)
        return found.graph, found.judged["changes"] if found.judged else {}

    def validate(compiled: Any, items: Iterable[Any]) -> tuple[float, list[list[Any]]]:
        outputs = [[compiled(np.ascontiguousarray(item))[0].copy()] for item in items]
        if len(outputs) < len(exact):  # layers are ranked by the outputs of a few slices
            return 1.0, outputs
        found = probabilities_of(lambda image: (compiled(image)[0],), ready.task, judging.images)
        return 1.0 - max(map(abs, judging.changes(exact, found).values())), outputs

    def accuracy_control() -> tuple[Any, dict[str, float]]:
        graph = read_onnx(onnx)
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            quantised = nncf.quantize_with_accuracy_control(
                without_shapes(graph, ready.input_shape) if arguments.fixed_batch else graph,
                nncf.Dataset([image[None] for image in calibration]),
                nncf.Dataset([image[None] for image in judging.images]),
                validate,
                max_drop=arguments.limit,
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(calibration),
                advanced_quantization_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=nncf.OverflowFix.ENABLE
                ),
                advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(ranking_subset_size=8),
            )
        found = probabilities_of(OpenVINOModel.from_graph(quantised, "int8"), ready.task, judging.images)
        return quantised, judging.changes(exact, found)

    sources = {source: judging.sources.count(source) for source in dict.fromkeys(judging.sources)}
    report = {"judged": sources, "ours": timed(ours), "nncf": timed(accuracy_control)}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
