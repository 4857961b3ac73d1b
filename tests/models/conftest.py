"""State dicts with the published names, and an independent reading of the published networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

PUBLISHED_NAMES = Path(__file__).with_name("official-state-dicts.json")
#: Format -> key in the file of published names.
KEYS = {
    "official-segmentation": "segmentation_alone",
    "official-joint": "joint",
    "official-classifier": "classifier",
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, dict[str, list[int]]]:
    """Format -> name -> shape of the published checkpoints."""
    content = json.loads(PUBLISHED_NAMES.read_text(encoding="utf-8"))
    return {name: content[key] for name, key in KEYS.items()}


@pytest.fixture(scope="session")
def seeded_state():
    """Shapes, seed -> a state dict of random numbers under which activations stay of order one."""

    def make(shapes: dict[str, list[int]], seed: int = 0) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        state: dict[str, torch.Tensor] = {}
        for name, shape in shapes.items():
            kind = name.rpartition(".")[2]
            if kind == "num_batches_tracked":
                state[name] = torch.tensor(7)
            elif kind == "running_var":
                state[name] = 0.5 + torch.rand(shape, generator=generator)
            elif kind == "weight" and len(shape) > 1:
                fan_in = torch.tensor(shape[1:]).prod().item()
                state[name] = torch.randn(shape, generator=generator) * (2.0 / fan_in) ** 0.5
            elif kind == "weight" and name.rpartition(".")[0].endswith("bn3"):
                # The end of a residual branch: small, or 33 blocks double the activations 33 times.
                state[name] = 0.2 * torch.rand(shape, generator=generator)
            elif kind == "weight":
                state[name] = 0.5 + torch.rand(shape, generator=generator)
            else:
                state[name] = 0.1 * torch.randn(shape, generator=generator)
        return state

    return make
