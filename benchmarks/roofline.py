"""How much of what the processor can multiply the networks reach.

    python benchmarks/roofline.py [--presets compact paper] [--batch 4] [--rounds 3] [--int8]

Of every network: GFLOP a slice, milliseconds a slice and GFLOP/s in fp32 and in bf16 (where the processor has it) by
the backend that `auto` takes, and in eager torch; beside them the best matrix product of the same precision: what no
network exceeds, however it is run. --int8 (extra `int8`) adds every layer in int8, calibrated on the slices timed:
what that would give at most, with no word on what it does to answers.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import numpy as np
import torch

from jcs_ct.checkpoints import load_models
from jcs_ct.choices import Precision
from jcs_ct.engine import Execution, ReadyNetwork, multiplies_bf16, runner_for
from jcs_ct.engine.graphs import graph_of
from jcs_ct.engine.onnx_graph import onnx_bytes
from jcs_ct.engine.openvino_backend import OpenVINOModel
from jcs_ct.engine.quantisation import quantised_graph
from jcs_ct.evaluation.speed.plain_way import plain_copy
from jcs_ct.evaluation.speed.study_timing import WITHOUT_WEIGHTS, TimedNetworks, phantom_study, untrained_networks
from jcs_ct.evaluation.speed.timing_rounds import TimedWay, interleaved, machine_facts, matmul_gflops, network_gflop

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def rows_of(ready: ReadyNetwork, batch: int, rounds: int, *, int8: bool) -> list[dict[str, Any]]:
    """One network, each way once a round."""
    study = phantom_study(batch)
    images = np.stack([ready.preprocessor(study.hu[index])[0] for index in study.indices])
    plain = plain_copy(ready.network, torch.device("cpu"))
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if multiplies_bf16("cpu") else ("fp32",)

    def eager() -> None:
        with torch.no_grad():
            for image in torch.from_numpy(images):
                plain(image[None])

    ways, products = [TimedWay("eager", {"run": eager})], {str(name): list[float]() for name in precisions}
    for name in precisions:
        model = runner_for(ready, Execution(device="cpu", precision=name)).model
        placed = model.place(images)
        model(placed)
        ways.append(TimedWay(name, {"run": lambda model=model, placed=placed: model(placed)}))
        best = products[name]
        ways.append(
            TimedWay(
                f"product {name}",
                {"run": lambda best=best, kind=_TYPES[name]: best.append(matmul_gflops(size=3072, dtype=kind))},
            )
        )
    if int8:
        graph = quantised_graph(onnx_bytes(graph_of(ready), ready.input_shape), images)
        whole = OpenVINOModel.from_graph(graph, "int8")
        whole(images)
        ways.append(TimedWay("int8", {"run": lambda: whole(images)}))
    found = interleaved(ways, rounds=rounds)
    names: tuple[str, ...] = ("eager", *precisions, *(["int8"] if int8 else []))
    seconds = {way: statistics.median(one.seconds for one in found[way]["run"]) for way in names}
    gflop = network_gflop(plain, torch.from_numpy(images[:1]))
    return [
        {
            "network": ready.name,
            "way": way,
            "gflop_a_slice": round(gflop, 2),
            "ms_a_slice": round(1000 * seconds[way] / batch, 1),
            "gflop_a_second": round(gflop * batch / seconds[way], 1),
            "product_gflop_a_second": round(max(products.get(way, products["fp32"])), 1),
            "times_eager": round(seconds["eager"] / seconds[way], 2),
        }
        for way in names
    ]


def networks_of(name: str) -> TimedNetworks:
    """The networks in the box, or a preset's with drawn weights."""
    if name != "compact":
        return untrained_networks(name)
    models = load_models()
    return TimedNetworks(name, models.classifier, models.segmenter)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ["compact", *WITHOUT_WEIGHTS]
    parser.add_argument("--presets", nargs="+", choices=known, default=["compact", "paper"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--int8", action="store_true")
    given = parser.parse_args()
    rows = [
        row
        for name in given.presets
        for ready in networks_of(name).both
        for row in rows_of(ready, given.batch, given.rounds, int8=given.int8)
    ]
    print(json.dumps({"machine": machine_facts(), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
