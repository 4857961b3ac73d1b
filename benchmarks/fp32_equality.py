"""Whether fp32 with nothing skipped gives the answers of the same networks run the plain way, to 1e-4.

    python benchmarks/fp32_equality.py [--models compact] [--slices 2]

The plain way is slice by slice in eager torch: BatchNorm apart, all side outputs, the map by a backward pass. Printed
are the largest absolute differences of the classifier's logits and probability (``classify``), of its normalised
activation map and of the lesion probability (``segment``), both on the slice's grid, for each network and each
backend that is installed; the exit code is 1 when one is not below 1e-4. ``compact`` has its trained weights; those
of ``paper`` and ``official`` are drawn, at the paper's input sizes, with BatchNorm statistics taken from the slices:
with those of no slice activations grow from block to block until every probability is 0 or 1 and nothing is compared.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
import torch
from torch import nn

from jcs_ct.checkpoints import load_models
from jcs_ct.engine import Execution, ReadyNetwork
from jcs_ct.engine.execution import is_installed
from jcs_ct.evaluation.speed.study_timing import (
    WITHOUT_WEIGHTS,
    TimedNetworks,
    TimedStudy,
    largest_differences,
    phantom_study,
    untrained_networks,
)
from jcs_ct.evaluation.speed.timing_rounds import machine_facts

LIMIT = 1e-4
BACKENDS = ("torch", "openvino", "onnxruntime")


def networks_of(name: str, study: TimedStudy) -> TimedNetworks:
    """The networks in the box, or a preset's with drawn weights."""
    if name != "compact":
        networks = untrained_networks(name)
        for ready in networks.both:
            take_statistics(ready, study)
        return networks
    models = load_models(name)
    return TimedNetworks(name, models.classifier, models.segmenter)


def take_statistics(ready: ReadyNetwork, study: TimedStudy) -> None:
    """Give BatchNorm, frozen too, mean and variance of what reaches it on the slices, layer by layer."""
    images = torch.from_numpy(
        np.stack([ready.preprocessor(study.hu[index])[0] for index in sorted(set(study.indices))])
    )

    def take(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        layer.running_mean.copy_(inputs[0].mean(dim=(0, 2, 3)))
        layer.running_var.copy_(inputs[0].var(dim=(0, 2, 3)))

    layers = [
        layer for layer in ready.network.modules() if isinstance(getattr(layer, "running_var", None), torch.Tensor)
    ]
    hooks = [layer.register_forward_pre_hook(take) for layer in layers]
    with torch.no_grad():
        ready.network(images)
    for hook in hooks:
        hook.remove()


def main() -> None:
    """Compare and print; say by the exit code whether all are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ["compact", *WITHOUT_WEIGHTS]
    parser.add_argument("--models", nargs="+", choices=known, default=["compact"])
    parser.add_argument("--slices", type=int, default=2)
    given = parser.parse_args()
    study = phantom_study(given.slices)
    rows = []
    for name in given.models:
        networks = networks_of(name, study)
        for backend in filter(is_installed, BACKENDS):
            execution = Execution(device="cpu", backend=backend, precision="fp32", batch_size=given.slices)
            found = largest_differences(networks, study, execution, slices=given.slices)
            rows.append({"networks": networks.name, "backend": backend, **found})
            print(json.dumps(rows[-1]), file=sys.stderr)
    equal = all(value < LIMIT for row in rows for value in row.values() if isinstance(value, float))
    print(json.dumps({"machine": machine_facts(), "slices": given.slices, "equal": equal, "rows": rows}, indent=2))
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
